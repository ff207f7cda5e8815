"""Judging candidates of pruning: on held-out samples of the representative set. The evaluation set is not touched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinygen import metrics
from tinygen.errors import DataError
from tinygen.graph import Array, Graph
from tinygen.metrics import Kind, Metric
from tinygen.pruning import drops
from tinygen.pruning.drops import Drop
from tinygen.pruning.heads import Kind as HeadKind
from tinygen.pruning.statistics import spread
from tinygen.samples import Samples

HELD_OUT = 0.2
"""Share of the representative set that judges and never trains."""
FLOOR = 1 / 512
"""Probabilities below half a step of an int8 softmax are equal: so are float and int8 models judged alike."""


# ---- splitting


def split(samples: Samples, share: float = HELD_OUT, seed: int = 1) -> tuple[Samples, Samples]:
    """(to fit, held out), disjoint. By whole groups where there are any; every class in the same share in both.

    Deterministic. Raises DataError when there are fewer than two samples (or groups).
    """
    unit = np.arange(samples.count) if samples.groups is None else samples.groups
    count = int(unit.max()) + 1
    if count < 2:
        what = "sample" if samples.groups is None else "group"
        raise DataError(f"there is only 1 {what}: fine-tuning and judging need different ones\n  give more")
    held = np.zeros(count, bool)
    held[_held_out(_strata(samples, unit, count), share, np.random.default_rng(seed))] = True
    return _part(samples, unit, ~held), _part(samples, unit, held)


def _strata(samples: Samples, unit: Array, count: int) -> Array:
    """(count,) class of each unit, 0 where labels are no classes."""
    y = samples.y
    strata = np.zeros(count, np.int64)
    if y is None:
        return strata
    if y.ndim == 2 and y.shape[1] > 1:
        y = y.argmax(axis=1) if np.all((y == 0) | (y == 1)) else np.zeros(len(y))
    y = y.reshape(len(y), -1)[:, 0]
    if np.any(y != np.round(y)):
        return strata
    if len(y) == count:
        return np.asarray(y, np.int64)
    strata[unit] = y
    return strata


def _held_out(strata: Array, share: float, generator: np.random.Generator) -> Array:
    """Units to hold out: in random order, spread evenly over strata; at least one, and one stays."""
    shuffled = generator.permutation(len(strata))
    ordered = shuffled[np.argsort(strata[shuffled], kind="stable")]
    count = min(max(round(len(strata) * share), 1), len(strata) - 1)
    places = ((np.arange(count) + 0.5) * len(strata) / count).astype(np.int64)
    return np.asarray(ordered[places])


def _part(samples: Samples, unit: Array, chosen: Array) -> Samples:
    """The samples of the chosen units (mask); groups are numbered anew."""
    mask = chosen[unit]
    y = samples.y
    if y is not None and len(y) != samples.count:
        y = y[unit]  # per sample from now on: of few groups, one cannot tell which of the two it is
    groups = None if samples.groups is None else np.unique(samples.groups[mask], return_inverse=True)[1]
    return Samples(tuple(x[mask] for x in samples.x), None if y is None else y[mask], groups, samples.grids)


# ---- distance from the original


@dataclass(frozen=True)
class Distance:
    """Mean distance of outputs from the original's, >= 0, and the standard error of the mean."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} +- {self.error:.2g}"


@dataclass(frozen=True)
class Judge:
    """Held-out samples and the original's outputs for them, each (N, *shape), real.

    kinds: what each output is. metric: None where labels are missing, or no metric can be made of them.
    """

    graph: Graph
    samples: Samples
    original: tuple[Array, ...]
    kinds: tuple[HeadKind, ...]
    metric: Kind | None

    def distance(self, outputs: Sequence[Array]) -> Distance:
        """How far a candidate's real outputs, each (N, *shape), are from the original's: what the search compares.

        Probabilities: KL divergence (nats); numbers: squared error relative to the variance of the
        original's. Outputs add up. The standard error is over groups where there are any.
        """
        triples = zip(self.kinds, self.original, outputs, strict=True)
        values = np.sum([_distances(*triple) for triple in triples], axis=0)
        if self.samples.groups is not None:
            groups = self.samples.groups
            values = np.bincount(groups, values) / np.bincount(groups)
        error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf
        return Distance(float(values.mean()), error)

    def figure(self, outputs: Sequence[Array]) -> Metric | None:
        """The metric on the labels, None without them."""
        return None if self.metric is None else metrics.judge(self.graph, self.samples, outputs, self.metric)

    def loss(self, outputs: Sequence[Array]) -> Drop | None:
        """What a candidate loses against the original on the same samples."""
        if self.metric is None:
            return None
        return drops.paired(self.graph, self.samples, self.metric, self.original, outputs)


def make_judge(graph: Graph, samples: Samples, original: Sequence[Array], kind: Kind | None = None) -> Judge:
    """The judge of models with this graph's inputs and outputs. original: outputs of the model before pruning.

    Raises DataError where labels do not fit the model.
    """
    judged, kind = _judgeable(graph, samples, kind)
    if kind is not None:
        metrics.check_labels(graph, judged, kind)
    return Judge(graph, judged, tuple(original), _kinds(original), kind)


def few(judge: Judge, most: int) -> Judge:
    """The judge of distances on at most `most` of its samples, evenly spaced; it knows no labels."""
    chosen = spread(judge.samples.count, most)
    own = judge.samples.groups
    groups = None if own is None else np.unique(own[chosen], return_inverse=True)[1]
    samples = Samples(tuple(x[chosen] for x in judge.samples.x), None, groups)
    original = tuple(output[chosen] for output in judge.original)
    return replace(judge, samples=samples, original=original, metric=None)


def _judgeable(graph: Graph, samples: Samples, kind: Kind | None) -> tuple[Samples, Kind | None]:
    """What can be judged by labels: None for outputs without targets.

    An autoencoder whose samples are all of one class (normal) has no AUC: its reconstruction error is judged.
    """
    given, kind = kind, kind or metrics.kind_of(graph, samples)
    if given is None and kind == "auc" and len(np.unique(np.asarray(samples.y))) < 2:
        return Samples(samples.x, None, samples.groups, samples.grids), "mse"
    targets = samples.y is not None or graph.output_tensors[0].shape == graph.input_tensors[0].shape
    return samples, None if kind == "mse" and given is None and not targets else kind


def _kinds(outputs: Sequence[Array]) -> tuple[HeadKind, ...]:
    """What outputs are, told by their values."""
    return tuple(_kind(output) for output in outputs)


def _kind(output: Array) -> HeadKind:
    if output.min() < 0 or output.max() > 1 + 1e-5:
        return "linear"
    if output.ndim > 1 and output.shape[-1] > 1:
        return "softmax" if np.allclose(output.sum(axis=-1), 1, atol=1e-3) else "linear"
    return "sigmoid" if output[0].size == 1 else "linear"


def _distances(kind: HeadKind, original: Array, output: Array) -> Array:
    """(N,) distance per sample."""
    p, q = original.astype(np.float64), output.astype(np.float64).reshape(original.shape)
    rows = (len(p), -1)
    if kind == "linear":
        variance = max(float(p.var(axis=0).mean()), 1e-30)
        return np.asarray(((p - q) ** 2).reshape(rows).mean(axis=1) / variance)
    if kind == "sigmoid":
        p, q = np.stack([p, 1 - p], axis=-1), np.stack([q, 1 - q], axis=-1)
    p, q = _floored(p), _floored(q)
    return np.asarray((p * np.log(p / q)).sum(axis=-1).reshape(rows).mean(axis=1))


def _floored(p: Array) -> Array:
    p = np.maximum(p, FLOOR)
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


# ---- refusals


def check(graph: Graph, samples: Samples, kind: Kind | None = None) -> None:
    """Raise DataError where labels of the representative set do not fit the model: before any long work."""
    judged, kind = _judgeable(graph, samples, kind)
    if kind is not None:
        metrics.check_labels(graph, judged, kind)


def check_size(judge: Judge, max_drop: float, total: int) -> str:
    """A sentence when a drop of max_drop points can be seen, but not be sure, on what was held out of `total`
    samples; "" when it can.

    Raises DataError when not even one sample is as little as max_drop. An mse is judged by its interval alone.
    """
    if judge.metric not in ("accuracy", "auc"):
        return ""
    count = _judging(judge)
    half = drops.margin(count)
    if half <= max_drop:
        return ""
    enough = math.ceil(total * drops.enough(max_drop) / count)
    if 100 / count <= max_drop:
        return (
            f"{count:,} held-out samples judge a drop to +- {half:.2f} points even with no answer changed: about "
            f"{enough:,} representative samples would be sure of {max_drop:g}"
        )
    raise DataError(
        f"{count:,} held-out samples (of {total:,}) are too few to judge a drop of {max_drop:g} points\n"
        f"  one of them is {100 / count:.2f} points; with no answer changed, the 95 % interval is +- {half:.2f}\n"
        f"  give about {enough:,} labelled representative samples, or a larger --max-drop"
    )


def _judging(judge: Judge) -> int:
    """Samples that can turn wrong: of the rarer class, for an AUC."""
    if judge.metric == "auc":
        return int(np.bincount(metrics.group_labels(judge.samples), minlength=2).min())
    return judge.samples.count
