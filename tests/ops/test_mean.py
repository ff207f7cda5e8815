"""mean (global average): LiteRT's integer arithmetic, the C on the host, Keras."""

from __future__ import annotations

from fractions import Fraction

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
from tests.support.nodes import assert_agree, assert_equals_litert, quantized_node, random_inputs
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, QParams
from tinygen.ops import mean


@st.composite
def means(draw: st.DrawFn, most: int = 12) -> Graph:
    """A mean whose output is scaled from much finer to coarser than its input."""
    shape = (draw(st.integers(1, most)), draw(st.integers(1, most)), draw(st.integers(1, 6)))
    scale = draw(st.floats(1e-4, 10.0))
    ratio = draw(st.sampled_from([1.0, 0.5]) | st.floats(0.01, 3.0))
    q = QParams.per_tensor(scale, draw(st.integers(-128, 127)))
    output = QParams.per_tensor(scale * ratio, draw(st.sampled_from([q.zero_point[0], -128, 127, 3])))
    return quantized_node("mean", mean.Attrs(draw(st.booleans())), [(shape, q)], output=output)


@settings(max_examples=30)
@given(means(), st.integers(0, 1000))
def test_mean_equals_litert_and_c(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=5, seed=seed)


@settings(max_examples=60)
@given(means(most=40), st.integers(0, 1000))
def test_mean_equals_litert_on_larger_images(graph: Graph, seed: int) -> None:
    inputs = random_inputs(graph, 3, seed)
    assert_equals_litert(graph, inputs)
    assert_same_when_imported(graph, inputs)


@settings(max_examples=300)
@given(st.floats(2**-8, 1e4), st.integers(1, 2**23 - 1))
def test_folded_multiplier_is_the_quotient(ratio: float, count: int) -> None:
    """multiplier * 2**(shift - 31) equals ratio / count to 28 bits, and the multiplier fits an int32."""
    multiplier, shift = mean.folded(ratio, count)
    assert 0 < multiplier < 2**31 and -31 <= shift <= 30
    got = Fraction(multiplier) * Fraction(2) ** (shift - 31)
    assert abs(got * count / Fraction(ratio) - 1) < Fraction(1, 2**28)


def test_a_constant_image_keeps_its_value() -> None:
    graph = quantized_node("mean", mean.Attrs(), [((7, 9, 256), QP)], output=QP)
    x = np.broadcast_to(np.arange(-128, 128).astype(np.int8), (1, 7, 9, 256))
    (y,) = evaluate.reference(graph, [x])
    assert y[0].tolist() == list(range(-128, 128))


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 3, 2), (128, 256, 2)])
def test_an_output_scale_of_almost_nothing_saturates(shape: tuple[int, ...]) -> None:
    """What averages to 0 in all representative samples has a tiny scale: no sum may overflow in C."""
    q, output = QParams.per_tensor(0.5, 0), QParams.per_tensor(1e-30, 1)
    graph = quantized_node("mean", mean.Attrs(), [(shape, q)], output=output)
    assert_agree(graph, litert=False)
    x = np.zeros((3, *shape), np.int8)
    x[1, 0, 0], x[2, 0, 0] = 1, -1
    (y,) = evaluate.reference(graph, [x])
    assert y.tolist() == [[1, 1], [127, 127], [-128, -128]]


def test_too_many_pixels_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="height times width must be less than 8,388,608"):
        quantized_node("mean", mean.Attrs(), [((2**12, 2**11, 1), QP)], output=QP)


# ---- Keras


@pytest.mark.tensorflow
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    ("kind", "shape"), [("GlobalAveragePooling1D", (6, 3)), ("GlobalAveragePooling2D", (4, 5, 3))]
)
def test_keras(kind: str, shape: tuple[int, ...], keepdims: bool) -> None:
    import keras

    assert_layer_equals_keras(getattr(keras.layers, kind)(keepdims=keepdims), shape)


# ---- .tflite


def file_with_axes(
    shape: tuple[int, ...], output_shape: tuple[int, ...], axes: list[int], keep: bool
) -> bytes:
    def append(writer, x, y):  # type: ignore[no-untyped-def]
        index = writer.raw("axes", np.array(axes, np.int32))
        writer.add("MEAN", [x, index], y, "ReducerOptions", {"keepDims": keep}, version=2)

    return tflite_file(shape, output_shape, append)


@pytest.mark.parametrize(
    ("shape", "output_shape", "axes", "keep"),
    [
        ((3, 4, 2), (2,), [2, 1], False),
        ((3, 4, 2), (1, 1, 2), [-2, -3], True),
        ((5, 2), (2,), [1], False),
        ((5, 2), (1, 2), [-2], True),
    ],
)
def test_mean_is_read(
    shape: tuple[int, ...], output_shape: tuple[int, ...], axes: list[int], keep: bool
) -> None:
    model = file_with_axes(shape, output_shape, axes, keep)
    assert_import_equals_litert(model, read_file(model))


def test_axes_beyond_the_input_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="axis 5 is not one of the 4"):
        read_file(file_with_axes((3, 4, 2), (2,), [5, 2], False))


@pytest.mark.parametrize(
    ("shape", "output_shape", "axes"), [((3, 4, 2), (3, 2), [2]), ((3, 4, 2), (3, 4), [3]), ((5,), (1,), [1])]
)
def test_other_axes_are_refused(
    shape: tuple[int, ...], output_shape: tuple[int, ...], axes: list[int]
) -> None:
    with pytest.raises(UnsupportedLayerError, match="only height and width"):
        read_file(file_with_axes(shape, output_shape, axes, False))
