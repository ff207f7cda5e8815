"""Observation of activations, and what each calibrator makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.calibration import BINS, Statistics, calibrate, default_limit, observe, recalibrate
from tinygen.calibrators import (
    CANDIDATES,
    Range,
    entropy,
    histogram_error,
    mean_squared_error,
    min_max,
    percentile,
)
from tinygen.errors import DataError, UsageError
from tinygen.graph import Graph, GraphBuilder
from tinygen.ops import conv2d, reshape
from tinygen.samples import Samples

RNG = np.random.default_rng(11)


def convolution() -> Graph:
    """Input (4, 4, 2), one convolution to 3 channels with relu."""
    b = GraphBuilder("conv")
    x = b.input("x", (4, 4, 2))
    weights = b.constant("w", np.random.default_rng(1).normal(size=(3, 3, 3, 2)))
    bias = b.constant("b", np.zeros(3, np.float32))
    return b.build((b.add("conv2d", "conv", (x, weights, bias), conv2d.Attrs(activation="relu")),))


def some(count: int, seed: int = 0) -> Samples:
    return Samples((np.random.default_rng(seed).normal(size=(count, 4, 4, 2)).astype(np.float32),))


values = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50)


@given(values, values)
def test_merging_is_observing_both(first: list[float], second: list[float]) -> None:
    a, b = (np.array([v], np.float32) for v in (first, second))
    merged = observe(a.reshape(-1, 1)).merged(observe(b.reshape(-1, 1)))
    whole = observe(np.concatenate([a.reshape(-1, 1), b.reshape(-1, 1)]))
    assert (merged.low, merged.high, merged.reach) == (whole.low, whole.high, whole.reach)
    assert merged.counts.sum() == whole.counts.sum() == len(first) + len(second)
    # A value on the edge of a wide bin may have been counted in the narrow bin next to it.
    assert np.abs(np.cumsum(merged.counts) - np.cumsum(whole.counts)).max() <= len(first) + len(second)
    assert np.allclose(merged.channels, whole.channels)


def test_histogram_counts_values_where_they_are() -> None:
    s = observe(np.array([[-1.0, 0.0, 0.25, 1.0]], np.float32))
    used = np.flatnonzero(s.counts)
    assert s.reach == 1.0 and np.allclose(s.centers[used], [-1, 0, 0.25, 1], atol=2 / BINS)
    assert s.channels.tolist() == [1.0, 0.0, 0.25, 1.0]


def test_calibration_sees_every_activation_and_splits() -> None:
    graph, seen = convolution(), list[tuple[int, int]]()
    calibration = calibrate(graph, some(40), progress=lambda done, whole: seen.append((done, whole)))
    assert set(calibration.fitted) == {"x", "conv"} == set(calibration.held_out)
    assert len(calibration.fit[0]) == len(calibration.judge[0]) == 20 and calibration.count == 40
    assert not np.array_equal(calibration.fit[0], calibration.judge[0])
    assert seen[-1] == (40, 40) and calibration.fitted["conv"].low == 0.0
    overall = calibration.overall("x")
    assert overall.low == some(40).x[0].min() and overall.counts.sum() == some(40).x[0].size


def test_few_samples_judge_themselves() -> None:
    calibration = calibrate(convolution(), some(3))
    assert calibration.judge is calibration.fit and calibration.count == 3
    assert recalibrate(convolution(), calibration).held_out["conv"].high == calibration.fitted["conv"].high


def test_limited_samples_are_spread_over_the_set() -> None:
    x = np.arange(1000, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 4, 2), np.float32)
    calibration = calibrate(convolution(), Samples((x,)), limit=10)
    chosen = sorted([*calibration.fit[0][:, 0, 0, 0], *calibration.judge[0][:, 0, 0, 0]])
    assert chosen == [50 + 100 * i for i in range(10)]
    assert 512 <= default_limit(convolution()) <= 4096
    with pytest.raises(UsageError, match="at least 1"):
        calibrate(convolution(), some(3), limit=0)


def test_activations_that_leave_float32_are_refused() -> None:
    with pytest.raises(DataError, match="'conv' becomes NaN or infinite"), np.errstate(all="ignore"):
        calibrate(convolution(), Samples((np.full((1, 4, 4, 2), 3e38, np.float32),)))


# ---- calibrators


def normal_with_outlier() -> Statistics:
    """100,000 normal values and one at 100."""
    return observe(
        np.append(np.random.default_rng(2).normal(size=100_000), 100.0).astype(np.float32)[:, None]
    )


@pytest.mark.parametrize("name", CANDIDATES)
@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=60), st.floats(0.001, 100))
def test_every_range_holds_zero_and_stays_inside_what_was_seen(
    name: str, raw: list[float], size: float
) -> None:
    s = observe((np.array(raw) * size).astype(np.float32)[:, None])
    r = CANDIDATES[name](s)
    full = min_max(s)
    slack = 1e-6 * s.reach
    assert full.low - slack <= r.low <= 0 <= r.high <= full.high + slack
    q = r.qparams
    assert -128 <= q.zero_point[0] <= 127 and q.dequantize(q.quantize(np.zeros(1)))[0] == 0.0


def test_relu_outputs_start_at_minus_128() -> None:
    for calibrator in CANDIDATES.values():
        q = calibrator(observe(np.abs(RNG.normal(size=(500, 1))).astype(np.float32))).qparams
        assert q.zero_point == (-128,)


def test_outliers_are_cut_by_all_but_min_max() -> None:
    s = normal_with_outlier()
    assert min_max(s).high == 100.0
    assert percentile(99.9)(s).high == pytest.approx(3.3, abs=0.3)
    assert mean_squared_error(s).high < 95 and entropy(s).high <= 35


def test_mean_squared_error_has_the_least_error_of_all() -> None:
    for s in (normal_with_outlier(), observe(RNG.laplace(size=(20_000, 1)).astype(np.float32))):
        errors = {name: histogram_error(c(s), s.centers, s.counts) for name, c in CANDIDATES.items()}
        assert min(errors, key=errors.__getitem__) == "mse"


def test_percentile_cuts_its_share_from_each_end() -> None:
    x = np.linspace(-1, 1, 100_001, dtype=np.float32)[:, None]
    r = percentile(90)(observe(x))
    assert r.low == pytest.approx(-0.9, abs=0.001) and r.high == pytest.approx(0.9, abs=0.001)


@pytest.mark.parametrize("constant", [0.0, 1e-40, -1e-30])
def test_degenerate_ranges(constant: float) -> None:
    for calibrator in CANDIDATES.values():
        q = calibrator(observe(np.full((4, 1), constant, np.float32))).qparams
        assert q.scale[0] > 0 and -128 <= q.zero_point[0] <= 127
    assert Range(0.0, 0.0).qparams.scale == (1.0,)


def test_constants_are_covered() -> None:
    for constant in (5.0, -0.25):
        q = min_max(observe(np.full((4, 3), constant, np.float32))).qparams
        assert q.dequantize(q.quantize(np.array([constant])))[0] == pytest.approx(constant, rel=1e-3)


def test_shapes_without_channels() -> None:
    b = GraphBuilder("flat")
    x = b.input("x", (4,))
    graph = b.build((b.add("reshape", "y", (x,), reshape.Attrs((2, 2))),))
    calibration = calibrate(graph, Samples((np.ones((9, 4), np.float32),)))
    assert calibration.fitted["y"].channels.tolist() == [1.0, 1.0]
