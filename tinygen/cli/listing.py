"""`tinygen boards`, `tinygen ops`, `tinygen doctor`: what there is."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from tinygen import catalog
from tinygen.boards import Board, all_boards, load_board
from tinygen.cli.options import json_option, print_json, stdout
from tinygen.errors import UsageError, did_you_mean


def _memory(board: Board, *kinds: str) -> int:
    return sum(r.length for r in board.regions if r.kind in kinds)


def board_data(board: Board) -> dict[str, Any]:
    """One board as JSON-ready data. Sizes in bytes."""
    regions = [
        {"name": r.name, "kind": r.kind, "origin": r.origin, "length": r.length, "source": r.source}
        for r in board.regions
    ]
    return {
        "name": board.name,
        "title": board.title,
        "cpu": board.cpu,
        "fpu": board.fpu,
        "clock_hz": board.clock_hz,
        "reserved_bytes": {"stack": board.reserved.stack, "application": board.reserved.application},
        "regions": regions,
        "emulators": [e for e in ("qemu", "unicorn") if getattr(board, e) is not None],
        "source": board.source,
    }


@click.command("boards")
@click.argument("name", required=False)
@json_option
def boards_command(name: str | None, as_json: bool) -> None:
    """List the boards, or show one with its memory map.

    \b
    Examples:
      tinygen boards
      tinygen boards mps2_an386
    """
    boards = [load_board(name)] if name else list(all_boards())
    if as_json:
        print_json([board_data(b) for b in boards])
    elif name:
        _show_board(boards[0])
    else:
        table = Table(
            "board", "core", "clock", "flash", "SRAM", "emulators", "", box=None, header_style="bold"
        )
        for b in boards:
            row = board_data(b)
            flash, sram = _memory(b, "flash", "external"), _memory(b, "sram", "tcm")
            clock = f"{b.clock_hz / 1e6:g} MHz"
            sizes = (f"{flash // 1024:,} KB", f"{sram // 1024:,} KB")
            table.add_row(b.name, b.cpu, clock, *sizes, ", ".join(row["emulators"]), b.title)
        stdout.print(table)


def _show_board(board: Board) -> None:
    stdout.print(f"[bold]{board.name}[/bold]  {board.title}")
    stdout.print(f"{board.cpu}, fpu {board.fpu}, {board.clock_hz / 1e6:g} MHz  ({board.source})")
    table = Table("region", "kind", "origin", "end", "length", "source", box=None, header_style="bold")
    for r in board.regions:
        table.add_row(r.name, r.kind, f"0x{r.origin:08x}", f"0x{r.end:08x}", f"{r.length:,}", r.source)
    stdout.print(table)
    stdout.print(
        f"kept back: stack {board.reserved.stack:,}, application {board.reserved.application:,} bytes"
    )


@click.command("ops")
@click.argument("name", required=False)
@click.option("--markdown", is_flag=True, help="Print docs/ops.md.")
@json_option
def ops_command(name: str | None, markdown: bool, as_json: bool) -> None:
    """List the supported operators and layers with their constraints.

    \b
    Examples:
      tinygen ops
      tinygen ops Conv2D          a Keras layer, a TFLite operator or one of ours
    """
    if markdown:
        click.echo(catalog.markdown(), nl=False)
        return
    entries = [e for e in catalog.catalog() if not name or name in (e["name"], *e["keras"], *e["tflite"])]
    if name and not entries:
        known = [n for e in catalog.catalog() for n in (e["name"], *e["keras"], *e["tflite"])]
        raise UsageError(
            f"no operator handles '{name}'{did_you_mean(name, known)}\n  'tinygen ops' lists all"
        )
    if as_json:
        print_json(entries)
        return
    if name:
        _show_operators(entries)
        return
    table = Table("operator", "Keras layers", "TFLite", box=None, header_style="bold")
    for e in entries:
        table.add_row(e["name"], catalog.keras_text(e), ", ".join(e["tflite"]))
    stdout.print(table)
    stdout.print(f"wrap others or vanish: {', '.join(catalog.structural_layers())}")
    stdout.print("constraints: tinygen ops NAME", highlight=False)


def _show_operators(entries: list[dict[str, Any]]) -> None:
    """Everything about a few operators."""
    for e in entries:
        stdout.print(f"[bold]{e['name']}[/bold]  {e['summary']}")
        table = Table(show_header=False, box=None)
        table.add_row("Keras", catalog.keras_text(e))
        table.add_row("TFLite", ", ".join(e["tflite"]))
        table.add_row("export", "yes" if e["exports"] else "refused by name")
        table.add_row("kernels", ", ".join(e["kernels"]))
        for text in e["constraints"]:
            table.add_row("constraint", text)
        stdout.print(table)


@click.command("doctor")
@json_option
def doctor_command(as_json: bool) -> int:
    """Say what is missing on this machine, the line that installs it, and which core runs in which emulator.

    \b
    Example:
      tinygen doctor
    """
    from tinygen import doctor

    report = doctor.examine()
    if as_json:
        print_json(doctor.to_json(report))
    else:
        stdout.print(doctor.render(report))
    return 0 if report.ready else 1
