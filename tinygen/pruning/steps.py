"""What a pruning run does next, and how: every action makes a model of that of the step before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tinygen import decisions, scoring
from tinygen.budgets import Budgets
from tinygen.channels import groups
from tinygen.frontend.keras import load_keras_model
from tinygen.fusion import fuse
from tinygen.pipeline import final, quantized_by
from tinygen.pruning import candidates, folding, search
from tinygen.pruning.records import Action, Figures, Step
from tinygen.pruning.removals import quiet, removals
from tinygen.pruning.setting import Made, Setting, answers, teller, trained
from tinygen.pruning.statistics import statistics
from tinygen.quantized_training import training
from tinygen.samples import quantize_inputs

STARTS, AFFORDABLE = 3, 1e11
"""Seeds that the fine-tuning at the end tries, the best on held-out samples stays, where one forward pass over all its
batches takes fewer multiply-accumulates: about a minute each."""


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


def _fine_tune(setting: Setting, line: Sequence[Step], model: Any) -> Made:
    """The original teaches what is left of it."""
    options = setting.training
    work = line[-1].after.cost.macs * options.batch * options.steps
    options = replace(options, starts=STARTS if work < AFFORDABLE else 1)
    learned = trained(setting, model, options, "fine-tune", setting.taught)
    epochs = len(learned.history) - 1
    why = f"epoch {learned.best} of {epochs}: loss {learned.given:.4g} -> {learned.loss:.4g}"
    known = (
        ""
        if setting.taught is setting.fit
        else "; held-out samples taught, too: --eval alone judges from here on"
    )
    return Made(learned.model, why + (f"; {learned.stopped}" if learned.stopped else "") + known)


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
    learned = training.train(
        model, setting.representative, options, teller(setting, "qat"), setting.teacher, setting.report
    )
    first, last = learned.history[0], learned.history[learned.best]
    why = f"epoch {learned.best} of {len(learned.history) - 1}: loss {first.held_out:.4g} -> {last.held_out:.4g}"
    stopped = f"; {learned.stopped}" if learned.stopped else ""
    kept = model if learned.model is None else learned.model
    return Made(kept, why + stopped, int8=final(learned.graph))


_ACTIONS: dict[Action, Callable[[Setting, Sequence[Step], Any], Made]] = {
    "original": _original,
    "fold": _fold,
    "prune": candidates.pruned,
    "fine-tune": _fine_tune,
    "qat": _qat,
    "int8": _int8,
}


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
