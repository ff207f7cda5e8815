"""Fixed-point arithmetic of the int8 reference: the one place in Python where rounding is written.

docs/numerics.md is normative; templates/kernels/tg_fixedpoint.h is the same in C. Bit for bit that of TFLite
Micro (SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT). Arrays are int64 holding int32 values.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np

from tinygen.graph import Array

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


class Rounding(Enum):
    """How a dense layer requantizes: DOUBLE is TFLite Micro's fixed point and what C does.

    SINGLE is LiteRT's dense layers: the product with the real multiplier in double precision, rounded once.
    """

    DOUBLE = "double"
    SINGLE = "single"


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Split real >= 0 into (multiplier, shift): real ~ multiplier * 2**(shift - 31).

    multiplier is 0 or in [2**30, 2**31 - 1]; shift in [-31, 30] (positive shifts left).
    """
    assert real >= 0 and math.isfinite(real), real
    if real == 0:
        return 0, 0
    significand, shift = math.frexp(real)
    multiplier = math.floor(significand * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    if shift < -31:
        return 0, 0
    return (INT32_MAX, 30) if shift > 30 else (multiplier, shift)


def saturating_rounding_doubling_high_mul(a: Array, b: Array | int) -> Array:
    """round(a * b / 2**31), halves away from zero upwards as gemmlowp nudges them; saturated at int32."""
    product = a.astype(np.int64) * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    quotient = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return np.minimum(quotient, INT32_MAX)


def rounding_divide_by_pot(x: Array, exponent: Array | int) -> Array:
    """round(x / 2**exponent), halves away from zero; 0 <= exponent <= 31."""
    exponent = np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return np.asarray((x >> exponent) + ((x & mask) > threshold))


def reduced_multiplier(multiplier: Array | int) -> Array:
    """A multiplier of 31 bits rounded to 15, halves up; what would become 2**15 is 2**15 - 1."""
    multiplier = np.asarray(multiplier, np.int64)
    return np.where(multiplier < 0x7FFF0000, (multiplier + (1 << 15)) >> 16, 0x7FFF)


def multiply_wide(x: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """x * multiplier * 2**(shift - 31) of a 64-bit accumulator, |x| <= 2**47, by the reduced multiplier; rounded once,
    halves up. shift in [-31, 7]; the result must fit into int32."""
    total = 15 - np.asarray(shift, np.int64)
    product = x.astype(np.int64) * reduced_multiplier(multiplier)
    return np.asarray((product + (np.int64(1) << (total - 1))) >> total)


def multiply_by_quantized_multiplier(x: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """x * multiplier * 2**(shift - 31) in int32 arithmetic; multiplier and shift broadcast over x."""
    x = x.astype(np.int64)
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    shifted = x << left
    assert shifted.size == 0 or (shifted.min() >= INT32_MIN and shifted.max() <= INT32_MAX), (
        "accumulator overflow"
    )
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(shifted, multiplier), right)
