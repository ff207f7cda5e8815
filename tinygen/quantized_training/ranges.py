"""The scales of the activations while they are trained: fixed, learned, or following the values' ranges.

Activations that must share a scale (scales.py) are one group with one scale. A group whose QParams are given (the
exact grid of an input, a softmax) or follow from others (rescale) never learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from tinygen.calibrators import Range
from tinygen.graph import Array, Graph, QParams
from tinygen.scales import Group, assign, exposed

Way = Literal["learned", "moving", "fixed"]
WAYS: tuple[Way, ...] = get_args(Way)
MOMENTUM = 0.98
"""Share of a moving range that stays in a step."""
MOST_OCTAVES = 4.0
"""A learned scale stays within 2**-4 ... 2**4 of the calibrated one."""


@dataclass(frozen=True)
class Ranges:
    """Groups of a graph with the QParams they start from. free: those that may change, in order."""

    graph: Graph
    tied: tuple[Group, ...]
    start: Mapping[str, QParams]
    free: tuple[Group, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "free", tuple(g for g in self.tied if g.anchor is None))

    def assigned(self, chosen: Mapping[str, QParams]) -> dict[str, QParams]:
        """QParams of every activation, those of the free groups given by group name."""
        return assign(self.graph, self.tied, chosen)

    def learned(self, octaves: Array) -> dict[str, QParams]:
        """Scales times 2**octaves, one number per free group; zero points stay."""
        limited = np.clip(octaves.astype(np.float64), -MOST_OCTAVES, MOST_OCTAVES)
        chosen = {}
        for group, octave in zip(self.free, limited, strict=True):
            q = self.start[group.name]
            chosen[group.name] = QParams.per_tensor(q.scale[0] * 2.0**octave, q.zero_point[0])
        return self.assigned(chosen)

    def of_limits(self, limits: Array) -> dict[str, QParams]:
        """QParams that cover limits (2, free groups): lows and highs."""
        pairs = zip(self.free, limits[0], limits[1], strict=True)
        return self.assigned(
            {g.name: Range.around(float(low), float(high)).qparams for g, low, high in pairs}
        )

    @property
    def limits(self) -> Array:
        """(2, free groups): lows and highs that the first QParams cover."""
        qs = [self.start[g.name] for g in self.free]
        ends = [[(e - q.zero_point[0]) * q.scale[0] for q in qs] for e in (-128, 127)]
        return np.array(ends, np.float64)

    @property
    def watched(self) -> tuple[tuple[str, ...], ...]:
        """Per free group the activations whose values make its range."""
        return tuple(exposed(self.graph, g) or g.members[-1:] for g in self.free)


def moved(limits: Array, seen: Array) -> Array:
    """Limits (2, free groups) a step nearer to what a batch showed."""
    return np.asarray(MOMENTUM * limits + (1 - MOMENTUM) * seen.astype(np.float64))
