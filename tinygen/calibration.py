"""Calibration: run the float graph over representative samples and note what values every activation takes.

Every second sample is held out: choices between ways to quantize are measured on those, with ranges that come
from the others. The ranges that are used in the end come from all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from tinygen import evaluate, ops
from tinygen.errors import DataError, UsageError
from tinygen.graph import Array, Graph
from tinygen.samples import Grid, Samples

BINS = 8192
"""Histogram bins over [-reach, reach]; at least 16 of them per int8 step of the full range."""

HELD_OUT = 2
"""Every second sample is held out."""

RUN_MACS = 2e9
"""Multiply-accumulates that calibration may take before fewer samples than 4,096 are run."""

CHUNK_BYTES = 100_000_000
"""Bytes of activations that one run over a few samples may take."""

Progress = Callable[[int, int], None]
"""(samples done, samples in all) -> None."""


@dataclass(frozen=True)
class Statistics:
    """Observed values of one activation.

    counts: (BINS,) histogram over [-reach, reach], reach a power of two: merging never has to split a bin.
    channels: greatest |value| per index of the last axis.
    """

    low: float
    high: float
    reach: float
    counts: Array
    channels: Array

    @property
    def centers(self) -> Array:
        """Middle of every bin."""
        return (np.arange(BINS) + 0.5) * (2 * self.reach / BINS) - self.reach

    def merged(self, other: Statistics) -> Statistics:
        """Statistics of both sets of values."""
        reach = max(self.reach, other.reach)
        counts = self._widened(reach) + other._widened(reach)
        channels = (
            np.maximum(self.channels, other.channels) if self.channels.shape == other.channels.shape else None
        )
        return Statistics(
            min(self.low, other.low),
            max(self.high, other.high),
            reach,
            counts,
            self.channels if channels is None else channels,
        )

    def _widened(self, reach: float) -> Array:
        counts, width = self.counts, self.reach
        while width < reach:
            quarter = np.zeros(BINS // 4, np.int64)
            counts = np.concatenate([quarter, counts.reshape(-1, 2).sum(axis=1), quarter])
            width *= 2
        return counts


def observe(values: Array) -> Statistics:
    """Statistics of an activation (N, *shape), N >= 1."""
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high), 2.0**-100)
    reach = 2.0 ** math.ceil(math.log2(largest))
    index = (values.reshape(-1) * np.float32(BINS / (2 * reach)) + np.float32(BINS // 2)).astype(np.int32)
    counts = np.bincount(np.minimum(index, BINS - 1), minlength=BINS)
    flat = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)
    return Statistics(low, high, reach, counts, np.maximum(flat.max(axis=0), -flat.min(axis=0)))


@dataclass(frozen=True)
class Calibration:
    """What calibration saw. fitted, held_out: tensor name -> statistics over either part of the samples.

    fit, judge: the inputs of either part, (N, *shape) per graph input; they are the same when there are fewer
    than 8 samples. grids: per graph input, the integer grid that all samples lie on, or None.
    """

    fitted: Mapping[str, Statistics]
    held_out: Mapping[str, Statistics]
    fit: tuple[Array, ...]
    judge: tuple[Array, ...]
    grids: tuple[Grid | None, ...]

    def overall(self, tensor: str) -> Statistics:
        """Statistics over both parts."""
        return self.fitted[tensor].merged(self.held_out[tensor])

    @property
    def count(self) -> int:
        """Samples used."""
        return len(self.fit[0]) + (len(self.judge[0]) if self.judge is not self.fit else 0)


def calibrate(
    graph: Graph, samples: Samples, limit: int | None = None, progress: Progress | None = None
) -> Calibration:
    """Observe every activation over at most `limit` samples (None: default_limit), taken at even distances
    from the whole set.

    Raises DataError when an activation becomes NaN or infinite.
    """
    if limit is None:
        limit = default_limit(graph)
    if limit < 1:
        raise UsageError(f"calibration needs at least 1 sample, not {limit}")
    fit, judge = _split(samples.x, limit)
    whole = len(fit[0]) + len(judge[0])
    fitted = statistics(graph, fit, lambda done: progress(done, whole) if progress else None)
    done_before = len(fit[0])
    held_out = fitted
    if judge is not fit:
        held_out = statistics(
            graph, judge, lambda done: progress(done_before + done, whole) if progress else None
        )
    grids = samples.grids or (None,) * len(graph.inputs)
    return Calibration(MappingProxyType(fitted), MappingProxyType(held_out), fit, judge, grids)


def default_limit(graph: Graph) -> int:
    """Samples that are run when nothing is said: 512, up to 4,096 for small models."""
    macs = ops.macs(graph.bound())
    return int(max(512, min(4096, RUN_MACS / max(macs, 1))))


def recalibrate(graph: Graph, calibration: Calibration) -> Calibration:
    """The same samples through another graph with the same inputs."""
    fitted = statistics(graph, calibration.fit)
    held_out = fitted if calibration.judge is calibration.fit else statistics(graph, calibration.judge)
    return Calibration(
        MappingProxyType(fitted),
        MappingProxyType(held_out),
        calibration.fit,
        calibration.judge,
        calibration.grids,
    )


def _split(x: Sequence[Array], limit: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """(fit, judge) parts of evenly spread samples: sets are often sorted by class or by time."""
    count = len(x[0])
    chosen = np.unique(((np.arange(min(limit, count)) + 0.5) * count / min(limit, count)).astype(np.int64))
    if len(chosen) < 8:
        fit = tuple(a[chosen] for a in x)
        return fit, fit
    held = np.arange(len(chosen)) % HELD_OUT == HELD_OUT - 1
    return tuple(a[chosen[~held]] for a in x), tuple(a[chosen[held]] for a in x)


def activation_bytes(graph: Graph) -> int:
    """Bytes of all activations of one sample, as float32."""
    return sum(4 * t.elements for t in graph.tensors.values() if not t.is_constant)


def statistics(
    graph: Graph, x: Sequence[Array], progress: Callable[[int], None] = lambda done: None
) -> dict[str, Statistics]:
    """Tensor name -> statistics of every activation over the samples x."""
    chunk = max(1, min(32, CHUNK_BYTES // activation_bytes(graph)))
    seen: dict[str, Statistics] = {}

    def visit(name: str, values: Array) -> None:
        if not np.isfinite(values.sum(dtype=np.float64)):
            raise DataError(
                f"'{name}' becomes NaN or infinite on the representative samples\n  check their scaling"
            )
        new = observe(values)
        seen[name] = seen[name].merged(new) if name in seen else new

    for start in range(0, len(x[0]), chunk):
        evaluate.real(graph, [a[start : start + chunk] for a in x], visit)
        progress(min(start + chunk, len(x[0])))
    return seen
