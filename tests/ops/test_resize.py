"""resize_nearest and resize_bilinear: exact rational arithmetic, LiteRT, the C on the host, Keras."""

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
    graph_of_layer,
    imported,
    read_file,
    tflite_file,
)
from tests.support.nodes import assert_agree, assert_equals_litert, quantized_node, random_inputs
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, QParams
from tinygen.ops import resize_bilinear, resize_nearest

shapes = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
zero_points = st.integers(-128, 127)


def bilinear(shape: tuple[int, ...], factor: tuple[int, int], zero_point: int = 5) -> Graph:
    q = QParams.per_tensor(0.02, zero_point)
    return quantized_node("resize_bilinear", resize_bilinear.Attrs(factor), [(shape, q)])


def nearest(shape: tuple[int, ...], factor: tuple[int, int]) -> Graph:
    return quantized_node("resize_nearest", resize_nearest.Attrs(factor), [(shape, QP)])


@settings(max_examples=25)
@given(shapes, st.tuples(st.integers(1, 7), st.integers(1, 7)), zero_points, st.integers(0, 1000))
def test_bilinear_equals_litert_and_c(
    shape: tuple[int, ...], factor: tuple[int, int], zero_point: int, seed: int
) -> None:
    assert_agree(bilinear(shape, factor, zero_point), samples=5, seed=seed, lsb=0.5)


@settings(max_examples=25)
@given(shapes, st.tuples(st.integers(1, 5), st.integers(1, 5)), st.integers(0, 1000))
def test_nearest_equals_litert_and_c(shape: tuple[int, ...], factor: tuple[int, int], seed: int) -> None:
    graph = nearest(shape, factor)
    assert_agree(graph, samples=4, seed=seed, lsb=0.0)
    assert_same_when_imported(graph, random_inputs(graph, 3, seed))


@pytest.mark.parametrize("factor", [(1, 512), (64, 16), (12, 10), (1, 9)])
def test_bilinear_equals_litert_for_large_factors(factor: tuple[int, int]) -> None:
    graph = bilinear((3, 4, 2), factor)
    assert_equals_litert(graph, random_inputs(graph, 4, 0))


@pytest.mark.parametrize("factor", [(2, 2), (1, 8), (4, 32)])
def test_bilinear_by_powers_of_two_is_read_back(factor: tuple[int, int]) -> None:
    graph = bilinear((3, 4, 2), factor)
    assert_same_when_imported(graph, random_inputs(graph, 4, 0))


def test_bilinear_by_three_is_read_back_as_its_two_parts() -> None:
    graph = bilinear((3, 4, 2), (3, 2))
    again = imported(graph)
    assert [n.op for n in again.nodes] == ["resize_nearest", "average_pool2d"]
    inputs = random_inputs(graph, 4, 0)
    np.testing.assert_array_equal(evaluate.reference(again, inputs)[0], evaluate.reference(graph, inputs)[0])


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 6])
def test_bilinear_is_the_rounded_rational(factor: int) -> None:
    """One row, pixel by pixel in exact fractions, halves away from zero."""
    graph = bilinear((1, 5, 1), (1, factor))
    (x,) = random_inputs(graph, 6, 2)
    (y,) = evaluate.reference(graph, [x])
    for n, i in np.ndindex(len(x), 5 * factor):
        at = min(max(Fraction(2 * i + 1, 2 * factor) - Fraction(1, 2), 0), 4)
        left = int(at)
        weight = at - left
        row = x[n, 0, :, 0].tolist()
        exact = row[left] * (1 - weight) + row[min(left + 1, 4)] * weight
        rounded = int(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
        assert y[n, 0, i, 0] == rounded


@pytest.mark.parametrize("factor", [(0, 1), (2048, 1024)])
def test_bilinear_factor_is_bounded(factor: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedLayerError, match="product at most 1,048,576"):
        bilinear((1, 1, 1), factor)


def test_nearest_factor_of_zero_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="factors must be at least 1"):
        nearest((1, 1, 1), (1, 0))


# ---- Keras


@pytest.mark.tensorflow
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [1, 2, 3, (4, 1), (5, 6)])
def test_keras_2d(size: object, interpolation: str) -> None:
    import keras

    assert_layer_equals_keras(keras.layers.UpSampling2D(size, interpolation=interpolation), (3, 4, 2))


@pytest.mark.tensorflow
def test_keras_1d_and_repeated_vector() -> None:
    import keras

    assert_layer_equals_keras(keras.layers.UpSampling1D(3), (4, 2))
    assert_layer_equals_keras(keras.layers.RepeatVector(4), (5,))


@pytest.mark.tensorflow
def test_keras_bicubic_is_refused() -> None:
    import keras

    layer = keras.layers.UpSampling2D(2, interpolation="bicubic", name="up")
    with pytest.raises(UnsupportedLayerError, match=r"'up'.*interpolation='bicubic'"):
        graph_of_layer(layer, [(3, 4, 2)])


# ---- .tflite


def resize_file(
    kind: str, size: tuple[int, int], half: bool, corners: bool = False, shown: tuple[int, int] | None = None
) -> bytes:
    """shown: height and width of the output in the file, if they are not those it resizes to."""

    def append(writer, x, y):  # type: ignore[no-untyped-def]
        index = writer.raw("size", np.array(size, np.int32))
        options = {"halfPixelCenters": half, "alignCorners": corners}
        name = {"NEAREST": "RESIZE_NEAREST_NEIGHBOR", "BILINEAR": "RESIZE_BILINEAR"}[kind]
        options_class = {"NEAREST": "ResizeNearestNeighborOptions", "BILINEAR": "ResizeBilinearOptions"}[kind]
        writer.add(name, [x, index], y, options_class, options, version=3)

    return tflite_file((4, 5, 2), (*(shown or size), 2), append)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size", [(8, 5), (12, 35), (4 * 49, 5 * 11)])
def test_nearest_is_read_where_its_floats_are_exact(size: tuple[int, int], half: bool) -> None:
    """Without half-pixel centres, float positions may fall short of an integer: then the file is refused."""
    model = resize_file("NEAREST", size, half)
    try:
        graph = read_file(model)
    except UnsupportedLayerError as error:
        assert not half and "in float" in str(error)
    else:
        assert_import_equals_litert(model, graph)


def test_an_output_of_another_size_is_refused() -> None:
    """Before anything of that size is computed."""
    with pytest.raises(
        UnsupportedLayerError, match=r"it resizes to \(2147483644, 5\), its output is \(8, 5, 2\)"
    ):
        read_file(resize_file("NEAREST", (2147483644, 5), True, shown=(8, 5)))


@pytest.mark.parametrize(
    ("kind", "size", "half", "corners", "why"),
    [
        ("NEAREST", (8, 10), False, True, "align_corners=True"),
        ("NEAREST", (6, 10), True, False, "only integer factors"),
        ("BILINEAR", (8, 10), False, False, "only half_pixel_centers=True"),
        ("BILINEAR", (8, 10), True, True, "only half_pixel_centers=True"),
        ("BILINEAR", (12, 10), True, False, "powers of two are allowed"),
        ("BILINEAR", (2, 10), True, False, "only integer factors"),
    ],
)
def test_other_resizes_are_refused(
    kind: str, size: tuple[int, int], half: bool, corners: bool, why: str
) -> None:
    with pytest.raises(UnsupportedLayerError, match=why):
        read_file(resize_file(kind, size, half, corners))
