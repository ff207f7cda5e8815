"""Matrix products for the DSP extension (Cortex-M4, M7, M33): numbers, packing and proof of conv2d and dense.

Two output channels a, b stand in one int16 lane: v = 256 * weight_a + weight_b. SMLAD of v gives S1 = 256 * A + B,
SMLAD of the sign-extended low bytes S2 = B; A = (S1 - S2) / 256. All modulo 2**32: exact while |A| < 2**23.
Activations are widened to int16 and keep their zero_point, which is folded into the bias here. docs/kernels.md,
"Products".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tinygen.graph import Array, BoundNode
from tinygen.ops.requant import folded_bias, requant_of, wrapped

LANE_BOUND = 2**23
"""More than |A| of the channel in the upper half of a lane."""
DOUBLED_BOUND = 2**30
"""More than any |accumulator|: SMMULR takes it doubled."""
RAW_REACH = 128
"""Greatest |int8 input|, its zero_point included."""
MOST_UNROLLED = 20
"""Pairs of products that one turn of the inner loop makes per lane and pixel."""
REACHED = 4096
"""Offsets in bytes that an LDR or STRB reaches, and one more."""


@dataclass(frozen=True)
class Group:
    """Channels computed together: `lanes` lanes of two, `stores` of them exist (the last of an odd count does not)."""

    lanes: int
    stores: int


@dataclass(frozen=True)
class Tile:
    """The numbers of the inner function (templates/kernels/dsp_tile.j2).

    It computes `pixels` neighbouring outputs of all channels. segments: how many runs of `pairs` pairs of int16 lie
    behind each other in the weights, each with a pointer into the activations of its own. pixel_bytes: from one
    output's activations to the next one's. full: groups of `group`; rest: the group behind them, None where there is
    none. turns, unrolled, left: of the inner loop: pairs = turns * unrolled + left. low, high: of the clamp, None
    where int8 clamps. apart: the output's zero_point where it is added behind the shift, and upper lanes' bias behind
    the product (Operands.apart); None where both are part of something else.
    """

    pixels: int
    segments: int
    pairs: int
    turns: int
    unrolled: int
    left: int
    pixel_bytes: int
    out_c: int
    full: int
    group: Group
    rest: Group | None
    low: int | None
    high: int | None
    apart: int | None

    @property
    def full_words(self) -> int:
        """Words of the stream before the rest."""
        g = self.group
        trailer = 3 * g.stores + (g.lanes if self.apart is not None else 0)
        return self.full * (2 * g.lanes + self.segments * self.pairs * g.lanes + trailer)


def tile(b: BoundNode, pixels: int, pairs: int, step: int, segments: int = 1, lanes: int = 2) -> Tile:
    """The tile of so many pixels; step: bytes from one pixel's activations to the next one's."""
    requant, channels, width = requant_of(b), b.inputs[1].shape[0], 2 * lanes
    rest = channels % width
    turns, unrolled = unrolling(pairs)
    return Tile(
        pixels=pixels,
        segments=segments,
        pairs=pairs,
        turns=turns,
        unrolled=unrolled,
        left=pairs - turns * unrolled,
        pixel_bytes=step,
        out_c=channels,
        full=channels // width,
        group=Group(lanes, width),
        rest=Group((rest + 1) // 2, rest) if rest else None,
        low=requant.activation_min if requant.activation_min > -128 else None,
        high=requant.activation_max if requant.activation_max < 127 else None,
        apart=requant.output_zero_point if operands(b).apart else None,
    )


def unrolling(pairs: int) -> tuple[int, int]:
    """(turns, pairs a turn) of the inner loop: as few pairs as can be are left over."""
    if pairs <= MOST_UNROLLED:
        return 1, pairs
    counts = range(MOST_UNROLLED, MOST_UNROLLED // 2, -1)
    unrolled = min((u for u in counts if _compared(pairs // u * u)), key=lambda u: pairs % u)
    return pairs // unrolled, unrolled


def _compared(pairs: int) -> bool:
    """True where CMP takes the bytes of so many pairs as its constant: eight bits, shifted."""
    lowest = pairs & -pairs
    return pairs // lowest < 256


# ---- proof


@dataclass(frozen=True)
class Operands:
    """What a product is made of, per output channel: raw inputs times weights plus bias, then tg_requantize_dsp.

    int64. weights: (channels, products). bias: the input's zero_point folded in. zero_point: of the output.
    """

    weights: Array
    bias: Array
    multiplier: Array
    right: Array
    zero_point: Array

    @property
    def products(self) -> Array:
        """Greatest |sum of products| per channel, over all inputs and partial sums."""
        return np.asarray(RAW_REACH * np.abs(self.weights).sum(axis=1))

    @property
    def apart(self) -> bool:
        """True where a bias is too great for a lane, or a shift for a zero_point before it: channels that are almost
        dead have such. They cost an instruction more."""
        return not (np.all(self.products + np.abs(self.bias) < LANE_BOUND) and self._fits(self.rounding))

    @property
    def rounding(self) -> Array:
        """What is added before the shift: half, and the zero_point, shifted."""
        shift = np.clip(self.right, 1, 31)
        return np.asarray((np.int64(1) << (shift - 1)) + (self.zero_point << shift))

    @property
    def half(self) -> Array:
        """What is added before the shift where the zero_point is added behind it."""
        return np.asarray(np.int64(1) << (np.clip(self.right, 1, 31) - 1))

    @property
    def exact(self) -> bool:
        """True when lanes and the quick requantization are proved for every channel and every input."""
        # -128 in both halves of a lane would leave int16.
        lanes = self.weights.size == 0 or int(self.weights.min()) > -128
        accumulators = np.all(self.products + np.abs(self.bias) < DOUBLED_BOUND)
        shifts = np.all(self.right >= 1) and self._fits(self.half)
        return bool(lanes and np.all(self.products < LANE_BOUND) and accumulators and shifts)

    def _fits(self, added: Array) -> bool:
        """True when no product with a multiplier, with this added, leaves int32."""
        high = ((self.products + np.abs(self.bias)).astype(object) * self.multiplier) // 2**31 + 2
        return all(int(h) + abs(int(a)) < 2**31 for h, a in zip(high, added, strict=True))


def operands(b: BoundNode) -> Operands:
    """Those of a node whose weights have the output channel first.

    A channel whose output is the same for every input (a huge bias, as training leaves it on dead channels) needs no
    product: weights 0, multiplier 0, and its value as zero_point.
    """
    data = b.inputs[1].data
    assert data is not None
    weights, requant = data.reshape(len(data), -1).astype(np.int64), requant_of(b)
    start = folded_bias(b, 0)
    low = start + np.minimum(weights * -128, weights * 127).sum(axis=1)
    high = start + np.maximum(weights * -128, weights * 127).sum(axis=1)
    values = requant.apply(np.stack([low, high])).astype(np.int64)
    constant = values[0] == values[1]
    multiplier = np.where(constant, 0, np.array(requant.multiplier, np.int64))
    return Operands(
        np.where(constant[:, np.newaxis], 0, weights),
        np.where(constant, 0, start),
        multiplier,
        np.where(multiplier == 0, 1, -np.array(requant.shift, np.int64)),
        np.where(constant, values[0], requant.output_zero_point),
    )


def exact(b: BoundNode) -> bool:
    """True when the kernels here compute the node in every element."""
    return all(t.data is not None for t in b.inputs[1:]) and operands(b).exact


# ---- packing


def packed(o: Operands, lanes: int, zero_point: int) -> Array:
    """The int32 stream that a tile reads in order, group by group of 2 * lanes channels; an even number of products.

    Per group: S1 and S2 of every lane to start from, the lanes' weights for two products after the other, then
    (multiplier, right, rounding) per channel; apart, twice its bias before the upper channel's three. zero_point: of
    the output.
    """
    width, parts = 2 * lanes, []
    rounding = o.half + ((o.zero_point - zero_point) << np.clip(o.right, 1, 31)) if o.apart else o.rounding
    three = np.stack([o.multiplier, o.right, rounding], axis=1)
    upper = np.arange(len(o.bias)) % 2 == 0
    start = np.where(upper & o.apart, 0, o.bias)
    for first in range(0, len(o.weights), width):
        these = slice(first, first + width)
        parts.append(_group(o.weights[these], start[these]))
        for i in range(first, min(first + width, len(o.weights))):
            parts += [2 * o.bias[i : i + 1]] if o.apart and upper[i] else []
            parts.append(three[i])
    return wrapped(np.concatenate(parts))


def _group(weights: Array, bias: Array) -> Array:
    """Start values and weights of one group: int64 words, modulo 2**32. An odd last channel has zeros for partner."""
    odd = len(weights) % 2
    w, start = np.pad(weights, ((0, odd), (0, 0))), np.pad(bias, (0, odd))
    upper, lower = w[0::2], w[1::2]
    value = (256 * upper + lower) & 0xFFFF
    words = value[:, 0::2] | (value[:, 1::2] << 16)  # (lanes, products / 2)
    begin = np.stack([256 * start[0::2] + start[1::2], start[1::2]], axis=1)
    return np.concatenate([begin.reshape(-1), words.T.reshape(-1)])


def constants(b: BoundNode, lanes: int, runs: int = 1) -> Mapping[str, Array]:
    """The one array that the kernel reads. runs: equal parts of a channel's products that each need an even number."""
    o = operands(b)
    parts = o.weights.reshape(len(o.weights), runs, -1)
    parts = np.pad(parts, ((0, 0), (0, 0), (0, parts.shape[2] % 2)))
    return {"weights": packed(replace(o, weights=parts.reshape(len(parts), -1)), lanes, b.output.zero_point)}


# ---- cost


def cycles(t: Tile) -> float:
    """Cortex-M4 cycles of one call for one step of `pixels` outputs, zero wait states (benchmarks/kernels.py)."""
    groups = [t.group] * t.full + ([t.rest] if t.rest else [])
    return 12.0 + sum(_group_cycles(t, g) for g in groups)


def _group_cycles(t: Tile, g: Group) -> float:
    products = 2 * g.lanes * t.pixels + g.lanes
    loads = t.pixels + g.lanes + (2 if g.lanes > 3 else 1)
    per_pair = products + loads
    loop = 7.0 * t.turns if t.turns > 1 else 0.0
    outputs = g.stores * (4.0 + 7.0 * t.pixels + (1.0 + t.pixels if t.apart is not None else 0.0))
    return t.segments * (t.pairs * per_pair + loop + 3.0) + outputs + 18.0 + 2 * g.lanes * t.pixels
