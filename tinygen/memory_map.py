"""The picture of a memory plan: columns are steps, rows are address ranges, offset 0 at the bottom.

Every buffer is a block with its letter (its key in the table of buffers) and, where it fits, its first value;
neighbours differ in colour and pattern, so that the picture also reads in black and white. Below: live bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions
from rich.text import Text

from tinygen.planning import Buffer, MemoryPlan

ROWS = 16
WIDEST_COLUMN = 6
PATTERNS = "▒░▓"
COLOURS = (
    "blue",
    "green",
    "magenta",
    "cyan",
    "yellow",
    "red",
    "bright_blue",
    "bright_green",
    "bright_magenta",
    "bright_cyan",
)
LEVELS = " ▁▂▃▄▅▆▇█"


def buffer_name(index: int) -> str:
    """a, b, ... z, aa, ab, ...: the short name of the buffer with that index in the plan."""
    high, low = divmod(index, 26)
    return (buffer_name(high - 1) if high else "") + chr(ord("a") + low)


class MemoryMap:
    """Prints itself with rich. steps: how many steps the program has (one more column: after the run)."""

    def __init__(self, plan: MemoryPlan, steps: int) -> None:
        self.plan, self.times = plan, steps + 1

    @staticmethod
    def style(index: int) -> str:
        """Colour of the buffer with that index."""
        return COLOURS[index % len(COLOURS)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        margin = len(f"{self.plan.arena_bytes:,}") + 2
        room = max(options.max_width - margin - 2, 16)
        per_column = -(-self.times // room)
        columns = [range(t, min(t + per_column, self.times)) for t in range(0, self.times, per_column)]
        width = max(1, min(WIDEST_COLUMN, room // len(columns)))
        cells = self._cells(columns)
        labels = self._labels(cells, width)
        for row in reversed(range(len(cells))):
            yield self._line(row, cells[row], labels, width, margin)
        yield Text(" " * margin + "└" + "─" * (width * len(columns)))
        yield from self._axis(columns, width, margin)

    @property
    def _row_bytes(self) -> int:
        """Bytes of address range per row, a multiple of 4."""
        return max(4, -(-self.plan.arena_bytes // (4 * ROWS)) * 4)

    def _cells(self, columns: list[range]) -> list[list[int | None]]:
        """Index of the buffer that covers most of each cell; rows from offset 0 up."""
        size = self._row_bytes
        count = -(-self.plan.arena_bytes // size)
        return [
            [self._mostly(row * size, (row + 1) * size, times) for times in columns] for row in range(count)
        ]

    def _mostly(self, low: int, high: int, times: range) -> int | None:
        def covered(buffer: Buffer) -> int:
            span = min(buffer.end, high) - max(buffer.offset, low)
            time = min(buffer.last, times[-1]) - max(buffer.first, times[0]) + 1
            return max(span, 0) * max(time, 0)

        best = max(range(len(self.plan.buffers)), key=lambda i: covered(self.plan.buffers[i]), default=None)
        return best if best is not None and covered(self.plan.buffers[best]) else None

    def _labels(self, cells: list[list[int | None]], width: int) -> dict[tuple[int, int], str]:
        """(row, column) -> what to write there: middle row of a block, first column, as long as it fits."""
        places: dict[int, list[tuple[int, int]]] = {}
        for row, line in enumerate(cells):
            for column, index in enumerate(line):
                if index is not None:
                    places.setdefault(index, []).append((row, column))
        labels = {}
        for index, found in places.items():
            rows = sorted({row for row, _ in found})
            row = rows[len(rows) // 2]
            inside = sorted(column for r, column in found if r == row)
            room = width * len(inside)
            fitting = [text for text in self._texts(index) if len(text) <= room]
            if fitting:
                labels[row, inside[0]] = fitting[0]
        return labels

    def _texts(self, index: int) -> tuple[str, str]:
        """What a block may be called, longest first."""
        buffer, letter = self.plan.buffers[index], buffer_name(index)
        return f"{letter} {buffer.tensors[0] if buffer.tensors else 'scratch'} ", letter

    def _line(
        self,
        row: int,
        line: list[int | None],
        labels: dict[tuple[int, int], str],
        width: int,
        margin: int,
    ) -> Text:
        address = f"{row * self._row_bytes:,}" if row % 4 == 0 else ""
        text = Text(f"{address:>{margin - 1}} │", no_wrap=True)
        column = 0
        while column < len(line):
            stop = column + 1
            while stop < len(line) and line[stop] == line[column] and (row, stop) not in labels:
                stop += 1
            self._block(text, line[column], labels.get((row, column), ""), width * (stop - column))
            column = stop
        return text

    def _block(self, text: Text, index: int | None, label: str, width: int) -> None:
        if index is None:
            text.append(" " * width)
            return
        text.append(label, f"bold reverse {self.style(index)}")
        text.append(PATTERNS[index % len(PATTERNS)] * (width - len(label)), self.style(index))

    def _axis(self, columns: list[range], width: int, margin: int) -> Iterable[Text]:
        """Step numbers, and the live bytes as a bar under each step."""
        ruler = [" "] * (width * len(columns) + 8)
        free = 0
        for number, times in enumerate(columns):
            label = "end" if times[0] == self.times - 1 else str(times[0])
            if number * width >= free:
                ruler[number * width : number * width + len(label)] = label
                free = number * width + len(label) + 1
        yield Text(f"{'step':>{margin - 1}}  " + "".join(ruler).rstrip(), style="dim", no_wrap=True)
        bars = Text(f"{'live':>{margin - 1}}  ", style="dim", no_wrap=True)
        for times in columns:
            live = max(self._live(t) for t in times)
            level = -(-8 * live // max(self.plan.lower_bound, 1))
            at_peak = live == self.plan.lower_bound
            bars.append(LEVELS[min(level, 8)] * width, "bold red" if at_peak else "")
        yield bars

    def _live(self, time: int) -> int:
        return sum(b.size for b in self.plan.buffers if b.first <= time <= b.last)
