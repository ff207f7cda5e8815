"""--calibration auto: the calibrator of every group of activations is chosen by its measured cost at the outputs.

In execution order: what stands before is rounded as already chosen, what comes after is still float. The cheapest
ranges to make come from the fitted samples, the cost from the held-out ones, so that a range that cuts off what new
samples need is seen to. Min-max stays unless another one is better by more than the standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tinygen.calibration import Calibration, Statistics
from tinygen.calibrators import CANDIDATES
from tinygen.graph import Array, Graph, QParams
from tinygen.scales import Group, exposed
from tinygen.simulation import Simulator, State, compare, judged, rounded


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


def candidates(s: Statistics) -> dict[str, QParams]:
    """Calibrator -> QParams; of those within 1 % of each other only the first."""
    found: dict[str, QParams] = {}
    for name, calibrator in CANDIDATES.items():
        q = calibrator(s).qparams
        if not any(_alike(q, other) for other in found.values()):
            found[name] = q
    return found


def _alike(a: QParams, b: QParams) -> bool:
    return abs(a.scale[0] / b.scale[0] - 1) < 0.01 and abs(a.zero_point[0] - b.zero_point[0]) <= 1


@dataclass(frozen=True)
class Choice:
    """The calibrator of one group, and every candidate's mean cost (empty when nothing was measured)."""

    calibrator: str
    costs: Mapping[str, float]


def choose(
    simulator: Simulator,
    tied: Sequence[Group],
    calibration: Calibration,
    given: Mapping[str, QParams],
    progress: Progress = no_progress,
) -> dict[str, Choice]:
    """Group name -> choice, for the groups without an anchor. given: QParams of activations of anchored groups."""
    graph, bound = simulator.graph, simulator.graph.bound()
    free = {g.name: g for g in tied if g.anchor is None}
    of = {member: g for g in free.values() for member in g.members}
    qparams = dict(judged(graph, given))
    chosen: dict[str, Choice] = {}
    state = simulator.start(qparams)
    for position, tensor in enumerate((*graph.inputs, *(b.output.name for b in bound))):
        done = position - len(graph.inputs) + 1
        if done > 0:
            state |= simulator.run(bound[done - 1 : done], state, qparams)
        group = of.get(tensor)
        if group is not None and group.name not in chosen:
            options = candidates(group_statistics(graph, group, calibration.fitted.__getitem__))
            best, costs = _measure(simulator, group, options, qparams, state, (tensor, max(done, 0)))
            chosen[group.name] = Choice(best, costs)
            qparams.update(dict.fromkeys(group.members, options[best]))
            state[tensor] = rounded(state[tensor], options[best])
        progress(position + 1, len(graph.inputs) + len(bound))
    return chosen


def _measure(
    simulator: Simulator,
    group: Group,
    options: Mapping[str, QParams],
    qparams: Mapping[str, QParams],
    state: State,
    place: tuple[str, int],
) -> tuple[str, dict[str, float]]:
    """The best candidate and all costs. place: the group's first tensor, not yet rounded, and the nodes done."""
    if len(options) == 1:
        return next(iter(options)), {}
    tensor, done = place
    errors: dict[str, Array] = {}
    for name, q in options.items():
        tried = {**state, tensor: rounded(state[tensor], q)}
        after = simulator.run(
            simulator.graph.bound()[done:], tried, {**qparams, **dict.fromkeys(group.members, q)}
        )
        errors[name] = simulator.cost({**tried, **after})
    names = list(options)
    best = min(names, key=lambda name: float(errors[name].mean()))
    if not compare(errors[names[0]], errors[best]).better:
        best = names[0]
    return best, {name: float(e.mean()) for name, e in errors.items()}
