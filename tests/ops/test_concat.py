"""concat: any axis, any number of inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.layers import QP, assert_layer_equals_keras, assert_same_when_imported, graph_of_layer
from tests.support.nodes import assert_agree, quantized_node, random_inputs
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, QParams
from tinygen.ops.concat import Attrs, broken_runs, places, whole_runs


@st.composite
def concats(draw: st.DrawFn) -> Graph:
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    shapes = [tuple(size if a == axis else n for a, n in enumerate(shape)) for size in sizes]
    q = QParams.per_tensor(0.1, draw(st.integers(-128, 127)))
    return quantized_node("concat", Attrs(axis), [(s, q) for s in shapes])


@settings(max_examples=30)
@given(concats(), st.integers(0, 1000))
def test_concat_equals_litert_and_c(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=4, seed=seed, lsb=0.0)


@settings(max_examples=20)
@given(concats(), st.integers(0, 1000))
def test_concat_survives_the_file(graph: Graph, seed: int) -> None:
    assert_same_when_imported(graph, random_inputs(graph, 3, seed))


def test_order_of_the_inputs() -> None:
    graph = quantized_node("concat", Attrs(1), [((2, 1), QP), ((2, 2), QP)])
    a, b = np.array([[[1], [2]]], np.int8), np.array([[[3, 4], [5, 6]]], np.int8)
    (y,) = evaluate.reference(graph, [a, b])
    assert y.tolist() == [[[1, 3, 4], [2, 5, 6]]]


def test_parts_stand_at_whole_words() -> None:
    """Buffers begin at whole words: what would begin or end between two of them is copied, but for the last."""
    graph = quantized_node("concat", Attrs(0), [((4, 2), QP), ((3, 2), QP), ((1, 2), QP), ((3, 2), QP)])
    (node,) = graph.bound()
    assert places(node) == ((0, 0), (3, 16))
    assert [whole_runs(node, None), broken_runs(node, None)] == [True, False]
    turns = quantized_node("concat", Attrs(1), [((2, 4), QP), ((2, 4), QP)])
    assert broken_runs(next(iter(turns.bound())), None), "rows of both take turns"


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="same shape but for the axis"):
        quantized_node("concat", Attrs(1), [((2, 1), QP), ((3, 2), QP)])


def test_scales_that_disagree_are_refused() -> None:
    other = QParams.per_tensor(0.06, -7)
    with pytest.raises(UnsupportedLayerError, match="share one scale and zero point"):
        quantized_graph_of_two_scales(other)


def quantized_graph_of_two_scales(other: QParams) -> Graph:
    from tinygen.graph import GraphBuilder

    builder = GraphBuilder("two")
    inputs = builder.input("a", (2,), QP), builder.input("b", (2,), other)
    return builder.build((builder.add("concat", "joined", inputs, Attrs(0), QP),))


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("axis", "other"), [(-1, (4, 5, 7)), (3, (4, 5, 1)), (1, (2, 5, 3)), (-2, (4, 9, 3))]
)
def test_keras(axis: int, other: tuple[int, ...]) -> None:
    import keras

    assert_layer_equals_keras(keras.layers.Concatenate(axis=axis), (4, 5, 3), other)


@pytest.mark.tensorflow
def test_keras_batch_axis_is_refused() -> None:
    import keras

    layer = keras.layers.Concatenate(axis=0, name="stack")
    with pytest.raises(UnsupportedLayerError, match=r"'stack'.*axis=0 is the batch(.|\n)*from 1 to 3"):
        graph_of_layer(layer, [(4, 5, 3), (4, 5, 3)])
