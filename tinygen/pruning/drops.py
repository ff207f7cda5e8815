"""What a model loses against another on the same samples, with 95 % intervals of the paired difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinygen import metrics
from tinygen.graph import Array, Graph
from tinygen.metrics import Z95, Kind
from tinygen.samples import Samples


@dataclass(frozen=True)
class Drop:
    """What a model loses, as --max-drop counts: points (of 100) of accuracy or AUC, percent more mse.

    low, high: 95 % interval of the difference on the same samples. count: judged samples or groups.
    """

    kind: Kind
    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        unit = "%" if self.kind == "mse" else "points"
        return f"{self.value:.2f} {unit} ({self.low:.2f} .. {self.high:.2f}, n = {self.count:,})"


def paired(
    graph: Graph, samples: Samples, kind: Kind, before: Sequence[Array], after: Sequence[Array]
) -> Drop:
    """The drop between two models' real outputs, each (N, *shape), on the same labelled samples."""
    if kind == "accuracy":
        labels = metrics.index_labels(samples)
        right = [metrics.predictions(o[0].reshape(len(labels), -1)) == labels for o in (before, after)]
        return accuracy_drop(*right)
    if kind == "mse":
        return _mse_drop(samples, before[0], after[0])
    figures = [metrics.judge(graph, samples, o, kind) for o in (before, after)]
    scores = [metrics.reconstruction_error(samples.x[0], o[0], samples.groups) for o in (before, after)]
    half = 100 * Z95 * auc_error(scores[0], scores[1], metrics.group_labels(samples))
    value = metrics.drop(*figures)
    return Drop(kind, value, value - half, value + half, figures[0].count)


def accuracy_drop(before: Array, after: Array) -> Drop:
    """Points lost, of which samples (N,) bool are right before and after.

    Interval: Agresti and Min (Statistics in Medicine 24, 2005), half a sample added to each cell of the 2 x 2 table.
    """
    count = len(before)
    worse, better = int(np.sum(before & ~after)), int(np.sum(~before & after))
    center = (worse - better) / (count + 2)
    half = Z95 * math.sqrt(max((worse + better + 1) - (worse - better) ** 2 / (count + 2), 0)) / (count + 2)
    value = 100 * (worse - better) / count
    low, high = 100 * (center - half), 100 * (center + half)
    return Drop("accuracy", value, min(low, value), max(high, value), count)


def auc_error(before: Array, after: Array, labels: Array) -> float:
    """Standard error of the difference of two AUCs of scores (N,) on the same samples: DeLong's, paired."""
    one, two = (metrics.placements(scores, labels) for scores in (before, after))
    variance = sum(
        float(np.var(a - b, ddof=1) / len(a)) if len(a) > 1 else 0.25 for a, b in zip(one, two, strict=True)
    )
    return math.sqrt(variance)


def _mse_drop(samples: Samples, before: Array, after: Array) -> Drop:
    """Percent more squared error; interval by bootstrap over samples or groups."""
    target = samples.x[0] if samples.y is None else np.reshape(samples.y, before.shape)
    errors = [metrics.reconstruction_error(target, output, samples.groups) for output in (before, after)]
    scale = 100 / max(float(errors[0].mean()), 1e-30)
    low, high = metrics.bootstrap(errors[1] - errors[0])
    value = float((errors[1] - errors[0]).mean())
    return Drop("mse", scale * value, scale * low, scale * high, len(errors[0]))


def margin(count: int) -> float:
    """Half the interval (points) of accuracy_drop when no answer changed, on `count` samples."""
    return 100 * Z95 / (count + 2)


def enough(points: float) -> int:
    """The fewest samples whose margin is at most this many points."""
    return max(1, math.ceil(100 * Z95 / points - 2))
