"""`tinygen prune`: a smaller Keras model that meets the board's budgets, its project, and what each step cost."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.text import Text

from tinygen.cli import options as opt
from tinygen.errors import BudgetError, RunError, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])

ALONE = ("out", "rollback", "as_json")
"""What may be given with --rollback."""


@click.command("prune")
@click.argument("model", type=opt.PATH, required=False)
@opt.model_options
@click.option("--eval", "evaluation", type=opt.PATH, help="Labelled samples that judge the result, once.")
@click.option(
    "--metric", help="accuracy, auc (of the reconstruction error) or mse; found from labels and shapes."
)
@click.option(
    "--max-drop", type=float, help="At most so much worse: points (accuracy, auc) or percent (mse)."
)
@opt.scaling_options
@opt.board_option
@opt.board_path_option
@opt.budget_texts(*opt.BUDGETS)
@click.option(
    "--pin", default="auto", show_default=True, help="Weights in fast memory: see 'tinygen compile'."
)
@click.option(
    "--pin-code", default="auto", show_default=True, help="Kernels in fast memory: auto, all or none."
)
@opt.weights_option
@opt.optimize_option
@click.option(
    "--importance", default="auto", show_default=True, help="How channels are ranked; auto measures."
)
@click.option("--qat", is_flag=True, help="Quantization-aware training as the last stage.")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Of the fine-tuning at the end [default: by the set's size]."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same result."
)
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Stop with the best so far.")
@click.option("--out", type=opt.PATH, required=True, help="Folder for model, project, log and checkpoints.")
@click.option(
    "--resume", is_flag=True, help="Go on with the interrupted run in --out; MODEL may be left out."
)
@click.option(
    "--rollback", type=click.IntRange(min=0), metavar="STEP", help="Make STEP's model the result again."
)
@click.option("--force", is_flag=True, help="Begin anew in a folder that holds a run.")
@opt.json_option
@click.pass_context
def prune_command(context: click.Context, /, out: Path, rollback: int | None, as_json: bool, **_: Any) -> int:
    """Remove channels from MODEL (.keras or .h5) until it meets every budget on the board, with the least loss.

    Writes a smaller Keras model, its int8 project, a log of every step and a checkpoint of each: docs/prune.md.
    Exit code 1 when a budget is not met.

    \b
    Examples:
      tinygen prune ic.keras --board nucleo_f446re --representative train.npz --budget-sram 80K --out pruned/
      tinygen prune kws.keras --board pico --representative train.npz --eval eval.npz --budget-ms 250 --out pruned/
      tinygen prune ad.keras --representative train.npz --budget-weights 50% --max-minutes 20 --out pruned/
      tinygen prune --resume --out pruned/            after an interruption
      tinygen prune --rollback 4 --out pruned/        step 4 is good enough
    """
    from tinygen.cli import pruning_text as text

    with _resumable(out):
        made = _rolled_back(context) if rollback is not None else _pruned(context)
    data = text.pruned_data(made)
    opt.print_json(data) if as_json else show(made)
    return 0 if data["reached"] else 1


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Ctrl-C says how to go on, where there is something to go on with."""
    from tinygen.pruning.journal import has_run

    try:
        yield
    except KeyboardInterrupt:
        if not has_run(folder):
            raise
        raise RunError(
            f"interrupted: every finished step is kept\n  go on with: tinygen prune --resume --out {folder}"
        ) from None


def _driver() -> Any:
    """The module with prune and rollback: it loads what trains, so only when there is something to do."""
    return importlib.import_module("tinygen.prune_api")


def _rolled_back(context: click.Context) -> Any:
    _check_alone(context)
    with opt.progress(time_left=True) as report:
        return _driver().rollback(context.params["out"], context.params["rollback"], report=report)


def _pruned(context: click.Context) -> Any:
    arguments = arguments_of(context)
    with opt.progress(time_left=True) as report:
        return _driver().prune(out=context.params["out"], report=report, on_step=_teller(), **arguments)


def arguments_of(context: click.Context) -> dict[str, Any]:
    """Arguments for tinygen.prune, by name. With --resume those that the run began with, but for those given now."""
    from tinygen.pruning import command

    resume, out = context.params["resume"], context.params["out"]
    if context.params["model"] is None and not resume:
        raise UsageError(
            "MODEL is missing: the .keras or .h5 file to prune\n  or go on with a run: --resume --out FOLDER"
        )
    if context.params["model"] is not None:
        return {**_named(context.params), "resume": resume, "force": context.params["force"]}
    given = {key: context.params[key] for key in _given(context)}
    named = {
        key: value for key, value in _named({**context.params, **given}).items() if _was_given(key, given)
    }
    return {**command.read(out), **named, "resume": True, "force": False}


SCALING = ("input_scale", "input_offset", "preprocess")


def _named(params: dict[str, Any]) -> dict[str, Any]:
    """The command's parameters by the names of tinygen.prune."""
    kept = {key: value for key, value in params.items() if key not in (*ALONE, *SCALING, "resume", "force")}
    kept["eval"] = kept.pop("evaluation")
    return {**kept, "samples": opt.sample_options(*(params[key] for key in SCALING))}


def _was_given(name: str, given: dict[str, Any]) -> bool:
    """True when an argument of tinygen.prune stands on the command line."""
    if name == "samples":
        return any(key in given for key in SCALING)
    return ("evaluation" if name == "eval" else name) in given


def _given(context: click.Context) -> list[str]:
    """Parameters that stand on the command line."""
    return [key for key in context.params if context.get_parameter_source(key) is ParameterSource.COMMANDLINE]


def _check_alone(context: click.Context) -> None:
    others = [key for key in _given(context) if key not in ALONE]
    if others:
        name = "MODEL" if others[0] == "model" else f"--{others[0].replace('_', '-')}"
        raise UsageError(
            f"--rollback takes no {name}: it makes the project with what the run began with\n"
            "  tinygen prune --rollback STEP --out FOLDER"
        )


def _teller() -> Callable[[Any, Any], None]:
    """Says each step on stderr as it is taken."""
    from tinygen.cli.pruning_text import step_line

    def tell(step: Any, budgets: Any) -> None:
        opt.stderr.print(Text(step_line(step, budgets)), soft_wrap=True)

    return tell


def show(made: Any) -> None:
    """Tables and the closing lines."""
    from tinygen.cli import pruning_text as text

    for note in made.notes:
        opt.stderr.print(f"note: {note}", markup=False, highlight=False)
    opt.stdout.print(text.steps_table(made.log, opt.stdout.width), highlight=False)
    opt.stdout.print()
    opt.stdout.print(text.summary(made), highlight=False)
    for line in text.closing(made):
        opt.stdout.print(Text(line), soft_wrap=True)


# ---- compile --prune

SHARED = (
    "representative", "eval", "metric", "max_drop", "input_shape", "samples", "board_path", "pin", "pin_code",
    "weights", "optimize", "budget_sram", "budget_flash", "budget_ms",
)  # fmt: skip
"""Arguments of tinygen.compile that are tinygen.prune's, too."""


def prune_first(model: Path, out: Path, force: bool, given: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Prune a model beside the project folder `out`: (the smaller model, arguments of compile that change with it).

    An interrupted or finished run there goes on. Raises BudgetError when a budget is not met, and what prune raises.
    """
    from tinygen.ctext import suggest_prefix
    from tinygen.pruning.journal import has_run

    if not any(given[f"budget_{name}"] for name in ("sram", "flash", "ms")):
        raise UsageError(
            "--prune needs a budget: --budget-sram, --budget-flash or --budget-ms\n"
            "  tinygen prune has more of them"
        )
    if given["precision"] != "int8" or len(given["board"]) != 1:
        raise UsageError(
            "--prune takes one --board and --precision int8\n  compile the pruned model for the others"
        )
    folder = out.with_name(f"{out.name}-pruned")
    shared = {key: given[key] for key in SHARED}
    resume = has_run(folder) and not force
    with _resumable(folder), opt.progress(time_left=True) as report:
        made = _driver().prune(
            model,
            out=folder,
            board=given["board"][0],
            resume=resume,
            force=force,
            report=report,
            on_step=_teller(),
            **shared,
        )
    if not made.log.end.reached:
        raise BudgetError(
            f"pruning did not meet every budget: {made.log.end.why}\n  its steps are in '{folder}'"
        )
    budgets = {f"budget_{name}": getattr(made.log.budgets, name) for name in ("sram", "flash", "ms")}
    return made.model, {"name": given["name"] or suggest_prefix(model.stem), **budgets}
