"""Figures and their intervals, against scikit-learn and against simulation; labels that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import metrics
from tinygen.errors import DataError, UsageError
from tinygen.graph import Graph, GraphBuilder
from tinygen.metrics import auc, check_labels, drop, judge, kind_of, reconstruction_error, wilson
from tinygen.ops import reshape
from tinygen.samples import Samples


def model(inputs: tuple[int, ...], output: tuple[int, ...]) -> Graph:
    """A graph with these shapes."""
    b = GraphBuilder("m")
    x = b.input("x", inputs)
    return b.build((b.add("reshape", "y", (x,), reshape.Attrs(output)),))


def samples(count: int, shape: tuple[int, ...], y: object = None, groups: object = None) -> Samples:
    """Samples of zeros with labels."""
    as_array = [None if a is None else np.asarray(a) for a in (y, groups)]
    return Samples((np.zeros((count, *shape), np.float32),), *as_array)


scored = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@given(scored)
def test_auc_is_that_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    from sklearn.metrics import roc_auc_score

    scores, labels = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], int)
    metric = auc(scores, labels)
    assert metric.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert 0 <= metric.low <= metric.value <= metric.high <= 1


def test_delong_interval_covers() -> None:
    """Of 200 draws from two normal distributions about 95 % must cover the true area."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 60)
    truth = 0.7602499389065233  # Phi(1 / sqrt(2))
    covered = 0
    for _ in range(200):
        metric = auc(rng.normal(labels, 1.0), labels)
        covered += metric.low <= truth <= metric.high
    assert 180 <= covered <= 199


def test_wilson_interval() -> None:
    assert wilson(50, 100) == pytest.approx((0.4038315, 0.5961685), abs=1e-6)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)
    assert wilson(10, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)


def test_mse_interval_is_repeatable_and_covers_the_mean() -> None:
    rng = np.random.default_rng(1)
    output = rng.normal(size=(300, 4))
    first, second = (metrics.mse(output, np.zeros((300, 4))) for _ in range(2))
    assert first == second and first.low < 1.0 < first.high
    assert first.value == pytest.approx(float(np.mean(output**2)))


def test_reconstruction_error_is_averaged_over_groups() -> None:
    x, output = np.zeros((4, 2)), np.array([[1, 1], [3, 3], [0, 0], [2, 0]])
    assert reconstruction_error(x, output).tolist() == [1, 9, 0, 2]
    assert reconstruction_error(x, output, np.array([0, 0, 1, 1])).tolist() == [5, 1]


# ---- which metric


def test_metric_follows_labels_and_shapes() -> None:
    classifier, encoder = model((6,), (2, 3)), model((6,), (6,))
    assert kind_of(classifier, samples(3, (6,), [0, 1, 2])) == "accuracy"
    assert kind_of(encoder, samples(3, (6,), [0, 1, 1])) == "auc"
    assert kind_of(encoder, samples(3, (6,))) == "mse"
    assert kind_of(classifier, samples(3, (6,), np.full((3, 2, 3), 0.5))) == "mse"
    assert kind_of(model((6,), (3, 2)), samples(2, (6,), [[[1, 0]] * 3] * 2)) == "mse"


def test_accuracy_from_indices_one_hot_rows_and_one_output() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6]])
    graph = model((3,), (3,))
    for y in ([1, 0, 0], [[1], [0], [0]], np.eye(3)[[1, 0, 0]]):
        metric = judge(graph, samples(3, (3,), y), (scores,), "accuracy")
        assert metric.value == pytest.approx(2 / 3) and metric.count == 3
    single = judge(
        model((1,), (1,)), samples(3, (1,), [1, 0, 0]), (np.array([[0.9], [0.2], [0.6]]),), "accuracy"
    )
    assert single.value == pytest.approx(2 / 3)


def test_auc_over_groups_with_labels_per_group_or_per_sample() -> None:
    graph, groups = model((2,), (2,)), [0, 0, 1, 1]
    outputs = (np.array([[0.0, 0], [1, 0], [3, 3], [2, 1]]),)
    for y in ([0, 1], [0, 0, 1, 1]):
        assert judge(graph, samples(4, (2,), y, groups), outputs).value == 1.0
    with pytest.raises(DataError, match="differ within a group"):
        judge(graph, samples(4, (2,), [0, 1, 1, 1], groups), outputs)


def test_targets_shaped_like_the_output() -> None:
    metric = judge(model((2,), (2,)), samples(2, (2,), [[1.0, 0.0], [0.0, 2.0]]), (np.zeros((2, 2)),))
    assert metric.kind == "mse" and metric.value == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("shapes", "y", "kind", "part"),
    [
        (((3,), (3, 1)), [0, 3], "accuracy", "label 3 is out of range 0 .. 2"),
        (((3,), (3, 1)), [-1, 0], "accuracy", "label -1"),
        (((3,), (3, 1)), [0.5, 1], "accuracy", "whole number"),
        (((3,), (3, 1)), None, "accuracy", "labels are missing"),
        (((3,), (3, 1)), None, "mse", "targets are missing"),
        (((3,), (3, 1)), [1.0, 2.0], "mse", "shape"),
        (((3,), (3, 1)), [0, 1], "auc", "autoencoder"),
        (((3,), (3,)), [0, 0], "auc", "needs both"),
        (((3,), (3,)), [0, 2], "auc", "label 2"),
        (((3,), (3,)), [0.25, 1], "auc", "whole numbers"),
    ],
)
def test_labels_that_do_not_fit(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], y: object, kind: metrics.Kind, part: str
) -> None:
    with pytest.raises(DataError, match=part) as caught:
        check_labels(model(*shapes), samples(2, shapes[0], y), kind)
    assert len(str(caught.value).splitlines()) <= 5


def test_unknown_metric() -> None:
    with pytest.raises(UsageError, match="accuracy, auc, mse"):
        check_labels(model((3,), (3,)), samples(2, (3,)), "f1")  # type: ignore[arg-type]


def test_a_drop_as_large_as_allowed_is_allowed() -> None:
    """In floating point, 90 % less 87 % is a little more than 3 points."""
    lost = 100 * (0.90 - 0.87)
    assert lost > 3 and metrics.allowed(lost, 3)
    assert not metrics.allowed(3.001, 3) and metrics.allowed(-1.0, 0.0)


def test_drop_is_positive_when_int8_is_worse() -> None:
    better, worse = (metrics.Metric("accuracy", v, 0, 1, 100) for v in (0.9, 0.88))
    assert drop(better, worse) == pytest.approx(2.0) and drop(worse, better) == pytest.approx(-2.0)
    assert drop(metrics.Metric("mse", 2.0, 0, 9, 9), metrics.Metric("mse", 2.5, 0, 9, 9)) == pytest.approx(
        25.0
    )
    assert str(better) == "90.00 % (0.00 .. 100.00, n = 100)"
    assert str(metrics.Metric("auc", 0.88123, 0.8, 0.95, 248)) == "0.8812 (0.8 .. 0.95, n = 248)"
