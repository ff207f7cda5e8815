"""What values each channel of an int8 activation can take: the fields `bounds` and `shares` of the operators.

A channel is an index along the last axis. Bounds hold for every position and every input of the model. They come from
the reference itself, or from its accumulators, so that they are exact for one operator whose input channels vary
freely. tinygen/constant_channels.py puts them together for a whole graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, Shape, Tensor
from tinygen.ops.requant import requant_of

Reference = Callable[[BoundNode, Sequence[Array], Rounding], Array]


@dataclass(frozen=True)
class Interval:
    """low, high: smallest and greatest integer of each channel, int64 of shape (C,)."""

    low: Array
    high: Array

    @property
    def constant(self) -> Array:
        """True for channels that are one value whatever the input."""
        return np.asarray(self.low == self.high)

    def moved(self, by: int) -> Interval:
        """Both ends moved up."""
        return Interval(self.low + by, self.high + by)

    def repeated(self, times: int) -> Interval:
        """Every channel so many times, neighbouring."""
        return Interval(np.repeat(self.low, times), np.repeat(self.high, times))


Bounds = Callable[[BoundNode, Sequence[Interval | None]], Interval]
"""(int8 node, intervals of its inputs, None for constants) -> interval of its output."""


@dataclass(frozen=True)
class Shares:
    """What input channels add to the accumulators of a node, wherever the window stands.

    known: (C,), True where that is one number per output channel: the input channel can go into the bias.
    amounts: (O, C), int64; 0 where it is not known.
    """

    known: Array
    amounts: Array


def whole(count: int, low: int, high: int) -> Interval:
    """Channels of which nothing is known but the limits."""
    return Interval(np.full(count, low, np.int64), np.full(count, high, np.int64))


def over_positions(*outputs: Array) -> Interval:
    """The smallest and the greatest value that these arrays (..., C) have in each channel."""
    rows = np.concatenate([a.reshape(-1, a.shape[-1]).astype(np.int64) for a in outputs])
    return Interval(rows.min(axis=0), rows.max(axis=0))


# ---- from the reference


def filled(values: Array, shape: Shape) -> Array:
    """One int8 sample (1, *shape) with these values (C,) at every position."""
    return np.broadcast_to(values.astype(np.int8), (1, *shape))


def corners(reference: Reference) -> Bounds:
    """`bounds` of an operator that rises or falls in each input: its extremes are at the ends of the inputs."""

    def bounds(b: BoundNode, inputs: Sequence[Interval | None]) -> Interval:
        ends = [_ends(t, x) for t, x in zip(b.inputs, inputs, strict=True)]
        return over_positions(*(reference(b, xs, Rounding.DOUBLE) for xs in itertools.product(*ends)))

    return bounds


def _ends(tensor: Tensor, x: Interval | None) -> list[Array]:
    """A constant's values; of an activation all at the lowest and all at the highest."""
    if x is not None:
        return [filled(x.low, tensor.shape), filled(x.high, tensor.shape)]
    assert tensor.data is not None
    return [tensor.data]


def rising(reference: Reference) -> Bounds:
    """`bounds` of an operator without constants that never falls where an input rises."""

    def bounds(b: BoundNode, inputs: Sequence[Interval | None]) -> Interval:
        known = [(t, x) for t, x in zip(b.inputs, inputs, strict=True) if x is not None]
        low = reference(b, [filled(x.low, t.shape) for t, x in known], Rounding.DOUBLE)
        high = reference(b, [filled(x.high, t.shape) for t, x in known], Rounding.DOUBLE)
        return over_positions(low, high)

    return bounds


def looked_up(table: Array, x: Interval) -> Interval:
    """The least and the greatest entry of an int8 table (256,) that each channel reaches."""
    ends = np.stack([x.low, x.high], axis=1)
    pairs, index = np.unique(ends, axis=0, return_inverse=True)
    parts = [table[low + 128 : high + 129] for low, high in pairs.tolist()]
    least, most = (np.array([f(p) for p in parts], np.int64) for f in (np.min, np.max))
    return Interval(least[index.reshape(-1)], most[index.reshape(-1)])


# ---- from accumulators


def products(weights: Array, x: Interval) -> tuple[Array, Array]:
    """Smallest and greatest weights * x, elementwise; float64, exact. x: broadcast, zero_point taken off."""
    first, second = (weights.astype(np.float64) * end for end in (x.low, x.high))
    return np.minimum(first, second), np.maximum(first, second)


def requantized(b: BoundNode, low: Array, high: Array) -> Interval:
    """The outputs of the least and greatest accumulators (..., O) of a node with weights and bias."""
    requant = requant_of(b)
    return over_positions(*(requant.apply(np.asarray(sums).astype(np.int64)) for sums in (low, high)))


def shares(b: BoundNode, x: Interval, weights: Array, source: Array, everywhere: bool) -> Shares:
    """`shares` of a node that multiplies and adds.

    weights: (O, taps, I). source: (O, I), the input channel that each of them reads. everywhere: no window reaches
    over the border, where the input is 0: only then is a constant other than 0 the same at all positions.
    """
    values = np.where(x.constant, x.low - b.inputs[0].zero_point, 0)
    read = np.zeros(len(values), bool)
    read[source[weights.any(axis=1)]] = True
    known = ~read | (x.constant & (everywhere | (values == 0)))
    amounts = np.zeros((len(weights), len(values)), np.int64)
    sums = weights.sum(axis=1, dtype=np.int64)
    np.put_along_axis(amounts, source, sums * (values * known)[source], axis=1)
    return Shares(known, amounts)
