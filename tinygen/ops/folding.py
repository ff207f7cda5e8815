"""Folding y = x * scale + offset (per input channel) into the operator that reads it: exact algebra in float64.

Each function takes the bound node, scale (C,) and offset (C,) of its input's last axis, and returns the new (weights,
bias), or None where the result would differ: padding adds zeros behind the affine, which an offset would shift.
"""

from __future__ import annotations

import numpy as np

from tinygen.graph import Array, BoundNode

Folded = tuple[Array, Array] | None


def _float64(b: BoundNode) -> tuple[Array, Array]:
    """Weights and bias."""
    weights, bias = b.inputs[1].data, b.inputs[2].data
    assert weights is not None and bias is not None
    return weights.astype(np.float64), bias.astype(np.float64)


def conv2d(b: BoundNode, scale: Array, offset: Array) -> Folded:
    """Weights (O, KH, KW, I / groups)."""
    if offset.any() and b.attrs.padding.any:
        return None
    weights, bias = _float64(b)
    repeat = len(weights) // b.attrs.groups

    def per_weight(factor: Array) -> Array:
        rows = np.repeat(factor.reshape(b.attrs.groups, -1), repeat, axis=0)
        return np.asarray(rows[:, np.newaxis, np.newaxis, :])

    return weights * per_weight(scale), bias + (weights * per_weight(offset)).sum(axis=(1, 2, 3))


def depthwise_conv2d(b: BoundNode, scale: Array, offset: Array) -> Folded:
    """Weights (KH, KW, C * multiplier)."""
    if offset.any() and b.attrs.padding.any:
        return None
    weights, bias = _float64(b)
    multiplier = weights.shape[2] // len(scale)
    shift = (weights * np.repeat(offset, multiplier)).sum(axis=(0, 1))
    return weights * np.repeat(scale, multiplier), bias + shift


def conv2d_transpose(b: BoundNode, scale: Array, offset: Array) -> Folded:
    """Weights (O, KH, KW, I). An offset is not folded: near the borders fewer taps add it."""
    if offset.any():
        return None
    weights, bias = _float64(b)
    return weights * scale, bias


def dense(b: BoundNode, scale: Array, offset: Array) -> Folded:
    """Weights (N, K)."""
    weights, bias = _float64(b)
    return weights * scale, bias + weights @ offset


def affine(b: BoundNode, scale: Array, offset: Array) -> Folded:
    """Factors (C,)."""
    weights, bias = _float64(b)
    return weights * scale, bias + weights * offset
