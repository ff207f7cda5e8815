"""TFLite's own activation operators: their options, and what LiteRT computes, as 256-entry tables.

Needed for imported files, and to see at export whether an operator of TFLite is the correctly rounded one.
The ReLU family and HARD_SWISH are fixed-point arithmetic on int8; the others are tables that LiteRT fills in
float32. docs/numerics.md, "Tables", gives the formulae. Tables take the parameters of the function in
functions.FUNCTIONS and the QParams of input and output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from tinygen.fixedpoint import (
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
)
from tinygen.graph import Array, QParams
from tinygen.ops.base import clamp_bounds, clamp_fits_int32
from tinygen.ops.functions import FUNCTIONS
from tinygen.ops.table import distance_to_tie, exact_table

Parameters = tuple[float, ...]
Table = Callable[[Parameters, QParams, QParams], Array]

LARGEST_FACTOR = 2.0**20
"""Keeps products of 9-bit inputs within int32."""

SAFE_DISTANCE = 2.0**-13
"""Output steps. A quotient up to 128 that went through some float32 roundings is at most 2**-14 steps off,
whatever C library computed it: a table further from every rounding tie is the same everywhere."""


def _centred(x: QParams) -> Array:
    """All 256 inputs minus their zero_point."""
    return np.arange(-128, 128, dtype=np.int64) - x.zero_point[0]


def _int8(values: Array, zero_point: int, low: int = -128, high: int = 127) -> Array:
    return np.asarray(np.clip(values + zero_point, low, high).astype(np.int8))


# ---- fixed point


def _quotient(first: float, second: float, divisor: float) -> float:
    """first * second / divisor in float32; 512 and more saturates every input but 0, so it is limited."""
    with np.errstate(over="ignore", under="ignore"):
        return min(float(np.float32(first) * np.float32(second) / np.float32(divisor)), LARGEST_FACTOR)


def _requantized(centred: Array, factor: float) -> Array:
    return multiply_by_quantized_multiplier(centred, *quantize_multiplier(factor))


def clamped(name: str) -> Table:
    """RELU and its like: requantization, then the clamp of the fused activation `name`."""

    def table(parameters: Parameters, x: QParams, y: QParams) -> Array:
        ratio = _quotient(x.scale[0], 1.0, y.scale[0])
        return _int8(_requantized(_centred(x), ratio), y.zero_point[0], *clamp_bounds(name, y))

    return table


def leaky_relu(parameters: Parameters, x: QParams, y: QParams) -> Array:
    """LEAKY_RELU: one requantization for positive inputs, one with alpha for negative ones."""
    centred = _centred(x)
    above = _requantized(centred, _quotient(x.scale[0], 1.0, y.scale[0]))
    below = _requantized(centred, _quotient(x.scale[0], parameters[0], y.scale[0]))
    return _int8(np.where(centred >= 0, above, below), y.zero_point[0])


def _high_mul_16(a: Array, b: int) -> Array:
    """round(a * b / 2**15) of int16 values."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return np.where(nudged >= 0, nudged >> 15, -((-nudged) >> 15))


def _saturate_16(x: Array) -> Array:
    return np.clip(x, -(1 << 15), (1 << 15) - 1)


def _multiplier_16(real: float) -> tuple[int, int]:
    """quantize_multiplier with a multiplier of 16 bits."""
    multiplier, shift = quantize_multiplier(real)
    return min((multiplier + (1 << 15)) >> 16, (1 << 15) - 1), shift


def hard_swish(parameters: Parameters, x: QParams, y: QParams) -> Array:
    """HARD_SWISH in 16-bit fixed point: the input with 7 more bits times relu6(x + 3) / 6 in 16 bits."""
    fine_scale = np.float32(x.scale[0]) * np.float32(1 / 128)
    multiplier, shift = _multiplier_16(float(fine_scale / np.float32(y.scale[0])))
    gate_multiplier, gate_shift = _multiplier_16(float(fine_scale / np.float32(3 / 32768)))
    fine = _centred(x) << 7
    value = _high_mul_16(fine, multiplier)
    gate = _saturate_16(fine << max(gate_shift - 1, 0))
    gate = _high_mul_16(gate, gate_multiplier)
    gate = _saturate_16(gate << (1 if gate_shift > 0 else 0))
    gate = (rounding_divide_by_pot(gate, max(-gate_shift, 0)) + (1 << 15)) >> 1
    product = gate * value
    preshift = np.where(product >= 0, product >> 15, -((-product) >> 15))
    return _int8(rounding_divide_by_pot(preshift, max(-shift, 0)), y.zero_point[0])


# ---- float32 tables


def _gelu(x: Array, approximate: float) -> Array:
    """x * (0.5 * erfc(-x / sqrt(2))), with both factors rounded to float32; or the approximation by tanh."""
    if approximate:
        return FUNCTIONS["gelu"].real(x, approximate).astype(np.float32)
    share = np.array([0.5 * math.erfc(-v * math.sqrt(0.5)) for v in x.tolist()]).astype(np.float32)
    return x.astype(np.float32) * share


def float_table(function: str) -> Table:
    """LOGISTIC and others: f(scale * (q - zero_point)) * (1 / output scale), each step rounded to float32."""

    def table(parameters: Parameters, x: QParams, y: QParams) -> Array:
        dequantized = np.float32(x.scale[0]) * _centred(x).astype(np.float32)
        evaluate = _gelu if function == "gelu" else FUNCTIONS[function].real
        with np.errstate(over="ignore", under="ignore"):
            value = evaluate(dequantized.astype(np.float64), *parameters).astype(np.float32)
            rescaled = value * (np.float32(1) / np.float32(y.scale[0]))
        rounded = np.trunc(rescaled + np.copysign(np.float32(0.5), rescaled))
        return _int8(np.clip(rounded, -(2.0**30), 2.0**30).astype(np.int64), y.zero_point[0])

    return table


# ---- the operators


@dataclass(frozen=True)
class Builtin:
    """One operator.

    function: in functions.FUNCTIONS. fixed: the only parameters it knows, unless it has options.
    table: None for one that LiteRT fills in float32. options: class of the schema, "" for none.
    write: parameters -> fields of the options. version: of the operator.
    clamp: the fused activation whose bounds LiteRT computes as int32.
    exported: False for EXP, whose float32 table can be further off, and for ELU, which LiteRT's reference
    resolver does not know.
    """

    function: str
    table: Table | None = None
    fixed: Parameters = ()
    options: str = ""
    read: Callable[[Any], Parameters] | None = None
    write: Callable[[Parameters], Mapping[str, Any]] = lambda parameters: {}
    version: int = 2
    exported: bool = True
    clamp: str = "none"

    def fill(self, parameters: Parameters, x: QParams, y: QParams) -> Array:
        """What the operator computes for inputs -128 ... 127."""
        return (self.table or float_table(self.function))(parameters, x, y)

    def parameters(self, options: Callable[[], Any]) -> Parameters:
        """Parameters of the function for an operator of a file."""
        return self.read(options()) if self.read else self.fixed

    def equals(self, function: str, parameters: Parameters, x: QParams, y: QParams) -> bool:
        """True when the operator computes the correctly rounded function for these scales."""
        known = self.parameters(lambda: SimpleNamespace(**self.write(parameters)))
        if function != self.function or parameters != known or not clamp_fits_int32(self.clamp, y):
            return False
        if self.table is None:
            return distance_to_tie(function, parameters, x, y) > SAFE_DISTANCE
        return np.array_equal(self.table(parameters, x, y), exact_table(function, parameters, x, y))


def _relu(limit: float) -> Parameters:
    return 0.0, limit, 0.0


BUILTINS: Mapping[str, Builtin] = MappingProxyType(
    {
        "RELU": Builtin("relu", clamped("relu"), _relu(math.inf)),
        "RELU6": Builtin("relu", clamped("relu6"), _relu(6.0), clamp="relu6"),
        "RELU_0_TO_1": Builtin("relu", clamped("relu_0_to_1"), _relu(1.0), version=1, clamp="relu_0_to_1"),
        "RELU_N1_TO_1": Builtin("hard_tanh", clamped("relu_n1_to_1"), version=1, clamp="relu_n1_to_1"),
        "LEAKY_RELU": Builtin(
            "relu",
            leaky_relu,
            options="LeakyReluOptions",
            read=lambda options: (float(options.alpha), math.inf, 0.0),
            write=lambda parameters: {"alpha": parameters[0]},
        ),
        "HARD_SWISH": Builtin("hard_silu", hard_swish, options="HardSwishOptions", version=1),
        "LOGISTIC": Builtin("sigmoid"),
        "TANH": Builtin("tanh"),
        "GELU": Builtin(
            "gelu",
            options="GeluOptions",
            read=lambda options: (float(bool(options.approximate)),),
            write=lambda parameters: {"approximate": bool(parameters[0])},
        ),
        "ELU": Builtin("elu", fixed=(1.0,), version=1, exported=False),
        "EXP": Builtin("exponential", options="ExpOptions", exported=False),
    }
)
"""BuiltinOperator name -> operator."""

FIXED_OUTPUT: Mapping[str, QParams] = MappingProxyType(
    {"LOGISTIC": QParams.per_tensor(1 / 256, -128), "TANH": QParams.per_tensor(1 / 128, 0)}
)
"""Operators that know only one quantization of their output."""


def equal_builtin(function: str, parameters: Parameters, x: QParams, y: QParams) -> str | None:
    """The name of an operator that computes the correctly rounded function for these QParams, or None."""
    for name, builtin in BUILTINS.items():
        usable = builtin.exported and FIXED_OUTPUT.get(name, y) == y
        if usable and function == builtin.function and builtin.equals(function, parameters, x, y):
            return name
    return None
