"""mean: global average over height and width, with an output scale of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import INT32_MAX, Rounding, multiply_by_quantized_multiplier, quantize_multiplier
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops import pooling_dsp
from tinygen.ops.base import FREE, Kernel, Op, Scaling, always, no_macs, no_quantize
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import rising
from tinygen.ops.keras_common import as_2d, reshape
from tinygen.ops.movement import axis_of, constant_ints
from tinygen.ops.tensors import Tensors, tensorflow

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """keepdims: the output is (1, 1, C) and not (C,)."""

    keepdims: bool = False


# ---- constraints


def bounded_sum(b: BoundNode) -> bool:
    """height times width must be less than 8,388,608 (of int16: 65,536), so that the int32 sum cannot overflow"""
    wide = b.output.qparams is not None and b.output.q.bits == 16
    return b.inputs[0].shape[0] * b.inputs[0].shape[1] < (2**16 if wide else 2**23)


# ---- Keras


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """GlobalAveragePooling 1D/2D."""
    two_d = as_2d(layer, inputs[0], builder)
    is_1d = len(builder.shape(inputs[0])) == 2
    output = builder.add("mean", layer.name, (two_d.tensor,), Attrs(bool(layer.keepdims)))
    if is_1d and layer.keepdims:
        return reshape(f"{layer.name}/as_1d", output, (1, two_d.shape[2]), builder)
    return output


# ---- shapes, evaluation


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(H, W, C) -> (C,) or (1, 1, C)."""
    _, _, channels = shapes[0]
    return (1, 1, channels) if attrs.keepdims else (channels,)


def scaling(b: BoundNode) -> Scaling:
    """Averages spread less than what they average: the output has its own range."""
    return FREE


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The mean over height and width."""
    means: Array = arrays[0].mean(axis=(1, 2))
    return means.reshape(-1, *b.output.shape)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The mean over height and width."""
    tf = tensorflow()
    return tf.reshape(tf.reduce_mean(xs[0], axis=(1, 2)), (-1, *b.output.shape))


# ---- int8 definition


@dataclass(frozen=True)
class Params:
    """Numbers of one node. multiplier, shift: input scale / (output scale * count)."""

    count: int
    channels: int
    offset: int
    multiplier: int
    shift: int
    output_zero_point: int
    low: int = -128
    high: int = 127


def params(b: BoundNode) -> Params:
    """Numbers of one quantized node. offset: start of the sum, -count * input zero_point."""
    x, output = b.inputs[0], b.output
    count = x.shape[0] * x.shape[1]
    multiplier, shift = folded(x.scale / output.scale, count, 2**output.q.bits - 1)
    limits = output.q.low, output.q.high
    return Params(count, x.shape[2], -count * x.zero_point, multiplier, shift, output.zero_point, *limits)


@dataclass(frozen=True)
class RealParams:
    """Numbers of one float32 node. count: pixels."""

    in_h: int
    in_w: int
    channels: int
    count: int


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node."""
    height, width, channels = b.inputs[0].shape
    return RealParams(height, width, channels, height * width)


def folded(ratio: float, count: int, reach: int = 255) -> tuple[int, int]:
    """(multiplier, shift) of ratio / count, as LiteRT makes them: the multiplier is divided, rounded down.

    Before the division it gains as many bits as count has behind its first, so that it keeps its precision.
    The shift to the left is capped where the largest sum would leave int32: sums other than 0 saturate
    then (of up to 32,768 pixels). reach: greatest |input - zero_point|.
    """
    multiplier, shift = quantize_multiplier(ratio)
    gain = min(count.bit_length() - 1, 32, 31 + shift)
    left = 31 - (reach * count).bit_length()
    return ((multiplier << gain) // count, shift - gain) if shift - gain <= left else (INT32_MAX, left)


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(output_zero_point + requant(sum(in) - count * input_zero_point)).

    LiteRT rounds means doubly: `rounding` does not matter here.
    """
    p = params(b)
    sums = arrays[0].sum(axis=(1, 2), dtype=np.int64) + p.offset
    scaled = multiply_by_quantized_multiplier(sums, p.multiplier, p.shift) + p.output_zero_point
    return b.output.q.narrowed(scaled).reshape(-1, *b.output.shape)


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """MEAN over axes 1 and 2."""
    axes = writer.raw(f"{b.name}/axes", np.array([1, 2], np.int32))
    inputs = [writer.activation(b.inputs[0]), axes]
    options = {"keepDims": b.attrs.keepdims}
    writer.add("MEAN", inputs, writer.activation(b.output), "ReducerOptions", options, version=2)


def spatial(op: TfliteOperator, builder: GraphBuilder) -> str:
    """The input of a TFLite reduction, as (H, W, C); refused unless all but the channels is reduced."""
    x = op.activation(0)
    shape = builder.shape(x)
    rank = len(shape) + 1
    axes = sorted({axis_of(op, axis, rank) for axis in constant_ints(op, 1)})
    if rank not in (3, 4) or axes != list(range(1, rank - 1)):
        raise op.error(f"it reduces axes {axes} of {rank}; only height and width (1 and 2 of 4) are allowed")
    if rank == 4:
        return x
    return reshape(f"{op.name}/as_2d", x, (1, *shape), builder)


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """MEAN over height and width, or over the length of (length, channels)."""
    x = spatial(op, builder)
    keepdims = len(op.output_shape()) == 3
    output = builder.add("mean", op.name, (x,), Attrs(keepdims), op.output_qparams())
    return reshape(f"{op.name}/as_1d", output, op.output_shape(), builder)


# ---- kernels


def cost_portable(b: BoundNode) -> float:
    """Plain C: about 4 cycles an element, 40 an output."""
    return 4.0 * b.inputs[0].elements + 40.0 * b.output.elements


KERNELS = (
    Kernel("tg_mean_s8", cost_portable, template="tg_mean"),
    pooling_dsp.mean_kernel(params),
    Kernel("tg_mean_s16", cost_portable, dtype="int16", template="tg_mean"),
    Kernel("tg_mean_f32", cost_portable, dtype="float32", params=params_f32),
)

OP = Op(
    name="mean",
    summary="global average over height and width",
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
    constraints=(bounded_sum,),
    keras={"GlobalAveragePooling1D": from_keras, "GlobalAveragePooling2D": from_keras},
    passes_factors=always,
    to_tflite=to_tflite,
    from_tflite={"MEAN": from_tflite},
    channels=same_channels,
    bounds=rising(reference),
)
