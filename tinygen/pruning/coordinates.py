"""The same model in other numbers, in which it learns faster: optimizers take steps of one size for all weights.

Inputs that are far from 0 or of any unit (decibels, millivolts) make kernels that differ by orders of magnitude, and so
do batch normalizations behind them. While it trains, a model reads standardized inputs, and normalizations whose
statistics are kept are part of the kernels in front. What it computes stays the same but for float rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.graph import Array
from tinygen.pruning import heads

ABSORBING = ("Dense", "Conv1D", "Conv2D")
"""Layers whose kernels end in the axis of their channels: a normalization behind can be part of them."""
LEAST_SPREAD = 1e-3
"""Least standard deviation that a feature is divided by, relative to the largest one."""
LEAST_SCALE = 1e-6
"""Factors of a normalization that are smaller, relative to its largest, are no part of a kernel: it could not be told
what it was."""


@dataclass(frozen=True)
class Inputs:
    """A layer that reads the model's only input. kernel, bias: positions in model.weights. mean, spread: (features,)
    of the inputs."""

    kernel: int
    bias: int
    mean: Array
    spread: Array


@dataclass(frozen=True)
class Absorbed:
    """A normalization that reads one layer. Positions in model.weights: kernel, bias (None without one), and gamma,
    beta, mean, variance. factor: what it multiplies by; before: gamma, mean
    and variance, (channels,) each."""

    kernel: int
    bias: int | None
    places: tuple[int, int, int, int]
    factor: Array
    before: tuple[Array, Array, Array]
    epsilon: float


@dataclass(frozen=True)
class Coordinates:
    """How a model's weights become those it trains with, and back; both in the order of model.weights."""

    inputs: tuple[Inputs, ...] = ()
    absorbed: tuple[Absorbed, ...] = ()

    def there(self, weights: Sequence[Array]) -> list[Array]:
        """What it trains with."""
        found = [np.array(w, np.float64) for w in weights]
        for a in self.absorbed:
            gamma, beta, mean, variance = a.places
            found[beta] -= found[mean] * a.factor
            _scale(found, a, a.factor)
            found[gamma][:], found[mean][:], found[variance][:] = np.sqrt(1 + a.epsilon), 0, 1
        for i in self.inputs:
            found[i.bias] += i.mean @ found[i.kernel]
            found[i.kernel] *= i.spread[:, np.newaxis]
        return [w.astype(np.float32) for w in found]

    def back(self, weights: Sequence[Array]) -> list[Array]:
        """The model's own, of what it trains with."""
        found = [np.array(w, np.float64) for w in weights]
        for i in self.inputs:
            found[i.kernel] /= i.spread[:, np.newaxis]
            found[i.bias] -= i.mean @ found[i.kernel]
        for a in self.absorbed:
            gamma, beta, mean, variance = a.places
            _scale(found, a, 1 / a.factor)
            found[gamma], found[mean], found[variance] = (np.array(w, np.float64) for w in a.before)
            found[beta] += found[mean] * a.factor
        return [w.astype(np.float32) for w in found]

    def read(self, batch: Sequence[Any]) -> list[Any]:
        """What the model in training reads, of its inputs (N, *shape) each."""
        if not self.inputs:
            return list(batch)
        first = self.inputs[0]
        return [(batch[0] - first.mean.astype(np.float32)) / first.spread.astype(np.float32)]


def _scale(weights: list[Array], a: Absorbed, factor: Array) -> None:
    weights[a.kernel] *= factor
    if a.bias is not None:
        weights[a.bias] *= factor


def coordinates_of(model: Any, x: Sequence[Array], statistics_kept: bool = True) -> Coordinates:
    """For inputs like x, float32 (N, *shape) each. Where statistics are kept, normalizations become part of kernels;
    their gammas learn no more, beside kernels they would be redundant: they are frozen in this model."""
    places = {id(weight): number for number, weight in enumerate(model.weights)}
    absorbed = []
    for layer in model.layers if statistics_kept else ():
        pair = _normalized(model, layer)
        if pair is not None and (found := _absorbed(layer, pair, places)) is not None:
            absorbed.append(found)
            pair.gamma.trainable = False
    return Coordinates(_inputs(model, x, places), tuple(absorbed))


def _inputs(model: Any, x: Sequence[Array], places: dict[int, int]) -> tuple[Inputs, ...]:
    """None where something else than dense layers with biases reads the input: only they can take the change back."""
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 2:
        return ()
    readers = [
        layer
        for layer in model.layers
        for call in heads.calls_of(model, layer)
        if any(tensor is model.inputs[0] for tensor in call.input_tensors)
    ]
    once = all(
        type(r).__name__ == "Dense" and r.use_bias and len(heads.calls_of(model, r)) == 1 for r in readers
    )
    if not readers or not once or any(output is model.inputs[0] for output in model.outputs):
        return ()
    mean, spread = x[0].mean(axis=0, dtype=np.float64), x[0].std(axis=0, dtype=np.float64)
    spread = np.maximum(spread, LEAST_SPREAD * max(float(spread.max()), 1e-12))
    return tuple(Inputs(places[id(r.kernel)], places[id(r.bias)], mean, spread) for r in readers)


def _normalized(model: Any, layer: Any) -> Any | None:
    """The normalization that alone reads this layer, which is called once and does no more than sums of products."""
    calls = heads.calls_of(model, layer)
    linear = getattr(getattr(layer, "activation", None), "__name__", "") == "linear"
    if type(layer).__name__ not in ABSORBING or not linear or len(calls) != 1:
        return None
    if any(calls[0].outputs[0] is output for output in model.outputs):
        return None
    readers = [
        other
        for other in model.layers
        if any(calls[0].outputs[0] is t for call in heads.calls_of(model, other) for t in call.input_tensors)
    ]
    alone = len(readers) == 1 and type(readers[0]).__name__ == "BatchNormalization"
    own = alone and readers[0].scale and readers[0].center and len(heads.calls_of(model, readers[0])) == 1
    return readers[0] if own and readers[0].axis in (-1, len(calls[0].outputs[0].shape) - 1) else None


def _absorbed(layer: Any, norm: Any, places: dict[int, int]) -> Absorbed | None:
    gamma, mean, variance = (
        np.array(w.numpy(), np.float64) for w in (norm.gamma, norm.moving_mean, norm.moving_variance)
    )
    factor = gamma / np.sqrt(variance + norm.epsilon)
    if np.any(np.abs(factor) < LEAST_SCALE * max(float(np.abs(factor).max()), 1e-12)):
        return None
    variables = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    at = [places[id(w)] for w in variables]
    bias = places[id(layer.bias)] if layer.use_bias else None
    return Absorbed(
        places[id(layer.kernel)],
        bias,
        (at[0], at[1], at[2], at[3]),
        factor,
        (gamma, mean, variance),
        norm.epsilon,
    )
