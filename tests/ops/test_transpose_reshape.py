"""transpose (Permute) and reshape (Flatten, Reshape)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.layers import (
    QP,
    assert_import_equals_litert,
    assert_layer_equals_keras,
    assert_same_when_imported,
    read_file,
    tflite_file,
)
from tests.support.nodes import assert_agree, quantized_node, random_inputs
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph
from tinygen.ops import movement, reshape, transpose
from tinygen.program import select


@st.composite
def transposes(draw: st.DrawFn) -> Graph:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    perm = tuple(draw(st.permutations(range(len(shape)))))
    return quantized_node("transpose", transpose.Attrs(perm), [(shape, QP)])


@settings(max_examples=40)
@given(transposes(), st.integers(0, 1000))
def test_transpose_equals_litert_and_c(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=4, seed=seed, lsb=0.0)


@settings(max_examples=30)
@given(transposes(), st.integers(0, 1000))
def test_transpose_survives_the_file(graph: Graph, seed: int) -> None:
    assert_same_when_imported(graph, random_inputs(graph, 3, seed))


@settings(max_examples=300)
@given(transposes())
def test_alias_exactly_when_the_bytes_stay_in_order(graph: Graph) -> None:
    (step,) = select(graph, None).steps
    shape, perm = graph.input_tensors[0].shape, graph.nodes[0].attrs.perm
    order = np.arange(np.prod(shape)).reshape(shape).transpose(perm).ravel()
    assert step.kernel.alias == bool(np.array_equal(order, np.arange(order.size)))


@settings(max_examples=300)
@given(transposes())
def test_copy_visits_every_element_once(graph: Graph) -> None:
    """box_copy, executed in Python."""
    (bound,) = graph.bound()
    copy = transpose.params(bound).copy
    source = np.arange(bound.output.elements)
    target = np.full(bound.output.elements, -1)
    for turn in np.ndindex(*(loop.size for loop in copy.loops)):
        s = copy.source + sum(i * loop.source for i, loop in zip(turn, copy.loops, strict=True))
        t = copy.target + sum(i * loop.target for i, loop in zip(turn, copy.loops, strict=True))
        target[t : t + copy.run] = source[s : s + copy.run]
    want = source.reshape(bound.inputs[0].shape).transpose(bound.attrs.perm).ravel()
    assert target.tolist() == want.tolist()


def test_axes_that_move_together_are_one_loop() -> None:
    copy = movement.box_copy((2, 3, 4, 5), (5, 50, 10, 1), (60, 20, 5, 1), 1)
    assert [loop.size for loop in copy.loops] == [2, 3, 4]
    assert copy.run == 5
    whole = movement.box_copy((2, 3, 4), (12, 4, 1), (12, 4, 1), 1)
    assert (whole.loops, whole.run) == ((), 24)


def test_a_permutation_that_repeats_an_axis_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="every axis of the input must appear exactly once"):
        quantized_node("transpose", transpose.Attrs((0, 0)), [((2, 2), QP)])


# ---- reshape


@settings(max_examples=20)
@given(st.permutations([2, 3, 4]), st.sampled_from([(24,), (4, 6), (2, 2, 6), (1, 24, 1), (2, 3, 2, 2)]))
def test_reshape_equals_litert_and_c(shape: list[int], target: tuple[int, ...]) -> None:
    graph = quantized_node("reshape", reshape.Attrs(target), [(tuple(shape), QP)])
    assert_agree(graph, samples=4, lsb=0.0)
    assert_same_when_imported(graph, random_inputs(graph, 3, 1))


def test_another_number_of_elements_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="as many elements as the input"):
        quantized_node("reshape", reshape.Attrs((5,)), [((2, 3), QP)])


@pytest.mark.parametrize(
    ("target", "shape", "resolved"),
    [((-1,), (2, 3), (6,)), ((3, -1), (2, 3), (3, 2)), ((2, -1, 1), (4,), (2, 2, 1)), ((6,), (2, 3), (6,))],
)
def test_minus_one_is_resolved(
    target: tuple[int, ...], shape: tuple[int, ...], resolved: tuple[int, ...]
) -> None:
    assert reshape.resolved(target, shape) == resolved


# ---- Keras


@pytest.mark.tensorflow
@pytest.mark.parametrize("dims", [(1, 2, 3), (2, 1, 3), (3, 1, 2), (3, 2, 1)])
def test_keras_permute(dims: tuple[int, ...]) -> None:
    import keras

    assert_layer_equals_keras(keras.layers.Permute(dims), (3, 4, 2))


@pytest.mark.tensorflow
@pytest.mark.parametrize("target", [(24,), (-1,), (4, -1), (-1, 3, 2), (2, 3, 4, 1)])
def test_keras_reshape(target: tuple[int, ...]) -> None:
    import keras

    assert_layer_equals_keras(keras.layers.Reshape(target), (3, 4, 2))


@pytest.mark.tensorflow
@pytest.mark.parametrize("shape", [(24,), (4, 6), (3, 4, 2)])
def test_keras_flatten(shape: tuple[int, ...]) -> None:
    import keras

    assert_layer_equals_keras(keras.layers.Flatten(), shape)


# ---- .tflite


def test_squeeze_and_expand_dims_are_read_as_reshape() -> None:
    def append(writer, x, y):  # type: ignore[no-untyped-def]
        middle = writer.temp("middle", (4, 2), "int8", QP)
        writer.add("SQUEEZE", [x], middle, "SqueezeOptions", {"squeezeDims": [1]})
        axis = writer.raw("axis", np.array(2, np.int32))
        writer.add("EXPAND_DIMS", [middle, axis], y, "ExpandDimsOptions", {})

    model = tflite_file((1, 4, 2), (4, 1, 2), append)
    graph = read_file(model)
    assert [n.op for n in graph.nodes] == ["reshape", "reshape"]
    assert_import_equals_litert(model, graph)


@pytest.mark.parametrize("perm", [[1, 0, 2], [0, 1], [0, 1, 1]])
def test_a_transpose_of_the_batch_is_refused(perm: list[int]) -> None:
    def append(writer, x, y):  # type: ignore[no-untyped-def]
        writer.add("TRANSPOSE", [x, writer.raw("p", np.array(perm, np.int32))], y, "TransposeOptions", {})

    with pytest.raises(UnsupportedLayerError, match=r"the batch \(0\) first"):
        read_file(tflite_file((3, 4), (3, 4), append))
