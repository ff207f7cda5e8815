"""256-entry int8 tables of a real function: entry q + 128 is the nearest int8 to the function of input q."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np

from tinygen.graph import Array, QParams
from tinygen.ops.functions import FUNCTIONS


def _rational(parameter: float) -> Fraction | float:
    return parameter if math.isinf(parameter) else Fraction(parameter)


def round_half_away(x: Fraction) -> int:
    """The nearest integer, halves away from zero."""
    magnitude = math.floor(abs(x) + Fraction(1, 2))
    return magnitude if x >= 0 else -magnitude


def real_quotients(function: str, parameters: tuple[float, ...], x: QParams, y: QParams) -> list[Fraction]:
    """f(real value of q) / output scale for q = -128 ... 127, exact to more than 40 digits."""
    scale, zero_point = Fraction(x.scale[0]), x.zero_point[0]
    arguments = [_rational(p) for p in parameters]
    exact = FUNCTIONS[function].exact
    return [exact(scale * (q - zero_point), *arguments) / Fraction(y.scale[0]) for q in range(-128, 128)]


@lru_cache(maxsize=256)
def exact_table(function: str, parameters: tuple[float, ...], x: QParams, y: QParams) -> Array:
    """clamp(zero_point + round(f(x) / scale)) for the inputs -128 ... 127: int8, shape (256,)."""
    rounded = [round_half_away(v) for v in real_quotients(function, parameters, x, y)]
    zero_point = y.zero_point[0]
    entries = np.array([min(max(r + zero_point, -128), 127) for r in rounded], np.int8)
    entries.flags.writeable = False
    return entries


def distance_to_tie(function: str, parameters: tuple[float, ...], x: QParams, y: QParams) -> float:
    """Output steps from the nearest rounding tie to the nearest value of the table that does not saturate."""
    zero_point = y.zero_point[0]
    inside = [v for v in real_quotients(function, parameters, x, y) if -129 < v + zero_point < 128]
    ties = (abs(v - math.floor(v) - Fraction(1, 2)) for v in inside)
    return float(min(ties, default=Fraction(1, 2)))


def look_up(table: Array, x: Array) -> Array:
    """table[x + 128] for int8 x of any shape."""
    looked_up: Array = table[x.astype(np.int64) + 128]
    return looked_up
