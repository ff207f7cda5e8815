"""What every channel does on samples, per operating condition: means, variances, zeros, ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.graph import Array, Graph
from tinygen.ops.tensors import tensorflow
from tinygen.qat import network
from tinygen.samples import Samples

MOST_CONDITIONS = 16
MOST_SAMPLES = 2048
"""Evenly spaced ones of more samples are looked at."""
BATCH = 32


@dataclass(frozen=True)
class ChannelStatistics:
    """One activation tensor with C channels.

    image: mean of every element over the samples, the tensor's shape. mean, low, high: (C,) over samples and
    positions. variance, zeros, peak: (conditions, C): mean square distance from the mean *of all samples* (what is
    left when that mean is folded), share of exact zeros, max |value|.
    """

    image: Array
    mean: Array
    low: Array
    high: Array
    variance: Array
    zeros: Array
    peak: Array

    @property
    def left(self) -> Array:
        """(C,) energy that folding the mean leaves, in the condition where it is most."""
        return np.asarray(self.variance.max(axis=0))

    @property
    def quiet(self) -> Array:
        """(C,) max |value| relative to the tensor's, in the condition where it is most."""
        return np.asarray(self.peak.max(axis=0) / max(float(self.peak.max()), 1e-30))


Statistics = Mapping[str, ChannelStatistics]
"""Tensor name -> what its channels do."""


def conditions_of(samples: Samples) -> Array:
    """(N,) operating condition of each sample: its class where labels are classes, else its recording, else 0.

    At most MOST_CONDITIONS: recordings are then joined to neighbours.
    """
    y, groups = samples.y, samples.groups
    if y is not None and groups is not None and len(y) != samples.count:
        y = y[groups]
    if y is not None and len(y) == samples.count and y.size == len(y) and np.all(y == np.round(y)):
        _, found = np.unique(y.reshape(-1), return_inverse=True)
        if 1 < found.max() + 1 <= MOST_CONDITIONS:
            return np.asarray(found, np.int64)
    if groups is not None:
        _, found = np.unique(groups, return_inverse=True)
        return np.asarray(found * MOST_CONDITIONS // max(int(found.max()) + 1, MOST_CONDITIONS), np.int64)
    return np.zeros(samples.count, np.int64)


def spread(count: int, most: int) -> Array:
    """At most `most` evenly spaced of `count` indices."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def statistics(
    graph: Graph, samples: Samples, conditions: Array | None = None, most: int = MOST_SAMPLES
) -> Statistics:
    """Of all activations of a float graph. conditions: (N,) from 0, by default conditions_of(samples)."""
    tf = tensorflow()
    chosen = spread(samples.count, most)
    condition = (conditions_of(samples) if conditions is None else conditions)[chosen]
    names = [name for name, t in graph.tensors.items() if t.shape and not t.is_constant]
    step = tf.function(lambda xs: _step(graph, names, xs), reduce_retracing=True, autograph=False)
    sums: dict[str, Array] = {}
    rows: dict[str, list[Array]] = {name: [] for name in names}
    for start in range(0, len(chosen), BATCH):
        part = chosen[start : start + BATCH]
        for name, (image, row) in step([tf.constant(x[part], tf.float32) for x in samples.x]).items():
            sums[name] = sums.get(name, 0.0) + image.numpy()
            rows[name].append(row.numpy())
    return {
        name: _joined(sums[name] / len(chosen), np.concatenate(rows[name], axis=1), condition)
        for name in names
    }


def _step(graph: Graph, names: list[str], xs: Any) -> dict[str, Any]:
    """Per tensor: sum over the batch, and (6, N, C) mean, variance, zeros, low, high, peak of each sample."""
    tf = tensorflow()
    constants = {name: tf.constant(values) for name, values in network.constants_of(graph).items()}
    state = network.real(graph, xs, constants)
    found = {}
    for name in names:
        values = state[name]
        flat = tf.reshape(values, (tf.shape(values)[0], -1, values.shape[-1]))
        mean, variance = tf.nn.moments(flat, axes=[1])
        zeros = tf.reduce_mean(tf.cast(flat == 0, tf.float32), axis=1)
        low, high = tf.reduce_min(flat, axis=1), tf.reduce_max(flat, axis=1)
        rows = tf.stack([mean, variance, zeros, low, high, tf.maximum(-low, high)])
        found[name] = (tf.reduce_sum(tf.cast(values, tf.float64), axis=0), rows)
    return found


def _joined(image: Array, rows: Array, condition: Array) -> ChannelStatistics:
    means, variances, zeros, lows, highs, peaks = rows.astype(np.float64)
    mean = means.mean(axis=0)
    energy = variances + (means - mean) ** 2
    own = [condition == c for c in np.unique(condition)]
    return ChannelStatistics(
        image,
        mean,
        lows.min(axis=0),
        highs.max(axis=0),
        np.stack([energy[c].mean(axis=0) for c in own]),
        np.stack([zeros[c].mean(axis=0) for c in own]),
        np.stack([peaks[c].max(axis=0) for c in own]),
    )
