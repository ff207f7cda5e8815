"""float32 kernels: every operator's C on the host, under UBSan, against its own float evaluation.

The nodes are those of the int8 tests, with float tensors (nodes.float_twin); several share one compilation.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.ops import (
    test_affine,
    test_binary,
    test_concat,
    test_conv2d,
    test_conv2d_transpose,
    test_dense,
    test_depthwise_conv2d,
    test_mean,
    test_pad_crop,
    test_pooling,
    test_prelu,
    test_resize,
    test_softmax,
    test_transpose_reshape,
)
from tests.ops.test_activation import CASES
from tests.support.host import WARNINGS, library_of, run_on_host, write_files
from tests.support.in_place import assert_in_place
from tests.support.layers import QP
from tests.support.nodes import assert_float_c, float_twin, quantized_node, random_inputs
from tinygen import evaluate, ops
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, GraphBuilder
from tinygen.ops import binary, requantize, rescale, reshape, resize_nearest, transpose
from tinygen.ops.activation import attrs_of
from tinygen.ops.comparison import NoAttrs
from tinygen.program import select

SIDES = st.integers(1, 5)
FACTORS = st.tuples(st.integers(1, 4), st.integers(1, 4))
NODES: Mapping[str, st.SearchStrategy[Graph]] = {
    "conv2d": test_conv2d.convolutions(),
    "depthwise_conv2d": test_depthwise_conv2d.convolutions(),
    "conv2d_transpose": test_conv2d_transpose.convolutions(),
    "dense": test_dense.layers(),
    "affine": test_affine.affines(),
    "pooling": test_pooling.pools(),
    "mean": test_mean.means(),
    "two inputs": test_binary.free_nodes() | test_binary.compared_nodes(),
    "prelu": test_prelu.prelus(),
    "softmax": st.builds(
        test_softmax.node, st.integers(1, 40), st.just(0.1), rows=SIDES, beta=st.floats(0.1, 4)
    ),
    "concat": test_concat.concats(),
    "pad, crop": test_pad_crop.padded_or_cropped(),
    "transpose": test_transpose_reshape.transposes(),
    "resize_nearest": st.builds(test_resize.nearest, st.tuples(SIDES, SIDES, SIDES), FACTORS),
    "resize_bilinear": st.builds(test_resize.bilinear, st.tuples(SIDES, SIDES, SIDES), FACTORS),
}


@pytest.mark.parametrize("kind", NODES)
def test_c_is_near_the_float_evaluation(kind: str) -> None:
    @settings(max_examples=3, phases=[Phase.generate])  # to shrink a failure takes hundreds of compilations
    @given(st.lists(NODES[kind], min_size=8, max_size=8), st.integers(0, 1000))
    def agrees(graphs: list[Graph], seed: int) -> None:
        twin = float_twin(graphs)
        assert_float_c(twin, random_inputs(twin, 3, seed))

    agrees()


def activations() -> Graph:
    """Every function of `activation`, every variant, on one input; the exponential grows too fast for large inputs."""
    builder = GraphBuilder("functions")
    x = builder.input("x", (300,))
    outputs = tuple(
        builder.add("activation", f"{i} {name}", (x,), attrs_of(name, **variant))
        for i, (name, variant) in enumerate(CASES)
    )
    return builder.build(outputs)


def test_every_function_of_one_variable() -> None:
    graph = activations()
    small = np.geomspace(1e-6, 0.5, 30)
    for end in (1.5, 12):
        x = np.concatenate([np.linspace(-end, end, 240), small, -small])
        assert_float_c(graph, [x.astype(np.float32)[np.newaxis]], tolerance=1e-6)
    assert {n.attrs.function for n in graph.nodes} == {c[0] for c in CASES}


def test_functions_far_out() -> None:
    """No overflow on the way to a finite result, no NaN; what is infinite is so in both."""
    graph = activations()
    x = np.tile(np.array([-1e30, -2e4, -200, 200, 2e4, 1e30], np.float32), 50)[np.newaxis]
    with np.errstate(all="ignore"):
        want = evaluate.real(graph, [x])
    for name, got, theirs in zip(graph.outputs, run_on_host(graph, [x]), want, strict=True):
        assert not np.isnan(got).any(), name
        np.testing.assert_allclose(got, theirs, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (
            quantized_node("affine", ops.get("affine").attrs(), [((4, 3), QP)], [np.ones(3), np.ones(3)], QP),
            (0,),
        ),
        (quantized_node("add", binary.Attrs(), [((3, 4), QP), ((3, 4), QP)], output=QP), (0, 1)),
        (quantized_node("maximum", NoAttrs(), [((3, 4), QP), ((4,), QP)]), (0,)),
        (
            quantized_node("prelu", ops.get("prelu").attrs(), [((4, 5), QP)], [np.linspace(-1, 1, 5)], QP),
            (0,),
        ),
        (quantized_node("rescale", rescale.Attrs(1 / 3), [((4, 5), QP)]), (0,)),
        (quantized_node("activation", attrs_of("mish"), [((70,), QP)], output=QP), (0,)),
        (test_softmax.node(7, 0.1, rows=3), (0,)),
    ],
    ids=lambda value: value.nodes[0].op if isinstance(value, Graph) else "",
)
def test_in_place(graph: Graph, expected: tuple[int, ...]) -> None:
    assert_in_place(float_twin([graph]), expected)


def test_a_rescale_multiplies() -> None:
    """It only changes the scale of int8; real numbers must change."""
    twin = float_twin([quantized_node("rescale", rescale.Attrs(1 / 3), [((40,), QP)])])
    assert_float_c(twin, random_inputs(twin, 3, 1))


def test_what_moves_nothing_costs_nothing() -> None:
    for attrs, op in ((reshape.Attrs((6,)), "reshape"), (transpose.Attrs((1, 0)), "transpose")):
        shape = (2, 3) if op == "reshape" else (1, 6)
        (step,) = select(float_twin([quantized_node(op, attrs, [(shape, QP)])]), None).steps
        assert step.kernel.alias


def test_runs_of_a_copy_are_counted_in_bytes() -> None:
    twin = float_twin([quantized_node("resize_nearest", resize_nearest.Attrs((1, 2)), [((1, 3, 5), QP)])])
    text = library_of(twin).files["lib/model/model.c"]
    assert "memcpy(" in text and ", 20);" in text


def test_every_operator_has_a_float_kernel_or_is_refused_by_name() -> None:
    without = {op.name for op in ops.OPS if not any(k.dtype == "float32" for k in op.kernels)}
    assert without == {"requantize"}, "no Keras layer becomes it"
    twin = float_twin([quantized_node("requantize", requantize.Attrs(), [((4,), QP)], output=QP)])
    with pytest.raises(UnsupportedLayerError, match=r"layer '0/node' \(requantize\).*no float32 kernel"):
        select(twin, None)


def test_a_whole_graph_shares_an_arena_of_floats() -> None:
    """Residual, scratchless, with values that die and are overwritten: offsets and sizes are bytes of float."""
    from tests.support.graphs import float_graph

    graph = float_graph()
    library = library_of(graph)
    assert library.input_sizes == (4 * 60,) and library.output_sizes == (4 * 3,)
    assert_float_c(graph, random_inputs(graph, 6, 2))


def test_single_precision_only(tmp_path: Path) -> None:
    """Nothing is computed in double, by accident of a literal or of a function's name."""
    graphs = (float_twin([test_softmax.node(7, 0.1)]), activations())
    for i, graph in enumerate(graphs):
        sources = write_files(library_of(graph), tmp_path / str(i))
        command = ["gcc", *WARNINGS, "-Wdouble-promotion", "-Wfloat-conversion", "-O1", "-c"]
        for source in sources:
            subprocess.run([*command, str(source), "-o", str(source.with_suffix(".o"))], check=True)
