"""`tinygen.prune`: from a Keras model and budgets to a smaller one, its project and the log of how it came about."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinygen import metrics
from tinygen.boards import load_board
from tinygen.budgets import Budgets, resolve
from tinygen.ctext import suggest_prefix
from tinygen.errors import ModelError, UsageError
from tinygen.frontend.keras import open_keras
from tinygen.given import input_shapes, labelled
from tinygen.given import representative as representative_samples
from tinygen.graph import Graph
from tinygen.metrics import Metric
from tinygen.pipeline import Report, silent
from tinygen.project import write_file
from tinygen.pruning import command, folders, inputs, journal, judging, reach, recipe, search, steps
from tinygen.pruning import importance as importances
from tinygen.pruning.costs import Costs
from tinygen.pruning.journal import Journal
from tinygen.pruning.judging import Judge
from tinygen.pruning.log import End, Log
from tinygen.pruning.outcome import Pruned
from tinygen.pruning.records import Step
from tinygen.pruning.setting import Setting, answers
from tinygen.samples import Options as SampleOptions
from tinygen.samples import Samples
from tinygen.selection import Choice, Optimize, check_optimize
from tinygen.tflite.export import export_tflite
from tinygen.wishes import read_wishes

AS_STORED = SampleOptions()
Told = Callable[[Step, Budgets], None]
Amount = str | int | float | None

LEFT_FOR_TRAINING = 0.8
"""Share of the minutes left that fine-tuning may take: quantizing, building and judging follow."""
HURRY = 0.4
"""Share of --max-minutes after which one step takes all that is left."""


def _nobody(step: Step, budgets: Budgets) -> None:
    """Nobody listens."""


def prune(
    model: str | Path,
    *,
    representative: str | Path | None,
    out: str | Path,
    board: str | Path = "mps2_an386",
    board_path: Sequence[str | Path] = (),
    eval: str | Path | None = None,
    metric: metrics.Kind | None = None,
    budget_sram: Amount = None,
    budget_flash: Amount = None,
    budget_weights: Amount = None,
    budget_macs: Amount = None,
    budget_cycles: Amount = None,
    budget_ms: Amount = None,
    max_drop: float | None = None,
    pin: str = "auto",
    pin_code: str = "auto",
    weights: str | None = None,
    optimize: Optimize = "balanced",
    importance: str = "auto",
    qat: bool = False,
    epochs: int | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    input_shape: Sequence[Any] = (),
    samples: SampleOptions = AS_STORED,
    resume: bool = False,
    force: bool = False,
    report: Report = silent,
    on_step: Told = _nobody,
) -> Pruned:
    """Remove channels of a Keras model until it meets every budget on the board, with the least loss found.

    Written to the folder `out` (docs/prune.md): pruned.keras, its int8 project, pruning_log.json, registry.json and a
    checkpoint of each step. Budgets: a number, "80K", or "60%" of what the original takes. representative: samples to
    train on and, a part held out, to choose by. eval: labelled samples that judge the result, once; max_drop: points
    (of 100; percent for mse) that int8 may lose there against the original.

    epochs: of the fine-tuning at the end; None takes as many as make recipe.Options.steps. max_minutes: stop with the
    best so far; runs that it cuts short are not deterministic, all others are for a seed on one machine.

    Raises UsageError, DataError, ModelError, and BudgetError where no smaller model meets the budgets.
    """
    arguments = {key: value for key, value in locals().items() if key not in command.NOT_KEPT}
    run = _Run(arguments, out, report)
    journal_of, last = run.open(resume, force, on_step)
    with journal_of as held:
        run.go_on(held, last)
        held.finish(run.finish)
        return Pruned(Path(out), held.log, run.notes)


def rollback(out: str | Path, step: int, *, report: Report = silent) -> Pruned:
    """Make an earlier step's model the result of a finished or interrupted run, and its project anew."""
    run = _Run(command.read(out), out, report)
    with journal.open_run(out) as held:
        held.rollback(step, run.finish)
        return Pruned(Path(out), held.log, run.notes)


def taught(own: recipe.Options, samples: Samples, fit: Samples, judged: bool) -> Samples:
    """What teaches in the last fine-tuning: all samples where an evaluation set judges and the recipe wants it."""
    return samples if own.everything and judged else fit


class _Run:
    """What the arguments mean: models, samples, budgets. Read once; nothing is written."""

    def __init__(self, arguments: Mapping[str, Any], out: str | Path, report: Report) -> None:
        self.arguments, self.out, self.report = arguments, Path(out), report
        self.notes: tuple[str, ...] = ()
        self.path = Path(arguments["model"])
        self.board = load_board(arguments["board"], [Path(folder) for folder in arguments["board_path"]])
        self.teacher, self.graph = _keras_model(self.path, arguments["input_shape"])
        if arguments["importance"] not in ("auto", *importances.METHODS):
            raise UsageError(importances.unknown(arguments["importance"]))
        self.samples = _representative(self.graph, arguments)
        self.judged = labelled(
            self.graph, arguments["eval"], arguments["samples"], arguments["metric"], arguments["max_drop"]
        )
        self.wishes = read_wishes(arguments["pin"], arguments["pin_code"], None, None, arguments["weights"])
        self.optimize: Optimize = arguments.get("optimize", "portable")  # a run of an earlier version
        check_optimize(self.optimize)
        self.costs = Costs(self.board, self.wishes, choice=Choice(self.optimize))

    def open(self, resume: bool, force: bool, on_step: Told) -> tuple[Journal, Any]:
        """(the folder held, the model of its last step). Everything that can be refused is refused before."""
        files = {key: self.arguments[key] for key in ("model", "representative", "eval")}
        apart = (*files, "board", "seed", *(["optimize"] if self.optimize == "portable" else []))
        others = {key: value for key, value in self.arguments.items() if key not in apart}
        asked = inputs.inputs_of(files, self.board, self.arguments["seed"], others)
        if resume and journal.has_run(self.out):
            resumed = journal.resume(self.out, asked, on_step)
            self.notes = resumed.notes
            model = _keras_model(resumed.model, ())[0] if resumed.model else self.teacher
            return resumed.journal, model
        budgets = self.budgets()
        self.judge()  # refuses
        return journal.start(self.out, asked, budgets, self.arguments, force, on_step), self.teacher

    def budgets(self) -> Budgets:
        """The user's texts as amounts; percents are of what the original takes."""
        given = {
            name: self.arguments[f"budget_{name}"]
            for name in ("sram", "flash", "weights", "macs", "cycles", "ms")
        }
        if all(value is None for value in given.values()):
            raise UsageError(
                "prune needs a budget to meet\n  for example --budget-sram 80K, or --budget-macs 60%"
            )
        budgets = resolve(given, self.costs.measure(self.graph))
        self.costs.budgets = budgets
        reach.check(reach.reach(self.graph, self.costs, budgets))
        return budgets

    def judge(self) -> tuple[Samples, Judge]:
        """(samples to fit, the judge of what is held out). Raises DataError where it cannot judge the allowed drop."""
        fit, held_out = judging.split(self.samples)
        original = answers(self.teacher, held_out.x)
        judge = judging.make_judge(self.graph, held_out, original, self.arguments["metric"])
        if self.arguments["max_drop"] is not None:
            said = judging.check_size(judge, self.arguments["max_drop"], self.samples.count)
            self.notes = tuple(dict.fromkeys((*self.notes, said))) if said else self.notes
        return fit, judge

    def setting(self, held: Journal) -> Setting:
        """What all steps share."""
        fit, judge = self.judge()
        budgets, given = held.log.budgets, self.arguments
        self.costs.budgets = budgets
        estimates = Costs(
            self.board, self.wishes, budgets, choice=self.costs.choice
        )  # formulas of these images alone: resuming asks the same
        self.notes = (*self.notes, *estimates.calibrate(self.graph).warnings)
        clock = _Clock(given["max_minutes"], held.log.seconds, time.perf_counter())
        own = recipe.recipe_for(self.teacher)
        return Setting(
            teacher=self.teacher,
            budgets=budgets,
            estimates=estimates,
            images=self.costs,
            representative=self.samples,
            fit=fit,
            taught=taught(own, self.samples, fit, given["eval"] is not None),
            judge=judge,
            importance=given["importance"],
            training=replace(own, epochs=given["epochs"], seed=given["seed"] + 1),
            qat=given["qat"],
            hurried=clock.hurried,
            minutes_left=clock.for_training,
            report=self.report,
        )

    def go_on(self, held: Journal, model: Any) -> None:
        """Step by step until nothing is left to do."""
        setting = self.setting(held)
        while (action := steps.next_action(held.log.line, setting.budgets, setting.qat)) is not None:
            start = time.perf_counter()
            made = steps.take(action, setting, held.log.line, model)
            model = made.model
            after = steps.figures(setting, made)
            before = held.log.line[-1].after if held.log.line else after
            name, sha256 = held.save(model)
            if made.int8 is not None:
                write_file(self._int8(name), export_tflite(made.int8), durable=True)
            seconds = time.perf_counter() - start
            number = held.log.next_number
            held.append(Step(number, action, made.why, made.removed, before, after, name, sha256, seconds))

    def finish(self, log: Log) -> End:
        """The project of the log's current step, and how it does on the evaluation set."""
        from tinygen import api

        out, given = self.out, self.arguments
        passed = ("representative", "board", "board_path", "eval", "metric", "pin", "pin_code", "weights")
        build = api.compile(
            self._source(log.line[-1]),
            out=out / folders.PROJECT,
            name=suggest_prefix(self.path.stem),
            samples=given["samples"],
            report=self.report,
            force=True,
            optimize=self.optimize,
            **self._limits(log),
            **{name: given[name] for name in passed},
        )
        original = self._original_metric()
        reached = search.excess(log.line[-1].after.cost, log.budgets) == 0
        why = "every budget is met" if reached else "not every budget is met"
        if original and build.int8_metric and given["max_drop"] is not None:
            lost = metrics.drop(original, build.int8_metric)
            if not metrics.allowed(lost, given["max_drop"]):
                reached, why = (
                    False,
                    f"{why}, but {lost:.2f} are lost on the evaluation set, --max-drop allows {given['max_drop']:g}",
                )
        return End(why, reached, original, build.float_metric, build.int8_metric)

    def _limits(self, log: Log) -> Mapping[str, Any]:
        """Budgets that pins have to leave room for, unless the model is too large for them anyhow."""
        budgets = log.budgets
        if search.excess(log.line[-1].after.cost, budgets) > 0:
            return {}
        return {"budget_sram": budgets.sram, "budget_flash": budgets.flash}

    def _int8(self, name: str) -> Path:
        """The int8 model beside a checkpoint."""
        return (self.out / name).with_suffix(".tflite")

    def _source(self, step: Step) -> Path:
        """What the project is made from: the Keras model, or what quantization-aware training made of it."""
        return self._int8(step.model) if step.action == "qat" else self.out / folders.RESULT

    def _original_metric(self) -> Metric | None:
        """Of the float original, on the evaluation set."""
        if self.judged is None:
            return None
        outputs = answers(self.teacher, self.judged.x)
        return metrics.judge(self.graph, self.judged, outputs, self.arguments["metric"])


@dataclass(frozen=True)
class _Clock:
    """--max-minutes, of which `spent` seconds went before this process began its part at `start`."""

    minutes: float | None
    spent: float
    start: float

    @property
    def gone(self) -> float:
        """Minutes."""
        return (self.spent + time.perf_counter() - self.start) / 60

    def hurried(self) -> bool:
        """True when what is left should go in one step."""
        return self.minutes is not None and self.gone > HURRY * self.minutes

    def for_training(self) -> float | None:
        """Minutes that a training may take from now on."""
        return None if self.minutes is None else max(LEFT_FOR_TRAINING * (self.minutes - self.gone), 0.01)


def _keras_model(path: Path, input_shape: Sequence[Any]) -> tuple[Any, Graph]:
    """(keras.Model, its graph). Raises ModelError for files that are no Keras models."""
    if path.suffix == ".tflite":
        raise ModelError(
            f"'{path}' is int8 already: prune takes the Keras model that it was made from (.keras or .h5)"
        )
    model, loaded = open_keras(path, input_shapes(input_shape))
    return model, loaded.graph


def _representative(graph: Graph, arguments: Mapping[str, Any]) -> Samples:
    """The representative set, checked against the model."""
    found = representative_samples(
        graph, arguments["model"], arguments["representative"], arguments["samples"], "int8"
    )
    assert found is not None
    judging.check(graph, found, arguments["metric"])
    return found
