"""What `tinygen inspect` shows: a table of the layers, and the arena drawn as lifetimes x addresses.

`to_json` is plain data; `draw` makes something that rich can print at 80 or more columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tinygen.layer_rows import Layer, Row, constant_bytes, inspect_rows, layers, moves_rows, quantization_of
from tinygen.memory_map import MemoryMap, buffer_name
from tinygen.planning import MemoryPlan
from tinygen.program import Program

SHOWN = 8
"""Values of a buffer that are all named."""
BUFFERS = 40
"""Buffers that are listed, the largest."""


def to_json(
    program: Program, plan: MemoryPlan, calibrators: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What `draw` shows, JSON-ready. Sizes and offsets in bytes; times as in planning.Buffer."""
    rows = inspect_rows(program, plan, calibrators)
    return {
        "model": program.graph.name,
        "precision": program.graph.precision,
        "inputs": [_tensor(program, name) for name in program.graph.inputs],
        "outputs": [_tensor(program, name) for name in program.graph.outputs],
        "macs": sum(r.macs for r in rows),
        "weight_bytes": constant_bytes(program),
        "layers": [asdict(r) | {"shape": list(r.shape)} for r in rows],
        "arena": {
            "bytes": plan.arena_bytes,
            "lower_bound": plan.lower_bound,
            "optimal": plan.optimal,
            "gap": plan.gap,
            "buffers": [
                asdict(b) | {"tensors": list(b.tensors), "places": list(b.places)} for b in plan.buffers
            ],
        },
    }


def _tensor(program: Program, name: str) -> dict[str, Any]:
    tensor = program.graph.tensors[name]
    return {
        "name": name,
        "shape": list(tensor.shape),
        **quantization_of(tensor),
    }


# ---- drawing


def draw(program: Program, plan: MemoryPlan, calibrators: Mapping[str, str] | None = None) -> RenderableType:
    """The layers, the arena and its buffers, for rich.print; looks best at 100 columns or more."""
    rows = inspect_rows(program, plan, calibrators)
    names = {i: step.bound.name for i, step in enumerate(program.steps)}
    shown = layers(rows)
    parts: list[RenderableType] = [
        _summary(program, rows),
        Text(),
        _layer_table(shown),
        *_notes(rows, shown),
        Text(),
    ]
    if any(layer.row.runner_up for layer in shown):
        parts += [_kernel_table(shown), Text()]
    parts += [arena_line(plan), MemoryMap(plan, len(program.steps)), Text(), _buffer_table(plan, names)]
    return Group(*parts)


def _notes(rows: tuple[Row, ...], shown: tuple[Layer, ...]) -> list[Text]:
    """What the table of layers cannot say."""
    found = []
    if any("*" in _variant(layer.row) for layer in shown):
        found.append("* in place: the output takes over the bytes of an input")
    if moving := sum(map(moves_rows, rows)):
        found.append(f"{moving} more steps fetch, keep and join rows for bands; --json has every step")
    return [Text(text, style="dim") for text in found]


def arena_line(plan: MemoryPlan) -> Text:
    """The arena against its lower bound, in words."""
    text = Text.assemble(("arena ", "bold"), (f"{plan.arena_bytes:,} bytes", "bold"))
    if plan.arena_bytes == plan.lower_bound:
        return text.append(", equal to the lower bound: no plan for these steps is smaller")
    text.append(f", {plan.gap:.1%} above the lower bound of {plan.lower_bound:,}")
    proof = ", but proved the smallest possible" if plan.optimal else ": perhaps not the smallest possible"
    return text.append(proof)


def _summary(program: Program, rows: tuple[Row, ...]) -> Text:
    macs, weights = sum(r.macs for r in rows), constant_bytes(program)
    text = Text.assemble((program.graph.name, "bold"), f"  {len(rows)} steps, {macs:,} MACs, ")
    text.append(f"{weights:,} bytes of constants")
    for kind, names in (("input", program.graph.inputs), ("output", program.graph.outputs)):
        for name in names:
            tensor = program.graph.tensors[name]
            text.append(f"\n  {kind:<6} {name}  {_shape(tensor.shape)}  ")
            numbers = (
                f"scale {tensor.scale:.6g}, zero point {tensor.zero_point}" if tensor.qparams else "float32"
            )
            text.append(numbers, "dim")
    return text


def _layer_table(shown: tuple[Layer, ...]) -> Table:
    """Columns that are the same everywhere (no scales in float32, no calibrator known, no scratch) are left out."""
    rows = [layer.row for layer in shown]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", style="dim")
    table.add_column("layer", overflow="ellipsis", no_wrap=True, ratio=2, min_width=8)
    table.add_column("op", no_wrap=True, overflow="ellipsis", min_width=4)
    table.add_column("kernel", no_wrap=True, style="dim")
    optional = {
        "bands": any(layer.bands for layer in shown),
        "scale": any(r.scale is not None for r in rows),
        "range by": any(r.calibrator for r in rows),
        "scratch": any(r.scratch_bytes for r in rows),
    }
    if optional["bands"]:
        table.add_column("bands", justify="right", no_wrap=True)
    table.add_column("output", no_wrap=True)
    for title in ("scale", "zero") if optional["scale"] else ():
        table.add_column(title, justify="right", no_wrap=True)
    if optional["range by"]:
        table.add_column("range by", no_wrap=True)
    for title in ("MACs", "weights"):
        table.add_column(title, justify="right", no_wrap=True)
    if optional["scratch"]:
        table.add_column("scratch", justify="right", no_wrap=True)
    for layer in shown:
        table.add_row(*_cells(layer, optional))
    return table


def _cells(layer: Layer, optional: Mapping[str, bool]) -> list[str]:
    row = layer.row
    cells = [str(row.step), row.layer, row.op, _variant(row)]
    cells += [_count(layer.bands) for _ in range(optional["bands"])]
    cells.append(_shape(row.shape))
    cells += [f"{row.scale:.3g}", str(row.zero_point)] if optional["scale"] else []
    cells += [row.calibrator or "" for _ in range(optional["range by"])]
    cells += [_count(row.macs), _count(row.weight_bytes)]
    return cells + [_count(row.scratch_bytes) for _ in range(optional["scratch"])]


def _kernel_table(shown: tuple[Layer, ...]) -> Table:
    """Where there was a choice: the kernel that was taken and the next one, with what they were weighed by."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("layer", "kernel"):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for title in ("cycles", "flash", "SRAM"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in (layer.row for layer in shown):
        for mark, one in (("", row.chosen), ("next", row.runner_up)):
            if one is not None and row.runner_up is not None:
                figures = (f"{one.cycles:,}", f"{one.flash:,}", f"{one.sram:,}")
                name = one.kernel.removeprefix(f"tg_{row.op}_")
                table.add_row(mark or row.layer, name, *figures, style="dim" if mark else "")
    return table


def _variant(row: Row) -> str:
    """The kernel's name without the operator's: tg_conv2d_s8_dsp of conv2d is 's8_dsp'; * works in place."""
    in_place = "*" if row.in_place and row.kernel != "alias" else ""
    return row.kernel.removeprefix(f"tg_{row.op}_") + in_place


def _buffer_table(plan: MemoryPlan, names: Mapping[int, str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for title in ("offset", "bytes", "steps"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("holds", overflow="fold")
    largest = sorted(plan.buffers, key=lambda buffer: -buffer.size)[:BUFFERS]
    for index, buffer in enumerate(plan.buffers):
        if buffer not in largest:
            continue
        holds = _holds(buffer.tensors) or f"scratch of {names[buffer.scratch_step or 0]}"
        name = Text(buffer_name(index), style=MemoryMap.style(index))
        table.add_row(name, f"{buffer.offset:,}", f"{buffer.size:,}", f"{buffer.first}-{buffer.last}", holds)
    if left := len(plan.buffers) - len(largest):
        table.caption = f"{left} smaller buffers: --json has them"
    return table


def _holds(tensors: tuple[str, ...]) -> str:
    """Values in the order of their making; of the many that bands make, the ends."""
    if len(tensors) > SHOWN:
        return f"{tensors[0]} > {tensors[1]} > ... > {tensors[-1]} ({len(tensors)} values)"
    return " > ".join(tensors)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


def _count(value: int) -> str:
    return f"{value:,}" if value else ""
