"""`tinygen boards`, `tinygen ops`, `tinygen doctor`: what there is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from tinygen import catalog
from tinygen.board_picture import size_text
from tinygen.boards import Board, all_boards, load_board
from tinygen.cli.options import board_path_option, json_option, print_json, stdout
from tinygen.errors import UsageError, did_you_mean

EMULATORS = ("qemu", "unicorn", "renode")
KINDS = ("flash", "external", "sram", "tcm")


def board_data(board: Board) -> dict[str, Any]:
    """One board as JSON-ready data. Sizes in bytes."""
    return {
        "name": board.name,
        "title": board.title,
        "file": str(board.path),
        "cpu": board.cpu,
        "isa": list(board.isa),
        "fpu": board.fpu,
        "clock_hz": board.clock_hz,
        "reserved_bytes": {"stack": board.reserved.stack, "application": board.reserved.application},
        "layout": asdict(board.layout),
        "regions": [asdict(r) for r in board.regions],
        "caches": [asdict(c) for c in board.caches],
        "emulators": [e for e in EMULATORS if getattr(board, e) is not None],
        "platformio": asdict(board.platformio) if board.platformio else None,
        "source": board.source,
    }


@click.command("boards")
@click.argument("name", required=False)
@board_path_option
@json_option
def boards_command(name: str | None, board_path: tuple[Path, ...], as_json: bool) -> None:
    """List the boards, or show one with its memory map.

    NAME may be the path of a .toml file of yours; in it, extends = "nucleo_f446re" changes only what differs.

    \b
    Examples:
      tinygen boards
      tinygen boards nucleo_f446re
      tinygen boards my_board --board-path hardware/
      tinygen boards hardware/my_board.toml
    """
    boards = [load_board(name, board_path)] if name else list(all_boards(board_path))
    if as_json:
        print_json([board_data(b) for b in boards])
    elif name:
        _show_board(boards[0])
    else:
        _list_boards(boards)


def _list_boards(boards: list[Board]) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for title in ("board", "core", "MHz", "flash", "extern", "SRAM", "TCM", "emulators", "PlatformIO"):
        left = title in ("board", "core", "emulators", "PlatformIO")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    for b in boards:
        sizes = (sum(r.length for r in b.regions if r.kind == kind) for kind in KINDS)
        core = b.cpu.removeprefix("cortex-").upper().replace("PLUS", "+")
        emulators = " ".join(e for e in EMULATORS if getattr(b, e) is not None)
        names = b.platformio.board if b.platformio else "-"
        table.add_row(
            b.name,
            core,
            f"{b.clock_hz / 1e6:g}",
            *(size_text(size) if size else "" for size in sizes),
            emulators,
            "same" if names == b.name else names,
        )
    stdout.print(table)
    stdout.print("memory map and sources: tinygen boards NAME", highlight=False)


def _show_board(board: Board) -> None:
    from tinygen.board_picture import BoardPicture

    stdout.print(f"[bold]{board.name}[/bold]  {board.title}", highlight=False)
    extras = ", ".join((*board.isa, f"fpu {board.fpu}"))
    names = [f"{e}" for e in EMULATORS if getattr(board, e) is not None]
    names += [f"PlatformIO {board.platformio.board}"] if board.platformio else []
    stdout.print(f"{board.cpu} ({extras}), {board.clock_hz / 1e6:g} MHz; {', '.join(names)}", highlight=False)
    stdout.print(BoardPicture(board))


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
