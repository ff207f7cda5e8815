"""pad: zeros put before and behind along any axis. What a convolution can pad by itself, fuse gives to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops.base import SAME, Op, Scaling, no_macs, no_quantize
from tinygen.ops.coupling import moved_channels
from tinygen.ops.intervals import rising
from tinygen.ops.movement import (
    Copy,
    Spans,
    box_copy,
    constant_ints,
    few_axes,
    keras_spans,
    moving_kernels,
    one_scale,
    strides,
)
from tinygen.ops.tensors import Tensors, tensorflow

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


Attrs = Spans


# ---- constraints


def nothing_negative(b: BoundNode) -> bool:
    """the padding must be 0 or more on each side"""
    attrs: Attrs = b.attrs
    return min(min(span) for span in attrs.spans) >= 0


# ---- shapes, evaluation


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """Each axis grows by its span."""
    return tuple(
        size + before + behind for size, (before, behind) in zip(shapes[0], attrs.spans, strict=True)
    )


def keeps_channels(b: BoundNode) -> bool:
    """No channels are added: each keeps its place."""
    return b.inputs[0].shape[-1] == b.output.shape[-1]


def scaling(b: BoundNode) -> Scaling:
    """The bytes only move; every zero point is a real 0."""
    return SAME


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """Zeros around the input."""
    return np.pad(arrays[0], ((0, 0), *b.attrs.spans))


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """Zeros around the input."""
    return tensorflow().pad(xs[0], ((0, 0), *b.attrs.spans))


@dataclass(frozen=True)
class Params:
    """The output is `bytes` times `fill`, then the copy lays the input into it."""

    copy: Copy
    bytes: int
    fill: int


def params(b: BoundNode) -> Params:
    """Numbers of one node; all bytes of a float 0 are 0, too."""
    target = strides(b.output.shape)
    offset = sum(before * stride for (before, _), stride in zip(b.attrs.spans, target, strict=True))
    copy = box_copy(
        b.inputs[0].shape, strides(b.inputs[0].shape), target, b.output.itemsize, target_offset=offset
    )
    return Params(copy, b.output.size_bytes, b.output.zero_point if b.output.qparams else 0)


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """The zero point, which is real 0, around the input."""
    return np.pad(arrays[0], ((0, 0), *b.attrs.spans), constant_values=params(b).fill)


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """PAD."""
    spans = writer.raw(f"{b.name}/spans", np.array([(0, 0), *b.attrs.spans], np.int32))
    inputs = [writer.activation(b.inputs[0]), spans]
    writer.add("PAD", inputs, writer.activation(b.output), "PadOptions", {}, version=2)


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """PAD of whole samples."""
    flat = constant_ints(op, 1)
    pairs = tuple(zip(flat[::2], flat[1::2], strict=False))
    if len(flat) != 2 * (len(builder.shape(op.activation(0))) + 1) or pairs[0] != (0, 0):
        raise op.error(f"its spans {list(flat)} must be one pair per axis, (0, 0) for the batch")
    return builder.add("pad", op.name, (op.activation(0),), Attrs(pairs[1:]), op.output_qparams())


OP = Op(
    name="pad",
    summary="zeros before and behind along any axis",
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
    kernels=moving_kernels("pad"),
    constraints=(nothing_negative, few_axes, one_scale),
    keras={"ZeroPadding1D": keras_spans("pad", "padding"), "ZeroPadding2D": keras_spans("pad", "padding")},
    passes_factors=keeps_channels,
    to_tflite=to_tflite,
    passes_clamp=True,
    from_tflite={"PAD": from_tflite},
    channels=moved_channels,
    bounds=rising(reference),
)
