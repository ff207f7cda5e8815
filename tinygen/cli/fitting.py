"""`tinygen fit`: does the model fit? One board in detail, or all of them in a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from tinygen.board_picture import size_text
from tinygen.cli import options as opt

if TYPE_CHECKING:
    from tinygen.api import Fits
    from tinygen.fit import Fit, Sized
    from tinygen.flash import Shares
    from tinygen.pruning.reach import Reach

BAR, NARROW_BAR, WIDE = 10, 3, 112
EIGHTHS = " ▏▎▍▌▋▊▉█"


@click.command("fit")
@click.argument("model", type=opt.PATH)
@click.option(
    "--board",
    multiple=True,
    default=("all",),
    show_default=True,
    help="Board name, a .toml file, or all; may be given several times.",
)
@opt.board_path_option
@opt.budget_texts("sram", "flash", "weights", "macs", "ms")
@opt.weights_option
@click.option(
    "--input-shape", multiple=True, callback=opt.shape_option, help="Fix a dynamic shape, e.g. 96,96,3."
)
@click.option("--precision", default="int8", show_default=True, help="int8 or float32.")
@opt.optimize_option
@opt.json_option
def fit_command(model: Path, as_json: bool, **given: Any) -> int:
    """Say whether MODEL (.keras, .h5 or int8 .tflite) fits the boards: before it is compiled, or even trained.

    Nothing is generated and no samples are needed. Where it does not fit, it is
    said whether pruning could reach that. Exit code 1 when none of all boards
    fits, or one of those that are named does not.

    \b
    Examples:
      tinygen fit model.keras
      tinygen fit model.keras --board nucleo_f446re --budget-sram 65536
      tinygen fit model.keras --board pico --budget-macs 60% --budget-ms 100
      tinygen fit model_int8.tflite --board pico --board teensy41 --json
    """
    from tinygen import api

    fits = api.fit(model, **given)
    if as_json:
        opt.print_json(fits_data(fits))
    elif len(fits.boards) == 1:
        _show_one(fits)
    else:
        _show_table(fits)
    enough = any if "all" in given["board"] else all
    return 0 if enough(f.fits for f in fits.boards) else 1


def fits_data(fits: Fits) -> dict[str, Any]:
    """The answers as JSON-ready data. Sizes in bytes."""
    m = fits.model
    return {
        "model": {
            "arena_bytes": m.arena,
            "constant_bytes": m.constants,
            "input_record_bytes": m.record,
            "macs": m.macs,
            "fullest_layer": m.peak,
            "ranges": "of the model" if m.exact else "made up",
            "precision": m.precision,
        },
        "boards": [fit_data(f) for f in fits.boards],
        "notes": list(fits.notes),
    }


def fit_data(fit: Fit) -> dict[str, Any]:
    """One board's answer as JSON-ready data. Sizes in bytes; code and firmware are estimates."""
    return {
        "board": fit.board.name,
        "fits": fit.fits,
        "in_bands_of_rows": fit.banded,
        "flash": _shares_data(fit.flash),
        "weights": {"region": fit.weights.region, **_shares_data(fit.weights)} if fit.weights else None,
        "sram": _shares_data(fit.sram),
        "pinned_bytes": fit.pinned,
        "pinned_share": round(fit.pinned_share, 4),
        "pinned_code_bytes": fit.pinned_code,
        "arena_over": fit.arena_over,
        "reasons": list(fit.reasons),
        "advice": list(fit.advice),
        "reach": reach_data(fit.reach) if fit.reach else None,
    }


def reach_data(reach: Reach) -> dict[str, Any]:
    """What pruning could reach as JSON-ready data; kept_share: null where no share of the channels is enough."""
    cost = reach.cost
    return {
        "kept_share": None if reach.kept is None else round(reach.kept, 4),
        "arena_bytes": cost.arena,
        "sram_bytes": cost.sram,
        "flash_bytes": cost.flash,
        "constant_bytes": cost.weights,
        "macs": cost.macs,
        "ms": cost.ms,
        "over": {name: round(ratio, 4) for name, ratio in reach.over.items()},
    }


def _shares_data(shares: Shares) -> dict[str, Any]:
    parts = {what.replace(" ", "_"): size for what, size in shares.parts}
    return {"needed": shares.needed, "room": shares.room, "over": shares.over, "parts": parts}


# ---- all boards


def _show_table(fits: Fits) -> None:
    _show_model(fits.model, fits.notes)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for title in ("", "board", "core"):
        table.add_column(title, no_wrap=True)
    for title in ("flash", "SRAM"):
        table.add_column(title, no_wrap=True)
        table.add_column("of", justify="right", no_wrap=True)
    table.add_column("pinned", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for f in fits.boards:
        table.add_row(*_row(f, BAR if opt.stdout.width >= WIDE else NARROW_BAR))
    opt.stdout.print(table)
    opt.stdout.print(_summary(fits.boards), highlight=False)


def _row(f: Fit, cells: int) -> tuple[Text | str, ...]:
    good = f.fits
    mark = Text("✓", "bold green") if good else Text("✗", "bold red")
    pinned = f"{100 * f.pinned_share:.0f} %" if f.pinned or good else "-"
    return (
        mark,
        Text(f.board.name, "" if good else "dim"),
        Text(f.board.cpu.removeprefix("cortex-").upper().replace("PLUS", "+"), "dim"),
        bar(f.flash, cells),
        size_text(f.flash.room),
        bar(f.sram, cells),
        size_text(f.sram.room),
        pinned,
        Text("in bands of rows" if f.banded else "", "dim") if good else Text(_short(f), "red"),
    )


def _short(f: Fit) -> str:
    """Why not, in a few words: what is too much by how many bytes."""
    names = ("flash", f.weights.region if f.weights else "")
    parts = [f"{name} {s.over:,}" for name, s in zip(names, f.read_only, strict=False) if s.over]
    others = f.reasons[len(parts) :]
    if others and f.arena_over:
        parts.append(f"arena {f.arena_over:,}")
    elif others:
        return others[0] + _pruned(f)
    return f"over: {', '.join(parts)}{_pruned(f)}"


def _pruned(f: Fit) -> str:
    """What pruning could do about it, in a few words."""
    if f.reach is None:
        return ""
    return "; too much for pruning" if f.reach.kept is None else f"; prune to {f.reach.kept:.0%}"


def bar(shares: Shares, cells: int = BAR) -> Text:
    """`██████▌     61 %`: green up to three quarters, yellow up to full, red beyond."""
    share = shares.needed / max(shares.room, 1)
    eighths = min(round(8 * cells * share), 8 * cells)
    drawn = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
    style = "green" if share <= 0.75 else "yellow" if share <= 1 else "red"
    text = Text(drawn.ljust(cells, "·"), style)
    percent = 100 * share
    return text.append(f" {percent:.0f} %".rjust(7) if percent < 1000 else f" x{share:.0f}".rjust(7), "")


def _summary(boards: Sequence[Fit]) -> str:
    from tinygen.fit import smallest

    count, least = sum(f.fits for f in boards), smallest(boards)
    if least is None:
        closest = min(boards, key=lambda f: f.sram.over + sum(s.over for s in f.read_only))
        words = "\n".join(f"  {a}" for a in closest.advice)
        return f"fits none of {len(boards)} boards; nearest is {closest.board.name}:\n{words}"
    first = f"fits {count} of {len(boards)} boards; the smallest is {least.board.name}"
    return (
        f"{first}\npinned: share of the weights that is copied into faster memory (0 % where none is faster)"
    )


def _show_model(model: Sized, notes: Sequence[str]) -> None:
    for note in notes:
        opt.stderr.print(f"note: {note}", markup=False, highlight=False)
    opt.stdout.print(
        f"arena {model.arena:,} bytes (fullest at '{model.peak}'), weights and tables {model.constants:,} bytes, "
        f"{model.macs:,} MACs, {model.layers} layers",
        highlight=False,
        markup=False,
    )


# ---- one board


def _show_one(fits: Fits) -> None:
    (f,) = fits.boards
    _show_model(fits.model, fits.notes)
    table = Table(show_header=False, box=None, padding=(0, 1))
    own = [(f"weights ({f.weights.region})", f.weights)] if f.weights else []
    for name, shares in ((f"flash ({f.board.code.name})", f.flash), *own, ("SRAM", f.sram)):
        table.add_row(Text(name, "bold"), bar(shares), f"{shares.needed:,} of {shares.room:,} bytes")
        for what, size in shares.parts:
            estimated = "about " if "code" in what or "firmware" in what else ""
            table.add_row(f"  {what}", "", f"{estimated}{size:,}")
    table.add_row(Text("pinned", "bold"), f"{100 * f.pinned_share:.0f} % of the weights", _pinned(f))
    opt.stdout.print(table, highlight=False)
    if f.fits:
        how = ": in bands of rows, not as a whole" if f.banded else ""
        opt.stdout.print(f"[bold green]fits[/bold green] {f.board.name}{how}", highlight=False)
        return
    opt.stdout.print(f"[bold red]does not fit[/bold red] {f.board.name}", highlight=False)
    for line in (*f.reasons, *(f"to make it fit: {a}" for a in f.advice)):
        opt.stdout.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if f.reach:
        opt.stdout.print(f"  pruning: {f.reach.words}", markup=False, highlight=False, soft_wrap=True)
    opt.stdout.print("  which boards fit: tinygen fit MODEL --board all", markup=False, highlight=False)


def _pinned(f: Fit) -> str:
    if f.placement is None:
        return ""
    sums: dict[str, int] = {}
    for p in f.placement.pins:
        sums[p.region] = sums.get(p.region, 0) + p.movable.traffic.footprint
    parts = [f"{size:,} bytes in {region}" for region, size in sums.items()]
    return f"arena in {f.placement.arena}; {', '.join(parts) or 'nothing: no memory is faster'}"
