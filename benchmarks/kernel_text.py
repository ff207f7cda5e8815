"""The figures of benchmarks/kernels.py as tables: on the terminal, and in docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks import kernel_peers
from benchmarks.kernel_targets import CORES, MODELS, RECORDS, STRETCH, best_on_hardware
from benchmarks.tables import markdown, replace_section

if TYPE_CHECKING:
    from benchmarks.kernels import Check, LayerRow, Measured

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
LAYER_TITLES = ("layer", "kernel", "MACs", "instructions", "cycles", "per MAC", "CMSIS-NN", "ratio")
MODEL_TITLES = (
    "model",
    "build",
    "MACs left",
    "instructions",
    "cycles",
    "per MAC",
    "arena",
    ".text",
    "flash",
    "CMSIS-NN",
    "its arena",
    "its flash",
    "TinyEngine",
    "best on L4R5",
    "ratio",
)


def count(value: float | None) -> str:
    """With thousands separators; '-' for what is not known."""
    return "-" if value is None else f"{value:,.0f}"


def quotient(value: float | None, over: float | None, digits: int = 2) -> str:
    """value / over; '-' where one is not known or there is nothing to divide by."""
    return "-" if value is None or not over else f"{value / over:.{digits}f}"


def layer_cells(row: LayerRow) -> list[str]:
    """One line of LAYER_TITLES."""
    counts = [count(v) for v in (row.macs, row.instructions, row.cycles)]
    per_mac = quotient(row.cycles, row.macs)
    return [row.name, row.kernel, *counts, per_mac, count(row.cmsis_nn), quotient(row.cmsis_nn, row.cycles)]


def model_cells(row: Measured) -> list[str]:
    """One line of MODEL_TITLES: a build on the M4 beside its peers."""
    cmsis = kernel_peers.whole(row.model, kernel_peers.CMSIS_NN)
    engine = kernel_peers.whole(row.model, kernel_peers.TINYENGINE)
    own = (row.macs_left, row.instructions, row.cycles)
    sizes = (row.arena, row.text, row.flash, cmsis.cycles, cmsis.arena, cmsis.flash, engine.cycles)
    per_mac, ratio = quotient(row.cycles, row.macs), quotient(cmsis.cycles, row.cycles)
    hardware = count(best_on_hardware(row.model))
    return [row.model, row.optimize, *map(count, own), per_mac, *map(count, sizes), hardware, ratio]


def core_cells(row: Measured) -> list[str]:
    """One build on any core: without peers, who were counted on the M4."""
    own = (row.instructions, row.cycles)
    sizes = (row.arena, row.text, row.flash)
    return [row.model, row.board, *map(count, own), quotient(row.cycles, row.macs), *map(count, sizes)]


CORE_TITLES = ("model", "board", "instructions", "cycles", "per MAC", "arena", ".text", "flash")


def check_cells(check: Check) -> list[str]:
    """Target, what was measured, verdict."""
    bound, digits = check.target.bound, 2 if check.target.bound < 100 else 0
    sign = "at least" if check.target.least else "at most"
    value = "not measured" if check.value is None else f"{check.value:,.{digits}f}"
    verdict = "" if check.value is None else "MISSED" if check.missed else "reached"
    return [check.target.title, f"{sign} {bound:,.{digits}f}", value, verdict]


CHECK_TITLES = ("target", "bound", "measured", "")


# ---- terminal


def show(
    console: Console,
    rows: Sequence[Measured],
    judged: Sequence[Check],
    layers: Sequence[str],
    mean: float | None,
) -> None:
    """Layers of every build (all, or those named), then the builds, then the targets that were measured."""
    for row in rows:
        console.print(Text(f"{row.model} {row.core} --optimize {row.optimize}", "bold"))
        chosen = [each for each in row.layers if each.name in layers or not layers]
        console.print(_table(LAYER_TITLES, [layer_cells(each) for each in chosen]), "")
    if compared := [r for r in rows if r.core == "m4"]:
        console.print(_table(MODEL_TITLES, [model_cells(r) for r in compared]), "")
    if others := [r for r in rows if r.core != "m4"]:
        console.print(_table(CORE_TITLES, [core_cells(r) for r in others]), "")
    console.print(_table(CHECK_TITLES, [check_cells(c) for c in judged if c.value is not None]))
    if mean is not None:
        console.print(f"geometric mean over TFLM + CMSIS-NN: {mean:.2f}")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row, style="red" if row[-1] == "MISSED" else "")
    return table


# ---- docs/performance.md


def write_page(rows: Sequence[Measured], judged: Sequence[Check], mean: float | None) -> None:
    """Every section of the page that is made."""
    on_m4 = [r for r in rows if r.core == "m4"]
    sections = {
        "targets": markdown(CHECK_TITLES, [check_cells(c) for c in judged]),
        "models": [*markdown(MODEL_TITLES, [model_cells(r) for r in on_m4]), "", mean_line(mean)],
        "hardware": markdown(("million cycles", *MODELS), hardware_rows(on_m4)),
        "layers": layer_sections([r for r in on_m4 if r.optimize == "balanced"]),
        "cores": core_sections(rows),
    }
    for name, lines in sections.items():
        replace_section(PAGE, name, lines)


def mean_line(mean: float | None) -> str:
    """The geometric mean in words."""
    return "Geometric mean of the four balanced builds: " + ("-" if mean is None else f"{mean:.2f} times.")


def hardware_rows(rows: Sequence[Measured]) -> list[list[str]]:
    """The records, and under them what our builds are modelled to take."""
    lines = [[r.runtime, *(f"{r.megacycles[m]:.3g}" for m in MODELS)] for r in RECORDS]
    for mode in dict.fromkeys(r.optimize for r in rows):
        cycles = {r.model: r.cycles for r in rows if r.optimize == mode}
        cells = [f"{(cycles.get(m) or 0) / 1e6:.3g}" if cycles.get(m) else "-" for m in MODELS]
        lines.append([f"tinygen --optimize {mode}, modelled, zero wait states", *cells])
    return [*lines, ["stretch goal, as modelled", *(f"{STRETCH[m] / 1e6:.3g}" for m in MODELS)]]


def layer_sections(rows: Sequence[Measured]) -> list[str]:
    """A table of layers per model."""
    lines: list[str] = []
    for row in rows:
        lines += [f"### {row.model}", "", *markdown(LAYER_TITLES, [layer_cells(e) for e in row.layers]), ""]
    return lines


def core_sections(rows: Sequence[Measured]) -> list[str]:
    """A table of models per core."""
    lines: list[str] = []
    for core in CORES:
        found = [r for r in rows if r.core == core and r.optimize == "balanced"]
        if found:
            lines += [f"### {core}", "", *markdown(CORE_TITLES, [core_cells(r) for r in found]), ""]
    return lines
