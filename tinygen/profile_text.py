"""A profile for the terminal: tables, the comparison of two, folded stacks. Takes profile_json.to_json's data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinygen.profile_json import Data, comparison

BAR = 10
"""Cells of the bar that shows a layer's share."""


def show(console: Console, data: Data, before: Data | None = None, objects: bool = False) -> None:
    """Print a profile; before: an earlier one to compare with; objects: also what is waited for."""
    console.print(_head(data), soft_wrap=True)
    console.print(layer_table(data, console.width))
    console.print(_summary(data))
    if objects:
        console.print(object_table(data))
    if before is not None:
        console.print(comparison_table(comparison(before, data)))


def _head(data: Data) -> Text:
    text = Text.assemble((printable(data["model"]), "bold"), f" on {data['board']} ({data['core']}, ")
    text.append(f"{data['clock_hz'] / 1e6:g} MHz), one {warmth(data)} inference; ")
    kind = (
        "cycles are modelled"
        if data["totals"]["cycles"] is not None
        else "no cycles are modelled for this core"
    )
    return text.append(f"instructions are counted, {kind}", "dim")


def warmth(data: Data) -> str:
    """Whether the inferences shown followed others, or each stood behind a reset."""
    return "warm" if data["latency"]["warm"] else "cold"


def printable(name: str) -> str:
    """A name that can move neither cursor nor line."""
    return "".join(c if c.isprintable() else "_" for c in name)


def _name(name: str) -> Text:
    """A cell with a name of the model's: brackets in it are no markup."""
    return Text(printable(name))


def number(value: Any) -> str:
    """Thousands separators; a dash for what is not known."""
    return "-" if value is None else f"{value:,}"


def decimal(value: float | None, digits: int = 3) -> str:
    """Significant digits; a dash for what is not known."""
    return "-" if value is None else f"{value:,.{digits}g}" if value < 1000 else f"{value:,.0f}"


NARROW = 110
"""Columns of a terminal below which the table leaves out what is marked as not needed there."""
COLUMNS = (
    ("MACs", "wide"),
    ("instructions", "always"),
    ("cycles", "always"),
    ("/MAC", "wide"),
    ("ms", "always"),
    ("share", "always"),
    ("waits", "narrow"),
    ("fetch waits", "wide"),
    ("data waits", "wide"),
    ("bytes read", "wide"),
)
"""Title, and on which terminals it is shown."""


def layer_table(data: Data, width: int = 200) -> Table:
    """One row per layer, what lies outside of them, and the sum. width: columns of the terminal; only names get cut."""
    wide = width >= NARROW
    rows = _rows(data, BAR if wide else 0)
    shown = [i for i, (_, where) in enumerate(COLUMNS) if where in ("always", "wide" if wide else "narrow")]
    widths = {i: max(len(COLUMNS[i][0]), *(len(cells[i]) for _, cells, _ in rows)) for i in shown}
    room = max(8, width - 3 - sum(w + 1 for w in widths.values()))
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", style="dim", no_wrap=True, min_width=2)
    table.add_column("layer", no_wrap=True, overflow="ellipsis", max_width=None if wide else room)
    if wide:
        table.add_column("kernel", no_wrap=True, overflow="ellipsis", style="dim")
    for i in shown:
        title = COLUMNS[i][0]
        left = title in ("share", "bytes read")
        least = 8 if title == "bytes read" else widths[i]
        table.add_column(
            title, justify="left" if left else "right", no_wrap=True, overflow="ellipsis", min_width=least
        )
    for head, cells, style in rows:
        table.add_row(*(head if wide else head[:2]), *(cells[i] for i in shown), style=style)
    return table


Row = tuple[tuple[str, str | Text, str], list[str], str]
"""What names a row (step, layer, kernel), its figures as text, its style."""


def _rows(data: Data, bar: int) -> list[Row]:
    layers = [layer for layer in data["layers"] if layer["kernel"] != "alias"]
    found: list[Row] = [
        ((str(r["step"]), _name(r["name"]), _kernel(r)), _cells(r, r["share"], bar), "") for r in layers
    ]
    outside = {**data["outside"], "macs": 0}
    found.append((("", "outside of kernels", ""), _cells(outside, None, bar), "dim"))
    found.append((("", "sum", ""), _cells(data["totals"], 1.0, bar), "bold"))
    return found


def _kernel(layer: Data) -> str:
    return str(layer["kernel"]).removeprefix(f"tg_{layer['op']}_")


def _cells(row: Data, share: float | None, bar: int) -> list[str]:
    reads = [f"{region} {_short(count)}" for region, count in row["bytes_read"].items() if count]
    return [
        number(row["macs"]) if row["macs"] else "",
        number(row["instructions"]),
        number(row["cycles"]),
        decimal(row["cycles_per_mac"]) if row["macs"] else "",
        decimal(row["ms"]),
        "" if share is None else f"{share:4.0%} {'█' * round(bar * share)}",
        number(None if row["cycles"] is None else row["fetch_stalls"] + row["data_stalls"]),
        number(row["fetch_stalls"]),
        number(row["data_stalls"]),
        ", ".join(reads),
    ]


def _short(count: int) -> str:
    for unit, size in (("M", 1_000_000), ("K", 1000)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _summary(data: Data) -> Table:
    table = Table(show_header=False, box=None)
    latency, memory, cold = data["latency"], data["memory"], data["cold"]
    if latency["p50_ms"] is not None:
        table.add_row(
            "time",
            f"p50 {decimal(latency['p50_ms'], 4)} ms, max {decimal(latency['max_ms'], 4)} ms "
            f"over {latency['inputs']} {warmth(data)} inputs",
        )
    if not latency["warm"]:
        table.add_row("", "each behind a reset: one sample was run, or the input block holds no more")
    if cold:
        table.add_row("cold", _cold(cold, data["clock_hz"]))
    stack = "" if memory["stack"] is None else f", stack {memory['stack']:,} used"
    table.add_row("SRAM", f"{memory['sram']:,} bytes: arena {memory['arena']:,}{stack}")
    for region in memory["regions"]:
        if region["kind"] in ("flash", "external") and region["used"]:
            table.add_row(region["name"], f"{region['used']:,} bytes of {region['length']:,}")
    return table


def _cold(cold: Data, clock_hz: int) -> str:
    start = 1000.0 * cold["startup_cycles"] / clock_hz
    first = 1000.0 * cold["first_inference_cycles"] / clock_hz
    text = f"start-up {decimal(start)} ms, first inference {decimal(first, 4)} ms"
    if cold["pin_copy_cycles"]:
        copy = 1000.0 * cold["pin_copy_cycles"] / clock_hz
        pays = cold["breakeven_inferences"]
        after = "saves no time here" if pays is None else f"pays after {pays:,} inference{'s'[: pays != 1]}"
        text += f"; copying what is pinned {decimal(copy)} ms, {after}"
    return text


def object_table(data: Data, most: int = 20) -> Table:
    """Arrays and kernels, those that the core waits for longest first."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("layer", "what", "region"):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for title in ("bytes", "bytes read", "waits", "if not pinned"):
        table.add_column(title, justify="right", no_wrap=True)
    for o in data["objects"][:most]:
        unpinned = f"{o['unpinned_stalls']:,}" if o["pinned"] else ""
        figures = (f"{o[key]:,}" for key in ("bytes", "bytes_read", "stalls"))
        table.add_row(_name(o["layer"]), o["role"], o["region"], *figures, unpinned)
    return table


# ---- two profiles


def comparison_table(compared: Data) -> Table:
    """Old, new and their ratio, per layer."""
    where = [f"{printable(compared[k]['model'])} on {compared[k]['board']}" for k in ("before", "after")]
    table = Table(
        box=None,
        header_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=Text(f"before: {where[0]}; after: {where[1]} ({compared['unit']})"),
        title_justify="left",
    )
    table.add_column("layer", no_wrap=True, overflow="ellipsis")
    for title in ("before", "after", "before / after"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in [*compared["layers"], compared["total"]]:
        style = "bold" if row is compared["total"] else _style(row["ratio"])
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
        table.add_row(_name(row["name"]), number(row["before"]), number(row["after"]), ratio, style=style)
    for name, (old, new) in compared["memory"].items():
        table.add_row(
            f"{name}, bytes", number(old), number(new), f"{old / new:.3f}" if new else "-", style="dim"
        )
    return table


def _style(ratio: float | None) -> str:
    if ratio is None or abs(ratio - 1) < 0.005:
        return ""
    return "green" if ratio > 1 else "red"


# ---- flame graphs


def folded(data: Data) -> str:
    """Lines `frame;frame;frame count` as flame-graph tools read them; counts are modelled cycles (or instructions)."""
    return "".join(f"{line}\n" for line in _folded(data))


def _folded(data: Data) -> Iterator[str]:
    for layer in data["layers"]:
        frames = f"{_frame(data['model'])};{_frame(layer['name'])};{layer['kernel']}"
        yield from _stacks(frames, layer)
    yield from _stacks(f"{_frame(data['model'])};outside of kernels", data["outside"])


def _stacks(frames: str, row: Data) -> Iterator[str]:
    if row["cycles"] is None:
        yield f"{frames} {row['instructions']}"
        return
    for name, key in (
        ("compute", "zero_wait_cycles"),
        ("fetch waits", "fetch_stalls"),
        ("data waits", "data_stalls"),
    ):
        if row[key]:
            yield f"{frames};{name} {row[key]}"


def _frame(name: str) -> str:
    """A name that cannot end its frame or line."""
    return printable(name).replace(";", "_")
