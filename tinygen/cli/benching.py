"""`tinygen bench`: models x boards against the baseline in the user's repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinygen.cli import options as opt
from tinygen.errors import UsageError

if TYPE_CHECKING:
    from tinygen.bench_baseline import Cell
    from tinygen.benching import Benched

FIGURES = ("accuracy", "instructions", "cycles", "ms", "arena", "sram", "flash", "stack")
ABSOLUTE = ("arena", "stack")
"""Figures whose change is told in bytes, not in percent."""
NARROW, LEFT_OUT = 106, ("instructions", "ms")
"""Columns of a terminal below which these figures are left out, where cycles stand for them."""
LOG_WIDTH = 200


@click.command("bench")
@click.argument("path", type=opt.PATH, required=False)
@click.option(
    "--check", is_flag=True, help="Exit code 1 when a figure is worse than its gate or budget allows."
)
@click.option("--update", is_flag=True, help="Record the baseline anew, and append to the history.")
@click.option(
    "--only", multiple=True, metavar="MODEL[@BOARD]", help="Only these cells; may be given several times."
)
@opt.json_option
def bench_command(path: Path | None, check: bool, update: bool, only: tuple[str, ...], as_json: bool) -> int:
    """Measure models on boards, as PATH [default: tinygen-bench.toml] lists them, against a stored baseline.

    Accuracy is the int8 reference's, instructions are counted in an emulator, cycles are modelled. docs/bench.md
    shows the file and how to use it in CI. Exit code 1 when a cell has no figures, or --check finds a cause.

    \b
    Examples:
      tinygen bench                       the table, with changes against the baseline
      tinygen bench --check               in CI: one line per figure that got worse, with the layer
      tinygen bench --update              accept: writes the baseline, to be committed
      tinygen bench --only kws@pico --update
      tinygen bench ml/bench.toml --json
    """
    import tinygen
    from tinygen.bench_file import DEFAULT_FILE

    if check and update:
        raise UsageError("--check and --update exclude each other\n  check first, then accept with --update")
    with opt.progress() as report:
        made = tinygen.bench(path or DEFAULT_FILE, only=only, update=update, report=report)
    if as_json:
        opt.print_json(bench_data(made))
    else:
        _show(made, check, update)
    return 1 if made.failed or (check and not made.passed) else 0


def bench_data(made: Benched) -> dict[str, Any]:
    """The result as JSON-ready data. before: the baseline's figures, None without; sizes in bytes."""
    before = made.before or {}
    return {
        "file": str(made.bench.path),
        "baseline": str(made.bench.baseline),
        "passed": made.passed,
        "updated": made.updated,
        "cells": {
            c.name: {**figures(c), **_more(c), "before": _before(before.get(c.name))} for c in made.cells
        },
        "failed": {f.name: f.message for f in made.failed},
        "causes": [asdict(change) for change in made.verdict.causes],
        "improvements": [asdict(change) for change in made.verdict.improvements],
        "notes": list(made.verdict.notes),
    }


def figures(cell: Cell) -> dict[str, Any]:
    """What the table shows of a cell."""
    return {key: getattr(cell, key) for key in FIGURES}


def _more(cell: Cell) -> dict[str, Any]:
    layers = {name: asdict(layer) for name, layer in cell.layers.items()}
    return {
        "metric": cell.metric,
        "samples": cell.samples,
        "worst_ms": cell.worst_ms,
        "compiler": cell.compiler,
        "layers": layers,
    }


def _before(cell: Cell | None) -> dict[str, Any] | None:
    return None if cell is None else figures(cell)


# ---- for people


def _show(made: Benched, check: bool, update: bool) -> None:
    before = made.before or {}
    # a log is no screen: there the table is as wide as it needs to be
    screen = opt.stdout if opt.stdout.is_terminal else Console(width=LOG_WIDTH)
    screen.print(bench_table(made.cells, before, screen.width), highlight=False)
    for failed in made.failed:
        _say(f"{failed.model} on {failed.board} failed: {failed.message}", "red", opt.stderr)
    for change in made.verdict.improvements:
        _say(f"better: {change.text}", "green")
    for change in made.verdict.causes:
        if not made.updated:
            _say(change.text, "red" if check else "yellow", opt.stderr)
        elif change.kind != "cell":
            accepted = "accepted: " if change.kind == "gate" else ""
            _say(f"{accepted}{change.text}", "yellow", opt.stderr)
    for note in made.verdict.notes:
        _say(f"note: {note}", "dim", opt.stderr)
    _say(_end(made, check, update), "bold")


def _say(text: str, style: str, console: Any = opt.stdout) -> None:
    """One line whatever the width: CI greps it."""
    console.print(Text(text, style), soft_wrap=True)


def _end(made: Benched, check: bool, update: bool) -> str:
    """What came out, and what to do next."""
    causes, path = len(made.verdict.causes), made.bench.path
    if made.updated:
        history = f", one more line in '{made.bench.history}'" if made.bench.history else ""
        return f"recorded {_count(len(made.cells), 'cell')} in '{made.bench.baseline}'{history}"
    failed = f"{_count(len(made.failed), 'cell')} without figures" if made.failed else ""
    if update:
        return f"nothing was recorded: {failed}; take them out of '{path}', or record others with --only"
    if check and not made.passed:
        told = " and ".join(part for part in (_count(causes, "cause") if causes else "", failed) if part)
        return f"check failed: {told}{_mend(made)}"
    if made.verdict.improvements:
        return f"keep what was won: tinygen bench {path} --update"
    if check:
        return f"check passed: {_count(len(made.cells), 'cell')}"
    return f"--check would {'pass' if made.passed else 'fail'}"


def _mend(made: Benched) -> str:
    """How to accept what --check refuses; "" where nothing can be accepted."""
    if not made.verdict.causes:
        return ""
    by_update = any(change.kind != "budget" for change in made.verdict.causes)
    how = (
        f"tinygen bench {made.bench.path} --update" if by_update else f"raise budgets in '{made.bench.path}'"
    )
    return f"; if it is meant to be so: {how}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s'[: count != 1]}"


def bench_table(cells: Sequence[Cell], before: Mapping[str, Cell], width: int = LOG_WIDTH) -> Table:
    """One row per cell; below every figure its change against the baseline, where it changed. width: in columns."""
    narrow = width < NARROW and all(cell.cycles is not None for cell in cells)
    shown = [key for key in FIGURES if not (narrow and key in LEFT_OUT)]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("model", "board"):
        table.add_column(title, overflow="fold")
    for key in shown:
        table.add_column("SRAM" if key == "sram" else key, justify="right", no_wrap=True)
    for cell in cells:
        old = before.get(cell.name)
        values = [Text.assemble(_figure(cell, key), _change(cell, old, key)) for key in shown]
        name = Text.assemble(cell.model, ("" if old else "\nnew", "dim"))
        table.add_row(name, cell.board, *values)
    return table


def _figure(cell: Cell, key: str) -> str:
    from tinygen.bench_gates import metric_text
    from tinygen.profile_text import decimal, number

    if key == "accuracy":
        return metric_text(cell)
    value = getattr(cell, key)
    return decimal(value, 4) if key == "ms" else number(value)


def _change(cell: Cell, old: Cell | None, key: str) -> Text:
    """`\\n+2.05 %`, red where it is worse; empty where nothing changed or nothing is known."""
    new, was = getattr(cell, key), None if old is None else getattr(old, key)
    if new is None or was is None or new == was:
        return Text("")
    better = (new > was) == (key == "accuracy" and cell.metric != "mse")
    return Text(f"\n{_change_text(cell, key, was, new)}", "green" if better else "red")


def _change_text(cell: Cell, key: str, was: float, new: float) -> str:
    from tinygen.bench_gates import percent_text

    if key == "accuracy" and cell.metric != "mse":
        return f"{100 * (new - was):+.2f}"
    return f"{new - was:+,}" if key in ABSOLUTE else percent_text(was, new)
