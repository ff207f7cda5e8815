"""`tinygen pio`: PlatformIO without its registry."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from tinygen.cli import options as opt


@click.group("pio")
def pio_command() -> None:
    """Make `pio run` work in a generated project where PlatformIO's registry is not reachable.

    \b
    Examples:
      tinygen pio bootstrap fw/
      tinygen pio doctor fw/
    """


@pio_command.command("bootstrap")
@click.argument("folder", type=opt.PATH, default=".")
@click.option("--core", type=opt.PATH, help="PlatformIO's core folder [default: one for all projects].")
@opt.json_option
def bootstrap_command(folder: Path, core: Path | None, as_json: bool) -> None:
    """Prepare SCons and a toolchain package from what is installed here; write FOLDER/platformio.local.ini.

    \b
    Examples:
      tinygen pio bootstrap fw/
      cd fw && pio run
    """
    from tinygen.pio.bootstrap import bootstrap

    made = bootstrap(folder, core)
    data = {"core": str(made.core), "scons": made.scons, "gcc": made.gcc, "file": str(made.local_ini)}
    if as_json:
        opt.print_json(data)
        return
    click.echo(f"{made.local_ini}: SCons {made.scons} and GCC {made.gcc} in {made.core}")
    click.echo("next: pio run" if folder == Path() else f"next: cd {folder} && pio run")


@pio_command.command("doctor")
@click.argument("folder", type=opt.PATH, default=".")
@opt.json_option
def doctor_command(folder: Path, as_json: bool) -> int:
    """Say what `pio run`, `pio test` and `pio debug` miss in FOLDER, with the line to type. Exit code 1: builds fail.

    \b
    Example:
      tinygen pio doctor fw/
    """
    from tinygen.pio.doctor import examine

    findings = examine(folder)
    ready = all(f.found for f in findings if f.required)
    if as_json:
        opt.print_json({"ready": ready, "findings": [f.to_json() for f in findings]})
        return 0 if ready else 1
    table = Table("", "what", "found", "needed for", box=None, header_style="bold", pad_edge=False)
    for f in findings:
        mark = Text("ok", "green") if f.found else Text("missing", "red" if f.required else "yellow")
        table.add_row(mark, f.name, f.found or "", f.needed_for)
    opt.stdout.print(table)
    lines = dict.fromkeys(f.install for f in findings if not f.found)
    for line in lines or ("nothing is missing: pio run",):
        opt.stdout.print(f"type: {line}" if lines else line, markup=False, highlight=False, soft_wrap=True)
    return 0 if ready else 1
