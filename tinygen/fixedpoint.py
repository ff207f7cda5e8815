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

BLOCK = 2**14
"""Numbers that are rounded together: what stays in the cache is rounded in a sixth of the time."""


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
    """round(a * b / 2**31), halves up, to +infinity, as gemmlowp nudges them; saturated at int32."""
    product = np.asarray(a.astype(np.int64) * b)
    # gemmlowp adds 1 - 2**30 to negative products and cuts towards zero: the same for whole numbers.
    product += 1 << 30
    product >>= 31
    return np.minimum(product, INT32_MAX)


def rounding_divide_by_pot(x: Array, exponent: Array | int) -> Array:
    """round(x / 2**exponent), halves away from zero; 0 <= exponent <= 31."""
    exponent = np.asarray(exponent, np.int64)
    half = (np.int64(1) << exponent) >> 1
    rounded = np.asarray((x >> 63) & -(half > 0).astype(np.int64))  # -1: halves of negative numbers go down
    rounded += x
    rounded += half
    rounded >>= exponent
    return rounded


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
    multiplier, shift = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    if x.ndim < 2 or max(multiplier.ndim, shift.ndim) > 1:
        return _multiplied(x, multiplier, shift)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    result, step = np.empty(rows.shape, np.int64), max(1, BLOCK // max(1, x.shape[-1]))
    for i in range(0, len(rows), step):
        result[i : i + step] = _multiplied(rows[i : i + step], multiplier, shift)
    return result.reshape(x.shape)


def _multiplied(x: Array, multiplier: Array, shift: Array) -> Array:
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    shifted = x.astype(np.int64) << left
    assert shifted.size == 0 or (shifted.min() >= INT32_MIN and shifted.max() <= INT32_MAX), (
        "accumulator overflow"
    )
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(shifted, multiplier), right)
