"""max_pool2d and average_pool2d: against LiteRT, the C on the host, Keras, and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.layers import (
    assert_import_equals_litert,
    assert_layer_equals_keras,
    assert_same_when_imported,
    read_file,
    tflite_file,
)
from tests.support.nodes import assert_agree, quantized_node, random_inputs
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, QParams
from tinygen.ops.pooling import Attrs
from tinygen.ops.windows import VALID, Padding, same_padding

POOLS = ("max_pool2d", "average_pool2d")
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


@st.composite
def pools(draw: st.DrawFn) -> Graph:
    """A pooling node of any geometry that TFLite has a name for."""
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 5)))
    window = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    same = draw(st.booleans())
    assume(same or (window[0] <= shape[0] and window[1] <= shape[1]))
    padding = same_padding(shape[:2], window, stride) if same else VALID
    q = QParams.per_tensor(draw(st.sampled_from([0.003, 0.05, 1.0])), draw(st.integers(-128, 127)))
    attrs = Attrs(window, stride, padding, draw(st.sampled_from(ACTIVATIONS)))
    return quantized_node(draw(st.sampled_from(POOLS)), attrs, [(shape, q)])


@settings(max_examples=40)
@given(pools(), st.integers(0, 1000))
def test_pool_equals_litert_and_c(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=5, seed=seed)


@settings(max_examples=30)
@given(pools(), st.integers(0, 1000))
def test_pool_survives_the_file(graph: Graph, seed: int) -> None:
    assert_same_when_imported(graph, random_inputs(graph, 3, seed))


@pytest.mark.parametrize("op", POOLS)
def test_pool_equals_plain_loops(op: str) -> None:
    """Window by window, with padding that is neither SAME nor VALID."""
    shape, window, stride, padding = (5, 6, 2), (3, 2), (2, 1), Padding(2, 1, 0, 1)
    graph = quantized_node(op, Attrs(window, stride, padding), [(shape, QParams.per_tensor(0.1, 4))])
    (x,) = random_inputs(graph, 4, 0)
    (got,) = evaluate.reference(graph, [x])
    for index in np.ndindex(*got.shape):
        n, out_y, out_x, c = index
        top, left = out_y * stride[0] - padding.top, out_x * stride[1] - padding.left
        seen = x[n, max(top, 0) : top + window[0], max(left, 0) : left + window[1], c].astype(int).ravel()
        mean = abs(seen.sum()) / seen.size  # halves away from zero: round the magnitude up from .5
        want = seen.max() if op == "max_pool2d" else np.sign(seen.sum()) * int(np.floor(mean + 0.5))
        assert got[index] == want, index
    assert_agree(graph, litert=False)


def test_average_counts_only_the_input() -> None:
    """A corner window of 2 x 2 under SAME padding sees one pixel: its average is that pixel."""
    attrs = Attrs((2, 2), (1, 1), same_padding((3, 3), (2, 2), (1, 1)))
    graph = quantized_node("average_pool2d", attrs, [((3, 3, 1), QParams.per_tensor(1.0, -100))])
    x = np.arange(9, dtype=np.int8).reshape(1, 3, 3, 1) * 10
    (y,) = evaluate.reference(graph, [x])
    assert y[0, :, :, 0].tolist() == [[20, 30, 35], [50, 60, 65], [65, 75, 80]]


def test_window_larger_than_the_input_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="window must not be larger than the padded input"):
        quantized_node("max_pool2d", Attrs((4, 1), (1, 1)), [((3, 3, 1), QParams.per_tensor(1.0, 0))])


def test_padding_as_large_as_the_window_is_refused() -> None:
    attrs = Attrs((2, 2), (1, 1), Padding(left=2))
    with pytest.raises(UnsupportedLayerError, match="padding must be smaller than the pooling window"):
        quantized_node("average_pool2d", attrs, [((3, 3, 1), QParams.per_tensor(1.0, 0))])


# ---- Keras


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [None, 1, (3, 2)])
@pytest.mark.parametrize("kind", ["MaxPooling2D", "AveragePooling2D"])
def test_keras_2d(kind: str, strides: object, padding: str) -> None:
    import keras

    layer = getattr(keras.layers, kind)(pool_size=(2, 3), strides=strides, padding=padding)
    assert_layer_equals_keras(layer, (7, 8, 3))


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kind", ["MaxPooling1D", "AveragePooling1D"])
def test_keras_1d(kind: str, padding: str) -> None:
    import keras

    layer = getattr(keras.layers, kind)(pool_size=3, strides=2, padding=padding)
    graph = assert_layer_equals_keras(layer, (10, 4))
    assert [n.op for n in graph.nodes].count("reshape") == 2


@pytest.mark.tensorflow
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    ("kind", "shape"), [("GlobalMaxPooling1D", (6, 3)), ("GlobalMaxPooling2D", (4, 5, 3))]
)
def test_keras_global_max(kind: str, shape: tuple[int, ...], keepdims: bool) -> None:
    import keras

    assert_layer_equals_keras(getattr(keras.layers, kind)(keepdims=keepdims), shape)


# ---- .tflite


@pytest.mark.parametrize("keep", [False, True])
def test_reduce_max_is_read_as_a_global_pool(keep: bool) -> None:
    shape, output_shape = (3, 4, 2), (1, 1, 2) if keep else (2,)

    def append(writer, x, y):  # type: ignore[no-untyped-def]
        axes = writer.raw("axes", np.array([-2, 1], np.int32))
        writer.add("REDUCE_MAX", [x, axes], y, "ReducerOptions", {"keepDims": keep}, version=2)

    model = tflite_file(shape, output_shape, append)
    graph = read_file(model)
    assert graph.nodes[0].op == "max_pool2d"
    assert_import_equals_litert(model, graph)


def test_a_pool_of_vectors_is_refused() -> None:
    def append(writer, x, y):  # type: ignore[no-untyped-def]
        options = {"filterHeight": 1, "filterWidth": 2, "strideH": 1, "strideW": 1}
        writer.add("MAX_POOL_2D", [x], y, "Pool2DOptions", options)

    with pytest.raises(UnsupportedLayerError, match="has 2 dimensions, 4 are allowed"):
        read_file(tflite_file((8,), (8,), append))
