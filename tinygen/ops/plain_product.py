"""Matrix products for cores without SIMD (Cortex-M0, M0+, M3): what conv2d and dense share of numbers and packing.

A column of activations, 128 more each, meets words of four unsigned weights, one per output channel: W = d0 + 2**8 d1 +
2**16 d2 + 2**24 d3 with d = weight + 128. With S(n) = sum of (W >> n) * x, modulo 2**32, channel 0 has S(0) - 256 S(8)
= sum of d0 * x, and so on: no byte is extracted. The sum of weights * x is that less 128 * (sum of the column), and
what the 128 of x adds stands in the bias, as the input's zero_point does. docs/kernels.md, "Plain cores".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.graph import Array, BoundNode
from tinygen.ops.requant import Requant, accumulator_bound, folded_bias, requant_of, wrapped

WIDTH = 4
"""Output channels computed together: the bytes of a word."""
UNROLLED = 4
"""Products per channel in one turn of the inner loop."""
RAISED = 128
"""What is added to activations and weights to make them unsigned."""
QUICK_BOUND = 2**29
"""More than any |accumulator| that tg_requantize_plain takes."""
HEAD = 1 + 2 * WIDTH
"""Words of a group before its weights: four shifts, then bias and multiplier per channel."""


@dataclass(frozen=True)
class Product:
    """products, column: of one output; the same, padded to whole turns. quick: the short requantization is proved.
    low, high: of the clamp."""

    products: int
    column: int
    channels: int
    quick: bool
    zero_point: int
    low: int
    high: int
    raised_zero_point: int

    @property
    def head_words(self) -> int:
        return HEAD

    @property
    def group_words(self) -> int:
        """Words of four channels in the stream."""
        return HEAD + self.column


def column_bytes(products: int) -> int:
    """Bytes of a column: whole turns of the inner loop."""
    return -(-products // UNROLLED) * UNROLLED


def product(b: BoundNode) -> Product:
    """Numbers of a node whose weights have the output channel first."""
    weights, requant = b.inputs[1], requant_of(b)
    products = weights.elements // weights.shape[0]
    return Product(
        products,
        column_bytes(products),
        weights.shape[0],
        quick(b, 0),
        requant.output_zero_point,
        requant.activation_min,
        requant.activation_max,
        b.inputs[0].zero_point + RAISED,
    )


# ---- proof


def quick(b: BoundNode, axis: int) -> bool:
    """True when tg_requantize_plain equals the reference for every channel and input. axis: of the output channel."""
    weights, bias, requant = b.inputs[1].data, b.inputs[2].data, requant_of(b)
    assert weights is not None and bias is not None
    right = all(s <= -1 or m == 0 for s, m in zip(requant.shift, requant.multiplier, strict=True))
    return right and bool(np.all(accumulator_bound(weights, bias, axis) < QUICK_BOUND))


# ---- packing


def shifts(requant: Requant, quick: bool) -> Array:
    """Per channel what its requantization takes: tg_requantize_plain a shift to the right, 1 for a multiplier of 0;
    tg_requantize one to the left."""
    left = np.array(requant.shift, np.int64)
    return np.where(np.array(requant.multiplier) == 0, 1, -left) if quick else left


def packed(b: BoundNode) -> Array:
    """The int32 stream that the kernel reads in order, four channels a time: HEAD words, then one per product."""
    weights, requant, t = b.inputs[1].data, requant_of(b), product(b)
    assert weights is not None
    spare, count = -t.channels % WIDTH, t.channels
    raised = np.zeros((count + spare, t.column), np.uint8)
    raised[:count, : t.products] = weights.reshape(count, -1).astype(np.int16) + RAISED
    words = np.ascontiguousarray(raised.reshape(-1, WIDTH, t.column).transpose(0, 2, 1)).view("<i4")[..., 0]
    shift = np.pad(shifts(requant, t.quick), (0, spare)).astype(np.int8)
    pairs = np.stack([folded_bias(b, 0, RAISED), np.array(requant.multiplier, np.int64)], axis=1)
    heads = wrapped(np.pad(pairs, ((0, spare), (0, 0)))).reshape(-1, 2 * WIDTH)
    return np.concatenate([shift.reshape(-1, WIDTH).view("<i4"), heads, words], axis=1).astype(np.int32)


def constants(b: BoundNode) -> Mapping[str, Array]:
    """The one array that the kernel reads."""
    return {"weights": packed(b)}


# ---- cost


def cycles(b: BoundNode) -> float:
    """Of all output channels of one column: 3.8 a product, 30 an output, 90 for four (benchmarks/kernels.py)."""
    weights = b.inputs[1]
    channels = weights.shape[0]
    groups = -(-channels // WIDTH)
    return groups * (4 * 3.8 * column_bytes(weights.elements // channels) + 90.0) + 30.0 * channels
