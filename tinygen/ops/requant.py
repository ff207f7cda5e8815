"""Requantization of accumulators and quantization of weights and bias: shared by the operators that multiply.

docs/numerics.md, "Fixed point" and "16x8", is normative. Everything here keeps one promise: no accumulator, and no
accumulator shifted left by its requantization, leaves int32 (of int16 activations: 48 bits, and int32 once it is
requantized), for any input and in any order of summation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.fixedpoint import (
    INT32_MAX,
    Rounding,
    multiply_by_quantized_multiplier,
    multiply_wide,
    quantize_multiplier,
    reduced_multiplier,
)
from tinygen.graph import Array, BoundNode, QParams, Tensor
from tinygen.ops.base import clamp_bounds

INPUT_REACH = 256
"""More than any |input - zero_point|; also bounds kernels that fold the zero_point into the bias."""

LARGEST = INT32_MAX - 256
"""Of a shifted accumulator, so that adding the output's zero_point cannot leave int32 either."""

PRODUCTS_SHARE = 2**30
BIAS_SHARE = 2**30 - 1024
"""What the products of one output and its bias get of LARGEST; the rest is for scales rounded to float32."""

WIDE_REACH, WIDE_LARGEST, WIDE_BIAS = 2**15, 2**47 - 1, 2**40
"""In 16x8: greatest |input|, accumulator that the reduced multiplier takes, and bias."""

WIDE_SHIFT, WIDE_RESULT = 7, 2**30
"""In 16x8: greatest shift to the left, and |requantized accumulator| before it is clamped."""

MOST_PRODUCTS = PRODUCTS_SHARE // INPUT_REACH
"""Products per output that leave rounding the weights to nearest enough room: 4,194,304."""


@dataclass(frozen=True)
class Requant:
    """Accumulator -> output: per output channel a real multiplier, and the same as multiplier and shift.

    bits: of the output; 16 means 64-bit accumulators and the reduced multiplier.
    """

    real: tuple[float, ...]
    multiplier: tuple[int, ...]
    shift: tuple[int, ...]
    output_zero_point: int
    activation_min: int
    activation_max: int
    bits: int = 8

    def apply(self, accumulator: Array, rounding: Rounding = Rounding.DOUBLE) -> Array:
        """int8 (or int16) output of accumulators whose last axis is the output channel."""
        biased = self._scaled(accumulator, rounding) + self.output_zero_point
        clipped = np.clip(biased, self.activation_min, self.activation_max)
        return np.asarray(clipped.astype(np.int8 if self.bits == 8 else np.int16))

    def _scaled(self, accumulator: Array, rounding: Rounding) -> Array:
        multiplier, shift = np.array(self.multiplier, np.int64), np.array(self.shift, np.int64)
        if rounding is Rounding.SINGLE:
            return round_half_away(accumulator * np.array(self.real), INT32_MAX)
        if self.bits == 16:
            return multiply_wide(accumulator, multiplier, shift)
        return multiply_by_quantized_multiplier(accumulator, multiplier, shift)

    @property
    def accumulator(self) -> str:
        """C type of accumulators and biases."""
        return "int32_t" if self.bits == 8 else "int64_t"

    @property
    def multiplier_type(self) -> str:
        """C type of the multipliers in `arrays`."""
        return "int32_t" if self.bits == 8 else "int16_t"

    def arrays(self) -> dict[str, Array]:
        """The per-channel constants that kernels read; of 16 bits: the reduced multiplier and the whole shift right."""
        if self.bits == 16:
            return {
                "multiplier": reduced_multiplier(np.array(self.multiplier)).astype(np.int16),
                "shift": (15 - np.array(self.shift)).astype(np.int8),
            }
        return {"multiplier": np.array(self.multiplier, np.int32), "shift": np.array(self.shift, np.int8)}


def requant(
    input_scale: float, weights: QParams, output: QParams, channels: int, activation: tuple[int, int]
) -> Requant:
    """Effective multipliers input_scale * weight_scale / output_scale, computed in double as TFLite does."""
    scales = weights.scale if weights.axis is not None else weights.scale * channels
    real = tuple(input_scale * s / output.scale[0] for s in scales)
    multiplier, shift = zip(*map(quantize_multiplier, real), strict=True)
    return Requant(real, multiplier, shift, output.zero_point[0], *activation, output.bits)


def requant_of(b: BoundNode) -> Requant:
    """That of a quantized node with inputs (input, weights, bias), its fused activation included."""
    x, weights, bias = b.inputs
    bounds = clamp_bounds(b.attrs.activation, b.output.q)
    return requant(x.scale, weights.q, b.output.q, bias.shape[0], bounds)


def constants(b: BoundNode) -> Mapping[str, Array]:
    """What the kernels of such a node read: weights, bias, and requantization per output channel."""
    weights, bias = b.inputs[1].data, b.inputs[2].data
    assert weights is not None and bias is not None
    return {"weights": weights, "bias": bias, **requant_of(b).arrays()}


def constants_f32(b: BoundNode) -> Mapping[str, Array]:
    """What the float32 kernels of such a node read."""
    weights, bias = b.inputs[1].data, b.inputs[2].data
    assert weights is not None and bias is not None
    return {"weights": weights, "bias": bias}


def folded_bias(b: BoundNode, axis: int, raised: int = 0) -> Array:
    """int64 bias - (input zero_point + raised) * sum of the channel's weights: what sums over inputs as they are, or
    raised by so much, start from. axis: of the weights' output channel."""
    weights, bias = b.inputs[1].data, b.inputs[2].data
    assert weights is not None and bias is not None
    others = tuple(a for a in range(weights.ndim) if a != axis)
    folded = (b.inputs[0].zero_point + raised) * weights.astype(np.int64).sum(axis=others)
    return np.asarray(bias.astype(np.int64) - folded)


def wrapped(values: Array) -> Array:
    """int64 -> int32 modulo 2**32."""
    return np.asarray((values & 0xFFFFFFFF).astype(np.uint32).view(np.int32))


# ---- constraint


def bounded_accumulator(b: BoundNode) -> bool:
    """the int32 accumulator of an output must not overflow: at most 4,194,304 products per output; in an int8
    model 256 * sum(|weights|) + |bias|, shifted left for multipliers above 1, at most 2**31 - 257; of int16 activations
    32,768 * sum(|weights|) + |bias| below 2**47, and that times the multiplier, which is below 128, at most 2**30"""
    weights, bias = b.inputs[1:3]
    channels = bias.shape[0]
    if weights.elements // channels > MOST_PRODUCTS:
        return False
    if weights.dtype != "int8" or b.output.qparams is None:
        return True
    assert weights.data is not None and bias.data is not None
    axis = len(weights.shape) - 1 if b.node.op == "depthwise_conv2d" else 0
    multipliers = requant(b.inputs[0].scale, weights.q, b.output.q, channels, (-128, 127))
    shifts = multipliers.shift
    if b.output.q.bits == 16:
        bound = accumulator_bound(weights.data, bias.data, axis, WIDE_REACH)
        sizes = zip(bound, multipliers.real, shifts, strict=True)
        return all(m <= WIDE_LARGEST and m * r <= WIDE_RESULT and s <= WIDE_SHIFT for m, r, s in sizes)
    bound = accumulator_bound(weights.data, bias.data, axis)
    return all(int(most) << max(shift, 0) <= LARGEST for most, shift in zip(bound, shifts, strict=True))


def accumulator_bound(weights: Array, bias: Array, axis: int, reach: int = INPUT_REACH) -> Array:
    """Greatest |accumulator| per output channel (int64), over all inputs up to `reach` and partial sums."""
    others = tuple(a for a in range(weights.ndim) if a != axis)
    size = np.abs(weights.astype(np.int64)).sum(axis=others)
    return np.asarray(reach * size + np.abs(bias.astype(np.int64)))


# ---- weights and bias


def quantize_weights(tensor: Tensor, name: str, axis: int | None) -> Tensor:
    """Symmetric int8 in [-127, 127] without bias, per index of `axis` or per tensor. All zeros: scale 1."""
    assert tensor.data is not None
    data = tensor.data.astype(np.float64)
    along = None if axis is None else tuple(a for a in range(data.ndim) if a != axis)
    largest = np.max(np.abs(data), axis=along, keepdims=True)
    scale = np.where(largest > 0, np.maximum(largest / 127.0, np.finfo(np.float32).tiny), 1.0)
    # A float32 scale: QParams stores it so, and the integers must be made with the scale that is stored.
    scale = scale.astype(np.float32).astype(np.float64)
    q = round_half_away(data / scale, 127).astype(np.int8)
    flat = tuple(scale.reshape(-1).tolist())
    return Tensor(name, tensor.shape, "int8", QParams(flat, (0,) * len(flat), axis), q)


def per_output_channel(
    axis: int,
) -> Callable[[BoundNode, tuple[QParams, ...], QParams], tuple[Tensor, ...]]:
    """The `quantize` of an operator whose output channel is this axis of its weights."""

    def quantize(b: BoundNode, inputs: tuple[QParams, ...], output: QParams) -> tuple[Tensor, ...]:
        return quantize_weights_and_bias(b, axis, inputs[0], output)

    return quantize


def quantize_weights_and_bias(
    b: BoundNode, axis: int, input: QParams, output: QParams
) -> tuple[Tensor, Tensor]:
    """int8 weights in [-127, 127], symmetric per index of `axis`, and bias at input * weight scale: int32, of int16
    activations int64.

    b: a float node whose inputs are (input, weights, bias).
    """
    weights, bias, wide = b.inputs[1], b.inputs[2], input.bits == 16
    assert weights.data is not None and bias.data is not None
    scales = wide_weight_scales if wide else weight_scales
    scale = scales(weights.data, bias.data, axis, input.scale[0], output.scale[0])
    along = tuple(a for a in range(weights.data.ndim) if a != axis)
    q = round_half_away(weights.data / np.expand_dims(scale, along), 127).astype(np.int8)
    q_bias = round_half_away(bias.data / (input.scale[0] * scale), WIDE_BIAS if wide else BIAS_SHARE)
    q_bias = q_bias.astype(np.int64 if wide else np.int32)
    bound = accumulator_bound(q, q_bias, axis, WIDE_REACH if wide else INPUT_REACH)
    scale = (lowered_wide if wide else lowered)(scale, bound, input.scale[0] / output.scale[0])
    count = len(scale)
    weight_q = QParams(tuple(scale.tolist()), (0,) * count, axis)
    bias_q = QParams(tuple((input.scale[0] * scale).tolist()), (0,) * count, 0)
    return (
        Tensor(f"{b.name}/weights", weights.shape, "int8", weight_q, q),
        Tensor(f"{b.name}/bias", bias.shape, "int64" if wide else "int32", bias_q, q_bias),
    )


def weight_scales(weights: Array, bias: Array, axis: int, input_scale: float, output_scale: float) -> Array:
    """float32 scales (as float64), one per channel: greatest |weight| / 127, raised where a channel needs it.

    A channel without weights is a constant: its scale makes the bias 256 times finer than the output. A
    greater scale is needed where the bias, or the sum of very many products, would not fit its half of int32,
    and where input_scale * weight_scale would leave float32's normal numbers.
    """
    along = tuple(a for a in range(weights.ndim) if a != axis)
    size = np.abs(weights.astype(np.float64))
    largest, total = size.max(axis=along), size.sum(axis=along)
    products = weights.size // len(largest)
    scale = np.where(largest > 0, largest / 127.0, output_scale / input_scale / 256.0)
    scale = np.maximum(scale, total * INPUT_REACH / (PRODUCTS_SHARE - products * INPUT_REACH / 2))
    scale = np.maximum(scale, np.abs(bias.astype(np.float64)) / input_scale / BIAS_SHARE)
    float32 = np.finfo(np.float32)
    tiny, huge = float(float32.tiny), float(float32.max)
    scale = np.clip(scale, max(tiny, tiny / input_scale), min(huge, huge / input_scale))
    # QParams stores float32, and the integers must be made with the scale that is stored.
    return np.asarray(scale.astype(np.float32).astype(np.float64))


def wide_weight_scales(
    weights: Array, bias: Array, axis: int, input_scale: float, output_scale: float
) -> Array:
    """`weight_scales` for int16 activations: only a bias beyond 2**40 raises a scale."""
    largest = np.abs(weights.astype(np.float64)).max(axis=tuple(a for a in range(weights.ndim) if a != axis))
    scale = np.where(largest > 0, largest / 127.0, output_scale / input_scale / 256.0)
    scale = np.maximum(scale, np.abs(bias.astype(np.float64)) / input_scale / WIDE_BIAS)
    float32 = np.finfo(np.float32)
    tiny, huge = float(float32.tiny), float(float32.max)
    scale = np.clip(scale, max(tiny, tiny / input_scale), min(huge, huge / input_scale))
    return np.asarray(scale.astype(np.float32).astype(np.float64))


def lowered_wide(scale: Array, bound: Array, ratio: float) -> Array:
    """`lowered` for int16 activations: the reduced multiplier takes shifts up to 7 and results up to 2**30."""
    largest = np.minimum(2.0**WIDE_SHIFT * 0.999, WIDE_RESULT * 0.999 / np.maximum(bound, 1)) / ratio
    halvings = np.maximum(np.ceil(np.log2(scale / largest)), 0)
    return np.asarray(scale * 2.0**-halvings)


def lowered(scale: Array, bound: Array, ratio: float) -> Array:
    """Scales, halved as often as `bound` shifted left by the requantization needs to fit int32.

    ratio: input scale / output scale. Only an output scale that is absurdly small for its layer (calibrated
    on next to nothing) comes to this. The integers stay: such outputs saturate with either scale.
    """
    return np.array(
        [s * 2.0 ** -_halvings(s * ratio, int(most)) for s, most in zip(scale, bound, strict=True)]
    )


def _halvings(multiplier: float, bound: int) -> int:
    """How often a multiplier must be halved for its left shift to keep `bound` within LARGEST."""
    shift = fitting = math.frexp(multiplier)[1]
    while fitting > 0 and bound << fitting > LARGEST:
        fitting -= 1
    return shift - fitting


def round_half_away(x: Array, limit: int) -> Array:
    """Nearest integers (float64), halves away from zero, saturated to +-limit."""
    return np.asarray(np.clip(np.trunc(x + np.copysign(0.5, x)), -limit, limit))
