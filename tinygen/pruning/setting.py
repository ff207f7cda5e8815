"""What all steps of a pruning run share, what each makes, and the training that they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinygen.budgets import Budgets
from tinygen.graph import Array, Graph
from tinygen.pruning import distillation
from tinygen.pruning.costs import Costs
from tinygen.pruning.judging import Judge
from tinygen.pruning.records import Removal
from tinygen.samples import Samples


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


def trained(
    setting: Setting, model: Any, options: distillation.Options, stage: str, taught: Samples | None = None
) -> distillation.Trained:
    """Distillation from the original, as long as time allows. taught: what teaches, by default setting.fit."""
    x, held_out = (taught or setting.fit).x, setting.judge.samples.x
    options = replace(options, minutes=setting.minutes_left(), refit=False)  # candidates have been
    return distillation.train(model, setting.teacher, x, held_out, options, teller(setting, stage))


def answers(model: Any, x: Sequence[Array]) -> tuple[Array, ...]:
    """Outputs of a keras.Model, each (N, *shape)."""
    outputs = model.predict(list(x) if len(x) > 1 else x[0], batch_size=64, verbose=0)
    return tuple(outputs) if isinstance(outputs, list | tuple) else (outputs,)


def reporter(setting: Setting, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: setting.report(stage, done, total)


def teller(setting: Setting, stage: str) -> Callable[[distillation.Progress], None]:
    return lambda progress: setting.report(stage, progress.epoch, progress.epochs)
