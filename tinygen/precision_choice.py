"""Which layers compute in 16x8: those whose int8 activations cost most at the outputs, until it is enough.

Sensitivity of a group of tied activations: how much the simulated cost at the outputs (simulation.py) falls on held-out
representative samples when it is not rounded. The groups are widened in that order, those that do not lower the
measured cost are left out; where to stop is measured on the same held-out samples, never on the evaluation set, which
judges the result once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinygen import metrics, ops
from tinygen.decisions import Int16Decision
from tinygen.errors import UsageError, did_you_mean
from tinygen.graph import Array, Graph, QParams
from tinygen.mixed import Widened, able, neighbourhood
from tinygen.scales import Group
from tinygen.simulation import CHUNK, Simulator, compare, is_classifier, rounded_constants

LEFT = 0.05
"""Share of the gain that may be left: the last layers widened bring next to nothing and take memory like the first."""

Widen = Callable[[frozenset[str]], Widened]
"""Names of wide nodes -> the graph in which they are wide."""


@dataclass(frozen=True)
class Measured:
    """What one choice costs on the judged samples. errors: (N,). drop: points that it may lose, see `drop_of`."""

    wide: frozenset[str]
    errors: Array
    drop: float


def all_able(graph: Graph) -> frozenset[str]:
    """Every node that has an int16 form."""
    return frozenset(b.name for b in graph.bound() if able(b))


def named(graph: Graph, tied: Sequence[Group], layers: Sequence[str]) -> frozenset[str]:
    """The nodes that keep the outputs of these layers in int16: the layers and those that read them.

    Raises UsageError for a name that is not a layer of the fused graph, or one without an int16 form.
    """
    known = {b.name: b for b in graph.bound()}
    wide: frozenset[str] = frozenset()
    for name in layers:
        if name not in known:
            raise UsageError(
                f"--int16 '{name}': the model has no such layer{did_you_mean(name, known)}\n"
                f"  there are {', '.join(n for n, b in known.items() if able(b))}"
            )
        if not able(known[name]):
            forms = [op.name for op in ops.OPS if any(k.dtype == "int16" for k in op.kernels)]
            raise UsageError(
                f"--int16 '{name}': {known[name].node.op} has no int16 form\n  those with one: {', '.join(forms)}"
            )
        group = next(g for g in tied if known[name].output.name in g.members)
        wide |= neighbourhood(graph, group.members) or frozenset({name})
    return wide


def choose(
    simulator: Simulator,
    tied: Sequence[Group],
    qparams: Mapping[str, QParams],
    widen: Widen,
    max_drop: float | None,
) -> tuple[frozenset[str], Int16Decision]:
    """The wide nodes, and why. max_drop: points (classifiers: of samples whose class changes; others: percent of the
    outputs' variance); None: as long as it helps."""
    start = Measured(frozenset(), simulator.errors(qparams), drop_of(simulator, qparams))
    steps, gains = [start], sensitivities(simulator, tied, qparams, start.errors)
    ordered = [neighbourhood(simulator.graph, g.members) for g in sorted(gains, key=lambda g: -gains[g])]
    for more in (*ordered, all_able(simulator.graph)):
        wide = steps[-1].wide | more
        if holds(steps[-1], max_drop) or wide == steps[-1].wide:
            continue
        made = measure(simulator, widen(wide), wide)
        if made.errors.mean() < steps[-1].errors.mean() or holds(made, max_drop):
            steps.append(made)
    chosen = steps[-1] if holds(steps[-1], max_drop) else smallest(steps)
    shown = {g.name: gain for g, gain in gains.items()}
    return chosen.wide, Int16Decision(
        tuple(b.name for b in simulator.graph.bound() if b.name in chosen.wide),
        _why(chosen, max_drop),
        compare(start.errors, chosen.errors),
        shown,
    )


def _why(chosen: Measured, max_drop: float | None) -> str:
    if max_drop is None:
        return "as long as the cost falls"
    verdict = "holds" if metrics.allowed(chosen.drop, max_drop) else "is not reached: the best there is"
    return f"--max-drop {max_drop:g} {verdict} on held-out samples ({chosen.drop:.2f})"


def sensitivities(
    simulator: Simulator, tied: Sequence[Group], qparams: Mapping[str, QParams], errors: Array
) -> dict[Group, float]:
    """Group -> how much the mean cost falls when it is not rounded, for groups that can be int16."""
    gains: dict[Group, float] = {}
    for group in tied:
        if neighbourhood(simulator.graph, group.members):
            others = {name: q for name, q in qparams.items() if name not in group.members}
            gains[group] = float((errors - simulator.errors(others)).mean())
    return gains


def measure(simulator: Simulator, made: Widened, wide: frozenset[str]) -> Measured:
    """The cost of a widened graph on the simulator's samples, against the same float outputs.

    With the simulator's biases: without its correction for rounded weights, int16 would look worse than int8 with it.
    """
    rounded = rounded_constants(made.graph, made.qparams)
    biases = {n: simulator.constants[n] for n, a in rounded.items() if a is made.graph.tensors[n].data}
    other = replace(simulator, graph=made.graph, constants={**rounded, **biases})
    return Measured(wide, other.errors(made.qparams), drop_of(other, made.qparams))


def holds(step: Measured, max_drop: float | None) -> bool:
    """True where the asked drop is kept."""
    return max_drop is not None and metrics.allowed(step.drop, max_drop)


def gained(before: Array, after: Array) -> bool:
    """After costs less on average, by more than chance: by a standard error of the mean difference, or of its signed
    ranks (Wilcoxon).

    before, after: (N,) of the same samples; each is its own control. The mean sees a gain that sits in few samples;
    ranks see one that most samples share while few, between two classes, vary far more than it.
    """
    difference = before - after
    ranks = np.argsort(np.argsort(np.abs(difference), kind="stable"), kind="stable") + 1.0
    signed = np.sign(difference) * ranks
    shared = bool(signed.sum() > np.sqrt((signed**2).sum()))
    return bool(difference.mean() > 0) and (compare(before, after).better or shared)


def smallest(steps: Sequence[Measured]) -> Measured:
    """The first step with all but LEFT of what the best one gains; the first of all if that gains nothing."""
    best = min(steps, key=lambda s: float(s.errors.mean()))
    if not gained(steps[0].errors, best.errors):
        return steps[0]
    low, high = float(best.errors.mean()), float(steps[0].errors.mean())
    return next(s for s in steps if s.errors.mean() <= low + LEFT * (high - low))


def drop_of(simulator: Simulator, qparams: Mapping[str, QParams]) -> float:
    """Points that rounding may cost, without labels: share of samples whose class changes, in percent.

    No more accuracy can be lost. Of models that are no classifiers: squared error in percent of the outputs' variance.
    """
    if not is_classifier(simulator.graph):
        return 100.0 * float(simulator.errors(qparams).mean())
    starts = range(0, len(simulator.x[0]), CHUNK)
    changed = [_changed(simulator.part(slice(i, i + CHUNK)), qparams) for i in starts]
    return 100.0 * float(np.mean(np.concatenate(changed)))


def _changed(simulator: Simulator, qparams: Mapping[str, QParams]) -> Array:
    """(N,) True for samples whose class is another one."""
    state = simulator.start(qparams)
    state = {**state, **simulator.run(simulator.graph.bound(), state, qparams)}
    got, wanted = state[simulator.graph.outputs[0]], simulator.target[0]
    differs = got.argmax(axis=-1) != wanted.argmax(axis=-1)
    return np.asarray(differs.reshape(len(wanted), -1).any(axis=1))
