"""Modelled cycles of a layer from its shapes: a formula per kernel, fitted to images that were really followed.

cycles = sum of non-negative coefficients times features, times a factor of the layer that stands for what the
features do not know (padding, how the compiler unrolled its loops).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from tinygen import ops
from tinygen.access import waiting
from tinygen.graph import Array
from tinygen.program import Step
from tinygen.pruning.lowering import Lowered

LANES = 4
"""Kernels that treat so many channels at once have a remainder."""
FEATURES = 9


@dataclass(frozen=True)
class Point:
    """What one layer of one followed image took, in modelled cycles."""

    layer: str
    kernel: str
    features: Array
    cycles: float


@dataclass(frozen=True)
class Formulas:
    """kernel -> coefficients of the features; layer -> its factor; outside: cycles of an inference between kernels."""

    coefficients: Mapping[str, Array]
    factors: Mapping[str, float]
    outside: float

    def layers(self, lowered: Lowered) -> dict[str, float]:
        """Cycles of every layer. A kernel that was not followed yet takes what its operator's file says."""
        return {step.bound.name: self._of(step, lowered) for step in lowered.program.steps}

    def _of(self, step: Step, lowered: Lowered) -> float:
        if step.kernel.alias:
            return 0.0
        coefficients = self.coefficients.get(step.kernel.name)
        if coefficients is None:
            return float(step.kernel.cost(step.bound))
        return float(features(step, lowered) @ coefficients) * self.factors.get(step.bound.name, 1.0)


def features(step: Step, lowered: Lowered) -> Array:
    """(9,): multiply-accumulates, sums over channels, what is left of them behind whole LANES, outputs, output pixels,
    input elements, cycles that the core waits for the layer's arrays, 1 for the call, and what the kernel's own formula
    says, which knows its tiles."""
    b = step.bound
    macs, outputs = ops.get(b.node.op).macs(b), b.output.elements
    depth = _depth(step)
    sums = macs / depth
    places = outputs / max(b.output.shape[-1] if b.output.shape else 1, 1)
    inputs = sum(t.elements for t in b.activations)
    waits, own = _waits(step, lowered), float(step.kernel.cost(b))
    return np.array([macs, sums, sums * (depth % LANES), outputs, places, inputs, waits, 1.0, own], float)


def _depth(step: Step) -> int:
    """Channels that a kernel sums over in its innermost loop: those of the axis that its weights are read along."""
    for entry in ops.get(step.bound.node.op).channels(step.bound) if step.bound.output.shape else ():
        if entry.reads and entry.place > 0:
            return max(int(step.bound.inputs[entry.place].shape[entry.axis]), 1)
    return 1


def _waits(step: Step, lowered: Lowered) -> float:
    """Cycles that the core waits for the arrays of a layer where they are."""
    board = lowered.board
    pinned = {p.movable.symbol: p.region for p in lowered.placement.pins} if lowered.placement else {}
    home = lowered.wishes.weights or board.code.name
    own = (m for m in lowered.needs.movables if m.layer == step.bound.name and not m.is_code)
    return sum(waiting(board, board.region(pinned.get(m.symbol, home)), m.traffic) for m in own)


def fit(points: Sequence[Point], outside: float) -> Formulas:
    """The formulas of least relative error; every layer's factor is the mean ratio to its kernel's formula."""
    by_kernel: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        by_kernel[point.kernel].append(point)
    coefficients = {kernel: _coefficients(group) for kernel, group in by_kernel.items()}
    ratios: dict[str, list[float]] = defaultdict(list)
    for p in points:
        guess = float(p.features @ coefficients[p.kernel])
        if guess > 0 and p.cycles > 0:
            ratios[p.layer].append(p.cycles / guess)
    factors = {layer: float(np.exp(np.mean(np.log(r)))) for layer, r in ratios.items()}
    return Formulas(coefficients, factors, outside)


def _coefficients(points: Iterable[Point]) -> Array:
    """Non-negative least squares of relative errors. Few points say how far the kernel's own formula is off."""
    rows = [p for p in points if p.cycles > 0]
    solution = np.zeros(FEATURES)
    if not rows:
        return solution
    used = slice(None) if len(rows) >= FEATURES else slice(FEATURES - 1, None)
    matrix = np.array([p.features / p.cycles for p in rows])[:, used]
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-30)
    solution[used] = nnls(matrix / scale, np.ones(len(rows)))[0] / scale
    return solution
