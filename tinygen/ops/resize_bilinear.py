"""resize_bilinear: height and width grow by integer factors; half-pixel centres, edges repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops import resize_nearest
from tinygen.ops.base import SAME, Kernel, Op, Scaling, always, no_macs, no_quantize
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import rising
from tinygen.ops.movement import of_rank, one_scale, tflite_factor
from tinygen.ops.tensors import Tensors, tensorflow
from tinygen.ops.windows import Pair

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """factor: (height, width), output pixels per input pixel."""

    factor: Pair


# ---- constraints


def bounded_factor(b: BoundNode) -> bool:
    """both factors must be at least 1, their product at most 1,048,576, so that int32 sums cannot overflow"""
    attrs: Attrs = b.attrs
    factor_h, factor_w = attrs.factor
    return min(factor_h, factor_w) >= 1 and factor_h * factor_w <= 2**20


# ---- shapes, evaluation


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(H, W, C) -> (H * factor, W * factor, C)."""
    height, width, channels = shapes[0]
    return height * attrs.factor[0], width * attrs.factor[1], channels


def scaling(b: BoundNode) -> Scaling:
    """The output lies in the input's range."""
    return SAME


def positions(size: int, factor: int) -> tuple[Array, Array, Array]:
    """Of each output: lower neighbour, upper neighbour, weight of the upper one in units of 1 / (2 * factor).

    Output i lies at (i + 1/2) / factor - 1/2 input pixels, that is (2 * i + 1 - factor) / (2 * factor).
    """
    numerator = 2 * np.arange(size * factor) + 1 - factor
    lower, weight = numerator // (2 * factor), numerator % (2 * factor)
    return np.clip(lower, 0, size - 1), np.clip(lower + 1, 0, size - 1), weight


def weighted(x: Array, factor: Pair) -> Array:
    """Weighted sums of the four neighbours of x (N, H, W, C), 4 * factor[0] * factor[1] times too large."""
    y0, y1, weight_y = positions(x.shape[1], factor[0])
    x0, x1, weight_x = positions(x.shape[2], factor[1])
    weight_y, weight_x = weight_y.astype(x.dtype)[:, None, None], weight_x.astype(x.dtype)[:, None]
    rows = x[:, y0] * (2 * factor[0] - weight_y) + x[:, y1] * weight_y
    sums: Array = rows[:, :, x0] * (2 * factor[1] - weight_x) + rows[:, :, x1] * weight_x
    return sums


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The interpolated numbers."""
    whole = arrays[0].dtype.type(4 * b.attrs.factor[0] * b.attrs.factor[1])
    means: Array = weighted(arrays[0], b.attrs.factor) / whole
    return means


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """Rows, then columns, mixed by their weights."""
    tf, x = tensorflow(), xs[0]
    for axis, factor in zip((1, 2), b.attrs.factor, strict=True):
        lower, upper, weight = positions(b.inputs[0].shape[axis - 1], factor)
        share = tf.reshape(tf.constant(weight / (2 * factor), x.dtype), (-1, *(1,) * (3 - axis)))
        x = tf.gather(x, lower, axis=axis) * (1 - share) + tf.gather(x, upper, axis=axis) * share
    return x


@dataclass(frozen=True)
class Params:
    """Numbers of one node. span: 2 * factor, the sum of the weights along an axis; whole: span_h * span_w."""

    in_h: int
    in_w: int
    channels: int
    out_h: int
    out_w: int
    factor_h: int
    factor_w: int
    span_h: int
    span_w: int
    whole: int


def params(b: BoundNode) -> Params:
    """Numbers of one node."""
    (height, width, channels), (out_h, out_w, _) = b.inputs[0].shape, b.output.shape
    factor_h, factor_w = b.attrs.factor
    spans = 2 * factor_h, 2 * factor_w
    return Params(height, width, channels, out_h, out_w, factor_h, factor_w, *spans, spans[0] * spans[1])


@dataclass(frozen=True)
class RealParams(Params):
    """Those of a float32 node. share: 1 / whole."""

    share: float


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node."""
    numbers = params(b)
    return RealParams(**vars(numbers), share=1 / numbers.whole)


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = round(weighted sum / whole), halves away from zero; in and out as stored, zero_point included."""
    whole = params(b).whole
    sums = weighted(arrays[0].astype(np.int64), b.attrs.factor)
    means: Array = np.sign(sums) * ((np.abs(sums) + whole // 2) // whole)
    return means.astype(np.int8)


# ---- TFLite


def exact_in_tflite(factor: int) -> bool:
    """TFLite places pixels in units of 1 / 1024: exact for powers of two up to 512 only."""
    return factor <= 512 and factor & (factor - 1) == 0


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """RESIZE_BILINEAR where TFLite's arithmetic is exact, else two operators that are exact together."""
    if not all(map(exact_in_tflite, b.attrs.factor)):
        repeat_and_average(b, writer)
        return
    size = writer.raw(f"{b.name}/size", np.array(b.output.shape[:2], np.int32))
    options = {"alignCorners": False, "halfPixelCenters": True}
    inputs = [writer.activation(b.inputs[0]), size]
    writer.add(
        "RESIZE_BILINEAR", inputs, writer.activation(b.output), "ResizeBilinearOptions", options, version=3
    )


def repeat_and_average(b: BoundNode, writer: TfliteWriter) -> None:
    """The same numbers from RESIZE_NEAREST_NEIGHBOR and AVERAGE_POOL_2D.

    An odd factor k: repeat k times, average windows of k at stride 1. An even one: twice that at stride 2, so
    that a window's middle is a pixel's middle. Windows over the edge average what is inside: the edge pixel.
    """
    height, width, channels = b.inputs[0].shape
    strides = [1 if factor % 2 else 2 for factor in b.attrs.factor]
    repeats = [factor * stride for factor, stride in zip(b.attrs.factor, strides, strict=True)]
    shape = (height * repeats[0], width * repeats[1], channels)
    repeated = writer.temp(f"{b.name}/repeated", shape, "int8", b.inputs[0].q)
    resize_nearest.append_tflite(writer, b.name, writer.activation(b.inputs[0]), repeated, shape)
    options = {
        "padding": writer.padding("SAME"),
        "strideH": strides[0],
        "strideW": strides[1],
        "filterHeight": repeats[0],
        "filterWidth": repeats[1],
        "fusedActivationFunction": writer.fused("none"),
    }
    writer.add(
        "AVERAGE_POOL_2D", [repeated], writer.activation(b.output), "Pool2DOptions", options, version=2
    )


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """RESIZE_BILINEAR where TFLite's arithmetic is exact."""
    x = of_rank(op, builder, 3)
    if op.options.alignCorners or not op.options.halfPixelCenters:
        raise op.error("only half_pixel_centers=True, align_corners=False is allowed")
    factor = tflite_factor(op, builder.shape(x))
    if not all(map(exact_in_tflite, factor)):
        raise op.error(
            f"it enlarges by {factor}; TFLite rounds pixel positions then, powers of two are allowed"
        )
    return builder.add("resize_bilinear", op.name, (x,), Attrs(factor), op.output_qparams())


# ---- kernels


def cost_portable(b: BoundNode) -> float:
    """Plain C: about 25 cycles an output."""
    return 25.0 * b.output.elements


KERNELS = (
    Kernel("tg_resize_bilinear_s8", cost_portable),
    Kernel("tg_resize_bilinear_f32", cost_portable, dtype="float32", params=params_f32),
)

OP = Op(
    name="resize_bilinear",
    summary="bilinear interpolation by integer factors, half-pixel centres",
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
    kernels=KERNELS,
    constraints=(bounded_factor, one_scale),
    keras_notes={"UpSampling2D": "interpolation='bilinear'"},
    passes_factors=always,
    to_tflite=to_tflite,
    from_tflite={"RESIZE_BILINEAR": from_tflite},
    channels=same_channels,
    bounds=rising(reference),
)
