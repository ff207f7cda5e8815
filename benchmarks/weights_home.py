"""Weights in external flash: cycles that the core waits for arrays in one inference, by the model of access.py: with
their home there, with their home in the code's flash, and there with what `--pin auto` copies from it.

    python -m benchmarks.weights_home            # print the table
    python -m benchmarks.weights_home --write    # and put it into docs/pinning.md

Nothing is measured here and no compiler is needed. Needs ../shared/data.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.pinning import DOCS, FILES, MODELS, ROOT, quantized
from tinygen import pipeline
from tinygen.access import waiting
from tinygen.boards import Board, Region, all_boards
from tinygen.firmware import needs_of
from tinygen.graph import Graph
from tinygen.placement import Movable, place
from tinygen.wishes import Wishes

BEGIN, END = "<!-- table: python -m benchmarks.weights_home --write -->", "<!-- end of table of homes -->"
HEADER = (
    "model",
    "board",
    "arrays, bytes",
    "home",
    "waited there",
    "in the code's flash",
    "pinned",
    "waited then",
)


@dataclass(frozen=True)
class Row:
    """One model on one board. external, internal, pinned: modelled cycles waited for arrays; share: of bytes pinned."""

    model: str
    board: str
    home: str
    arrays: int
    external: float
    internal: float
    pinned: float
    share: float

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        waits = (f"{cycles:,.0f}" for cycles in (self.external, self.internal, self.pinned))
        external, internal, pinned = waits
        share = f"{self.share:.0%}"
        return (self.model, self.board, f"{self.arrays:,}", self.home, external, internal, share, pinned)


def row_of(graph: Graph, name: str, board: Board, home: Region) -> Row:
    """The three places of one model's arrays."""
    wishes = Wishes(weights=home.name)
    needs = needs_of([pipeline.lower(graph, board, pipeline.Options(wishes=wishes)).library])
    placement = place(needs, board, wishes)
    arrays = [m for m in needs.movables if not m.is_code]
    copied = [(p.movable, board.region(p.region)) for p in placement.pins if not p.movable.is_code]

    def waited(places: list[tuple[Movable, Region]]) -> float:
        return sum(waiting(board, region, movable.traffic) for movable, region in places)

    size = sum(m.traffic.footprint for m in arrays)
    return Row(
        name,
        board.name,
        home.name,
        size,
        waited([(m, home) for m in arrays]),
        waited([(m, board.code) for m in arrays]),
        waited([*copied, *((m, home) for m in placement.loose)]),
        sum(m.traffic.footprint for m, _ in copied) / size,
    )


def rows() -> Iterator[Row]:
    """Every model on every board that has external flash beside its code."""
    homes = [(b, r) for b in all_boards() for r in b.regions if not r.writable and r.name != b.code.name]
    for file in FILES:
        graph = quantized(MODELS / file)
        for board, home in homes:
            yield row_of(graph, file.partition(".")[0].removesuffix("_int8"), board, home)


def main() -> None:
    """Print the table; --write puts it into the docs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write it into {DOCS.relative_to(ROOT)}")
    options = parser.parse_args()
    lines = [f"| {' | '.join(HEADER)} |", "|---|---|--:|---|--:|--:|--:|--:|"]
    text = "\n".join([*lines, *(f"| {' | '.join(row.cells)} |" for row in rows())])
    print(text)
    if options.write:
        before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        DOCS.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
