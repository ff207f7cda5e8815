"""Requantization of accumulators and quantization of weights and bias: shared by conv2d, depthwise_conv2d, dense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygen.fixedpoint import INT32_MAX, Rounding, multiply_by_quantized_multiplier, quantize_multiplier
from tinygen.graph import Array, QParams, Tensor


@dataclass(frozen=True)
class Requant:
    """Accumulator -> output: one multiplier and shift per output channel."""

    multiplier: tuple[int, ...]
    shift: tuple[int, ...]
    output_zero_point: int
    activation_min: int
    activation_max: int

    def apply(self, accumulator: Array, rounding: Rounding = Rounding.DOUBLE) -> Array:
        """int8 output of int32 accumulators whose last axis is the output channel."""
        scaled = multiply_by_quantized_multiplier(
            accumulator, np.array(self.multiplier, np.int64), np.array(self.shift, np.int64), rounding
        )
        biased = scaled + self.output_zero_point
        return np.clip(biased, self.activation_min, self.activation_max).astype(np.int8)


def requant(
    input_scale: float, weights: QParams, output: QParams, channels: int, activation: tuple[int, int]
) -> Requant:
    """Effective multipliers input_scale * weight_scale / output_scale, computed in double as TFLite does."""
    scales = weights.scale if weights.axis is not None else weights.scale * channels
    pairs = [quantize_multiplier(input_scale * s / output.scale[0]) for s in scales]
    multiplier, shift = zip(*pairs, strict=True)
    return Requant(multiplier, shift, output.zero_point[0], *activation)


def quantize_weights(tensor: Tensor, name: str, axis: int | None) -> Tensor:
    """Symmetric int8 in [-127, 127]: per index of `axis`, or per tensor. All-zero channels get scale 1."""
    assert tensor.data is not None
    data = tensor.data.astype(np.float64)
    others = tuple(a for a in range(data.ndim) if axis is not None and a != axis) if axis is not None else None
    largest = np.max(np.abs(data), axis=others, keepdims=True)
    # A float32 scale: QParams stores it so, and the integers must be made with the scale that is stored.
    scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32).astype(np.float64)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    scaled = data / scale
    q = np.clip(np.trunc(scaled + np.copysign(0.5, scaled)), -127, 127).astype(np.int8)
    flat = tuple(float(s) for s in scale.reshape(-1))
    return Tensor(name, tensor.shape, "int8", QParams(flat, (0,) * len(flat), axis), q)


def quantize_bias(tensor: Tensor, name: str, input_scale: float, weights: QParams) -> Tensor:
    """int32 bias at scale input_scale * weight_scale, saturated."""
    assert tensor.data is not None
    count = tensor.shape[0]
    weight_scale = np.array(weights.scale if weights.axis is not None else weights.scale * count)
    scale = np.maximum((input_scale * weight_scale).astype(np.float32), np.finfo(np.float32).tiny)
    scaled = tensor.data.astype(np.float64) / scale.astype(np.float64)
    q = np.clip(np.trunc(scaled + np.copysign(0.5, scaled)), -INT32_MAX, INT32_MAX).astype(np.int32)
    qparams = QParams(tuple(scale.tolist()), (0,) * count, 0)
    return Tensor(name, tensor.shape, "int32", qparams, q)
