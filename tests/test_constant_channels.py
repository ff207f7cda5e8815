"""Channels that no output can see go from int8 graphs: nothing that is left changes, in any bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nodes import quantized_node
from tests.test_published_models import samples
from tinygen import api, evaluate, ops, pipeline, quantization_error, spec
from tinygen.constant_channels import decisions, intervals
from tinygen.frontend.tflite import load_tflite
from tinygen.graph import Array, Graph, GraphBuilder, QParams, Tensor
from tinygen.ops import (
    activation,
    add,
    affine,
    average_pool2d,
    concat,
    conv2d,
    conv2d_transpose,
    crop,
    dense,
    depthwise_conv2d,
    max_pool2d,
    mean,
    pad,
    prelu,
    requantize,
    reshape,
)
from tinygen.ops.binary import Attrs as Clamped
from tinygen.ops.intervals import Interval
from tinygen.ops.windows import VALID, Padding
from tinygen.simplification import simplify

Q, OTHER = QParams.per_tensor(0.05, -3), QParams.per_tensor(0.07, 5)
SAME = Padding(1, 1, 1, 1)
KINDS = ("zero_point", "value", "unread", "live")
"""What becomes of a channel: constant at its zero_point or at another value, read with zeros only, none of it."""


class Net:
    """An int8 graph of random weights in which channels are planted. fates: tensor -> what its channels are to be."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = GraphBuilder("net")
        self.fates: dict[str, list[str]] = {}
        self.x = self.builder.input("x", shape, Q)

    def add(self, op: str, attrs: Any, *inputs: str, q: QParams = Q) -> str:
        return self.builder.add(op, op, inputs, attrs, q)

    def weights(self, x: str, shape: tuple[int, ...], axis: int, reads: int | None) -> str:
        """reads: the axis of the input channels: those that are to be unread get zeros."""
        data = self.rng.integers(-127, 128, shape).astype(np.int8)
        for channel, fate in enumerate(self.fates.get(x, ())):
            if fate == "unread" and reads is not None:
                np.moveaxis(data, reads, 0)[channel] = 0
        scale = tuple(self.rng.uniform(0.001, 0.004, shape[axis]).tolist())
        return self.builder.constant("weights", data, QParams(scale, (0,) * shape[axis], axis))

    def bias(self, count: int, fates: Sequence[str]) -> str:
        """Far below what products can make up for where a channel is to stay at the clamp."""
        data = self.rng.integers(-9000, 9000, count).astype(np.int32)
        for channel, fate in enumerate(fates):
            if fate in ("zero_point", "value"):
                data[channel] = -30_000_000
        return self.builder.constant("bias", data, QParams((0.0001,) * count, (0,) * count, 0))

    def conv(
        self, x: str, fates: Sequence[str], padding: Padding = SAME, groups: int = 1, relu: bool = True
    ) -> str:
        """3x3. With a relu dead channels are at the zero_point, without at -128."""
        depth = self.builder.shape(x)[2]
        reads = 3 if groups == 1 else None
        weights = self.weights(x, (len(fates), 3, 3, depth // groups), 0, reads)
        attrs = conv2d.Attrs(padding=padding, groups=groups, activation="relu" if relu else "none")
        return self.remember(self.add("conv2d", attrs, x, weights, self.bias(len(fates), fates)), fates)

    def depthwise(self, x: str, multiplier: int, padding: Padding = SAME) -> str:
        channels = self.builder.shape(x)[2] * multiplier
        weights = self.weights(x, (3, 3, channels), 2, None)
        attrs = depthwise_conv2d.Attrs(padding=padding, activation="relu")
        return self.add("depthwise_conv2d", attrs, x, weights, self.bias(channels, ()))

    def dense(self, x: str, count: int) -> str:
        weights = self.weights(x, (count, self.builder.shape(x)[-1]), 0, 1)
        return self.add("dense", dense.Attrs(), x, weights, self.bias(count, ()))

    def remember(self, tensor: str, fates: Sequence[str]) -> str:
        self.fates[tensor] = list(fates)
        return tensor

    def build(self, *outputs: str) -> Graph:
        return spec.check(self.builder.build(outputs), quantized=True)


def assert_exact(before: Graph, x: Sequence[Array]) -> Graph:
    """The simplified graph: every activation that is left has every bit that it had."""
    after = spec.check(simplify(before), quantized=True)
    old: dict[str, Array] = {}
    new: dict[str, Array] = {}
    outputs = evaluate.reference(before, x, visit=old.__setitem__)
    for want, got in zip(outputs, evaluate.reference(after, x, visit=new.__setitem__), strict=True):
        np.testing.assert_array_equal(got, want)
    for name, values in new.items():
        np.testing.assert_array_equal(
            values, np.delete(old[name], after.removed.get(name, ()), axis=-1), name
        )
    for a, b in zip(before.output_tensors, after.output_tensors, strict=True):
        assert (a.shape, a.qparams) == (b.shape, b.qparams)
    return after


def int8(graph: Graph, count: int = 12, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.integers(-128, 128, (count, *t.shape)).astype(np.int8) for t in graph.input_tensors]


def widths(graph: Graph) -> dict[str, int]:
    return {n.output: graph.tensors[n.output].shape[-1] for n in graph.nodes}


# ---- planted channels

FATES = st.lists(st.sampled_from(KINDS), min_size=2, max_size=6).map(lambda fates: ["live", *fates])


@given(FATES, st.booleans(), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=40)
def test_planted_channels_of_a_convolution_go(fates: list[str], padded: bool, relu: bool, seed: int) -> None:
    net = Net((5, 4, 2), seed)
    first = net.conv(net.x, fates, relu=relu)
    graph = net.build(net.conv(first, ["live"] * 3, SAME if padded else VALID, relu=False))
    after = assert_exact(graph, int8(graph))
    stays = {"live"} if relu or not padded else {"live", "zero_point", "value"}
    assert widths(after)[first] == sum(fate in stays for fate in fates), "at -128 padding makes a difference"


@given(FATES, st.sampled_from([1, 2]), st.sampled_from(["add", "concat", "grouped"]), st.integers(0, 10**6))
@settings(max_examples=40)
def test_planted_channels_go_through_all_that_passes_them(
    fates: list[str], multiplier: int, joint: str, seed: int
) -> None:
    net = Net((6, 5, 2), seed)
    first = net.conv(net.x, fates)
    alike = [fate if fate == "unread" else "zero_point" if fate != "live" else "live" for fate in fates]
    second = net.conv(net.x, alike if joint == "add" else fates[::-1])
    if joint == "add":
        joined = net.remember(net.add("add", add.Attrs("relu"), first, second), fates)
    elif joint == "concat":
        joined = net.add("concat", concat.Attrs(2), first, second)
        net.remember(joined, [*fates, *fates[::-1]])
    else:
        joined = net.conv(first, fates, groups=len(fates))
        net.remember(joined, fates)
    deep = net.remember(
        net.depthwise(joined, multiplier), [f for f in net.fates[joined] for _ in range(multiplier)]
    )
    pooled = net.add("max_pool2d", max_pool2d.Attrs((2, 2), (2, 2)), deep)
    flat = net.add("reshape", reshape.Attrs((int(np.prod(net.builder.shape(pooled))),)), pooled)
    net.remember(flat, net.fates[deep] * (net.builder.shape(flat)[0] // len(net.fates[deep])))
    graph = net.build(net.dense(flat, 3))
    after = assert_exact(graph, int8(graph))
    live = sum(fate == "live" for fate in net.fates[joined])
    assert widths(after)[deep] <= live * multiplier, (
        "dead channels are constant or unread behind a depthwise, too"
    )


def test_a_residual_sum_keeps_a_channel_that_one_of_its_inputs_has() -> None:
    net = Net((4, 4, 2), 3)
    first, second = net.conv(net.x, ["live", "zero_point", "live"]), net.conv(net.x, ["live"] * 3)
    graph = net.build(net.conv(net.add("add", add.Attrs(), first, second), ["live"] * 2))
    assert set(widths(assert_exact(graph, int8(graph))).values()) == {3, 2}


def test_the_reader_decides_not_the_producer_alone() -> None:
    """A second reader that does see the channel keeps it."""
    net = Net((4, 4, 2), 4)
    first = net.conv(net.x, ["live", "unread"])
    blind = net.conv(first, ["live"])
    net.fates.clear()
    graph = net.build(blind, net.conv(first, ["live"]))
    assert widths(assert_exact(graph, int8(graph)))[first] == 2


def test_a_tensor_of_constants_keeps_one_channel_and_outputs_all() -> None:
    net = Net((4, 4, 2), 5)
    hidden = net.conv(net.x, ["zero_point"] * 4)
    shown = net.conv(net.x, ["zero_point"] * 3)
    graph = net.build(net.conv(hidden, ["live"] * 2), shown)
    after = widths(assert_exact(graph, int8(graph)))
    assert (after[hidden], after[shown]) == (1, 3)


def test_removal_goes_on_until_nothing_is_left_to_remove() -> None:
    """A channel that only a dead one reads is dead, three layers up."""
    net = Net((4, 4, 2), 6)
    first = net.conv(net.x, ["live"] * 3)
    second = net.conv(first, ["live"] * 3)
    third = net.conv(second, ["live"] * 3)
    net.fates[third] = ["live", "unread", "unread"]
    graph = net.build(net.conv(third, ["live"] * 2))
    tensors = dict(graph.tensors)
    for name in (
        graph.nodes[1].inputs[1],
        graph.nodes[2].inputs[1],
    ):  # the last channel of each reads only the last
        data = np.array(tensors[name].data)
        data[:2, :, :, 2] = 0
        tensors[name] = replace(tensors[name], data=data)
    data = np.array(tensors[graph.nodes[2].inputs[1]].data)
    data[0, :, :, 1:] = 0
    tensors[graph.nodes[2].inputs[1]] = replace(tensors[graph.nodes[2].inputs[1]], data=data)
    after = widths(assert_exact(graph.evolve(tensors=tensors), int8(graph)))
    assert (after[first], after[second], after[third]) == (2, 1, 1)


def test_a_second_round_counts_from_the_first_channels() -> None:
    """Channel 0 goes at once, channel 2 when its reader has gone."""
    net = Net((4, 4, 2), 7)
    first = net.conv(net.x, ["unread", "live", "live", "live"])
    second = net.conv(first, ["live", "unread"])
    graph = net.build(net.conv(second, ["live"] * 2))
    name = graph.nodes[1].inputs[1]
    data = np.array(graph.tensors[name].data)
    data[0, :, :, 2] = 0
    tensors = {**graph.tensors, name: replace(graph.tensors[name], data=data)}
    after = assert_exact(graph.evolve(tensors=tensors), int8(graph))
    assert after.removed[first] == (0, 2)


def test_int16_layers_are_left_alone() -> None:
    """Nobody sees what they compute: in int8 one channel of each would be left."""
    wide, scales = QParams.int16(0.001), QParams((0.01, 0.01), (0, 0), 0)
    builder = GraphBuilder("wide")

    def conv(name: str, x: str, bias: type, q: QParams) -> str:
        weights = builder.constant("weights", np.zeros((2, 1, 1, 2), np.int8), scales)
        inputs = (x, weights, builder.constant("bias", np.zeros(2, bias), scales))
        return builder.add("conv2d", name, inputs, conv2d.Attrs(), q)

    x = builder.input("x", (3, 3, 2), wide)
    second = conv("second", conv("first", x, np.int64, wide), np.int64, wide)
    other = conv("other", x, np.int64, wide)
    narrow = builder.add("requantize", "narrow", (other,), requantize.Attrs(), Q)
    graph = builder.build((second, conv("third", narrow, np.int32, Q)))
    assert simplify(graph) == graph


# ---- bounds: exact, by trying everything

NARROW = [(-3, -3), (-128, -127), (5, 6), (-128, -128), (126, 127), (-4, -2)]

RULES: dict[str, tuple[str, Any, tuple[int, ...], list[Array], QParams]] = {
    "conv2d": ("conv2d", conv2d.Attrs(), (1, 2, 2), [(2, 1, 2, 2), (2,)], OTHER),
    "conv2d padded": (
        "conv2d",
        conv2d.Attrs(padding=Padding(0, 0, 1, 1)),
        (1, 2, 2),
        [(2, 1, 3, 2), (2,)],
        OTHER,
    ),
    "conv2d strided": (
        "conv2d",
        conv2d.Attrs(stride=(1, 2), padding=Padding(0, 0, 1, 1)),
        (1, 3, 1),
        [(2, 1, 2, 1), (2,)],
        OTHER,
    ),
    "conv2d in groups": ("conv2d", conv2d.Attrs(groups=2), (1, 2, 2), [(4, 1, 2, 1), (4,)], OTHER),
    "depthwise": (
        "depthwise_conv2d",
        depthwise_conv2d.Attrs(padding=Padding(0, 0, 1, 0), activation="relu"),
        (1, 2, 2),
        [(1, 2, 4), (4,)],
        OTHER,
    ),
    "transposed": (
        "conv2d_transpose",
        conv2d_transpose.Attrs((1, 4), (1, 2)),
        (1, 2, 2),
        [(2, 1, 2, 2), (2,)],
        OTHER,
    ),
    "dense": ("dense", dense.Attrs("relu6"), (4,), [(3, 4), (3,)], OTHER),
    "affine": ("affine", affine.Attrs(), (2, 2), [(2,), (2,)], OTHER),
    "prelu": ("prelu", prelu.Attrs(), (1, 2, 2), [(1, 1, 2)], OTHER),
    "tanh": ("activation", activation.attrs_of("tanh"), (2, 2), [], QParams.per_tensor(1 / 128, 0)),
    "gelu": ("activation", activation.attrs_of("gelu"), (2, 2), [], OTHER),
    "requantize": ("requantize", requantize.Attrs("relu"), (2, 2), [], OTHER),
    "average": (
        "average_pool2d",
        average_pool2d.Attrs((1, 2), (1, 1), Padding(0, 0, 1, 0)),
        (1, 2, 2),
        [],
        Q,
    ),
    "max": ("max_pool2d", max_pool2d.Attrs((1, 2), (1, 1), Padding(0, 0, 1, 0)), (1, 2, 2), [], Q),
    "mean": ("mean", mean.Attrs(), (1, 2, 2), [], OTHER),
    "reshape": ("reshape", reshape.Attrs((4,)), (2, 2), [], Q),
    "pad": ("pad", pad.Attrs(((0, 0), (1, 0), (0, 0))), (1, 2, 2), [], Q),
    "pad channels": ("pad", pad.Attrs(((0, 0), (0, 0), (0, 1))), (1, 2, 2), [], Q),
    "crop": ("crop", crop.Attrs(((0, 0), (1, 0), (0, 0))), (1, 2, 2), [], Q),
    "add constant": ("add", add.Attrs(), (2, 2), [(2, 1)], OTHER),
    "mul constant": ("mul", Clamped(), (2, 2), [(2,)], OTHER),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_bounds_are_what_trying_everything_gives(rule: str, seed: int) -> None:
    op, attrs, shape, constants, output = RULES[rule]
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=size) for size in constants]
    graph = quantized_node(op, attrs, [(shape, Q)], arrays, output)
    boxes = [NARROW[i] for i in rng.integers(0, len(NARROW), shape[-1])]
    spans = [range(low, high + 1) for low, high in boxes] * (int(np.prod(shape)) // shape[-1])
    x = np.array(list(itertools.product(*spans)), np.int8).reshape(-1, *shape)
    (outputs,) = evaluate.reference(graph, [x])
    rows = outputs.reshape(-1, outputs.shape[-1])
    bounds = ops.get(op).bounds
    assert bounds is not None
    own = Interval(*(np.array(end, np.int64) for end in zip(*boxes, strict=True)))
    b = graph.bound()[0]
    found = bounds(b, [None if t.is_constant else own for t in b.inputs])
    np.testing.assert_array_equal(found.low, rows.min(axis=0))
    np.testing.assert_array_equal(found.high, rows.max(axis=0))


def test_a_table_may_turn_between_the_ends() -> None:
    graph = quantized_node("activation", activation.attrs_of("gelu"), [((1,), Q)], [], OTHER)
    found = bounds_of(graph, -128, 127)
    table = activation.table(graph.bound()[0]).astype(int)
    assert found == (table.min(), table.max()) and table.min() < min(table[0], table[-1])


def test_a_negative_slope_turns_at_the_zero_point() -> None:
    graph = quantized_node("prelu", prelu.Attrs(), [((1,), Q)], [np.array([-0.5])], OTHER)
    (every,) = evaluate.reference(graph, [np.arange(-128, 128).astype(np.int8)[:, np.newaxis]])
    assert bounds_of(graph, -128, 127) == (every.min(), every.max())
    assert every.min() < min(every[0], every[-1])


def bounds_of(graph: Graph, low: int, high: int) -> tuple[int, int]:
    """Of a graph of one node with one channel."""
    b = graph.bound()[0]
    bounds, own = ops.get(b.node.op).bounds, Interval(np.array([low]), np.array([high]))
    assert bounds is not None
    found = bounds(b, [None if t.is_constant else own for t in b.inputs])
    return int(found.low[0]), int(found.high[0])


@pytest.mark.parametrize("op", ["add", "sub", "mul", "maximum", "minimum"])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_of_two_inputs(op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    alike = op in ("maximum", "minimum")
    attrs = ops.get(op).attrs()
    graph = quantized_node(op, attrs, [((2, 2), Q), ((2,), Q if alike else OTHER)], [], Q if alike else OTHER)
    boxes = [[NARROW[i] for i in rng.integers(0, len(NARROW), 2)] for _ in range(2)]
    spans = [range(low, high + 1) for low, high in (*boxes[0], *boxes[0], *boxes[1])]
    every = np.array(list(itertools.product(*spans)), np.int8)
    (outputs,) = evaluate.reference(graph, [every[:, :4].reshape(-1, 2, 2), every[:, 4:]])
    own = [Interval(*(np.array(end, np.int64) for end in zip(*box, strict=True))) for box in boxes]
    bounds = ops.get(op).bounds
    assert bounds is not None
    found = bounds(graph.bound()[0], own)
    np.testing.assert_array_equal(found.low, outputs.reshape(-1, 2).min(axis=0))
    np.testing.assert_array_equal(found.high, outputs.reshape(-1, 2).max(axis=0))


def test_the_models_input_may_be_anything() -> None:
    net = Net((3, 3, 2), 0)
    known = intervals(net.build(net.conv(net.x, ["live"])))
    assert known["x"].low.tolist() == [-128, -128] and known["x"].high.tolist() == [127, 127]


# ---- real models, and who else looks at channels


def test_half_of_published_vww_goes(shared_data: Path) -> None:
    """Half of its multiplications, and no bit of any output on real images."""
    graph = load_tflite(shared_data / "models" / "vww_mobilenet_v1_025_96_int8.tflite")
    after = assert_exact(graph, [samples("vww_mobilenet_v1_025_96", shared_data, graph)])
    (made,) = decisions(graph, after)
    assert made.before.macs == 7_489_664 and made.after.macs <= 3_810_000
    assert made.after.bytes < made.before.bytes / 6
    assert "conv2d_13 234 of 256" in str(made)


@pytest.mark.parametrize("name", ["ad_autoencoder", "ic_resnet8", "kws_ds_cnn"])
def test_other_published_models_stay(name: str, shared_data: Path) -> None:
    graph = load_tflite(shared_data / "models" / f"{name}_int8.tflite")
    assert simplify(graph) == graph and decisions(graph, simplify(graph)) == ()


def test_inspect_tells_what_went(shared_data: Path) -> None:
    (told,) = api.inspect(shared_data / "models" / "vww_mobilenet_v1_025_96_int8.tflite").decisions
    assert told.startswith("channels that no output can see: removed (7,489,664 -> ")


def compiled_with(dead: Callable[[Array], None]) -> tuple[pipeline.Compiled, Array]:
    """A float model whose first bias `dead` changes, compiled on 40 random samples."""
    from tests.support.graphs import float_graph
    from tinygen.samples import Samples

    graph = float_graph()
    bias = np.array(graph.tensors["stem/bias"].data)
    dead(bias)
    tensors = {**graph.tensors, "stem/bias": Tensor("stem/bias", bias.shape, data=bias)}
    weights = np.array(graph.tensors["body/bias"].data)
    dead(weights)
    tensors["body/bias"] = Tensor("body/bias", weights.shape, data=weights)
    x = np.random.default_rng(1).normal(size=(40, 6, 5, 2)).astype(np.float32)
    made = pipeline.compile_graph(
        graph.evolve(tensors=tensors), Samples((x,), grids=(None,)), None, pipeline.Options()
    )
    return made, x


def test_the_float_graph_is_compared_channel_by_channel_with_what_is_left() -> None:
    def kill(bias: Array) -> None:
        bias[1] = -100.0

    made, x = compiled_with(kill)
    assert made.graph.removed["stem"] == (1,) and made.graph.tensors["join"].shape == (6, 5, 3)
    error = quantization_error.measure(made.real, made.graph, [x])
    ratios = {t.name: t.snr_db for t in error.tensors}
    assert all(ratio is not None and ratio > 20 for ratio in ratios.values()), ratios
    assert any("channels that no output can see" in str(d) for d in made.decisions)
