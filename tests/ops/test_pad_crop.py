"""pad and crop: any axis, any span."""

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
    graph_of_layer,
    read_file,
    tflite_file,
)
from tests.support.nodes import assert_agree, quantized_node, random_inputs
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, QParams
from tinygen.ops import crop, pad


@st.composite
def padded_or_cropped(draw: st.DrawFn) -> Graph:
    spans = tuple(draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4)))
    q = QParams.per_tensor(0.1, draw(st.integers(-128, 127)))
    shape = tuple(draw(st.integers(1, 4)) for _ in spans)
    if draw(st.booleans()):
        return quantized_node("pad", pad.Attrs(spans), [(shape, q)])
    shape = tuple(size + sum(span) for size, span in zip(shape, spans, strict=True))
    return quantized_node("crop", crop.Attrs(spans), [(shape, q)])


@settings(max_examples=40)
@given(padded_or_cropped(), st.integers(0, 1000))
def test_equals_litert_and_c(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=4, seed=seed, lsb=0.0)


@settings(max_examples=30)
@given(padded_or_cropped(), st.integers(0, 1000))
def test_survives_the_file(graph: Graph, seed: int) -> None:
    assert_same_when_imported(graph, random_inputs(graph, 3, seed))


@pytest.mark.parametrize(
    ("spans", "runs", "start"),
    [
        (((2, 1), (0, 0), (0, 0)), 1, 24),
        (((1, 0), (0, 0), (0, 0)), 1, 12),
        (((0, 4), (1, 1), (0, 0)), 1, None),
        (((0, 0), (1, 0), (0, 0)), 5, None),
    ],
)
def test_rows_are_one_run(spans: tuple[tuple[int, int], ...], runs: int, start: int | None) -> None:
    (node,) = quantized_node("crop", crop.Attrs(spans), [((5, 4, 3), QP)]).bound()
    assert crop.one_run(node, None) == (runs == 1) and crop.several_runs(node, None) == (runs > 1)
    assert runs > 1 or crop.view(node) == start, "None: not at a whole word"


def test_padding_is_the_zero_point() -> None:
    graph = quantized_node("pad", pad.Attrs(((1, 2),)), [((2,), QParams.per_tensor(0.5, -128))])
    (y,) = evaluate.reference(graph, [np.array([[5, 6]], np.int8)])
    assert y.tolist() == [[-128, 5, 6, -128, -128]]


def test_cropping_everything_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="leave at least one element"):
        quantized_node("crop", crop.Attrs(((1, 2),)), [((3,), QP)])


def test_negative_padding_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="padding must be 0 or more"):
        quantized_node("pad", pad.Attrs(((-1, 2),)), [((3,), QP)])


def test_five_dimensions_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="at most 4 dimensions"):
        quantized_node("pad", pad.Attrs(((0, 1),) * 5), [((1,) * 5, QP)])


# ---- Keras


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("kind", "amount", "shape"),
    [
        ("ZeroPadding1D", 2, (5, 3)),
        ("ZeroPadding1D", (1, 0), (5, 3)),
        ("ZeroPadding2D", 1, (3, 4, 2)),
        ("ZeroPadding2D", (1, 2), (3, 4, 2)),
        ("ZeroPadding2D", ((1, 2), (3, 0)), (3, 4, 2)),
        ("Cropping1D", 1, (5, 3)),
        ("Cropping1D", (0, 3), (5, 3)),
        ("Cropping2D", 1, (5, 4, 2)),
        ("Cropping2D", ((0, 2), (1, 0)), (5, 4, 2)),
    ],
)
def test_keras(kind: str, amount: object, shape: tuple[int, ...]) -> None:
    import keras

    graph = assert_layer_equals_keras(getattr(keras.layers, kind)(amount), shape)
    assert {"pad", "crop"} & {n.op for n in graph.nodes}


@pytest.mark.tensorflow
def test_keras_padding_by_nothing_adds_nothing() -> None:
    import keras

    assert not graph_of_layer(keras.layers.ZeroPadding2D(0), [(3, 4, 2)]).nodes
    assert not graph_of_layer(keras.layers.Cropping1D(0), [(3, 4)]).nodes


# ---- .tflite


def strided_slice(begin: list[int], end: list[int], steps: list[int], **masks: int) -> bytes:
    shape = (5, 6, 2)
    output_shape = tuple(
        len(range(*slice(b, e).indices(n))) for b, e, n in zip(begin[1:], end[1:], shape, strict=True)
    )
    if masks.get("beginMask") or masks.get("endMask"):
        output_shape = (5, 3, 2)

    def append(writer, x, y):  # type: ignore[no-untyped-def]
        indices = [writer.raw(f"i{i}", np.array(v, np.int32)) for i, v in enumerate((begin, end, steps))]
        writer.add("STRIDED_SLICE", [x, *indices], y, "StridedSliceOptions", masks, version=2)

    return tflite_file(shape, output_shape, append)


@pytest.mark.parametrize(
    ("begin", "end", "masks"),
    [
        ([0, 1, 2, 0], [1, 4, 6, 2], {}),
        ([0, -3, 0, 1], [1, -1, 99, 2], {}),
        ([0, 3, 1, 0], [1, 2, 4, 2], {"beginMask": 0b0010, "endMask": 0b1011}),
    ],
)
def test_strided_slice_is_read(begin: list[int], end: list[int], masks: dict[str, int]) -> None:
    model = strided_slice(begin, end, [1, 1, 1, 1], **masks)
    assert_import_equals_litert(model, read_file(model))


@pytest.mark.parametrize(
    ("begin", "steps", "masks", "why"),
    [
        ([0, 0, 0, 0], [1, 2, 1, 1], {}, "only strides of 1"),
        ([0, 0, 0, 0], [1, 1, 1, 1], {"shrinkAxisMask": 2}, "dropped axes"),
        ([1, 0, 0, 0], [1, 1, 1, 1], {}, "slices the batch"),
    ],
)
def test_other_strided_slices_are_refused(
    begin: list[int], steps: list[int], masks: dict[str, int], why: str
) -> None:
    with pytest.raises(UnsupportedLayerError, match=why):
        read_file(strided_slice(begin, [1, 5, 6, 2], steps, **masks))


def test_slice_to_the_end_is_read() -> None:
    def append(writer, x, y):  # type: ignore[no-untyped-def]
        begin, size = (writer.raw(n, np.array(v, np.int32)) for n, v in (("b", [0, 2, 1]), ("s", [1, -1, 2])))
        writer.add("SLICE", [x, begin, size], y, "SliceOptions", {}, version=2)

    model = tflite_file((5, 4), (3, 2), append)
    assert_import_equals_litert(model, read_file(model))


def test_padding_of_the_batch_is_refused() -> None:
    def append(writer, x, y):  # type: ignore[no-untyped-def]
        spans = writer.raw("spans", np.array([(1, 0), (0, 0)], np.int32))
        writer.add("PAD", [x, spans], y, "PadOptions", {}, version=2)

    with pytest.raises(UnsupportedLayerError, match=r"one pair per axis, \(0, 0\) for the batch"):
        read_file(tflite_file((5,), (5,), append))


def test_spans_that_are_computed_are_refused() -> None:
    def append(writer, x, y):  # type: ignore[no-untyped-def]
        writer.add("PAD", [x, x], y, "PadOptions", {}, version=2)

    with pytest.raises(UnsupportedLayerError, match="input 1 must be a constant"):
        read_file(tflite_file((5,), (5,), append))
