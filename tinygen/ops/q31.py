"""Exponential and reciprocal in 32-bit fixed point: what softmax, sigmoid and tanh of TFLite are made of.

A raw value r in format Qm stands for r * 2**(m - 31): m integer bits, 31 - m fraction bits, one sign. All functions
take and return int64 arrays that hold int32 values. templates/kernels/tg_fixedpoint.h is the same in C for the
functions that kernels call. docs/numerics.md, "Softmax", is normative.
"""

from __future__ import annotations

import math

import numpy as np

from tinygen.fixedpoint import INT32_MAX, INT32_MIN, rounding_divide_by_pot, saturating_rounding_doubling_high_mul
from tinygen.graph import Array

_high_mul = saturating_rounding_doubling_high_mul

EXP_INTEGER_BITS = 5
"""Format of the exponent in softmax: Q5 reaches -32."""


def _q(value: float, integer_bits: int = 0) -> int:
    """The raw value nearest to a real number."""
    return min(math.floor(value * 2 ** (31 - integer_bits) + 0.5), INT32_MAX)


EXP_MINUS_EIGHTH = _q(math.exp(-1 / 8))
ONE_THIRD = _q(1 / 3)
FORTY_EIGHT_17THS = _q(48 / 17, 2)
MINUS_32_17THS = _q(-32 / 17, 2)


def shift_left_saturating(x: Array, bits: int) -> Array:
    """x * 2**bits, limited to int32."""
    return np.clip(x << bits, INT32_MIN, INT32_MAX)


def _exp_of_last_quarter(x: Array) -> Array:
    """exp of a Q0 value in [-1/4, 0): Taylor's series of degree 4 around -1/8; result Q0."""
    x = x + (1 << 28)
    x2 = _high_mul(x, x)
    x3 = _high_mul(x2, x)
    x4_over_4 = rounding_divide_by_pot(_high_mul(x2, x2), 2)
    higher = rounding_divide_by_pot(_high_mul(x4_over_4 + x3, ONE_THIRD) + x2, 1)
    return EXP_MINUS_EIGHTH + _high_mul(x + higher, EXP_MINUS_EIGHTH)


def exp_of_negative(x: Array, integer_bits: int = EXP_INTEGER_BITS) -> Array:
    """exp of x <= 0 in Q`integer_bits`; result Q0.

    x is split into a last quarter in [-1/4, 0) and a multiple of 1/4 whose binary digits select factors exp(-2**k).
    """
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    last = (x & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(last << integer_bits)
    remainder = last - x
    for power in range(-2, integer_bits):
        factor = _q(math.exp(-(2.0**power)))
        chosen = (remainder >> (fraction_bits + power)) & 1
        result = np.where(chosen == 1, _high_mul(result, factor), result)
    return np.where(x == 0, INT32_MAX, result)


def _newton(half_denominator: Array) -> Array:
    """1 / d in Q2 for a Q0 value d in [1/2, 1]: three Newton steps from 48/17 - 32/17 d."""
    x = FORTY_EIGHT_17THS + _high_mul(half_denominator, MINUS_32_17THS)
    for _ in range(3):
        error = (1 << 29) - _high_mul(half_denominator, x)
        x = x + shift_left_saturating(_high_mul(x, error), 2)
    return x


def half_sum_with_one(x: Array) -> Array:
    """(x + 1) / 2 of a Q0 value, rounded."""
    total = x + INT32_MAX
    return np.where(total >= 0, (total + 1) >> 1, -((1 - total) >> 1))


def one_over_one_plus(x: Array) -> Array:
    """1 / (1 + x) of a Q0 value in [0, 1]; result Q0."""
    return shift_left_saturating(_newton(half_sum_with_one(x)), 1)


def one_minus_over_one_plus(x: Array) -> Array:
    """(1 - x) / (1 + x) of a Q0 value in [0, 1]; result Q0."""
    return shift_left_saturating(_newton(half_sum_with_one(x)) - (1 << 29), 2)


def leading_zeros(x: Array) -> Array:
    """Zero bits above the highest one of 0 < x < 2**32."""
    return 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)


def input_radius(integer_bits: int, left_shift: int) -> int:
    """The greatest difference of int8 inputs whose product with a multiplier * 2**left_shift stays in Q`integer_bits`."""
    largest = ((1 << integer_bits) - 1) * 2.0 ** (31 - integer_bits) / 2.0**left_shift
    return math.floor(largest)
