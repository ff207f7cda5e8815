"""Real functions of one variable that the operator `activation` tabulates.

Each is written twice: `real` in numpy floating point, for calibration; `exact` in rational arithmetic, for
the int8 table. Rational functions are exact. Transcendental ones come from `exponential`, `logarithm` and
`erf` below, whose results differ from the true value by less than 1e-50 of it, far less than the distance
between any value that a table meets and a rounding tie (docs/numerics.md, "Tables"). Formulae as in Keras 3.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np

from tinygen.graph import Array

DIGITS = 60
_CONTEXT = decimal.Context(prec=DIGITS, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
_FAR = 1000  # exp(+-1000) lies beyond every float32 scale: int8 has saturated or rounded to 0 long before
_PI = Fraction("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803")
HALF = Fraction(1, 2)
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@dataclass(frozen=True)
class Function:
    """parameters: name -> default, in the order that `real` and `exact` take them behind x."""

    parameters: Mapping[str, float]
    real: Callable[..., Array]
    exact: Callable[..., Fraction]
    summary: str


# ---- elementary functions in rational arithmetic


def _decimal(x: Fraction) -> decimal.Decimal:
    return _CONTEXT.divide(decimal.Decimal(x.numerator), decimal.Decimal(x.denominator))


def exponential(x: Fraction) -> Fraction:
    """e**x; x beyond +-1000 counts as +-1000."""
    near = min(max(x, Fraction(-_FAR)), Fraction(_FAR))
    return Fraction(_CONTEXT.exp(_decimal(near)))


def logarithm(x: Fraction) -> Fraction:
    """Natural logarithm of x > 0."""
    return Fraction(_CONTEXT.ln(_decimal(x)))


def square_root(x: Fraction) -> Fraction:
    """Square root of x >= 0; exact where the root is rational."""
    numerator, denominator = math.isqrt(x.numerator), math.isqrt(x.denominator)
    if numerator**2 == x.numerator and denominator**2 == x.denominator:
        return Fraction(numerator, denominator)
    return Fraction(_CONTEXT.sqrt(_decimal(x)))


def erf(x: Fraction) -> Fraction:
    """Error function: 2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n+1) / (1 * 3 ... (2n+1)); +-1 beyond 12."""
    if abs(x) > 12:
        return Fraction(1 if x > 0 else -1)
    z = _decimal(x)
    doubled_square = _CONTEXT.multiply(decimal.Decimal(2), _CONTEXT.multiply(z, z))
    total, term, odd = z, z, 1
    while term and abs(term) > abs(total) * decimal.Decimal(10) ** -DIGITS:
        odd += 2
        term = _CONTEXT.divide(_CONTEXT.multiply(term, doubled_square), decimal.Decimal(odd))
        total = _CONTEXT.add(total, term)
    return 2 / square_root(_PI) * exponential(-x * x) * Fraction(total)


def sigmoid(x: Fraction) -> Fraction:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + exponential(-x))


def tanh(x: Fraction) -> Fraction:
    """(1 - exp(-2x)) / (1 + exp(-2x))."""
    power = exponential(-2 * x)
    return (1 - power) / (1 + power)


def softplus(x: Fraction) -> Fraction:
    """log(1 + exp(x)), as x + log(1 + exp(-x)) for positive x."""
    return max(x, Fraction(0)) + logarithm(1 + exponential(-abs(x)))


def clip(x: Fraction, low: Any, high: Any) -> Fraction:
    """x limited to [low, high]; the limits may be infinite."""
    return Fraction(min(max(x, low), high))


# ---- the functions, exact


def _relu(x: Fraction, negative_slope: Any, max_value: Any, threshold: Any) -> Fraction:
    if x <= threshold:
        return Fraction(negative_slope * (x - threshold))
    return clip(x, Fraction(0), max_value)


def _elu(x: Fraction, alpha: Fraction) -> Fraction:
    return x if x > 0 else alpha * (exponential(x) - 1)


def _selu(x: Fraction) -> Fraction:
    return Fraction(SELU_SCALE) * _elu(x, Fraction(SELU_ALPHA))


def _celu(x: Fraction, alpha: Fraction) -> Fraction:
    return x if x > 0 else alpha * (exponential(x / alpha) - 1)


def _gelu(x: Fraction, approximate: Fraction) -> Fraction:
    if approximate:
        inner = square_root(2 / _PI) * (x + Fraction(44715, 1_000_000) * x**3)
        return HALF * x * (1 + tanh(inner))
    return HALF * x * (1 + erf(x / square_root(Fraction(2))))


def _hard_sigmoid(x: Fraction) -> Fraction:
    return clip(x + 3, 0, 6) / Fraction(6)


def _soft_shrink(x: Fraction, threshold: Fraction) -> Fraction:
    return max(abs(x) - threshold, Fraction(0)) * (1 if x > 0 else -1)


def _hard_shrink(x: Fraction, threshold: Fraction) -> Fraction:
    return x if abs(x) > threshold else Fraction(0)


def _sparse_plus(x: Fraction) -> Fraction:
    return Fraction(0) if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4


def _squareplus(x: Fraction, b: Fraction) -> Fraction:
    return (x + square_root(x * x + b)) / 2


# ---- the functions, in floating point


def _real_sigmoid(x: Array) -> Array:
    power = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + power), power / (1 + power)))


def _real_softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _real_relu(x: Array, negative_slope: float, max_value: float, threshold: float) -> Array:
    return np.where(x <= threshold, negative_slope * (x - threshold), np.clip(x, 0, max_value))


def _real_elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _real_celu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _real_gelu(x: Array, approximate: float) -> Array:
    if approximate:
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    erfs = np.asarray(np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)))
    return np.asarray(0.5 * x * (1 + erfs.astype(x.dtype)))


def _real_hard_sigmoid(x: Array) -> Array:
    return np.asarray(np.clip(x + 3, 0, 6) / 6)


def _real_sparse_plus(x: Array) -> Array:
    return np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4))


_RELU = {"negative_slope": 0.0, "max_value": math.inf, "threshold": 0.0}
_SHRINK = {"threshold": 0.5}
_ALPHA = {"alpha": 1.0}

FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "relu": Function(
            _RELU,
            _real_relu,
            _relu,
            "min(x, max_value) above threshold, negative_slope * (x - threshold) below",
        ),
        "elu": Function(_ALPHA, _real_elu, _elu, "x above 0, alpha * (exp(x) - 1) below"),
        "selu": Function(
            {},
            lambda x: SELU_SCALE * _real_elu(x, SELU_ALPHA),
            _selu,
            "1.0507 * elu(x, 1.6733)",
        ),
        "celu": Function(_ALPHA, _real_celu, _celu, "x above 0, alpha * (exp(x / alpha) - 1) below"),
        "gelu": Function(
            {"approximate": 0.0},
            _real_gelu,
            _gelu,
            "0.5 * x * (1 + erf(x / sqrt(2))), or its tanh approximation",
        ),
        "silu": Function({}, lambda x: x * _real_sigmoid(x), lambda x: x * sigmoid(x), "x * sigmoid(x)"),
        "sigmoid": Function({}, _real_sigmoid, sigmoid, "1 / (1 + exp(-x))"),
        "tanh": Function({}, np.tanh, tanh, "tanh(x)"),
        "softplus": Function({}, _real_softplus, softplus, "log(1 + exp(x))"),
        "softsign": Function({}, lambda x: x / (1 + np.abs(x)), lambda x: x / (1 + abs(x)), "x / (1 + |x|)"),
        "exponential": Function({}, np.exp, exponential, "exp(x)"),
        "log_sigmoid": Function(
            {}, lambda x: -_real_softplus(-x), lambda x: -softplus(-x), "log(sigmoid(x))"
        ),
        "mish": Function(
            {},
            lambda x: x * np.tanh(_real_softplus(x)),
            lambda x: x * tanh(softplus(x)),
            "x * tanh(softplus(x))",
        ),
        "hard_sigmoid": Function({}, _real_hard_sigmoid, _hard_sigmoid, "relu6(x + 3) / 6"),
        "hard_silu": Function(
            {}, lambda x: x * _real_hard_sigmoid(x), lambda x: x * _hard_sigmoid(x), "x * relu6(x + 3) / 6"
        ),
        "hard_tanh": Function(
            {}, lambda x: np.clip(x, -1, 1), lambda x: clip(x, -1, 1), "x limited to [-1, 1]"
        ),
        "hard_shrink": Function(
            _SHRINK,
            lambda x, threshold: np.where(np.abs(x) > threshold, x, 0),
            _hard_shrink,
            "x where |x| > threshold, else 0",
        ),
        "soft_shrink": Function(
            _SHRINK,
            lambda x, threshold: np.sign(x) * np.maximum(np.abs(x) - threshold, 0),
            _soft_shrink,
            "x moved towards 0 by threshold",
        ),
        "tanh_shrink": Function({}, lambda x: x - np.tanh(x), lambda x: x - tanh(x), "x - tanh(x)"),
        "sparse_plus": Function(
            {}, _real_sparse_plus, _sparse_plus, "0 below -1, (x + 1)^2 / 4 up to 1, x above"
        ),
        "sparse_sigmoid": Function(
            {},
            lambda x: np.clip((x + 1) / 2, 0, 1),
            lambda x: clip((x + 1) / 2, 0, 1),
            "(x + 1) / 2 in [0, 1]",
        ),
        "squareplus": Function(
            {"b": 4.0}, lambda x, b: (x + np.sqrt(x * x + b)) / 2, _squareplus, "(x + sqrt(x^2 + b)) / 2"
        ),
        "linear": Function(
            {"factor": 1.0, "offset": 0.0},
            lambda x, factor, offset: x * factor + offset,
            lambda x, factor, offset: x * factor + offset,
            "factor * x + offset",
        ),
    }
)
"""Name -> function: Keras's names where Keras has one."""
