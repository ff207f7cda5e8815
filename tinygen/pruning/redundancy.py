"""Which channels the others can stand in for: those go first whose readers, refitted, miss them least.

Backward elimination, one channel after another, as optimal brain surgery does it (Hassibi and Stork 1993), on what
layers read: readers are linear, so the error that least squares leaves follows from the covariance of their inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.channels import ChannelGroup
from tinygen.graph import Array, Graph
from tinygen.ops.tensors import tensorflow
from tinygen.pruning.readers import Reader, families, readers
from tinygen.pruning.statistics import BATCH, spread
from tinygen.quantized_training import network
from tinygen.samples import Samples

RIDGE = 1e-4
"""Added to the variance of every channel, relative to the mean: readers take no large weights for small gains."""
SAMPLES = 2048
"""Evenly spaced ones of more samples are looked at."""
ORDERED = 1e-12
"""Between the errors of channels that cost nothing: their order is kept."""


@dataclass(frozen=True)
class _Reading:
    """One reader while channels go. inverse: of the covariance of its inputs (C, C); weights: (C, sums); rows: where
    the family's members are among its C inputs, (members,); total: energy of its sums before."""

    inverse: Array
    weights: Array
    rows: Array
    total: float

    def costs(self, left: Array) -> Array:
        """(len(left),) what each member that is left adds to the relative error of the refitted reader."""
        rows = self.rows[left]
        energy = (self.weights[rows] ** 2).sum(axis=1)
        return np.asarray(energy / np.maximum(self.inverse[rows, rows], 1e-30) / self.total)

    def remove(self, member: int) -> None:
        """Refit without this member, in place: its row becomes 0."""
        row = self.rows[member]
        step = self.inverse[:, row] / max(float(self.inverse[row, row]), 1e-30)
        self.weights[...] -= np.outer(step, self.weights[row])
        self.inverse[...] -= np.outer(step, self.inverse[row])


def redundancy(graph: Graph, groups: Sequence[ChannelGroup], samples: Samples, otherwise: Array) -> Array:
    """(groups,) relative error of what reads a group, refitted, when it goes after all that score less in its layer.

    Summed over its readers: 0 .. 1 each. otherwise: (groups,) scores of families that cannot be judged so, because
    nothing reads them, or more than one channel of a reader belongs to a group.
    """
    found = np.array(otherwise, np.float64)
    own = readers(graph, groups)
    names = dict.fromkeys(reader.b.inputs[0].name for reader in own)
    covariances = _covariances(graph, samples, tuple(names))
    for members in families(graph, groups).values():
        index = np.array(members)
        reading = [r for r in own if np.isin(r.owner, index).any()]
        if reading and all(_simple(r, index) for r in reading):
            states = [_reading(graph, r, index, covariances[r.b.inputs[0].name]) for r in reading]
            found[index] = _eliminated(states, len(index))
    return found


def _simple(reader: Reader, members: Array) -> bool:
    """True where each of the members is one channel of what is read."""
    return len(reader.owner) == len(reader.channels) and np.array_equal(
        np.sort(reader.owner[np.isin(reader.owner, members)]), np.sort(members)
    )


def _reading(graph: Graph, reader: Reader, members: Array, covariance: Array) -> _Reading:
    weights = reader.weights.copy()
    factor = _factor(graph, reader)
    if weights.ndim > 1 and weights.shape[1] == len(factor):
        weights *= factor.reshape(-1, *(1,) * (weights.ndim - 2))
    flat = weights.reshape(len(weights), -1)
    size = max(float(np.trace(covariance)) / len(covariance), 1e-30)
    ridged = covariance + RIDGE * size * np.eye(len(covariance))
    rows = np.array([int(np.flatnonzero(reader.owner == member)[0]) for member in members])
    total = max(float(np.sum(flat * (ridged @ flat))), 1e-30)
    return _Reading(np.linalg.inv(ridged), flat, rows, total)


def _factor(graph: Graph, reader: Reader) -> Array:
    """(outputs,) what normalizations behind a reader multiply its sums by: they are no part of its weights."""
    name, factor = reader.b.output.name, np.ones(reader.b.output.shape[-1])
    while len(behind := graph.consumers[name]) == 1 and behind[0].op == "affine":
        scale = graph.bind(behind[0]).inputs[1].data
        if scale is None or scale.size not in (1, len(factor)):
            break
        name, factor = behind[0].output, factor * scale.astype(np.float64).reshape(-1)
    return factor


def _eliminated(states: Sequence[_Reading], count: int) -> Array:
    """(count,) error when each member goes, in the best order."""
    left, errors, error = np.arange(count), np.zeros(count), 0.0
    while len(left):
        costs = np.sum([state.costs(left) for state in states], axis=0)
        best = int(costs.argmin())
        error += max(float(costs[best]), 0.0) + ORDERED
        errors[left[best]] = error
        for state in states:
            state.remove(int(left[best]))
        left = np.delete(left, best)
    return errors


def _covariances(graph: Graph, samples: Samples, names: Sequence[str]) -> dict[str, Array]:
    """(C, C) of the channels of each tensor, over samples and positions."""
    tf = tensorflow()
    chosen = spread(samples.count, SAMPLES)
    constants = {name: tf.constant(values) for name, values in network.constants_of(graph).items()}

    def sums(xs: list[Any]) -> dict[str, tuple[Any, Any, Any]]:
        state = network.real(graph, xs, constants)
        rows = {
            name: tf.cast(tf.reshape(state[name], (-1, state[name].shape[-1])), tf.float64) for name in names
        }
        return {
            n: (tf.shape(r)[0], tf.reduce_sum(r, axis=0), tf.matmul(r, r, transpose_a=True))
            for n, r in rows.items()
        }

    step = tf.function(sums, autograph=False, reduce_retracing=True)
    totals: dict[str, list[Array]] = {}
    for start in range(0, len(chosen), BATCH):
        part = [tf.constant(x[chosen[start : start + BATCH]], tf.float32) for x in samples.x]
        for name, values in step(part).items():
            new = [np.asarray(value, np.float64) for value in values]
            totals[name] = [a + b for a, b in zip(totals[name], new, strict=True)] if name in totals else new
    return {name: squares / n - np.outer(s / n, s / n) for name, (n, s, squares) in totals.items()}
