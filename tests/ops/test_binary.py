"""add, sub, mul, maximum, minimum: against LiteRT, C on the host, real arithmetic and Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.in_place import assert_in_place
from tests.support.layers import (
    QP,
    assert_layer_equals_keras,
    graph_of_layer,
    imported,
    read_file,
    tflite_file,
)
from tests.support.nodes import assert_agree, quantized_node, random_inputs
from tests.support.products import activations, zero_points
from tinygen import evaluate, ops
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, Node, QParams, Shape, Tensor
from tinygen.ops import binary
from tinygen.ops.binary import Attrs
from tinygen.ops.comparison import NoAttrs
from tinygen.tflite.writer import TfliteWriter

FREE = ("add", "sub", "mul")
COMPARED = ("maximum", "minimum")

decimal_scales = st.integers(1, 99).map(lambda n: n / 100)
"""Scales such as 0.4 and 0.8, whose quotients meet rounding ties that float32 and double see differently."""


@st.composite
def shape_pairs(draw: st.DrawFn) -> tuple[Shape, Shape]:
    """Two shapes that broadcast: one loses leading axes and repeats along others; either may come first."""
    full = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    kept = full[draw(st.integers(0, len(full) - 1)) :]
    small = tuple(1 if draw(st.booleans()) else size for size in kept)
    return (full, small) if draw(st.booleans()) else (small, full)


def qparams(draw: st.DrawFn, largest: float = 1.0) -> QParams:
    scale = draw(decimal_scales | st.floats(-8, 0).map(lambda e: 2.0**e))
    return QParams.per_tensor(scale * largest, draw(zero_points))


@st.composite
def free_nodes(draw: st.DrawFn) -> Graph:
    """add, sub or mul of two activations, or of one and a constant."""
    op, attrs = draw(st.sampled_from(FREE)), Attrs(draw(activations))
    first, second = draw(shape_pairs())
    x, y = qparams(draw), qparams(draw)
    if draw(st.booleans()):
        return quantized_node(op, attrs, [(first, x), (second, qparams(draw))], output=y)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    constant = rng.normal(size=second) * 10.0 ** draw(st.integers(-3, 2))
    return quantized_node(op, attrs, [(first, x)], [constant], y)


@st.composite
def compared_nodes(draw: st.DrawFn) -> Graph:
    op, (first, second), q = draw(st.sampled_from(COMPARED)), draw(shape_pairs()), qparams(draw)
    if draw(st.booleans()):
        return quantized_node(op, NoAttrs(), [(first, q), (second, q)])
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    constant = q.dequantize(rng.integers(-128, 128, second))
    return quantized_node(op, NoAttrs(), [(first, q)], [constant])


@settings(max_examples=150)
@given(free_nodes() | compared_nodes(), st.integers(0, 1000))
def test_reference_equals_litert_and_real(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=8, seed=seed, host=False)


@settings(max_examples=30)
@given(free_nodes() | compared_nodes(), st.integers(0, 1000))
def test_c_equals_reference(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=8, seed=seed, litert=False)


@pytest.mark.parametrize("op", FREE)
def test_every_pair_of_inputs(op: str) -> None:
    """All 65,536 pairs of int8 values, broadcast from a column and a row."""
    for x, y, z in ((0.5, 0.25, 0.75), (0.4, 0.07, 0.8), (0.003, 0.9, 0.5)):
        q1, q2, q3 = QParams.per_tensor(x, -128), QParams.per_tensor(y, 127), QParams.per_tensor(z, 3)
        graph = quantized_node(op, Attrs(), [((256, 1), q1), ((256,), q2)], output=q3)
        values = np.arange(-128, 128).astype(np.int8)
        inputs = [values.reshape(1, 256, 1), values.reshape(1, 256)]
        from tests.support.nodes import assert_equals_c, assert_equals_litert, assert_near_real

        assert_equals_litert(graph, inputs)
        assert_equals_c(graph, inputs)
        assert_near_real(graph, inputs)


@pytest.mark.parametrize("op", [*FREE, *COMPARED])
@pytest.mark.parametrize("constant_first", [False, True])
def test_constant_on_either_side(op: str, constant_first: bool) -> None:
    """The C function's arguments are activations first: the order of the operands must not follow them."""
    attrs = Attrs() if op in FREE else NoAttrs()
    output = QParams.per_tensor(0.11, 4) if op in FREE else None
    graph = quantized_node(op, attrs, [((2, 3), QP)], [np.array([1.5, -0.7, 3.0])], output)
    if constant_first:
        (node,) = graph.nodes
        graph = graph.evolve(nodes=(Node(op, "node", node.inputs[::-1], "node", attrs),))
    assert_agree(graph, seed=1)
    inputs = random_inputs(graph, 4, 2)
    np.testing.assert_array_equal(
        evaluate.reference(imported(graph), inputs)[0], evaluate.reference(graph, inputs)[0]
    )


@pytest.mark.parametrize("op", FREE)
def test_one_tensor_twice(op: str) -> None:
    q = QParams.per_tensor(0.13, -40)
    graph = quantized_node(op, Attrs(), [((5,), QP), ((5,), QP)], output=q)
    tensors = {k: t for k, t in graph.tensors.items() if k != "x1"}
    node = Node(op, "node", ("x0", "x0"), "node", Attrs())
    assert_agree(Graph("twice", (node,), tensors, ("x0",), ("node",)))


@pytest.mark.parametrize("op", FREE)
@pytest.mark.parametrize("output", [1e-30, 1e-9, 1e-5, 1e4])
def test_extreme_output_scales_do_not_overflow(op: str, output: float) -> None:
    """UBSan runs in assert_agree; LiteRT overflows or refuses such scales. What is not 0 saturates."""
    large, tiny = QParams.per_tensor(0.9, -128), QParams.per_tensor(output, 5)
    graph = quantized_node(op, Attrs(), [((300,), large), ((300,), large)], output=tiny)
    inputs = random_inputs(graph, 8, 3)
    inputs[0][3] = inputs[1][3] = -128  # real zeros
    (got,) = evaluate.reference(graph, inputs)
    assert (got[3] == 5).all()
    assert_agree(graph, litert=False, lsb=1.0)


@pytest.mark.parametrize("op", [*FREE, *COMPARED])
@pytest.mark.parametrize(
    ("shapes", "expected"),
    [(((3, 4), (3, 4)), (0, 1)), (((3, 4), (4,)), (0,)), (((1, 4), (3, 1, 4)), (1,)), (((3, 1), (1, 4)), ())],
)
def test_in_place(op: str, shapes: tuple[Shape, Shape], expected: tuple[int, ...]) -> None:
    attrs, output = (Attrs(), QParams.per_tensor(0.2, 1)) if op in FREE else (NoAttrs(), None)
    assert_in_place(quantized_node(op, attrs, [(s, QP) for s in shapes], output=output), expected)


def test_loops_merge() -> None:
    """Axes that walk alike in both inputs become one loop."""
    graph = quantized_node("add", Attrs(), [((2, 3, 4, 5), QP), ((4, 5), QP)], output=QP)
    loops = binary.broadcast(graph.bind(graph.nodes[0]))
    assert (loops.sizes, loops.index1, loops.index2) == ((6, 20), "i0 * 20 + i1", "i1")


def test_constants_keep_zero_and_their_extremes() -> None:
    """0, the minimum and the maximum of a constant are representable; a constant of zeros gets scale 1."""
    for values in ([-1.0, 3.0], [2.0, 5.0], [-7.0, -1e-3], [1e-42, 0.0]):
        data = np.array(values, np.float32)
        q = binary.constant_qparams(data)
        assert q.dequantize(q.quantize(np.zeros(1)))[0] == 0
        error = np.abs(q.dequantize(q.quantize(data)) - data)
        assert (error <= q.scale[0] / 2 * 1.01).all()
    assert binary.constant_qparams(np.zeros(3)) == QParams.per_tensor(1.0, 0)


def test_two_constants_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="at most one of the two inputs"):
        quantized_node("add", Attrs(), [], [np.ones(2), np.ones(2)], QP)


# ---- .tflite files


def with_constant(kind: str, constant: Shape, q: QParams) -> bytes:
    """A file x (2, 3) -> kind(x, constant)."""

    def append(writer: TfliteWriter, x: int, y: int) -> None:
        values = np.arange(np.prod(constant), dtype=np.int8).reshape(constant)
        options = {"MAXIMUM": "MaximumMinimumOptions", "ADD": "AddOptions"}[kind]
        writer.add(kind, [x, writer.raw("c", values, q)], y, options, {}, version=2)

    return tflite_file((2, 3), (2, 3), append)


def test_import_drops_the_batch_of_a_constant() -> None:
    graph = read_file(with_constant("ADD", (1, 2, 3), QP))
    assert graph.bound()[0].inputs[1].shape == (2, 3)


@pytest.mark.parametrize(
    ("kind", "shape", "q", "match"),
    [
        ("ADD", (2, 2), QP, "do not broadcast"),
        ("ADD", (2, 2, 3), QP, "do not broadcast"),
        ("ADD", (3,), QParams((0.1, 0.2, 0.3), (0, 0, 0), 0), "one scale"),
        ("MAXIMUM", (3,), QParams.per_tensor(0.4, 1), "same scale and zero point"),
    ],
)
def test_import_refuses(kind: str, shape: Shape, q: QParams, match: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=match):
        read_file(with_constant(kind, shape, q))


# ---- Keras


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_keras(name: str, count: int) -> None:
    import keras

    if name == "Subtract" and count > 2:
        return  # takes exactly two
    layer: Any = getattr(keras.layers, name)()
    graph = assert_layer_equals_keras(layer, *[(4, 3)] * count)
    assert graph.nodes[-1].name == layer.name


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["Add", "Multiply", "Maximum"])
def test_keras_broadcasts(name: str) -> None:
    """Inputs of lower rank get axes of size 1 behind the batch, as numpy does without the batch."""
    import keras

    assert_layer_equals_keras(getattr(keras.layers, name)(), (4, 3), (3,))
    assert_layer_equals_keras(getattr(keras.layers, name)(), (2, 1, 3), (5, 1))


@pytest.mark.tensorflow
def test_average_costs_one_rescale() -> None:
    import keras

    graph = graph_of_layer(keras.layers.Average(), [(3,)] * 3)
    assert [n.op for n in graph.nodes] == ["add", "add", "rescale"]
    assert ops.get("rescale").kernels[0].alias


def test_tensor_names_of_chains_are_unique() -> None:
    from tinygen.graph import GraphBuilder

    builder = GraphBuilder("chain")
    inputs = [builder.input(f"x{i}", (2,)) for i in range(4)]
    output = binary.append_chain("add", Attrs(), "sum", inputs, builder)
    graph = builder.build((output,))
    assert [n.name for n in graph.nodes] == ["sum/1", "sum/2", "sum"]
    assert isinstance(graph.tensors[output], Tensor)
