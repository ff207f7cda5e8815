"""Judging pruned models: splits, distances, paired intervals of a drop, sets that are too small."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.test_metrics import model
from tinygen import metrics
from tinygen.errors import DataError
from tinygen.graph import Array
from tinygen.pruning import drops
from tinygen.pruning.judging import FLOOR, check, check_size, make_judge, split
from tinygen.samples import Samples


def labelled(y: Array, groups: Array | None = None) -> Samples:
    """Samples whose only element is their number."""
    count = len(y) if groups is None else len(groups)
    return Samples((np.arange(count, dtype=np.float32)[:, np.newaxis],), y, groups)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=80), st.floats(0.05, 0.6), st.integers(0, 3))
def test_a_split_is_disjoint_complete_repeatable_and_keeps_every_class_share(
    y: list[int], share: float, seed: int
) -> None:
    samples = labelled(np.array(y))
    fit, held = split(samples, share, seed)
    numbers = np.concatenate([fit.x[0], held.x[0]]).ravel()
    assert sorted(numbers) == list(range(len(y))) and fit.count and held.count
    for part in (fit, held):
        assert np.array_equal(part.y, samples.y[part.x[0].ravel().astype(int)])
    again = split(samples, share, seed)
    assert np.array_equal(held.x[0], again[1].x[0]) and np.array_equal(fit.x[0], again[0].x[0])
    for label in set(y):
        wanted = held.count * y.count(label) / len(y)
        assert abs(np.sum(held.y == label) - wanted) <= 1


@given(st.lists(st.integers(0, 6), min_size=4, max_size=60), st.booleans())
def test_groups_are_never_torn_and_are_numbered_anew(raw: list[int], per_group: bool) -> None:
    groups = np.unique(raw, return_inverse=True)[1]
    count = int(groups.max()) + 1
    labels = np.arange(count) % 2
    if count < 2:
        with pytest.raises(DataError, match="only 1 group"):
            split(labelled(labels, groups))
        return
    assume(count < len(raw))  # else labels per group could be meant per sample
    samples = labelled(labels if per_group else labels[groups], groups)
    parts = split(samples)
    seen: list[set[int]] = []
    for part in parts:
        numbers = part.x[0].ravel().astype(int)
        seen.append(set(groups[numbers].tolist()))
        assert part.groups is not None and set(part.groups.tolist()) == set(range(len(seen[-1])))
        assert np.array_equal(metrics.group_labels(part), labels[sorted(seen[-1])])
    assert not seen[0] & seen[1] and seen[0] | seen[1] == set(range(count))


def test_one_sample_cannot_be_split() -> None:
    with pytest.raises(DataError, match="only 1 sample"):
        split(labelled(np.array([1])))


def softmax(logits: Array) -> Array:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_distance_of_probabilities_is_their_divergence_and_zero_means_equal() -> None:
    rng = np.random.default_rng(0)
    graph = model((3, 1), (3,))
    p, q = softmax(rng.normal(size=(50, 3))), softmax(rng.normal(size=(50, 3)))
    samples = Samples((rng.normal(size=(50, 3, 1)).astype(np.float32),), np.arange(50) % 3)
    judge = make_judge(graph, samples, (p,))
    assert judge.kinds == ("softmax",) and judge.metric == "accuracy"
    assert judge.distance((p,)).mean == 0
    each = (p * np.log(p / q)).sum(axis=1)
    got = judge.distance((q,))
    assert got.mean == pytest.approx(each.mean(), rel=0.02)  # a probability below FLOOR counts as FLOOR
    assert got.error == pytest.approx(each.std(ddof=1) / math.sqrt(50), rel=0.05)
    drop = judge.loss((p,))
    assert drop is not None and drop.value == 0 and drop.high == -drop.low == pytest.approx(drops.margin(50))


def test_probabilities_that_int8_cannot_tell_apart_are_equal() -> None:
    p = np.array([[1.0, 0.0], [0.0, 1.0]])
    q = np.array([[1 - FLOOR / 4, FLOOR / 4], [FLOOR / 2, 1 - FLOOR / 2]])
    judge = make_judge(
        model((2, 1), (2,)), Samples((np.zeros((2, 2, 1), np.float32),), np.array([0, 1])), (p,)
    )
    assert judge.distance((q,)).mean < 1e-5


def test_the_distance_of_numbers_is_relative_to_their_variance_and_its_error_counts_groups() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    samples = Samples((x,), np.zeros(60, np.int64), np.repeat(np.arange(6), 10))
    judge = make_judge(model((5,), (5,)), samples, (100.0 * x,))
    assert judge.metric == "mse"  # only normal samples: there is no AUC
    worse = 100.0 * x + rng.normal(size=x.shape) * np.repeat(np.arange(6), 10)[:, np.newaxis]
    got = judge.distance((worse,))
    each = ((worse - 100.0 * x) ** 2).mean(axis=1) / (100.0 * x.astype(np.float64)).var(axis=0).mean()
    means = each.reshape(6, 10).mean(axis=1)
    assert got.mean == pytest.approx(means.mean())
    assert got.error == pytest.approx(means.std(ddof=1) / math.sqrt(6))


def test_regressors_without_targets_have_no_metric() -> None:
    samples = Samples((np.zeros((8, 2, 1), np.float32),))
    judge = make_judge(model((2, 1), (2,)), samples, (np.random.default_rng(0).normal(size=(8, 2)),))
    assert judge.metric is None and judge.loss((np.zeros((8, 2)),)) is None and judge.kinds == ("linear",)
    check(model((2, 1), (2,)), samples)


def test_paired_accuracy_interval_covers_the_true_drop() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        before = rng.random(150) < 0.9
        after = np.where(rng.random(150) < 0.08, rng.random(150) < 0.5, before)
        drop = drops.accuracy_drop(before, after)
        covered += drop.low <= 100 * (0.9 - (0.92 * 0.9 + 0.08 * 0.5)) <= drop.high
    assert 0.92 <= covered / 400 <= 0.99


def test_paired_auc_error_is_that_of_the_bootstrap_and_below_the_unpaired() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], (120, 80))
    before = labels + rng.normal(size=200)
    after = before + 0.4 * rng.normal(size=200)
    differences = []
    for _ in range(400):
        chosen = rng.integers(0, 200, 200)
        if len(np.unique(labels[chosen])) == 2:
            figures = [metrics.auc(s[chosen], labels[chosen]).value for s in (before, after)]
            differences.append(figures[0] - figures[1])
    error = drops.auc_error(before, after, labels)
    assert error == pytest.approx(np.std(differences), rel=0.2)
    single = metrics.auc(before, labels)
    assert error < 0.7 * (single.high - single.low) / (2 * metrics.Z95)


@given(st.floats(0.05, 20))
def test_enough_samples_are_just_enough(points: float) -> None:
    count = drops.enough(points)
    assert drops.margin(count) <= points * (1 + 1e-9)
    assert count == 1 or drops.margin(count - 1) > points * (1 - 1e-9)


def judge_of(count: int) -> object:
    samples = Samples((np.zeros((count, 3, 1), np.float32),), np.arange(count) % 3)
    return make_judge(
        model((3, 1), (3,)), samples, (softmax(np.random.default_rng(0).normal(size=(count, 3))),)
    )


def test_a_set_too_small_for_the_drop_is_refused_with_what_would_do() -> None:
    with pytest.raises(DataError) as raised:
        check_size(judge_of(20), 1.0, 100)  # type: ignore[arg-type]
    text = str(raised.value)
    assert "20 held-out samples (of 100) are too few to judge a drop of 1 points" in text
    assert "one of them is 5.00 points" in text and f"+- {drops.margin(20):.2f}" in text
    assert f"{5 * drops.enough(1.0):,} labelled" in text
    assert "would be sure of 1" in check_size(judge_of(110), 1.0, 550)  # type: ignore[arg-type]
    assert check_size(judge_of(drops.enough(1.0)), 1.0, 1000) == ""  # type: ignore[arg-type]


def test_labels_out_of_range_are_refused_before_work() -> None:
    samples = Samples((np.zeros((3, 3, 1), np.float32),), np.array([0, 1, 3]))
    with pytest.raises(DataError, match=r"label 3 is out of range 0 \.\. 2"):
        check(model((3, 1), (3,)), samples)
