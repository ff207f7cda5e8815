"""Chains in bands of rows: every element as before, from fewer bytes at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinygen
from tests.support.host import run_on_host
from tests.support.nodes import SANITIZE, assert_equals_litert
from tests.test_constant_channels import Net, int8
from tests.test_published_models import samples
from tinygen import banding, bands, evaluate, ops, pipeline, spec
from tinygen.boards import load_board
from tinygen.budgets import Budgets
from tinygen.errors import BoardError
from tinygen.fit import Fitter
from tinygen.frontend.tflite import load_tflite
from tinygen.graph import Graph
from tinygen.ops import binary, conv2d, depthwise_conv2d
from tinygen.ops.windows import Padding, Pair
from tinygen.placement import aligned, fixed_bytes
from tinygen.planning import plan
from tinygen.program import select
from tinygen.samples import Options as SampleOptions
from tinygen.scheduling import peak_of
from tinygen.selection import Choice, Optimize
from tinygen.wishes import Wishes

IC = "ic_resnet8"
VWW = "vww_mobilenet_v1_025_96"

KERNELS = st.tuples(st.integers(1, 4), st.integers(1, 2))
PAIRS = st.tuples(st.integers(1, 2), st.integers(1, 2))
LAYERS = st.lists(
    st.tuples(st.booleans(), KERNELS, PAIRS, PAIRS, st.tuples(*[st.integers(0, 3)] * 4)),
    min_size=2,
    max_size=4,
)


def layer(
    net: Net, x: str, depthwise: bool, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> str:
    """A convolution to 3 channels, or a depthwise one."""
    depth = net.builder.shape(x)[2]
    if depthwise:
        weights, attrs = net.weights(x, (*kernel, depth), 2, None), depthwise_conv2d.Attrs
        return net.add(
            "depthwise_conv2d", attrs(stride, dilation, padding, "relu"), x, weights, net.bias(depth, ())
        )
    weights = net.weights(x, (3, *kernel, depth), 0, None)
    return net.add("conv2d", conv2d.Attrs(stride, dilation, padding), x, weights, net.bias(3, ()))


@given(LAYERS, st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=60)
def test_any_chain_in_any_bands_is_exact(layers: list[tuple], rows: int, seed: int) -> None:
    net = Net((17, 5, 2), seed)
    x = net.x
    for depthwise, kernel, stride, dilation, (top, bottom, left, right) in layers:
        reach = (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1
        padding = Padding(min(top, reach[0] - 1), min(bottom, reach[0] - 1), left, right)
        height, width, _ = net.builder.shape(x)
        assume(height + padding.vertical >= reach[0] and width + padding.horizontal >= reach[1])
        x = layer(net, x, depthwise, kernel, stride, dilation, padding)
    graph = net.build(x)
    for chain in bands.chains(graph):
        if chain[-1].output.shape[0] > rows:
            after = spec.check(banding.banded(graph, chain, rows), quantized=True)
            given_ = int8(graph, 4)
            np.testing.assert_array_equal(
                evaluate.reference(after, given_)[0], evaluate.reference(graph, given_)[0]
            )
            assert after.outputs == graph.outputs


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 9)), min_size=4, max_size=9),
    st.data(),
)
@settings(max_examples=60)
def test_any_part_with_branches_in_any_bands_is_exact(
    steps: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    """Layers and sums of any two tensors of one shape that are there."""
    net = Net((11, 4, 3), len(steps))
    made = [net.conv(net.x, ["live"] * 3)]
    for kind, first, second in steps:
        a, b = made[-1 - first % len(made)], made[second % len(made)]
        stride = (2, 1) if kind == 2 and net.builder.shape(a)[0] > 3 else (1, 1)
        if kind < 2 and net.builder.shape(a) == net.builder.shape(b):
            made.append(net.add("add", binary.Attrs(), a, b))
        else:
            made.append(layer(net, a, kind == 3, (3, 3), stride, (1, 1), Padding(1, 1, 1, 1)))
    graph = net.build(made[-1])
    chains = [c for c in bands.chains(graph) if c[-1].output.shape[0] > 1]
    assume(chains)
    chain = data.draw(st.sampled_from(chains))
    rows = data.draw(st.integers(1, chain[-1].output.shape[0] - 1))
    after, x = spec.check(banding.banded(graph, chain, rows), quantized=True), int8(graph, 3)
    np.testing.assert_array_equal(evaluate.reference(after, x)[0], evaluate.reference(graph, x)[0])
    assert after.outputs == graph.outputs


def residual(seed: int = 0) -> Graph:
    """An image, a block with a shortcut as it is, and one that halves rows and has a convolution in its shortcut."""
    net = Net((16, 4, 2), seed)
    whole = net.conv(net.x, ["live"] * 8)
    total = net.add("add", binary.Attrs(), whole, net.conv(net.conv(whole, ["live"] * 8), ["live"] * 8))
    deep = layer(net, total, False, (3, 3), (2, 2), (1, 1), Padding(0, 1, 0, 1))
    beside = layer(net, total, False, (1, 1), (2, 2), (1, 1), Padding())
    return net.build(net.add("add", binary.Attrs(), deep, beside))


def test_blocks_with_shortcuts_are_one_chain() -> None:
    lengths = {len(chain) for chain in bands.chains(residual())}
    assert lengths == {2, 3, 4, 6, 7}
    after = bands.smallest(residual())
    assert peak_of(after)[0] < peak_of(residual())[0] / 2
    (got,), (want,) = run_on_host(after, int8(after), SANITIZE), evaluate.reference(residual(), int8(after))
    np.testing.assert_array_equal(got, want)


def test_an_outside_reader_ends_a_chain() -> None:
    net = Net((8, 4, 2), 0)
    first = net.conv(net.x, ["live"] * 3)
    second = net.conv(first, ["live"] * 3)
    graph = net.build(net.conv(second, ["live"] * 3), first)
    assert {c[0].output.name for c in bands.chains(graph)} == {second}


def test_arrangements_need_less_for_more_and_the_first_that_fits_is_taken() -> None:
    graph = residual()
    found = bands.arrangements(graph)
    peaks, products = [peak_of(g)[0] for g in (graph, *found)], [ops.macs(g.bound()) for g in found]
    assert len(found) > 2 and peaks == sorted(set(peaks), reverse=True)
    assert {*products} == {ops.macs(graph.bound())}, "no row is computed twice"
    board = load_board("nucleo_f446re")
    arenas = [aligned(plan(select(g, board)).arena_bytes) for g in (graph, *found)]
    assert arenas[-1] < arenas[0]
    for arena in {arenas[0], arenas[len(arenas) // 2], arenas[-1]}:
        fitting = [g for g, own in zip((graph, *found), arenas, strict=True) if own <= arena]
        options = pipeline.Options(wishes=Wishes(budget_sram=arena + fixed_bytes(board)))
        assert pipeline.compile_graph(graph, None, board, options).graph == fitting[0]
        assert Fitter(graph).fit(board, Budgets(sram=arena + fixed_bytes(board))).banded == (
            fitting[0] != graph
        )


def test_a_layer_is_known_by_the_names_of_its_bands() -> None:
    after = bands.smallest(residual())
    assert {banding.layer_of(n.name) for n in after.nodes} == {n.name for n in residual().nodes}


def test_a_window_in_the_padding_alone_has_no_rows() -> None:
    net = Net((4, 4, 2), 0)
    first = layer(net, net.x, False, (1, 1), (1, 1), (1, 1), Padding(top=1))
    graph = net.build(layer(net, first, False, (3, 3), (1, 1), (1, 1), Padding()))
    assert not list(bands.chains(graph))


def wide(seed: int = 0) -> Graph:
    """A chain with a large tensor inside: 12 x 6 x 1 -> 12 x 6 x 24 -> 5 x 2 x 3."""
    net = Net((12, 6, 1), seed)
    inside = net.conv(net.x, ["live"] * 24)
    deep = layer(net, inside, True, (3, 3), (2, 2), (1, 1), Padding())
    return net.build(layer(net, deep, False, (1, 1), (1, 1), (1, 1), Padding()))


def test_bands_are_chosen_where_they_need_less_and_the_plan_keeps_to_it() -> None:
    graph = wide()
    after = bands.smallest(graph)
    assert peak_of(after)[0] < peak_of(graph)[0] / 2
    assert peak_of(after)[0] == min(
        peak_of(banding.banded(graph, c, n))[0] for c in bands.chains(graph) for n in (1, 2, 3)
    )
    assert plan(select(after, None)).arena_bytes == peak_of(after)[0]
    assert bands.smallest(after) == after, "what is smallest stays"


def test_c_and_litert_compute_the_same() -> None:
    graph = bands.smallest(wide(1))
    x = int8(graph)
    (got,), (want,) = run_on_host(graph, x, SANITIZE), evaluate.reference(wide(1), x)
    np.testing.assert_array_equal(got, want)
    assert_equals_litert(graph, x)


def test_bands_where_size_is_asked_and_where_the_model_does_not_fit_otherwise() -> None:
    others: tuple[Optimize, ...] = ("portable", "balanced", "speed")
    for optimize in others:
        made = pipeline.compile_graph(wide(), None, None, pipeline.Options(optimize=optimize))
        assert made.graph == wide() and not made.decisions
    small = pipeline.compile_graph(wide(), None, None, pipeline.Options(optimize="size"))
    (told,) = (str(d) for d in small.decisions)
    assert told.startswith("bands of rows: conv2d, depthwise_conv2d")
    assert small.plan.arena_bytes == Fitter(wide(), choice=Choice("size")).planned(None)[2].arena_bytes
    assert_only_bands_fit(wide())


def assert_only_bands_fit(graph: Graph) -> None:
    """A board whose SRAM holds the arena in bands and not as a whole; and one that is too small for both."""
    board = load_board("nucleo_f446re")
    whole, banded = (plan(select(g, board)).arena_bytes for g in (graph, bands.smallest(graph)))
    assert banded < whole
    for arena, fits in ((whole, True), (banded, True), (banded - 4, False)):
        budget = arena + fixed_bytes(board)
        options = pipeline.Options(wishes=Wishes(budget_sram=budget))
        answer = Fitter(graph).fit(board, Budgets(sram=budget))
        assert answer.fits == fits and answer.banded == (arena == banded)
        if fits:
            made = pipeline.compile_graph(graph, None, board, options)
            assert made.plan.arena_bytes == arena and bool(made.decisions) == answer.banded
        else:
            with pytest.raises(BoardError, match=f"{whole:,}"):
                pipeline.compile_graph(graph, None, board, options)


def test_published_vww_needs_40_kb(shared_data: Path) -> None:
    """Its input of 27,648 bytes counted."""
    graph = load_tflite(shared_data / "models" / f"{VWW}_int8.tflite")
    made = pipeline.compile_graph(graph, None, None, pipeline.Options(optimize="size"))
    assert made.plan.arena_bytes <= 40 * 1024
    x = samples(VWW, shared_data, graph)[:40]
    np.testing.assert_array_equal(evaluate.reference(made.graph, [x])[0], evaluate.reference(graph, [x])[0])


@pytest.mark.arm
def test_published_ic_fits_where_its_shortcuts_did_not(tmp_path: Path, shared_data: Path) -> None:
    """Whole blocks in bands, on the board itself: 36,044 bytes of arena otherwise."""
    file = shared_data / "models" / f"{IC}_int8.tflite"
    budget = 27_000 + fixed_bytes(load_board("nucleo_f446re"))
    built = tinygen.compile(file, board="nucleo_f446re", budget_sram=budget, out=tmp_path / "fw")
    assert built.compiled.plan.arena_bytes <= 27_000
    inputs, options = shared_data / "cifar10_eval.npz", SampleOptions()
    ran = tinygen.run(tmp_path / "fw", inputs=inputs, emulator="unicorn", count=2, samples=options)
    assert ran.result.passed, ran.result.detail


@pytest.mark.arm
def test_firmware_of_bands(tmp_path: Path, shared_data: Path) -> None:
    """Bit for bit on an emulated core, with its own kernels: the arena stays what the portable ones need."""
    file = shared_data / "models" / f"{VWW}_int8.tflite"
    built = tinygen.compile(file, board="nucleo_l4r5zi", optimize="size", out=tmp_path / "fw")
    assert built.compiled.plan.arena_bytes <= 40 * 1024
    inputs = shared_data / "vww96_ccby_eval.npz"
    options = SampleOptions(scale=1 / 255)
    ran = tinygen.run(tmp_path / "fw", inputs=inputs, emulator="unicorn", count=1, samples=options)
    assert ran.result.passed, ran.result.detail
