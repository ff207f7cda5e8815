"""Random weights, extremes among them: dead channels, tiny and huge ones, large biases, odd batch statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.sketch import Sketch


def randomize(s: Sketch, model: Any) -> None:
    """New values for every weight of the model (nested and wrapped layers included)."""
    for variable in model.variables:
        kind = variable.path.split("/")[-1]
        values = _values(s, kind, tuple(variable.shape))
        if values is not None:
            variable.assign(values.astype(np.float32))


def _values(s: Sketch, kind: str, shape: tuple[int, ...]) -> np.ndarray | None:
    if kind in ("kernel", "depthwise_kernel", "pointwise_kernel"):
        return _kernel(s, shape)
    if kind in ("bias", "beta"):
        return s.rng.normal(size=shape) * s.one((0.0, 0.1, 0.1, 1.0, 20.0))
    if kind == "gamma":
        gamma = s.rng.normal(1, 0.5, shape) * s.one((1.0, 1.0, 0.05))
        return np.where(s.rng.random(shape) < 0.1, 0.0, gamma)
    if kind == "moving_mean":
        return s.rng.normal(size=shape) * s.one((0.0, 0.5, 5.0))
    if kind == "moving_variance":
        return 10.0 ** s.rng.uniform(-6, 1, shape) if s.chance(0.3) else s.rng.uniform(0.3, 3, shape)
    if kind == "alpha":
        return s.rng.normal(0.2, 0.3, shape)
    return None


def _kernel(s: Sketch, shape: tuple[int, ...]) -> np.ndarray:
    """Scaled for its fan-in; sometimes with dead channels, channels of very different size, or all zero."""
    fan_in = max(int(np.prod(shape[:-1])), 1)
    kernel = s.rng.normal(size=shape) / np.sqrt(fan_in)
    if s.chance(0.2):
        kernel *= 10.0 ** s.rng.uniform(-3, 1, shape[-1])
    if s.chance(0.2):
        kernel *= s.rng.random(shape[-1]) > 0.3
    return kernel * (0.0 if s.chance(0.02) else 1.0)
