"""How good outputs are, with 95 % confidence intervals: accuracy, AUC of reconstruction error, mean squared
error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tinygen.errors import DataError, UsageError
from tinygen.graph import Array, Graph
from tinygen.samples import Samples

Kind = Literal["accuracy", "auc", "mse"]
KINDS: tuple[Kind, ...] = ("accuracy", "auc", "mse")
Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""
ROUNDING = 1e-9
"""Points that are floating point's, not the model's."""


@dataclass(frozen=True)
class Metric:
    """One figure with its 95 % interval. count: judged samples (recordings for an AUC over groups).

    accuracy and auc lie in 0 .. 1, more is better; mse is 0 or more, less is better.
    """

    kind: Kind
    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.kind == "accuracy":
            low, high = 100 * self.low, 100 * self.high
            return f"{100 * self.value:.2f} % ({low:.2f} .. {high:.2f}, n = {self.count:,})"
        digits = 4 if self.kind == "auc" else 6
        figures = (f"{figure:.{digits}g}" for figure in (self.value, self.low, self.high))
        return "{} ({} .. {}, n = {:,})".format(*figures, self.count)

    @property
    def short(self) -> str:
        """The figure alone."""
        return f"{100 * self.value:.2f} %" if self.kind == "accuracy" else f"{self.value:.4g}"


def drop(float_metric: Metric, int8_metric: Metric) -> float:
    """What int8 loses, as --max-drop counts: points (of 100) of accuracy or AUC, percent more mse."""
    assert float_metric.kind == int8_metric.kind
    if float_metric.kind == "mse":
        return 100.0 * (int8_metric.value - float_metric.value) / max(float_metric.value, 1e-30)
    return 100.0 * (float_metric.value - int8_metric.value)


def allowed(lost: float, max_drop: float) -> bool:
    """True when a drop keeps within --max-drop: 100 * (0.90 - 0.87) is 3, whatever floating point makes of it."""
    return lost <= max_drop + ROUNDING


# ---- the metric of a model


def kind_of(graph: Graph, samples: Samples) -> Kind:
    """The metric that labels and shapes call for.

    No labels: mse (of the reconstruction, for an autoencoder). Labels 0/1 and an output like the input: auc.
    Whole-number labels otherwise: accuracy. Targets shaped like the output: mse.
    """
    if samples.y is None:
        return "mse"
    output = graph.output_tensors[0].shape
    if (
        output == graph.input_tensors[0].shape
        and samples.y.ndim == 1
        and len(output) > 0
        and math.prod(output) > 1
    ):
        return "auc"
    one_hot = samples.y.ndim == 2 and samples.y.shape[1:] == output and _is_one_hot(samples.y)
    return "accuracy" if one_hot or _is_index(samples.y) else "mse"


def judge(graph: Graph, samples: Samples, outputs: Sequence[Array], kind: Kind | None = None) -> Metric:
    """The metric of a model's real-valued outputs, each (N, *shape); outputs[0] is judged.

    Raises DataError when labels are missing or do not fit the model.
    """
    kind = kind or kind_of(graph, samples)
    check_labels(graph, samples, kind)
    output = outputs[0]
    if kind == "accuracy":
        return accuracy(output.reshape(len(output), -1), index_labels(samples))
    if kind == "mse":
        target = samples.x[0] if samples.y is None else samples.y
        return mse(output, target.reshape(output.shape))
    labels = group_labels(samples)
    return auc(reconstruction_error(samples.x[0], output, samples.groups), labels)


def check_labels(graph: Graph, samples: Samples, kind: Kind | None = None) -> None:
    """Raise DataError unless the samples carry the labels that the metric needs: call it before long work."""
    if kind is not None and kind not in KINDS:
        raise UsageError(f"metric '{kind}' is unknown, there are {', '.join(KINDS)}")
    kind = kind or kind_of(graph, samples)
    output = graph.output_tensors[0]
    if kind == "mse":
        _check_targets(graph, samples)
    elif samples.y is None:
        raise DataError(
            f"labels are missing: metric '{kind}' needs the key 'y'\n  one whole number per sample"
        )
    elif kind == "accuracy":
        _check_range(
            index_labels(samples), max(output.elements, 2), f"the model has {output.elements} outputs"
        )
    else:
        if output.shape != graph.input_tensors[0].shape:
            raise DataError(
                f"the AUC of the reconstruction error needs an autoencoder: output {output.shape} is not "
                f"shaped like input {graph.input_tensors[0].shape}"
            )
        labels = group_labels(samples)
        _check_range(labels, 2, "0 is normal, 1 is an anomaly")
        if len(np.unique(labels)) < 2:
            raise DataError(
                f"all {len(labels):,} labels are {labels[0]}: an AUC needs both 0 (normal) and 1 (anomaly)"
            )


def _check_range(labels: Array, count: int, why: str) -> None:
    if labels.min() < 0 or labels.max() >= count:
        outside = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"label {outside} is out of range 0 .. {count - 1}: {why}\n  correct the key 'y'")


def _check_targets(graph: Graph, samples: Samples) -> None:
    output = graph.output_tensors[0]
    if samples.y is None and output.shape != graph.input_tensors[0].shape:
        raise DataError(
            f"targets are missing: the key 'y' must hold (N, {', '.join(map(str, output.shape))}) numbers"
        )
    if samples.y is not None and samples.y.size != samples.count * output.elements:
        raise DataError(
            f"targets 'y' have shape {samples.y.shape}, the model's output is (N, *{output.shape})"
        )


def _is_index(y: Array) -> bool:
    """True for whole numbers, one per sample."""
    return y.size == len(y) and bool(np.all(y == np.round(y)))


def _is_one_hot(y: Array) -> bool:
    return bool(np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=1) == 1))


def index_labels(samples: Samples) -> Array:
    """Class index per sample, from indices or one-hot rows."""
    y = samples.y
    assert y is not None
    if y.ndim == 2 and y.shape[1] > 1 and _is_one_hot(y):
        return np.asarray(y.argmax(axis=1))
    if len(y) != samples.count or not _is_index(y):
        raise DataError(f"labels 'y' of shape {y.shape} are not one whole number per sample")
    return np.asarray(y.reshape(-1), np.int64)


def group_labels(samples: Samples) -> Array:
    """One label per group; per sample without groups. Samples of one group must agree."""
    assert samples.y is not None
    if not _is_index(samples.y):
        raise DataError("labels 'y' must be whole numbers: 0 normal, 1 anomaly")
    y = samples.y.reshape(-1).astype(np.int64)
    if samples.groups is None:
        return y
    count = int(samples.groups.max()) + 1
    if len(y) == count and count != samples.count:
        return y
    per_group = np.zeros(count, np.int64)
    per_group[samples.groups] = y
    if not np.array_equal(per_group[samples.groups], y):
        raise DataError("labels 'y' differ within a group: all windows of one recording need the same label")
    return per_group


# ---- figures


def accuracy(scores: Array, labels: Array) -> Metric:
    """Share of samples whose greatest score (N, classes) is the label's; one score: label 1 where it is over
    0.5."""
    hits = int(np.sum(predictions(scores) == labels))
    return Metric("accuracy", hits / len(labels), *wilson(hits, len(labels)), len(labels))


def predictions(scores: Array) -> Array:
    """Class per sample of scores (N, classes) or (N, 1); the lowest index wins a tie, as in C."""
    return scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(np.int64)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share."""
    share, z2 = hits / count, Z95**2
    center = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return (0.0 if hits == 0 else center - half), (1.0 if hits == count else center + half)


def reconstruction_error(x: Array, output: Array, groups: Array | None = None) -> Array:
    """Mean squared error per sample, averaged over each group's samples."""
    difference = output.astype(np.float64) - x.astype(np.float64)
    errors = np.mean(difference.reshape(len(x), -1) ** 2, axis=1)
    return errors if groups is None else np.bincount(groups, errors) / np.bincount(groups)


def auc(scores: Array, labels: Array) -> Metric:
    """Area under the ROC curve: how often a positive (label 1) scores above a negative; ties count half.

    Interval: DeLong's variance (Biometrics 44, 1988), cut to 0 .. 1.
    """
    over_negatives, over_positives = placements(scores, labels)
    value = float(over_negatives.mean())
    variance = _variance_of_mean(over_negatives) + _variance_of_mean(over_positives)
    half = Z95 * math.sqrt(variance)
    return Metric("auc", value, max(0.0, value - half), min(1.0, value + half), len(scores))


def placements(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Per positive the share of negatives that it scores above, per negative the share of positives above it; ties
    count half. Both means are the AUC."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    p, n = len(positive), len(negative)
    assert p and n, "an AUC needs both labels"
    over_negatives = (_midranks(np.concatenate([positive, negative]))[:p] - _midranks(positive)) / n
    over_positives = 1.0 - (_midranks(np.concatenate([negative, positive]))[:n] - _midranks(negative)) / p
    return over_negatives, over_positives


def _variance_of_mean(values: Array) -> float:
    return float(np.var(values, ddof=1) / len(values)) if len(values) > 1 else 0.25


def _midranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]


def mse(output: Array, target: Array) -> Metric:
    """Mean squared error over all elements; interval by bootstrap over the samples."""
    errors = np.mean(((output.astype(np.float64) - target) ** 2).reshape(len(output), -1), axis=1)
    low, high = bootstrap(errors)
    return Metric("mse", float(errors.mean()), low, high, len(errors))


def bootstrap(values: Array, rounds: int = 1000) -> tuple[float, float]:
    """95 % percentile interval of the mean of values (N,). The seed is fixed: equal values, equal interval."""
    generator = np.random.default_rng(2718281828)
    means = [float(values[generator.integers(0, len(values), len(values))].mean()) for _ in range(rounds)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
