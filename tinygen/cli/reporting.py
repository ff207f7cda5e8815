"""`tinygen report`: one HTML file about a project, to look at and to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinygen.cli import options as opt
from tinygen.errors import UsageError


@click.command("report")
@click.argument("folder", type=opt.PATH)
@click.option(
    "-o", "--out", type=opt.PATH, default=Path("report.html"), show_default=True, help="File to write."
)
@click.option("--board", help="Board of the project [default: its first].")
@click.option(
    "--profile", type=opt.PATH, help="A saved 'tinygen profile --json' of this project [default: run it]."
)
@click.option("--no-profile", is_flag=True, help="Without time, traffic and memory map: needs no compiler.")
@click.option("--compare", type=opt.PATH, help="A former build: another project, or its saved profile.")
@click.option(
    "--ladder", type=opt.PATH, help="File of 'python -m benchmarks.ladder' [default: the project's]."
)
@click.option("--history", type=opt.PATH, help="File that 'tinygen bench' keeps.")
@opt.budget_options
@opt.json_option
def report_command(
    folder: Path, out: Path, profile: Path | None, no_profile: bool, as_json: bool, **given: Any
) -> None:
    """Write one HTML file about the project in FOLDER: model, memory, time, quantization error.

    The file needs no network and no other file. Cycles are modelled: docs/cycles.md.

    \b
    Examples:
      tinygen report fw/
      tinygen report fw/ -o kws.html --budget-ms 8 --compare fw_old/
      tinygen report fw/ --no-profile
    """
    from tinygen import api
    from tinygen.budgets import Budgets

    if profile and no_profile:
        raise UsageError("--profile and --no-profile exclude each other")
    budgets = Budgets(**{name: given.pop(f"budget_{name}") for name in ("ms", "sram", "flash")})
    wish = "none" if no_profile else profile or "run"
    with opt.progress() as progress:
        text = api.report(folder, out, profile=wish, budgets=budgets, progress=progress, **given)
    size = len(text.encode())
    if as_json:
        opt.print_json({"report": str(out), "bytes": size})
        return
    opt.stdout.print(f"report     {out} ({size:,} bytes)", markup=False, highlight=False, soft_wrap=True)
