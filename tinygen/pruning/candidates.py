"""What a pruning step chooses from: channels ranked, plans of what goes, and their models, refitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinygen.channels import ChannelGroup, groups
from tinygen.errors import BudgetError
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Graph
from tinygen.pruning import distillation, importance, recipe, redundancy, refitting, search
from tinygen.pruning.masks import Masks
from tinygen.pruning.readers import families
from tinygen.pruning.records import Cost, Removal, Step
from tinygen.pruning.removals import Quiet, quiet, removals
from tinygen.pruning.search import Family, Oracle, Plan
from tinygen.pruning.setting import Made, Setting, answers, reporter, trained
from tinygen.pruning.shrinking import shrunk
from tinygen.pruning.statistics import statistics
from tinygen.pruning.surgery import remove

STEP = 0.35
"""What a step takes at most of the largest log(amount / budget): about 30 % of what is too much."""
SHORT, TRIAL = 0.15, 0.06
"""Share of the fine-tuning that the best candidate of a step gets, or each where all is taken in one step."""
REFITTED = 4096
"""Samples that refitting looks at where the ranking counts on it."""


def pruned(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """The better of the search's candidates, shortly fine-tuned. Raises BudgetError where nothing more can go."""
    ranked = _rank(setting, model)
    tried = [_candidate(setting, ranked, model, plan) for plan in _plans(setting, ranked, line)]
    options = _shortened(setting.training, len(setting.fit.x[0]), TRIAL if ranked.refitted else SHORT)
    best, learned = _best(setting, tried, options, ranked.refitted)
    others = "".join(f", {c.plan.how} {c.loss:.4g}" for c in tried if c is not best)
    binding = search.binding(line[-1].after.cost, setting.budgets)
    why = f"{binding} binds; {best.plan.how}, ranked by {ranked.choice.method}: loss {best.loss:.4g} refitted"
    how = f"short fine-tuning: {learned.given:.4g} -> {learned.loss:.4g}"
    return Made(learned.model, f"{why}{others}; {how}", ranked.removals(best.plan.groups))


def _plans(setting: Setting, ranked: Ranked, line: Sequence[Step]) -> list[Plan]:
    """What could go in this step, one or two ways. Raises BudgetError where nothing more can."""
    oracle = Oracle(
        cost=lambda gone: setting.estimates.estimate(shrunk(ranked.graph, ranked.pick(gone))),
        loss=lambda gone: ranked.masks.loss(gone, setting.judge),
    )
    estimated = oracle.cost(frozenset())
    budgets = search.comparable(setting.budgets, estimated, line[-1].after.cost)
    curves = _curves(setting, ranked, oracle)
    target = _target(setting, line, search.excess(estimated, budgets))
    spared = search.narrowest(ranked.families) if recipe.reconstructs(setting.teacher) else frozenset()
    plans = list(search.plans(curves, oracle, budgets, target, spared))
    if not plans:
        raise BudgetError(_exhausted(setting, line[-1].after.cost))
    return plans


def _best(
    setting: Setting, tried: Sequence[Candidate], options: distillation.Options, after: bool
) -> tuple[Candidate, distillation.Trained]:
    """The candidate with the least held-out loss, shortly trained: after that where all is taken in one step, for
    much of what a refitted model loses is soon learned; else before it, and only the best trains."""
    training = tried if after else [min(tried, key=lambda candidate: candidate.loss)]
    pairs = [(c, trained(setting, c.model, options, "short fine-tuning")) for c in training]
    return min(pairs, key=lambda pair: pair[1].loss)


def _shortened(options: distillation.Options, count: int, share: float) -> distillation.Options:
    """A share of the fine-tuning over `count` samples."""
    return replace(options, epochs=max(1, round(share * options.epochs_for(count))))


# ---- parts


@dataclass(frozen=True)
class Candidate:
    """A plan's model, refitted, and its held-out loss."""

    plan: Plan
    model: Any
    loss: float


@dataclass(frozen=True)
class Ranked:
    """The groups of a model in families, each in the order in which it would go."""

    graph: Graph
    found: tuple[ChannelGroup, ...]
    families: tuple[Family, ...]
    choice: importance.Choice
    masks: Masks
    quiet: Quiet

    @property
    def refitted(self) -> bool:
        """True where the ranking counts on refitting."""
        return importance.counts_on_refitting(self.choice.method)

    def pick(self, gone: frozenset[int]) -> list[ChannelGroup]:
        """The groups with these indices."""
        return [self.found[i] for i in sorted(gone)]

    def removals(self, gone: frozenset[int]) -> tuple[Removal, ...]:
        """What goes, for the log."""
        whys = {family: f"least by {method}" for family, method in self.choice.methods.items()}
        return removals(self.graph, self.found, gone, "refitted", whys, self.quiet)


def _rank(setting: Setting, model: Any) -> Ranked:
    """Groups by what they matter, families by the layer that makes their channels."""
    graph = load_keras_model(model)
    found = groups(graph)
    seen = statistics(graph, setting.fit)
    masks = Masks(graph, found, seen)
    choice = importance.choose(
        _method(setting),
        model,
        graph,
        found,
        setting.fit,
        seen,
        masks,
        setting.judge,
        setting.training.seed,
    )
    own = families(graph, found)
    ordered = tuple(
        Family(name, tuple(sorted(members, key=lambda i: float(choice.scores[i]))))
        for name, members in own.items()
    )
    return Ranked(graph, found, ordered, choice, masks, quiet(graph, found, seen))


def _curves(setting: Setting, ranked: Ranked, oracle: Oracle) -> tuple[search.Curve, ...]:
    """What each layer loses: measured, or what its ranking says of its readers when they are refitted."""
    if not ranked.refitted:
        return search.sensitivity(ranked.families, oracle.loss, reporter(setting, "sensitivity"))
    errors = [
        (0.0, *(float(ranked.choice.scores[i]) for i in family.order[:-1])) for family in ranked.families
    ]
    pairs = zip(ranked.families, errors, strict=True)
    return tuple(search.Curve(family, tuple(range(len(own))), own) for family, own in pairs)


def _method(setting: Setting) -> str:
    return importance.method_for(setting.importance, setting.teacher)


def _target(setting: Setting, line: Sequence[Step], now: float) -> float:
    """The excess to aim at: the next of even steps from where pruning began; all at once when time is short, or where
    the ranking knows what is left after refitting: no training in between tells it more."""
    if setting.hurried() or importance.counts_on_refitting(_method(setting)):
        return 0.0
    first = next(step for step in line if step.action == "fold").after.cost
    excess, worst = (of(first, setting.budgets) for of in (search.excess, search.worst))
    return next(t for t in search.targets(excess, worst, STEP) if t < 0.9 * now)


def _candidate(setting: Setting, ranked: Ranked, model: Any, plan: Plan) -> Candidate:
    """A plan as a model: channels removed, what reads and feeds them refitted to the original by least squares."""
    smaller = remove(model, ranked.graph, ranked.pick(plan.groups))
    ridge, most = (redundancy.RIDGE, REFITTED) if ranked.refitted else (refitting.RIDGE, refitting.SAMPLES)
    fitted = refitting.refit(smaller, setting.teacher, setting.fit.x, ridge=ridge, most=most)
    loss = setting.judge.distance(answers(fitted, setting.judge.samples.x)).mean
    return Candidate(plan, fitted, loss)


def _exhausted(setting: Setting, cost: Cost) -> str:
    over = {name: ratio for name, ratio in search.ratios(cost, setting.budgets).items() if ratio > 1}
    listed = ", ".join(f"{name} {cost.of(name):,.0f}" for name in over)
    return f"nothing more can be removed, and the budgets are not met: {listed}\n  allow more, or take a larger board"
