"""Calibrators: from the observed values of an activation to the range that int8 shall cover.

Every range holds 0, so that 0 is exact (padding, relu). Values outside saturate; a smaller range has finer
steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from tinygen.calibration import Statistics
from tinygen.graph import Array, QParams

STEPS = 255
"""Steps between the lowest and the highest int8."""


SHARES = tuple(float(f) for f in np.linspace(1.0, 0.15, 52))
"""Shares of the observed range that are tried, the greatest first."""


def coarse(x: Array | float, bits: int, way: Callable[[Array], Array] = np.rint) -> Array:
    """x > 0 rounded to so many significant bits.

    Sums of floats differ in their last bits between processors; numbers that are made from them and end up in the
    firmware are coarse, so that it comes out the same nearly everywhere.
    """
    significand, exponent = np.frexp(np.asarray(x, np.float64))
    return np.asarray(np.ldexp(way(np.ldexp(significand, bits)), exponent - bits))


@dataclass(frozen=True)
class Range:
    """Real numbers low <= 0 <= high that int8 covers."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float) -> Range:
        """[low, high] widened to hold 0."""
        return cls(min(low, 0.0), max(high, 0.0))

    def cut(self, share: float) -> Range:
        """What lies within `share` of the greater end, on either side."""
        limit = share * max(-self.low, self.high)
        return Range(max(self.low, -limit), min(self.high, limit))

    @property
    def qparams(self) -> QParams:
        """Asymmetric int8 over the range, at most 0.05 % wider; low 0 gives zero_point -128, an empty range scale 1."""
        width = self.high - self.low
        tiny = float(np.finfo(np.float32).tiny)
        if width < STEPS * tiny:
            return QParams.per_tensor(1.0, 0)
        scale = float(coarse(width / STEPS, 12, np.ceil))
        return QParams.per_tensor(scale, min(max(round(-128 - self.low / scale), -128), 127))


Calibrator = Callable[[Statistics], Range]


def min_max(s: Statistics) -> Range:
    """Everything that was observed."""
    return Range.around(s.low, s.high)


def percentile(share: float) -> Calibrator:
    """All but (100 - share) % of the values, the rest cut in equal parts from both ends."""

    def calibrator(s: Statistics) -> Range:
        """The share of values in the middle."""
        below = np.cumsum(s.counts) / s.counts.sum()
        cut = (1 - share / 100) / 2
        first, last = int(np.searchsorted(below, cut, "right")), int(np.searchsorted(below, 1 - cut))
        width = 2 * s.reach / len(s.counts)
        low, high = first * width - s.reach, (last + 1) * width - s.reach
        return Range.around(max(low, s.low), min(high, s.high))

    return calibrator


def mean_squared_error(s: Statistics) -> Range:
    """The range with the least mean squared difference between the values and their int8."""
    used = s.counts > 0
    centers, counts = s.centers[used], s.counts[used]
    full = min_max(s)
    best = _least([full.cut(f) for f in SHARES], centers, counts)
    best = _least([best, *(Range(full.low * f, best.high) for f in SHARES)], centers, counts)
    return _least([best, *(Range(best.low, full.high * f) for f in SHARES)], centers, counts)


def _least(ranges: list[Range], centers: Array, counts: Array) -> Range:
    return min(ranges, key=lambda r: histogram_error(r, centers, counts))


def histogram_error(r: Range, centers: Array, counts: Array) -> float:
    """Sum of squared quantization errors of values `centers`, `counts` times each."""
    q = r.qparams
    scale, zero_point = q.scale[0], q.zero_point[0]
    rounded = np.clip(np.rint(centers / scale), -128 - zero_point, 127 - zero_point) * scale
    return float(np.dot((rounded - centers) ** 2, counts))


def entropy(s: Statistics) -> Range:
    """The range whose int8 histogram is nearest to the observed one in relative entropy.

    Values outside count in the outermost step; values inside are spread evenly over the used bins of their
    step.
    """
    full = min_max(s)
    return min((full.cut(f) for f in SHARES), key=lambda r: _divergence(s, r))


def _divergence(s: Statistics, r: Range) -> float:
    """Relative entropy of the observed histogram, cut to r, against its int8 version."""
    width = 2 * s.reach / len(s.counts)
    first = int((r.low + s.reach) / width)
    last = min(int((r.high + s.reach) / width), len(s.counts) - 1)
    inside = s.counts[first : last + 1].astype(np.float64)
    observed = inside.copy()
    observed[0] += s.counts[:first].sum()
    observed[-1] += s.counts[last + 1 :].sum()
    q = r.qparams
    step = np.rint(s.centers[first : last + 1] / q.scale[0]).astype(np.int64)
    step -= step.min()
    used = observed > 0
    bins = np.bincount(step, used)[step]
    spread = np.where(used, np.bincount(step, inside)[step] / np.maximum(bins, 1), 0)
    p = observed[used] / observed.sum()
    model = np.maximum(spread[used], 1e-4)
    return float(np.sum(p * np.log(p / (model / model.sum()))))


NAMED: Mapping[str, Calibrator] = MappingProxyType(
    {
        "min-max": min_max,
        "percentile": percentile(99.99),
        "entropy": entropy,
        "mse": mean_squared_error,
    }
)
"""What --calibration accepts besides 'auto'."""

CANDIDATES: Mapping[str, Calibrator] = MappingProxyType(
    {**NAMED, "percentile 99.9": percentile(99.9), "percentile 99.999": percentile(99.999)}
)
"""What 'auto' chooses from; the first is taken unless another is measured to be better."""
