"""What a pruning run does next, and how: every action makes a model of that of the step before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinygen.budgets import Budgets
from tinygen.channels import ChannelGroup, groups
from tinygen.errors import BudgetError
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Array, Graph
from tinygen.pruning import distillation, search
from tinygen.pruning import lite as importance
from tinygen.pruning.costs import Costs
from tinygen.pruning.judging import Judge
from tinygen.pruning.lite import Masks
from tinygen.pruning.records import Action, Cost, Figures, Removal, Step
from tinygen.pruning.refitting import refit
from tinygen.pruning.search import Family, Oracle, Plan
from tinygen.pruning.shrinking import shrunk
from tinygen.pruning.surgery import remove
from tinygen.samples import Samples

STEP = 0.35
"""What a step takes at most of log(amount / budget): about 30 % of what is too much."""
SHORT = 0.15
"""Share of the fine-tuning that the candidates of a step get."""
HURRY = 0.4
"""Share of --max-minutes after which one step takes all that is left."""


@dataclass(frozen=True)
class Setting:
    """What stays the same during a run. teacher: the original keras.Model; minutes_left: None without a limit."""

    teacher: Any
    budgets: Budgets
    costs: Costs
    fit: Samples
    judge: Judge
    importance: str
    training: distillation.Options
    qat: bool
    hurried: Callable[[], bool]
    minutes_left: Callable[[], float | None]
    report: Callable[[str, int, int], None]


@dataclass(frozen=True)
class Made:
    """What an action made."""

    model: Any
    why: str
    removed: tuple[Removal, ...] = ()


def next_action(line: Sequence[Step], budgets: Budgets, qat: bool) -> Action | None:
    """What comes behind these steps; None: the last one is the result."""
    if not line:
        return "original"
    actions = [step.action for step in line]
    if "fold" not in actions:
        return "fold"
    if search.excess(line[-1].after.cost, budgets) > 0:
        return "prune"
    if "prune" not in actions:
        return None
    since = actions[len(actions) - 1 - actions[::-1].index("prune") :]
    if "fine-tune" not in since:
        return "fine-tune"
    return "qat" if qat and "qat" not in since else None


def take(action: Action, setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """Do it. model: of the last step, the original for the first. Raises BudgetError where nothing more can go."""
    return _ACTIONS[action](setting, line, model)


# ---- actions


def _original(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    return Made(model, "as it was given")


def _fold(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """Channels that are 0 in every sample go: nothing is lost."""
    graph = load_keras_model(model)
    found = groups(graph)
    dead = importance.dead(graph, found, importance.statistics(model, graph, setting.fit))
    if not dead:
        return Made(model, "no channel is 0 in every sample")
    counts: dict[str, list[int]] = {}
    for group in (found[i] for i in dead):
        counts.setdefault(group.activations[0].tensor, []).extend(group.activations[0].indices)
    sizes = {name: graph.tensors[name].shape[-1] for name in counts}
    removed = tuple(
        Removal(name, tuple(sorted(c)), sizes[name] - len(c), "exact", "0 in every sample")
        for name, c in counts.items()
    )
    return Made(
        remove(model, graph, [found[i] for i in dead]), f"{len(dead)} channels are 0 in every sample", removed
    )


def _prune(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """The better of the search's candidates after a short fine-tuning of each."""
    ranked = _rank(setting, model)
    oracle = Oracle(
        lambda gone: setting.costs.estimate(shrunk(ranked.graph, ranked.pick(gone))), ranked.masks.loss
    )
    estimated = oracle.cost(frozenset())
    budgets = _comparable(setting.budgets, estimated, line[-1].after.cost)
    curves = search.sensitivity(ranked.families, oracle.loss, _reporter(setting, "sensitivity"))
    target = _target(setting, line, search.excess(estimated, budgets))
    plans = list(search.plans(curves, oracle, budgets, target))
    if not plans:
        raise BudgetError(_exhausted(setting, line[-1].after.cost))
    tried = [_candidate(setting, ranked, model, plan) for plan in plans]
    best = min(tried, key=lambda candidate: candidate.loss)
    options = replace(setting.training, steps=max(1, int(SHORT * setting.training.steps)))
    trained = _train(setting, best.model, options, "short fine-tuning")
    others = "".join(f", {c.plan.how} {c.loss:.4g}" for c in tried if c is not best)
    binding = search.binding(line[-1].after.cost, setting.budgets)
    why = f"{binding} binds; {best.plan.how}, ranked by {ranked.method}: loss {best.loss:.4g} refitted"
    return Made(
        trained.model,
        f"{why}{others}, {trained.loss:.4g} after a short fine-tuning",
        _removals(ranked, best.plan),
    )


def _fine_tune(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """The original teaches what is left of it."""
    trained = _train(setting, model, setting.training, "fine-tune")
    epochs = len(trained.history) - 1
    why = f"epoch {trained.best} of {epochs}: loss {trained.given:.4g} -> {trained.loss:.4g}"
    return Made(trained.model, why + (f"; {trained.stopped}" if trained.stopped else ""))


_ACTIONS: dict[Action, Callable[[Setting, Sequence[Step], Any], Made]] = {
    "original": _original,
    "fold": _fold,
    "prune": _prune,
    "fine-tune": _fine_tune,
}


def _train(setting: Setting, model: Any, options: distillation.Options, stage: str) -> distillation.Trained:
    """Distillation from the original, as long as time allows."""
    x, held_out = setting.fit.x, setting.judge.samples.x
    options = replace(options, minutes=setting.minutes_left())
    return distillation.train(model, setting.teacher, x, held_out, options, _teller(setting, stage))


# ---- figures


def figures(setting: Setting, model: Any) -> Figures:
    """Held-out loss and metric of a model, and what it takes on the board, built and profiled."""
    outputs = answers(model, setting.judge.samples.x)
    cost = setting.costs.measure(load_keras_model(model))
    return Figures(cost, setting.judge.distance(outputs).mean, setting.judge.figure(outputs))


def answers(model: Any, x: Sequence[Array]) -> tuple[Array, ...]:
    """Outputs of a keras.Model, each (N, *shape)."""
    outputs = model.predict(list(x) if len(x) > 1 else x[0], batch_size=64, verbose=0)
    return tuple(outputs) if isinstance(outputs, list | tuple) else (outputs,)


# ---- parts of a pruning step


@dataclass(frozen=True)
class _Candidate:
    """A plan's model, refitted, and its held-out loss."""

    plan: Plan
    model: Any
    loss: float


@dataclass(frozen=True)
class _Ranked:
    """The groups of a model in families, each in the order in which it would go."""

    graph: Graph
    found: tuple[ChannelGroup, ...]
    families: tuple[Family, ...]
    method: str
    masks: Masks
    statistics: Any

    def pick(self, gone: frozenset[int]) -> list[ChannelGroup]:
        """The groups with these indices."""
        return [self.found[i] for i in sorted(gone)]


def _rank(setting: Setting, model: Any) -> _Ranked:
    """Groups by what they matter, families by the layer that makes their channels."""
    graph = load_keras_model(model)
    found = groups(graph)
    statistics = importance.statistics(model, graph, setting.fit)
    scores = importance.scores(graph, found, statistics)
    members: dict[str, list[int]] = {}
    for index, group in enumerate(found):
        if group.removable:
            members.setdefault(group.activations[0].tensor, []).append(index)
    families = tuple(
        Family(name, tuple(sorted(indices, key=lambda i: float(scores[i]))))
        for name, indices in members.items()
    )
    masks = Masks(graph, found, statistics, setting.judge)
    return _Ranked(graph, found, families, "activation", masks, statistics)


def _comparable(budgets: Budgets, estimated: Cost, measured: Cost) -> Budgets:
    """The budgets in the units of estimates: by what the model at hand was measured, formulas are corrected."""
    changed: dict[str, float] = {}
    for name, amount in budgets.given():
        guess, real = estimated.of(name), measured.of(name)  # type: ignore[arg-type]
        if guess is not None and real:
            scaled = amount * guess / real
            changed[name] = scaled if name == "ms" else int(scaled)
    return replace(budgets, **changed)  # type: ignore[arg-type]


def _target(setting: Setting, line: Sequence[Step], now: float) -> float:
    """The excess to aim at: the next of even steps from where pruning began, all at once when time is short."""
    if setting.hurried():
        return 0.0
    first = next(step for step in line if step.action == "fold").after.cost
    return next(t for t in search.targets(search.excess(first, setting.budgets), STEP) if t < 0.9 * now)


def _candidate(setting: Setting, ranked: _Ranked, model: Any, plan: Plan) -> _Candidate:
    """A plan as a model: channels removed, what reads and feeds them refitted to the original by least squares."""
    smaller = remove(model, ranked.graph, ranked.pick(plan.groups))
    fitted = refit(smaller, setting.teacher, setting.fit.x)
    loss = setting.judge.distance(answers(fitted, setting.judge.samples.x)).mean
    return _Candidate(plan, fitted, loss)


def _removals(ranked: _Ranked, plan: Plan) -> tuple[Removal, ...]:
    """What goes, layer by layer, channels by their index in the layer's output."""
    removed = []
    for family in ranked.families:
        gone = [i for i in family.order if i in plan.groups]
        if gone:
            channels = sorted(c for i in gone for c in ranked.found[i].activations[0].indices)
            left = len(family.order) - len(gone)
            removed.append(Removal(family.name, tuple(channels), left, "mean", f"least by {ranked.method}"))
    return tuple(removed)


def _exhausted(setting: Setting, cost: Cost) -> str:
    over = {name: ratio for name, ratio in search.ratios(cost, setting.budgets).items() if ratio > 1}
    listed = ", ".join(f"{name} {cost.of(name):,.0f}" for name in over)
    return f"nothing more can be removed, and the budgets are not met: {listed}\n  allow more, or take a larger board"


# ---- progress


def _reporter(setting: Setting, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: setting.report(stage, done, total)


def _teller(setting: Setting, stage: str) -> Callable[[distillation.Progress], None]:
    return lambda progress: setting.report(stage, progress.epoch, progress.epochs)
