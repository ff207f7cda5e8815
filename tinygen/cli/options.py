"""Options and output helpers that several commands share: one name for one thing everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tinygen.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)

stdout = Console(soft_wrap=False)
stderr = Console(stderr=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
board_option = click.option(
    "--board", default="mps2_an386", show_default=True, help="Board name or a .toml file."
)
boards_option = click.option(
    "--board",
    multiple=True,
    default=("mps2_an386",),
    show_default=True,
    help="Board name or a .toml file; several --board share one project.",
)
board_path_option = click.option(
    "--board-path",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with board descriptions (.toml) of yours; they come before ours.",
)
weights_option = click.option(
    "--weights",
    metavar="REGION",
    help="Read-only region of the board that holds the weights, e.g. qspi [default: that of the code].",
)
optimize_option = click.option(
    "--optimize",
    default="balanced",
    show_default=True,
    help="Which kernels are chosen: size, balanced or speed (docs/performance.md).",
)
emulator_option = click.option(
    "--emulator",
    default="qemu",
    show_default=True,
    help="qemu, unicorn, renode, host, or serial: a real board ('tinygen doctor' shows the matrix).",
)


def shape_option(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[Any, ...]:
    """Parse repeated --input-shape 96,96,3 or --input-shape image=96,96,3 into (name or '', shape) pairs."""
    return tuple(_named_shape(text) for text in values)


def _named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        if any(size <= 0 for size in shape):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--input-shape '{text}' is not a shape: positive sizes without the batch\n"
            "  for example --input-shape 96,96,3, or with several inputs --input-shape image=96,96,3"
        ) from None
    return name, shape


def scaling_options(command: Command) -> Command:
    """How samples in a file become the model's real-valued inputs."""
    for option in (
        click.option(
            "--input-scale", type=float, help="Real input = stored value * scale + offset (default 1)."
        ),
        click.option("--input-offset", type=float, help="See --input-scale (default 0)."),
        click.option(
            "--preprocess", help="module:function or file.py:function of yours that prepares samples."
        ),
    ):
        command = option(command)
    return command


def sample_options(scale: float | None, offset: float | None, preprocess: str | None) -> Any:
    """The three scaling options as samples.Options."""
    from tinygen.samples import Options

    return Options(scale, offset, preprocess)


def model_options(command: Command) -> Command:
    """What the commands that read a model share."""
    for option in (
        click.option(
            "--input-shape", multiple=True, callback=shape_option, help="Fix a dynamic shape, e.g. 96,96,3."
        ),
        click.option(
            "--representative", type=PATH, help="Calibration samples: .npy, .npz (key x) or a folder."
        ),
    ):
        command = option(command)
    return command


def budget_options(command: Command) -> Command:
    """What an image may take; more is exit code 1."""
    for option in (
        click.option(
            "--budget-flash", type=int, help="Bytes of flash that the firmware may use [default: all]."
        ),
        click.option(
            "--budget-sram", type=int, help="Bytes of SRAM that the firmware may use [default: all]."
        ),
        click.option(
            "--budget-ms",
            type=click.FloatRange(min=0, min_open=True),
            help="Milliseconds that an inference may take, modelled [default: any].",
        ),
    ):
        command = option(command)
    return command


BUDGETS = {
    "sram": "Bytes of SRAM: arena, pinned weights, stack, variables. 80K, 1.5M, or 60% of the original's.",
    "flash": "Bytes of flash.",
    "weights": "Bytes of the int8 model's constants.",
    "macs": "Multiply-accumulates of an inference, e.g. 2.6M.",
    "cycles": "Modelled cycles of an inference.",
    "ms": "Modelled milliseconds of an inference.",
}


def _readable(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """The amount as it was given, if it is one: a mistake is said before anything is loaded."""
    from tinygen.budgets import amount

    if text is not None:
        amount(str(parameter.name).removeprefix("budget_"), text, 1.0)
    return text


def budget_texts(*names: str) -> Callable[[Command], Command]:
    """A budget per resource, absolute or relative to the original."""

    def add(command: Command) -> Command:
        for name in reversed(names):
            command = click.option(
                f"--budget-{name}", metavar="AMOUNT", callback=_readable, help=BUDGETS[name]
            )(command)
        return command

    return add


def absolute(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Arguments budget_NAME of texts, as numbers. Raises UsageError for shares: of what?"""
    from tinygen.budgets import amount

    found: dict[str, Any] = {}
    for key, text in ((f"budget_{name}", given[f"budget_{name}"]) for name in names):
        if text is not None and "%" in text:
            option = "--" + key.replace("_", "-")
            raise UsageError(
                f"{option} {text} is a share of what the original takes: that is for --prune\n"
                "  give an amount, such as 80K"
            )
        value = None if text is None else amount(key.removeprefix("budget_"), text, None)
        found[key] = int(value) if value is not None and key != "budget_ms" else value
    return found


@contextmanager
def progress(time_left: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yields report(stage, done, total): one bar per stage on stderr, only on a terminal, gone at the end.

    time_left: for long work whose stages come again; bars say when they will be full, and full ones go.
    """
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    ]
    if time_left:
        columns += [TimeRemainingColumn(), TextColumn("left")]
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            elif time_left and done < bars.tasks[tasks[stage]].completed:
                bars.reset(tasks[stage], total=total)
            bars.update(tasks[stage], completed=done, total=total, visible=not time_left or done < total)

        yield report


def print_json(data: Any) -> None:
    """JSON on stdout, one document."""
    click.echo(json.dumps(data, indent=2, sort_keys=False))
