"""What a pruning run does next, and how: every action makes a model of that of the step before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinygen import decisions, scoring
from tinygen.budgets import Budgets
from tinygen.channels import ChannelGroup, groups
from tinygen.errors import BudgetError
from tinygen.frontend.keras import load_keras_model
from tinygen.fusion import fuse
from tinygen.graph import Array, Graph
from tinygen.pipeline import final, quantized_by
from tinygen.pruning import distillation, folding, importance, recipe, redundancy, refitting, search
from tinygen.pruning.costs import Costs
from tinygen.pruning.judging import Judge
from tinygen.pruning.masks import Masks
from tinygen.pruning.readers import families
from tinygen.pruning.records import Action, Cost, Figures, Removal, Step
from tinygen.pruning.removals import Quiet, quiet, removals
from tinygen.pruning.search import Family, Oracle, Plan
from tinygen.pruning.shrinking import shrunk
from tinygen.pruning.statistics import statistics
from tinygen.pruning.surgery import remove
from tinygen.quantized_training import training
from tinygen.samples import Samples, quantize_inputs

STEP = 0.35
"""What a step takes at most of the largest log(amount / budget): about 30 % of what is too much."""
SHORT, TRIAL = 0.15, 0.06
"""Share of the fine-tuning that the best candidate of a step gets, or each where all is taken in one step."""
REFITTED = 4096
"""Samples that refitting looks at where the ranking counts on it."""
STARTS, AFFORDABLE = 3, 1e11
"""Seeds that the fine-tuning at the end tries, the best on held-out samples stays, where one forward pass over all its
batches takes fewer multiply-accumulates: about a minute each."""


@dataclass(frozen=True)
class Setting:
    """What stays the same during a run. teacher: the original keras.Model; minutes_left: None without a limit. fit:
    what teaches while candidates are chosen, taught: in the last fine-tuning.

    estimates, images: costs of candidates by formula, and of the steps' results by building and following them.
    """

    teacher: Any
    budgets: Budgets
    estimates: Costs
    images: Costs
    representative: Samples
    fit: Samples
    taught: Samples
    judge: Judge
    importance: str
    training: distillation.Options
    qat: bool
    hurried: Callable[[], bool]
    minutes_left: Callable[[], float | None]
    report: Callable[[str, int, int], None]


@dataclass(frozen=True)
class Made:
    """What an action made. int8: the quantized model, where it was made."""

    model: Any
    why: str
    removed: tuple[Removal, ...] = ()
    int8: Graph | None = None


def next_action(line: Sequence[Step], budgets: Budgets, qat: bool) -> Action | None:
    """What comes behind these steps; None: the last one is the result."""
    if not line:
        return "original"
    actions = [step.action for step in line]
    if "fold" not in actions:
        return "fold"
    if search.excess(line[-1].after.cost, budgets) > 0:
        return "prune"
    pruned = [number for number, action in enumerate(actions) if action == "prune"]
    since = actions[pruned[-1] :] if pruned else actions
    if pruned and "fine-tune" not in since:
        return "fine-tune"
    last: Action = "qat" if qat else "int8"
    return None if last in since else last


def take(action: Action, setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """Do it. model: of the last step, the original for the first. Raises BudgetError where nothing more can go."""
    return _ACTIONS[action](setting, line, model)


# ---- actions


def _original(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    return Made(model, "as it was given")


def _fold(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """Channels that have one value in every sample go: the biases behind take their part, nothing is lost."""
    graph = load_keras_model(model)
    found = groups(graph)
    seen = statistics(graph, setting.fit)
    constant = folding.constant_groups(graph, found, seen)
    if not constant:
        return Made(model, "no channel has the same value in every sample")
    why = "the same value in every sample"
    removed = removals(graph, found, constant, "exact", why, quiet(graph, found, seen))
    smaller = folding.fold(model, graph, found, constant, seen)
    return Made(smaller, f"{len(constant)} channels have the same value in every sample", removed)


def _prune(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """The better of the search's candidates after a short fine-tuning of each."""
    ranked = _rank(setting, model)
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
    tried = [_candidate(setting, ranked, model, plan) for plan in plans]
    options = _shortened(setting.training, len(setting.fit.x[0]), TRIAL if ranked.redundant else SHORT)
    best, trained = _best(setting, tried, options, ranked.redundant)
    others = "".join(f", {c.plan.how} {c.loss:.4g}" for c in tried if c is not best)
    binding = search.binding(line[-1].after.cost, setting.budgets)
    why = f"{binding} binds; {best.plan.how}, ranked by {ranked.choice.method}: loss {best.loss:.4g} refitted"
    return Made(
        trained.model,
        f"{why}{others}; short fine-tuning: {trained.given:.4g} -> {trained.loss:.4g}",
        ranked.removals(best.plan.groups),
    )


def _best(
    setting: Setting, tried: Sequence[_Candidate], options: distillation.Options, after: bool
) -> tuple[_Candidate, distillation.Trained]:
    """The candidate with the least held-out loss, shortly trained: after that where all is taken in one step, for
    much of what a refitted model loses is soon learned; else before it, and only the best trains."""
    chosen = tried if after else [min(tried, key=lambda candidate: candidate.loss)]
    pairs = [(c, _train(setting, c.model, options, "short fine-tuning")) for c in chosen]
    return min(pairs, key=lambda pair: pair[1].loss)


def _shortened(options: distillation.Options, count: int, share: float) -> distillation.Options:
    """A share of the fine-tuning over `count` samples."""
    return replace(options, epochs=max(1, round(share * options.epochs_for(count))))


def _fine_tune(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """The original teaches what is left of it."""
    options = setting.training
    work = line[-1].after.cost.macs * options.batch * options.steps
    options = replace(options, starts=STARTS if work < AFFORDABLE else 1)
    trained = _train(setting, model, options, "fine-tune", setting.taught)
    epochs = len(trained.history) - 1
    why = f"epoch {trained.best} of {epochs}: loss {trained.given:.4g} -> {trained.loss:.4g}"
    known = (
        ""
        if setting.taught is setting.fit
        else "; held-out samples taught, too: --eval alone judges from here on"
    )
    return Made(trained.model, why + (f"; {trained.stopped}" if trained.stopped else "") + known)


def _int8(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """Post-training quantization, as `tinygen compile` does it."""
    quantized = quantized_by(
        fuse(load_keras_model(model)), setting.representative, decisions.Options(), setting.report
    )
    return Made(model, "quantized after training", int8=final(quantized.graph))


def _qat(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """Weights and scales learn to answer as the original does, rounded as int8 rounds them."""
    options = training.Options(
        epochs=setting.training.epochs, minutes=setting.minutes_left(), seed=setting.training.seed
    )
    trained = training.train(
        model, setting.representative, options, _teller(setting, "qat"), setting.teacher, setting.report
    )
    first, last = trained.history[0], trained.history[trained.best]
    why = f"epoch {trained.best} of {len(trained.history) - 1}: loss {first.held_out:.4g} -> {last.held_out:.4g}"
    stopped = f"; {trained.stopped}" if trained.stopped else ""
    kept = model if trained.model is None else trained.model
    return Made(kept, why + stopped, int8=final(trained.graph))


_ACTIONS: dict[Action, Callable[[Setting, Sequence[Step], Any], Made]] = {
    "original": _original,
    "fold": _fold,
    "prune": _prune,
    "fine-tune": _fine_tune,
    "qat": _qat,
    "int8": _int8,
}


def _train(
    setting: Setting, model: Any, options: distillation.Options, stage: str, taught: Samples | None = None
) -> distillation.Trained:
    """Distillation from the original, as long as time allows. taught: what teaches, by default setting.fit."""
    x, held_out = (taught or setting.fit).x, setting.judge.samples.x
    options = replace(options, minutes=setting.minutes_left(), refit=False)  # _candidate did it
    return distillation.train(model, setting.teacher, x, held_out, options, _teller(setting, stage))


# ---- figures


def figures(setting: Setting, made: Made) -> Figures:
    """Held-out loss and metric of a model, and what it takes on the board, built and profiled."""
    judge = setting.judge
    outputs = answers(made.model, judge.samples.x)
    loss, metric = judge.distance(outputs).mean, judge.figure(outputs)
    if made.int8 is None:
        return Figures(setting.images.measure(load_keras_model(made.model)), loss, metric)
    x = quantize_inputs(made.int8, judge.samples.x)
    integers = scoring.reference_outputs(made.int8, x, setting.report, "int8")
    int8 = judge.figure(scoring.dequantized(made.int8, integers))
    return Figures(setting.images.measure(made.int8), loss, metric, int8)


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
    choice: importance.Choice
    masks: Masks
    quiet: Quiet

    @property
    def redundant(self) -> bool:
        """True where the ranking counts on refitting."""
        return self.choice.method == "redundancy"

    def pick(self, gone: frozenset[int]) -> list[ChannelGroup]:
        """The groups with these indices."""
        return [self.found[i] for i in sorted(gone)]

    def removals(self, gone: frozenset[int]) -> tuple[Removal, ...]:
        """What goes, for the log."""
        whys = {family: f"least by {method}" for family, method in self.choice.methods.items()}
        return removals(self.graph, self.found, gone, "refitted", whys, self.quiet)


def _rank(setting: Setting, model: Any) -> _Ranked:
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
    return _Ranked(graph, found, ordered, choice, masks, quiet(graph, found, seen))


def _curves(setting: Setting, ranked: _Ranked, oracle: Oracle) -> tuple[search.Curve, ...]:
    """What each layer loses: measured, or what its ranking says of its readers when they are refitted."""
    if not ranked.redundant:
        return search.sensitivity(ranked.families, oracle.loss, _reporter(setting, "sensitivity"))
    errors = [
        (0.0, *(float(ranked.choice.scores[i]) for i in family.order[:-1])) for family in ranked.families
    ]
    pairs = zip(ranked.families, errors, strict=True)
    return tuple(search.Curve(family, tuple(range(len(own))), own) for family, own in pairs)


def _method(setting: Setting) -> str:
    """What ranks channels: autoencoders keep what the others cannot stand in for, unless the user says otherwise."""
    alike = setting.importance == "auto" and recipe.reconstructs(setting.teacher)
    return "redundancy" if alike else setting.importance


def _target(setting: Setting, line: Sequence[Step], now: float) -> float:
    """The excess to aim at: the next of even steps from where pruning began; all at once when time is short, or where
    the ranking knows what is left after refitting: no training in between tells it more."""
    if setting.hurried() or _method(setting) == "redundancy":
        return 0.0
    first = next(step for step in line if step.action == "fold").after.cost
    excess, worst = (of(first, setting.budgets) for of in (search.excess, search.worst))
    return next(t for t in search.targets(excess, worst, STEP) if t < 0.9 * now)


def _candidate(setting: Setting, ranked: _Ranked, model: Any, plan: Plan) -> _Candidate:
    """A plan as a model: channels removed, what reads and feeds them refitted to the original by least squares."""
    smaller = remove(model, ranked.graph, ranked.pick(plan.groups))
    ridge, most = (redundancy.RIDGE, REFITTED) if ranked.redundant else (refitting.RIDGE, refitting.SAMPLES)
    fitted = refitting.refit(smaller, setting.teacher, setting.fit.x, ridge=ridge, most=most)
    loss = setting.judge.distance(answers(fitted, setting.judge.samples.x)).mean
    return _Candidate(plan, fitted, loss)


def _exhausted(setting: Setting, cost: Cost) -> str:
    over = {name: ratio for name, ratio in search.ratios(cost, setting.budgets).items() if ratio > 1}
    listed = ", ".join(f"{name} {cost.of(name):,.0f}" for name in over)
    return f"nothing more can be removed, and the budgets are not met: {listed}\n  allow more, or take a larger board"


# ---- progress


def _reporter(setting: Setting, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: setting.report(stage, done, total)


def _teller(setting: Setting, stage: str) -> Callable[[distillation.Progress], None]:
    return lambda progress: setting.report(stage, progress.epoch, progress.epochs)
