"""What pinning does: seven models x all boards; how much is pinned where, what it saves by the model of access.py, and
what a greedy choice would have saved.

    python -m benchmarks.pinning            # print the table
    python -m benchmarks.pinning --write    # and put it into docs/pinning.md

Nothing is measured here and no compiler is needed: sizes and counts are those of placement. Weights of Keras models are
quantized on made-up samples, which changes no size. Needs ../shared/data.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinygen import pipeline
from tinygen.access import waiting
from tinygen.boards import Board, all_boards
from tinygen.errors import BoardError
from tinygen.firmware import needs_of
from tinygen.fit import assumed_int8
from tinygen.frontend.keras import load_keras
from tinygen.frontend.tflite import load_tflite
from tinygen.graph import Graph
from tinygen.placement import Needs, Placement, place, rooms

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT.parent / "shared" / "data" / "models"
DOCS = ROOT / "docs" / "pinning.md"
BEGIN, END = "<!-- table: python -m benchmarks.pinning --write -->", "<!-- end of table -->"
FILES = (
    "kws_ds_cnn_int8.tflite",
    "ic_resnet8_int8.tflite",
    "vww_mobilenet_v1_025_96_int8.tflite",
    "ad_autoencoder_int8.tflite",
    "cwru_cnn1d.keras",
    "fan_cnn1d.keras",
    "ceiling_fan_ae.keras",
)


@dataclass(frozen=True)
class Row:
    """One model on one board. pinned: bytes of arrays per region; saved, greedy: modelled cycles, code included."""

    model: str
    board: str
    arena: str
    arrays: int
    pinned: dict[str, int]
    saved: float
    greedy: float

    @property
    def share(self) -> float:
        """Greedy's part of the optimum."""
        return self.greedy / self.saved if self.saved else 1.0

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        where = ", ".join(f"{name} {size:,}" for name, size in self.pinned.items() if size) or "-"
        part = sum(self.pinned.values()) / self.arrays
        return (
            self.model,
            self.board,
            self.arena,
            where,
            f"{part:.0%}",
            f"{self.saved:,.0f}",
            f"{self.share:.2%}" if self.saved else "-",
        )


HEADER = ("model", "board", "arena in", "arrays pinned, bytes", "of all", "cycles saved", "greedy")


def greedy_saving(needs: Needs, board: Board, placement: Placement) -> float:
    """Cycles that pinning saves when chosen greedily (most per byte first), beside the same arena and inputs."""
    room = rooms(board)
    room[placement.arena] -= -(-needs.arena // 8) * 8
    room[placement.inputs] -= -(-needs.record // 8) * 8
    offers = [
        (waiting(board, board.code, m.traffic) - waiting(board, r, m.traffic), m, r)
        for m in needs.movables
        for r in board.writable
        if r.executable or not m.is_code
    ]
    taken: set[str] = set()
    total = 0.0
    for saved, movable, region in sorted(offers, key=lambda o: -o[0] / max(o[1].bytes, 1)):
        if saved > 0 and movable.symbol not in taken and movable.bytes <= room[region.name]:
            room[region.name] -= movable.bytes
            taken.add(movable.symbol)
            total += saved
    return total


def quantized(path: Path) -> Graph:
    """The model as an int8 graph."""
    if path.suffix == ".tflite":
        return load_tflite(path)
    return pipeline.final(assumed_int8(load_keras(path).graph), proven=False)


def row_of(graph: Graph, name: str, board: Board) -> Row | None:
    """None where arena and inputs do not fit the board's SRAM, or weights its flash."""
    try:
        compiled = pipeline.lower(graph, board, pipeline.Options())
        placement = place(needs := needs_of([compiled.library]), board)
    except BoardError:
        return None
    if compiled.library.constant_bytes > board.code.length:
        return None
    arrays = [p for p in placement.pins if not p.movable.is_code]
    return Row(
        model=name,
        board=board.name,
        arena=placement.arena,
        arrays=sum(m.bytes for m in needs.movables if not m.is_code),
        pinned={r.name: sum(p.movable.bytes for p in arrays if p.region == r.name) for r in board.writable},
        saved=sum(p.saved for p in placement.pins),
        greedy=greedy_saving(needs, board, placement),
    )


def rows() -> Iterator[Row]:
    """All that fit."""
    for file in FILES:
        graph = quantized(MODELS / file)
        for board in all_boards():
            row = row_of(graph, file.partition(".")[0].removesuffix("_int8"), board)
            if row is not None:
                yield row


def table(found: list[Row]) -> str:
    """Markdown: boards without wait states are left out, their weights stay in flash."""
    gaining = [row for row in found if row.saved]
    worst = min(gaining, key=lambda row: row.share)
    near = sum(row.share >= 0.999 for row in gaining)
    idle = sorted({row.board for row in found} - {row.board for row in gaining})
    lines = [f"| {' | '.join(HEADER)} |", "|---|---|---|---|--:|--:|--:|"]
    lines += [f"| {' | '.join(row.cells)} |" for row in gaining]
    told = (
        f"Greedy reaches 99.9 % of the optimum in {near} of {len(gaining)} rows; its worst is {worst.share:.1%} "
        f"({worst.model} on {worst.board})."
    )
    return "\n".join(
        [*lines, "", told, f"Nothing to gain, all memory without wait states: {', '.join(idle)}."]
    )


def main() -> None:
    """Print the table; --write puts it into the docs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write it into {DOCS.relative_to(ROOT)}")
    options = parser.parse_args()
    text = table(list(rows()))
    print(text)
    if options.write:
        page = DOCS.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        DOCS.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
