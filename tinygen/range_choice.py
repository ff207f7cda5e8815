"""--calibration auto: the calibrator of every group of activations is chosen by its measured cost at the
outputs.

In execution order: what stands before is rounded as already chosen, what comes after is still float. The
cheapest ranges to make come from the fitted samples, the cost from the held-out ones, so that a range that
cuts off what new samples need is seen to. Min-max stays unless another one is better by more than the
standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinygen.calibration import Calibration, Statistics
from tinygen.calibrators import CANDIDATES, Range, min_max
from tinygen.graph import Array, Graph, QParams
from tinygen.scales import Group, exposed
from tinygen.simulation import CHUNK, Simulator, State, compare, judged, rounded

Progress = Callable[[int, int], None]
"""(steps done, steps in all) -> None."""


def no_progress(done: int, whole: int) -> None:
    """Tell nobody."""


def group_statistics(graph: Graph, group: Group, of: Callable[[str], Statistics]) -> Statistics:
    """Statistics of the members that matter outside the group, merged."""
    names = exposed(graph, group) or group.members
    merged = of(names[0])
    for name in names[1:]:
        merged = merged.merged(of(name))
    return merged


def candidates(s: Statistics) -> dict[str, Range]:
    """Calibrator -> range; of those within 1 % of each other only the first."""
    found: dict[str, Range] = {}
    for name, calibrator in CANDIDATES.items():
        r = calibrator(s)
        if not any(_alike(r.qparams, other.qparams) for other in found.values()):
            found[name] = r
    return found


def must_stay_whole(graph: Graph, group: Group) -> bool:
    """True for inputs and outputs of a model that reconstructs its input (an output has the shape of an
    input).

    Such models find anomalies: samples with unusual values, which the representative ones do not show and
    which must not be cut off to make usual ones finer.
    """
    inputs = {t.shape for t in graph.input_tensors if t.elements > 1}
    reconstructs = any(t.shape in inputs for t in graph.output_tensors)
    return reconstructs and any(m in graph.inputs or m in graph.outputs for m in group.members)


def _alike(a: QParams, b: QParams) -> bool:
    return abs(a.scale[0] / b.scale[0] - 1) < 0.01 and abs(a.zero_point[0] - b.zero_point[0]) <= 1


@dataclass(frozen=True)
class Choice:
    """The calibrator of one group, and every candidate's mean cost (empty when nothing was measured).

    found: the range, when it was searched for instead of made by a calibrator.
    """

    calibrator: str
    costs: Mapping[str, float]
    found: Range | None = None


def choose(
    simulator: Simulator,
    tied: Sequence[Group],
    calibration: Calibration,
    given: Mapping[str, QParams],
    progress: Progress = no_progress,
) -> dict[str, Choice]:
    """Group name -> choice, for the groups without an anchor. given: QParams of activations of anchored
    groups."""
    graph, bound = simulator.graph, simulator.graph.bound()
    free = {g.name: g for g in tied if g.anchor is None}
    of = {member: g for g in free.values() for member in g.members}
    qparams = dict(judged(graph, given))
    chosen: dict[str, Choice] = {}
    state = simulator.start(qparams)
    errors: Array | None = None
    for position, tensor in enumerate((*graph.inputs, *(b.output.name for b in bound))):
        done = max(0, position - len(graph.inputs) + 1)
        if done > 0:
            state |= simulator.run(bound[done - 1 : done], state, qparams)
        group = of.get(tensor)
        if group is not None and group.name not in chosen:
            trial = _Trial(simulator, group, qparams, state, tensor, done)
            before = trial.errors(None) if errors is None else errors
            statistics = group_statistics(graph, group, calibration.fitted.__getitem__)
            chosen[group.name], q, errors = trial.best(statistics, float(before.mean()))
            qparams.update(dict.fromkeys(group.members, q))
            state[tensor] = rounded(state[tensor], q)
        progress(position + 1, len(graph.inputs) + len(bound))
    return chosen


@dataclass(frozen=True)
class _Trial:
    """Measures ranges for one group. tensor: its first member, in `state` but not yet rounded, after `done`
    nodes."""

    simulator: Simulator
    group: Group
    qparams: Mapping[str, QParams]
    state: State
    tensor: str
    done: int

    def errors(self, r: Range | None) -> Array:
        """Cost per sample with this range; None: without rounding. A few samples at a time stay in the cache."""
        starts = range(0, len(self.simulator.x[0]), CHUNK)
        return np.concatenate([self.part(slice(i, i + CHUNK)).errors_at_once(r) for i in starts])

    def errors_at_once(self, r: Range | None) -> Array:
        """`errors` of all samples in one go."""
        q = {} if r is None else dict.fromkeys(self.group.members, r.qparams)
        values = self.state[self.tensor]
        start = {**self.state, self.tensor: values if r is None else rounded(values, r.qparams)}
        after = self.simulator.run(self.simulator.graph.bound()[self.done :], start, {**self.qparams, **q})
        return self.simulator.cost({**start, **after})

    def part(self, chosen: slice) -> _Trial:
        """The trial on some of the samples."""
        state = {name: a[chosen] for name, a in self.state.items()}
        return replace(self, simulator=self.simulator.part(chosen), state=state)

    def best(self, s: Statistics, before: float) -> tuple[Choice, QParams, Array]:
        """The choice, its QParams on the fitted statistics, and its cost per sample. before: cost without
        rounding.

        Where min-max does next to no harm, nothing else is tried; where even the best does much, it is
        searched.
        """
        whole = must_stay_whole(self.simulator.graph, self.group)
        options = {"min-max": min_max(s)} if whole else candidates(s)
        first, *others = options
        errors = {first: self.errors(options[first])}
        if errors[first].mean() - before > WORTH_CHOOSING * before:
            promising = self.promising([options[name] for name in others], options[first])
            errors.update({name: self.errors(options[name]) for name in others if options[name] in promising})
        best = min(errors, key=lambda name: float(errors[name].mean()))
        if not whole and errors[best].mean() - before > WORTH_SEARCHING * before:
            found, least = self.search(options[best], errors[best], min_max(s))
            if found != options[best]:
                best, options["search"], errors["search"] = "search", found, least
        if not compare(errors[first], errors[best]).better:
            best = first
        costs = {name: float(e.mean()) for name, e in errors.items()}
        choice = Choice(best, costs, options[best] if best == "search" else None)
        return choice, options[best].qparams, errors[best]

    def promising(self, ranges: Sequence[Range], best: Range) -> list[Range]:
        """The ranges that a part of the samples finds about as good as the best one so far: saves most of the work."""
        if len(self.simulator.x[0]) < 64 * SCREENED:
            return list(ranges)
        few = self.part(slice(None, None, SCREENED))
        least = float(few.errors(best).mean())
        costs = {r: float(few.errors(r).mean()) for r in ranges}
        least = min(least, *costs.values()) if costs else least
        return [r for r, cost in costs.items() if cost <= 2 * least]

    def search(self, start: Range, errors: Array, full: Range) -> tuple[Range, Array]:
        """The range of least cost among `start` and those that `_steps` proposes; never wider than `full`."""
        best, found = start, errors
        seen = {start}
        for step in _steps(self.tensor in self.simulator.graph.inputs):
            new = [r for r in dict.fromkeys(_moved(best, full, step)) if r not in seen]
            seen.update(new)
            for r in self.promising(new, best):
                tried = self.errors(r)
                if tried.mean() < found.mean():
                    best, found = r, tried
        return best, found


WORTH_CHOOSING, WORTH_SEARCHING = 0.04, 0.15
"""Try other calibrators, or search, when rounding the tensor adds this share to the cost so far."""

SCREENED = 4
"""Every how many-th sample judges first."""

SHARES = tuple(0.8**i for i in range(7))
"""Shares of the full range that the search tries, 1 ... 0.26."""

NEAR, FINE = (0.9, 1.1), (0.94, 0.96, 0.98, 1.02, 1.04, 1.06)
"""Factors on an end of the best range so far. Fine ones matter to inputs: sensors at rest stay at one value, which
may lie on a step or between two."""


def _steps(is_input: bool) -> tuple[str, ...]:
    """What the search does in turn. What rounding takes from an input nothing brings back: all pairs are
    tried."""
    near = ("near high", "near low")
    return ("grid", *near, "fine high", "fine low") if is_input else ("both", "high", "low", *near)


def _moved(r: Range, full: Range, step: str) -> list[Range]:
    """Ranges to try: shares of the full range, or r with another high or low end."""
    highs = [full.high * f for f in SHARES] if full.high > 0 else [0.0]
    lows = [full.low * f for f in SHARES] if full.low < 0 else [0.0]
    if step == "grid":
        return [Range(low, high) for low in lows for high in highs]
    if step == "both":
        return [full.cut(f) for f in SHARES]
    factors = {"near": NEAR, "fine": FINE}.get(step.split()[0])
    if factors:
        highs, lows = ([end * f for f in factors] for end in (r.high, r.low))
        highs, lows = [min(high, full.high) for high in highs], [max(low, full.low) for low in lows]
    return (
        [Range(r.low, high) for high in highs]
        if step.endswith("high")
        else [Range(low, r.high) for low in lows]
    )
