"""Exponential and reciprocal in 32-bit fixed point: what TFLite's softmax is made of.

A raw value r in format Qm stands for r * 2**(m - 31): m integer bits, 31 - m fraction bits, one sign. All
functions take and return int64 arrays of int32 values. templates/kernels/tg_fixedpoint.h is the same in C for
the functions that kernels call. docs/numerics.md, "Softmax", is normative.
"""

from __future__ import annotations

import math

import numpy as np

from tinygen.fixedpoint import (
    INT32_MAX,
    INT32_MIN,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from tinygen.graph import Array

_high_mul = saturating_rounding_doubling_high_mul

EXP_INTEGER_BITS = 5
EXP_FRACTION_BITS = 31 - EXP_INTEGER_BITS
"""The exponent's format is Q5: it reaches -32."""


def _q(value: float, integer_bits: int = 0) -> int:
    """The raw value nearest to a real number."""
    return min(math.floor(math.ldexp(value, 31 - integer_bits) + 0.5), INT32_MAX)


EXP_MINUS_EIGHTH = _q(math.exp(-1 / 8))
ONE_THIRD = _q(1 / 3)
FORTY_EIGHT_17THS = _q(48 / 17, 2)
MINUS_32_17THS = _q(-32 / 17, 2)


def shift_left_saturating(x: Array, bits: int) -> Array:
    """x * 2**bits, limited to int32."""
    return np.asarray(np.clip(x << bits, INT32_MIN, INT32_MAX))


def _exp_of_last_quarter(x: Array) -> Array:
    """exp of a Q0 value in [-1/4, 0): Taylor's series of degree 4 around -1/8; result Q0."""
    x = x + (1 << 28)
    x2 = _high_mul(x, x)
    x3 = _high_mul(x2, x)
    x4_over_4 = rounding_divide_by_pot(_high_mul(x2, x2), 2)
    higher = rounding_divide_by_pot(_high_mul(x4_over_4 + x3, ONE_THIRD) + x2, 1)
    return EXP_MINUS_EIGHTH + _high_mul(x + higher, EXP_MINUS_EIGHTH)


def exp_of_negative(x: Array) -> Array:
    """exp of x <= 0 in Q5; result Q0.

    x is split into a last quarter in [-1/4, 0) and a multiple of 1/4, whose binary digits select factors
    exp(-2**k), k = -2 ... 4.
    """
    quarter = 1 << (EXP_FRACTION_BITS - 2)
    last = (x & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(last << EXP_INTEGER_BITS)
    remainder = last - x
    for power in range(-2, EXP_INTEGER_BITS):
        factor = _q(math.exp(-(2.0**power)))
        chosen = (remainder >> (EXP_FRACTION_BITS + power)) & 1
        result = np.where(chosen == 1, _high_mul(result, factor), result)
    return np.where(x == 0, INT32_MAX, result)


def one_over_one_plus(x: Array) -> Array:
    """1 / (1 + x) of a Q0 value in [0, 1); result Q0.

    Three Newton steps on half the denominator d, in Q2, from 48/17 - 32/17 d.
    """
    half_denominator = (x + INT32_MAX + 1) >> 1
    inverse = FORTY_EIGHT_17THS + _high_mul(half_denominator, MINUS_32_17THS)
    for _ in range(3):
        error = (1 << 29) - _high_mul(half_denominator, inverse)
        inverse = inverse + shift_left_saturating(_high_mul(inverse, error), 2)
    return shift_left_saturating(inverse, 1)


def leading_zeros(x: Array) -> Array:
    """Zero bits above the highest one of 0 < x < 2**32."""
    return 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)


def input_radius(left_shift: int) -> int:
    """The greatest difference of int8 inputs that, times a multiplier * 2**left_shift, fits the exponent."""
    largest = ((1 << EXP_INTEGER_BITS) - 1) * 2.0**EXP_FRACTION_BITS / 2.0**left_shift
    return math.floor(largest)
