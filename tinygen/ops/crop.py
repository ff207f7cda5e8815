"""crop: elements cut off before and behind along any axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.lifetimes import ALIGNMENT
from tinygen.ops.base import SAME, Op, Scaling, no_macs, no_quantize
from tinygen.ops.coupling import moved_channels
from tinygen.ops.intervals import rising
from tinygen.ops.movement import (
    Copied,
    Spans,
    box_copy,
    constant_ints,
    cost_run,
    few_axes,
    keras_spans,
    moving_kernels,
    one_scale,
    strides,
)
from tinygen.ops.tensors import Tensors

if TYPE_CHECKING:
    from tinygen.boards import Board
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


Attrs = Spans


# ---- constraints


def something_left(b: BoundNode) -> bool:
    """the cropping must be 0 or more on each side, and leave at least one element along each axis"""
    return min(b.output.shape) > 0 and min(min(span) for span in b.attrs.spans) >= 0


# ---- shapes, evaluation


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """Each axis shrinks by its span."""
    return tuple(
        size - before - behind for size, (before, behind) in zip(shapes[0], attrs.spans, strict=True)
    )


def scaling(b: BoundNode) -> Scaling:
    """The bytes only move."""
    return SAME


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """What is left."""
    box = zip(b.attrs.spans, b.output.shape, strict=True)
    return arrays[0][(slice(None), *(slice(before, before + size) for (before, _), size in box))]


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """What is left."""
    box = zip(b.attrs.spans, b.output.shape, strict=True)
    return xs[0][(slice(None), *(slice(before, before + size) for (before, _), size in box))]


def params(b: BoundNode) -> Copied:
    """The copy of what is left."""
    source = strides(b.inputs[0].shape)
    offset = sum(before * stride for (before, _), stride in zip(b.attrs.spans, source, strict=True))
    return Copied(
        box_copy(b.output.shape, source, strides(b.output.shape), b.output.itemsize, source_offset=offset)
    )


def one_run(b: BoundNode, board: Board | None) -> bool:
    """True where what is left are neighbouring bytes of the input."""
    return not params(b).copy.loops


def several_runs(b: BoundNode, board: Board | None) -> bool:
    """True where it is not one run."""
    return not one_run(b, board)


def view(b: BoundNode) -> int | None:
    """Where what is left stands in the input; None where that is not at a whole word, as buffers are."""
    start = params(b).copy.source * b.output.itemsize
    return start if start % ALIGNMENT == 0 else None


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """The bytes that are left."""
    return real(b, arrays)


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """SLICE."""
    begin = np.array([0, *(before for before, _ in b.attrs.spans)], np.int32)
    size = np.array([1, *b.output.shape], np.int32)
    indices = [writer.raw(f"{b.name}/begin", begin), writer.raw(f"{b.name}/size", size)]
    inputs = [writer.activation(b.inputs[0]), *indices]
    writer.add("SLICE", inputs, writer.activation(b.output), "SliceOptions", {}, version=2)


def from_slice(op: TfliteOperator, builder: GraphBuilder) -> str:
    """SLICE; size -1 means all that is left."""
    begin, size = constant_ints(op, 1), constant_ints(op, 2)
    shape = (1, *builder.shape(op.activation(0)))
    if not len(begin) == len(size) == len(shape):
        raise op.error(
            f"begin {list(begin)} and size {list(size)} must have one entry per axis of {list(shape)}"
        )
    end = tuple(n if s == -1 else b + s for b, s, n in zip(begin, size, shape, strict=True))
    return _append(op, begin, end, builder)


def from_strided_slice(op: TfliteOperator, builder: GraphBuilder) -> str:
    """STRIDED_SLICE with strides of 1 and no axes dropped or added."""
    options = op.options
    if options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask or options.offset:
        raise op.error(
            "its masks for ellipsis, new and dropped axes must be 0, and its end must not be an offset"
        )
    begin, end, step = (constant_ints(op, i) for i in (1, 2, 3))
    shape = (1, *builder.shape(op.activation(0)))
    if not len(begin) == len(end) == len(shape) or set(step) != {1}:
        raise op.error(
            f"strides {list(step)}; only strides of 1, one entry per axis of {list(shape)}, are allowed"
        )
    begin = tuple(
        _bound(v, n, 0, options.beginMask >> i & 1) for i, (v, n) in enumerate(zip(begin, shape, strict=True))
    )
    end = tuple(
        _bound(v, n, n, options.endMask >> i & 1) for i, (v, n) in enumerate(zip(end, shape, strict=True))
    )
    return _append(op, begin, end, builder)


def _bound(value: int, size: int, default: int, masked: int) -> int:
    """A bound as Python slices count: from behind when negative, clipped to the axis; masked: the default."""
    return default if masked else min(max(value + size if value < 0 else value, 0), size)


def _append(op: TfliteOperator, begin: Sequence[int], end: Sequence[int], builder: GraphBuilder) -> str:
    shape = builder.shape(op.activation(0))
    if (begin[0], end[0]) != (0, 1):
        raise op.error("it slices the batch; only whole samples are allowed")
    spans = tuple((b, n - e) for b, e, n in zip(begin[1:], end[1:], shape, strict=True))
    return builder.add("crop", op.name, (op.activation(0),), Attrs(spans), op.output_qparams())


OP = Op(
    name="crop",
    summary="elements cut off before and behind along any axis",
    attrs=Attrs,
    inputs=("input",),
    infer=infer,
    real=real,
    differentiable=differentiable,
    scaling=scaling,
    quantize=no_quantize,
    params=params,
    reference=reference,
    macs=no_macs,
    kernels=(
        *(replace(k, supports=several_runs) for k in moving_kernels("crop")),
        *(
            replace(k, cost=cost_run, supports=one_run, view=view, in_place=lambda b: (0,))
            for k in moving_kernels("rows")
        ),
    ),
    constraints=(something_left, few_axes, one_scale),
    keras={"Cropping1D": keras_spans("crop", "cropping"), "Cropping2D": keras_spans("crop", "cropping")},
    to_tflite=to_tflite,
    passes_clamp=True,
    from_tflite={"SLICE": from_slice, "STRIDED_SLICE": from_strided_slice},
    channels=moved_channels,
    bounds=rising(reference),
)
