"""Functions of int16 values: tables of 513 entries to interpolate in, as TFLite's 16-bit kernels have them.

docs/numerics.md, "16x8", is normative; tg_interpolate in templates/kernels/tg_int16.h is the same in C.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinygen.graph import Array

ONE = 32768.0
"""1 in Q15."""

STEPS = 512
"""Intervals of a table: one for every 128 of the 65,536 inputs."""


def interpolated(function: Callable[[Array], Array], low: float, high: float) -> Array:
    """int16 table (513,), Q15, of a function with values in [-1, 1] over [low, high].

    An entry is lowered by half of what the straight line to the next one errs by in the middle.
    """
    step = (high - low) / STEPS
    starts = low + np.arange(STEPS) * step
    here, middle = (_rounded(function(x) * ONE) for x in (starts, starts + step / 2))
    line = _rounded((function(starts + step) * ONE + here) / 2)
    end = _rounded(function(np.array([high])) * ONE)
    entries = np.concatenate([here - _rounded((line - middle) / 2), end])
    return np.asarray(np.clip(entries, -32768, 32767).astype(np.int16))


def look_up_between(table: Array, x: Array) -> Array:
    """Interpolated entries (int64) at x in [-32768, 32767]."""
    index = 256 + (x >> 7)
    base = table[index].astype(np.int64)
    slope = (table[index + 1] - table[index]).astype(np.int16).astype(np.int64)
    return np.asarray(base + ((slope * (x & 127) + 64) >> 7))


def _rounded(x: Array) -> Array:
    """Nearest integers, halves away from zero, as floats."""
    return np.asarray(np.sign(x) * np.floor(np.abs(x) + 0.5))


# ---- sigmoid and tanh

SIGMOID_STEP = 24
"""Entries of the sigmoid's table for a step of 1 in its argument."""

ARGUMENT = 4096 * 3
"""Integers for a step of 1 in the argument of `sigmoid`; `tanh` is the sigmoid of twice its argument."""


def sigmoid_table() -> Array:
    """65,536 * sigmoid(i / 24) for i = 0 ... 255, uint16, TFLite's in every entry.

    Each entry is raised by half of what the straight line to the next one lacks in the middle; the last is 65,535.
    """
    half_steps = 65536.0 / (1.0 + np.exp(-np.arange(2 * 256 + 1) / (2 * SIGMOID_STEP)))
    here, middle, after = half_steps[:-1:2], half_steps[1::2], half_steps[2::2]
    entries = np.floor(here + (middle - (here + after) / 2) / 2 + 0.5)
    entries[-1] = 65535
    return entries.astype(np.uint16)


def argument_factor(scale: float) -> tuple[int, int]:
    """(multiplier, shift): integers at `scale` -> ARGUMENT steps is a multiplication by multiplier / 2**shift.

    multiplier below 2**16, rounded down; scales above 5.33 are taken for it: they saturate all inputs but 0.
    """
    factor, shift = min(scale * ARGUMENT, 65535.0), 0
    while factor <= 32767 / 2 and shift <= 30:
        factor, shift = factor * 2, shift + 1
    return int(factor), shift


def scaled_argument(x: Array, multiplier: int, shift: int) -> Array:
    """int16 inputs in ARGUMENT steps, int64; halves up."""
    half = 1 << (shift - 1) if shift else 0
    return np.asarray((x.astype(np.int64) * multiplier + half) >> shift)


def sigmoid(x: Array) -> Array:
    """int16, Q15, of ARGUMENT steps: interpolated in the table, 9 bits between entries."""
    size = np.abs(x)
    between = np.where(size >> 9 >= 255, 0x7FFF << 10, _between(size, 9))
    signed = np.where(x >= 0, between + (1 << 9), (1 << 25) - between + (1 << 9) - 1)
    return (signed >> 10).astype(np.int16)


def tanh(x: Array) -> Array:
    """int16, Q15, of ARGUMENT steps: 2 * sigmoid(2 * x) - 1, 8 bits between entries."""
    size = np.abs(x)
    between = np.where(size >> 8 >= 255, 0xFFFF << 8, _between(size, 8))
    signed = np.where(x >= 0, between - (1 << 23) + (1 << 7), (1 << 23) - between + (1 << 7) - 1)
    return (signed >> 8).astype(np.int16)


def _between(size: Array, bits: int) -> Array:
    """Table entries with `bits` more bits, interpolated; sizes beyond the table give its end."""
    table, index = sigmoid_table().astype(np.int64), np.minimum(size >> bits, 254)
    return np.asarray((table[index] << bits) + (size & ((1 << bits) - 1)) * (table[index + 1] - table[index]))
