"""affine: y = x * scale + offset per channel (last axis): batch normalization, normalization, rescaling.

In int8 it is a depthwise convolution with a 1x1 kernel: weights of +-127 times a scale per channel hold any
factor exactly, so that only the bias (to half of 1/127 of what one input step contributes) and the
requantization round. TFLite has no per-channel affine, but it has that convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.errors import UnsupportedLayerError
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops import folding, intervals
from tinygen.ops.base import Clamp, Kernel, Op, clamp_f32, clamp_real, free
from tinygen.ops.coupling import Kept, Layout, Writing, same_channels
from tinygen.ops.intervals import Interval
from tinygen.ops.requant import Requant, bounded_accumulator, per_output_channel, requant_of
from tinygen.ops.tensors import Tensors, clamp

if TYPE_CHECKING:
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """activation: fused clamp of the output."""

    activation: str = "none"


# ---- constraints


def one_factor_per_channel(b: BoundNode) -> bool:
    """scale and offset must hold one number per channel (last axis)"""
    return b.inputs[1].shape == b.inputs[2].shape == b.inputs[0].shape[-1:]


# ---- Keras


def append(name: str, tensor: str, scale: Array, offset: Array, builder: GraphBuilder) -> str:
    """Append an affine node; scale and offset (any float arrays) broadcast to the channels of `tensor`."""
    channels = builder.shape(tensor)[-1:]
    factors = builder.constant(f"{name}/scale", np.broadcast_to(scale, channels))
    offsets = builder.constant(f"{name}/offset", np.broadcast_to(offset, channels))
    return builder.add("affine", name, (tensor, factors, offsets), Attrs())


def from_batch_normalization(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """BatchNormalization as it is in inference: gamma * (x - mean) / sqrt(variance + epsilon) + beta."""
    mean, variance = (np.asarray(v, np.float64) for v in (layer.moving_mean, layer.moving_variance))
    gamma = np.asarray(layer.gamma, np.float64) if layer.scale else np.ones_like(mean)
    beta = np.asarray(layer.beta, np.float64) if layer.center else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + float(layer.epsilon))
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]

    def apply(tensor: str) -> str:
        return append(layer.name, tensor, scale, beta - mean * scale, builder)

    return _on_axis(layer.name, inputs[0], axis, builder, apply)


def from_rescaling(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Rescaling: x * scale + offset."""
    scale, offset = _per_channel(layer, layer.scale), _per_channel(layer, layer.offset)
    return append(layer.name, inputs[0], scale, offset, builder)


def from_normalization(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Normalization: (x - mean) / sqrt(variance), or its inverse; Keras keeps the divisor at 1e-7 or more."""
    mean, variance = _per_channel(layer, layer.mean), _per_channel(layer, layer.variance)
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    if layer.invert:
        return append(layer.name, inputs[0], deviation, mean, builder)
    return append(layer.name, inputs[0], 1 / deviation, -mean / deviation, builder)


def _per_channel(layer: Any, value: Any) -> Array:
    """A layer's number, or array that varies along the last axis only, as a scalar or (C,) float64 array."""
    array = np.asarray(value, np.float64)
    if array.size not in (1, array.shape[-1] if array.ndim else 1):
        why = f"its numbers have the shape {array.shape}, but may differ along the last axis (channels) only"
        raise UnsupportedLayerError(layer.name, type(layer).__name__, why, "use axis=-1")
    return array.reshape(-1)


def _on_axis(name: str, tensor: str, axis: int, builder: GraphBuilder, apply: Callable[[str], str]) -> str:
    """Apply along Keras's `axis` (the batch counts): transposes put it last and back where it is not last."""
    from tinygen.ops import transpose

    rank = len(builder.shape(tensor))
    place = axis - 1 if axis >= 0 else axis + rank
    if place == rank - 1:
        return apply(tensor)
    there = (*(a for a in range(rank) if a != place), place)
    back = tuple(int(a) for a in np.argsort(there))
    last = apply(builder.add("transpose", f"{name}/channels_last", (tensor,), transpose.Attrs(there)))
    return builder.add("transpose", f"{name}/channels_back", (last,), transpose.Attrs(back))


def _sliced(*entries: str) -> Callable[[Any, Kept], Mapping[str, Any]]:
    """`config` of a class with these numbers in it: those given per channel lose the channels that go."""

    def config(layer: Any, kept: Kept) -> Mapping[str, Any]:
        values = {entry: np.asarray(layer.get_config()[entry]) for entry in entries}
        own = {entry: v for entry, v in values.items() if v.dtype != object and v.ndim and v.shape[-1] > 1}
        return {entry: value[..., kept("scale", 0)].tolist() for entry, value in own.items()}

    return config


def _statistics(*names: str) -> Mapping[str, Mapping[int, tuple[str, int]]]:
    return {name: {0: ("scale", 0)} for name in names}


def write_batch_normalization(layer: Any, constants: Mapping[str, Array]) -> Mapping[str, Array]:
    """Statistics of mean 0 and variance 1; scale and offset say all."""
    scale, offset = constants["scale"], constants["offset"]
    gamma = scale.astype(np.float64) * np.sqrt(1.0 + float(layer.epsilon))
    nothing, one = np.zeros_like(offset), np.ones_like(offset)
    return {"gamma": gamma.astype(np.float32), "beta": offset, "moving_mean": nothing, "moving_variance": one}


LAYOUTS = {
    "BatchNormalization": Layout(
        _statistics("gamma", "beta", "moving_mean", "moving_variance"),
        writing=Writing(write_batch_normalization, {"scale": True, "center": True}),
    ),
    "Normalization": Layout({**_statistics("mean", "variance"), "count": {}}, _sliced("mean", "variance")),
    "Rescaling": Layout({}, _sliced("scale", "offset")),
}


# ---- shapes


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(..., C), scale (C,), offset (C,) -> (..., C)."""
    return shapes[0]


# ---- float evaluation


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """x * scale + offset."""
    x, scale, offset = arrays
    return clamp_real(x * scale + offset, b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """x * scale + offset."""
    x, scale, offset = xs
    return clamp(x * scale + offset, b.attrs.activation)


# ---- int8 definition


@dataclass(frozen=True)
class Params:
    """The numbers that the template and the reference both use: rows of `channels` values."""

    rows: int
    channels: int
    input_zero_point: int
    requant: Requant


def params(b: BoundNode) -> Params:
    """Numbers of one quantized node."""
    x, weights, _ = b.inputs
    channels = weights.shape[0]
    return Params(x.elements // channels, channels, x.zero_point, requant_of(b))


@dataclass(frozen=True)
class RealParams:
    """The numbers that the float32 template uses."""

    rows: int
    channels: int
    clamp: Clamp


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node."""
    channels = b.inputs[1].shape[0]
    return RealParams(b.inputs[0].elements // channels, channels, clamp_f32(b.attrs.activation))


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(output_zero_point + requant(offset + (in - input_zero_point) * scale)), double rounding."""
    p = params(b)
    x = arrays[0].astype(np.int64) - p.input_zero_point
    return p.requant.apply(x * arrays[1].astype(np.int64) + arrays[2])


def bounds(b: BoundNode, inputs: Sequence[Interval | None]) -> Interval:
    """One product and the offset."""
    (x, scale, offset), own = b.inputs, inputs[0]
    assert own is not None and scale.data is not None
    low, high = intervals.products(scale.data, own.moved(-x.zero_point))
    return intervals.requantized(b, low + offset.data, high + offset.data)


def macs(b: BoundNode) -> int:
    """One per element."""
    return b.output.elements


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """DEPTHWISE_CONV_2D with a 1x1 kernel, between RESHAPEs where the shape is not (H, W, C)."""
    x, scale, offset = b.inputs
    channels = x.shape[-1]
    image = x.shape if len(x.shape) == 3 else (1, x.elements // channels, channels)
    source, result = writer.activation(x), writer.activation(b.output)
    target = result
    if image != x.shape:
        source = _reshaped(writer, source, writer.temp(f"{b.name}/image", image, "int8", x.q), image)
        target = writer.temp(f"{b.name}/affine", image, "int8", b.output.q)
    options = {
        "padding": writer.padding("VALID"),
        "strideH": 1,
        "strideW": 1,
        "depthMultiplier": 1,
        "dilationHFactor": 1,
        "dilationWFactor": 1,
        "fusedActivationFunction": writer.fused(b.attrs.activation),
    }
    weights = writer.constant(scale, shape=(1, 1, 1, channels), axis=3)
    inputs = [source, weights, writer.constant(offset)]
    writer.add("DEPTHWISE_CONV_2D", inputs, target, "DepthwiseConv2DOptions", options, version=3)
    if target != result:
        _reshaped(writer, target, result, b.output.shape)


def _reshaped(writer: TfliteWriter, source: int, target: int, shape: Shape) -> int:
    """Append RESHAPE from one tensor to another of that shape (without batch); returns `target`."""
    sizes = writer.raw(f"shape_{target}", np.array([1, *shape], np.int32))
    writer.add("RESHAPE", [source, sizes], target, "ReshapeOptions", {"newShape": [1, *shape]})
    return target


# ---- kernels


def constants(b: BoundNode) -> Mapping[str, Array]:
    """Factors, offsets and requantization per channel."""
    scale, offset = b.inputs[1].data, b.inputs[2].data
    assert scale is not None and offset is not None
    return {"scale": scale, "offset": offset, **requant_of(b).arrays()}


def constants_f32(b: BoundNode) -> Mapping[str, Array]:
    """Factors and offsets per channel."""
    scale, offset = b.inputs[1].data, b.inputs[2].data
    assert scale is not None and offset is not None
    return {"scale": scale, "offset": offset}


def cost_portable(b: BoundNode) -> float:
    """Plain C: about 45 cycles an element."""
    return 45.0 * b.output.elements


def overwrites_input(b: BoundNode) -> tuple[int, ...]:
    """Every element is read once, just before it is written."""
    return (0,)


def cost_f32(b: BoundNode) -> float:
    """Plain C with an FPU: about 10 cycles an element."""
    return 10.0 * b.output.elements


KERNELS = (
    Kernel("tg_affine_s8", cost_portable, constants=constants, in_place=overwrites_input),
    Kernel(
        "tg_affine_f32",
        cost_f32,
        constants=constants_f32,
        in_place=overwrites_input,
        dtype="float32",
        params=params_f32,
    ),
)

OP = Op(
    name="affine",
    summary="y = x * scale + offset per channel (batch normalization, normalization, rescaling)",
    attrs=Attrs,
    inputs=("input", "scale", "offset"),
    infer=infer,
    real=real,
    differentiable=differentiable,
    scaling=free,
    quantize=per_output_channel(0),
    params=params,
    reference=reference,
    macs=macs,
    kernels=KERNELS,
    constraints=(one_factor_per_channel, bounded_accumulator),
    keras={
        "BatchNormalization": from_batch_normalization,
        "Rescaling": from_rescaling,
        "Normalization": from_normalization,
    },
    to_tflite=to_tflite,
    output_axis=0,
    input_axis=lambda b: 0,
    input_factors_free=True,
    absorb_input=folding.affine,
    channels=same_channels,
    layouts=LAYOUTS,
    bounds=bounds,
)
