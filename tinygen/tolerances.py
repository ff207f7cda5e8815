"""How near an output must be: int8 equal, float32 as docs/numerics.md, "float32", says. For all who compare."""

from __future__ import annotations

import numpy as np

from tinygen.graph import Array

FLOAT_TOLERANCE = 1e-4
"""Of the largest element that a float32 output must have in any sample: how far every element may be off."""


def tolerance(expected: Array) -> float:
    """How far an element of a float32 output may be off. expected: that output of all samples; finite ones count."""
    finite = expected[np.isfinite(expected)]
    return FLOAT_TOLERANCE * float(np.max(np.abs(finite), initial=0.0))


def wrong_elements(got: Array, expected: Array, tolerance: float | None) -> Array:
    """Flat indices of the elements that are wrong. tolerance None: they must be equal."""
    different = got != expected
    if tolerance is not None:
        with np.errstate(invalid="ignore"):
            near = np.abs(got.astype(np.float64) - expected) <= tolerance
        different &= ~near & ~(np.isnan(got) & np.isnan(expected))
    return np.flatnonzero(different)
