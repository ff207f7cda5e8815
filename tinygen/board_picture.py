"""The picture of a board's memory: regions as bars in address order, with what matters to speed beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from tinygen.boards import Board, Cache, Region

STYLES = {
    "flash": ("▒", "yellow"),
    "external": ("░", "magenta"),
    "sram": ("█", "green"),
    "tcm": ("▓", "cyan"),
}
"""Kind -> pattern and colour: the picture also reads in black and white."""
WIDE = 130
"""Columns of a terminal from which on bars are twice as long and caches stand beside their regions."""
SMALLEST = 1024
"""Bytes drawn as one cell."""


class BoardPicture:
    """Prints itself with rich: the map, the caches, what is kept back, where the figures come from."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        yield self._map(options.max_width >= WIDE)
        kinds = (f"{STYLES[k][0]} {k}" for k in STYLES if any(r.kind == k for r in self.board.regions))
        yield Text(f"bars: {', '.join(kinds)}; every doubling of the size adds the same length", "dim")
        if self.board.caches:
            yield Text("caches", "bold")
            yield self._caches()
        yield self._kept()
        yield Text("sources", "bold")
        yield self._sources()

    def _map(self, wide: bool) -> Table:
        table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        titles = (
            "address",
            "region",
            "",
            "size",
            "access",
            "wait",
            *(["caches"] if wide else []),
            "",
            "holds",
        )
        for title in titles:
            table.add_column(title, no_wrap=True, justify="right" if title in ("size", "wait") else "left")
        at = 0
        for r in sorted(self.board.regions, key=lambda r: r.origin):
            if r.origin > at:
                table.add_row(Text("    ⋮", "dim"))
            table.add_row(*self._row(r, wide))
            at = r.end
        return table

    def _row(self, r: Region, wide: bool) -> tuple[RenderableType, ...]:
        caches = [", ".join(r.caches) or "-"] if wide else []
        return (
            f"0x{r.origin:08x}",
            Text(r.name, "bold"),
            bar(r, 2 if wide else 1),
            size_text(r.length),
            f"{8 * r.width} bit",
            str(r.wait_states),
            *caches,
            flags(r),
            ", ".join(self._holds(r)),
        )

    def _holds(self, r: Region) -> Iterable[str]:
        """What the firmware puts there whatever the model; and where weights can have a home of their own."""
        if r.name == self.board.layout.code:
            yield "code"
        elif not r.writable:
            yield "--weights"
        if r.name == self.board.layout.data:
            yield "stack"

    def _caches(self) -> Table:
        table = Table(show_header=False, box=None, padding=(0, 1))
        for c in self.board.caches:
            table.add_row("", c.name, cache_text(c), ", ".join(self._behind(c)))
        return table

    def _behind(self, cache: Cache) -> Iterable[str]:
        yield "for " + ", ".join(r.name for r in self.board.regions if cache.name in r.caches)

    def _kept(self) -> Text:
        kept = self.board.reserved
        text = f"kept back: stack {kept.stack:,} bytes, application {kept.application:,} bytes"
        steps = len(self.board.startup.steps)
        return Text(f"{text}; start-up: {steps} steps to {self.board.clock_hz / 1e6:g} MHz")

    def _sources(self) -> Table:
        table = Table(show_header=False, box=None, padding=(0, 1))
        b = self.board
        named: list[tuple[str, Any]] = [("board", b)]
        named += [*((r.name, r) for r in b.regions), *((c.name, c) for c in b.caches)]
        named += [
            ("startup", b.startup),
            ("reserved", b.reserved),
            ("console", b.console),
            ("timer", b.timer),
        ]
        tools = (("qemu", b.qemu), ("unicorn", b.unicorn), ("renode", b.renode), ("platformio", b.platformio))
        for name, table_of in (*named, *((name, tool) for name, tool in tools if tool is not None)):
            table.add_row("", name, Text(table_of.source, "dim"))
        return table


def size_text(size: int) -> str:
    """`512 KB`, `2 MB`, `96 bytes`: what a table has room for."""
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 2**20:,.3g} MB" if size >= 2**20 else f"{size / 2**10:,.3g} KB"


def bar(region: Region, cells_per_doubling: int) -> Text:
    """A bar whose length grows by as much with every doubling of the region."""
    pattern, colour = STYLES[region.kind]
    cells = 1 + round(cells_per_doubling * max(math.log2(region.length / SMALLEST), 0.0))
    return Text(pattern * cells, colour)


def flags(region: Region) -> str:
    """`rwx dma`: what the core may do there, and whether other bus masters reach it."""
    rights = "r" + ("w" if region.writable else "-") + ("x" if region.executable else "-")
    return f"{rights} {'dma' if region.dma else 'no dma'}"


def cache_text(cache: Cache) -> str:
    """`4 KB of instructions, lines of 32 bytes, 2 ways, of the core`."""
    what = {"both": "everything"}.get(cache.serves, cache.serves)
    ways = f"{cache.ways} way{'s' if cache.ways > 1 else ''}"
    owner = "core" if cache.owner == "core" else "memory's interface"
    return f"{size_text(cache.size)} of {what}, lines of {cache.line} bytes, {ways}, in the {owner}"
