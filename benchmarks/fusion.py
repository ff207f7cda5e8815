"""What fusing an operator into the convolution before it could save at most: the traffic of the tensor between them.

    python -m benchmarks.fusion    # seconds; writes its section of docs/kernels.md

Add, pooling and pointwise convolutions compute the same sums and round them as often whether they are fused or not: the
format's definition rounds what is between. What goes away is one store of that tensor and one load of it, a word at a
time (Cortex-M4, zero wait states: STR 1 cycle, LDR 2). Nothing is built; this is the floor of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.datasets import folder
from benchmarks.kernel_targets import M4, MODELS
from benchmarks.tables import markdown, replace_section
from benchmarks.validate_model import published
from tinygen import pipeline
from tinygen.boards import load_board
from tinygen.frontend.tflite import load_tflite
from tinygen.graph import BoundNode
from tinygen.program import estimated_cycles

WORD = 4
STORE_AND_LOAD = 1 + 2
"""Cycles that a word of the tensor between two layers takes."""
PAIRS = {
    ("conv2d", "add"): "add after conv",
    ("conv2d", "average_pool2d"): "pool after conv",
    ("conv2d", "max_pool2d"): "pool after conv",
    ("add", "average_pool2d"): "pool after add",
    ("depthwise_conv2d", "conv2d"): "pointwise after depthwise",
}
"""(operator, its reader) -> what fusing them is called."""
TITLES = ("model", "fusion", "places", "bytes between", "saved at most, cycles", "of the model")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "kernels.md"


def fusible(nodes: list[BoundNode]) -> Iterator[tuple[str, int]]:
    """(fusion, bytes of the tensor between) for every tensor with one reader."""
    readers: dict[str, list[BoundNode]] = {}
    for b in nodes:
        for t in {t.name: t for t in b.activations}.values():
            readers.setdefault(t.name, []).append(b)
    for b in nodes:
        after = readers.get(b.output.name, [])
        if len(after) == 1 and (kind := PAIRS.get((b.node.op, after[0].node.op))):
            yield kind, b.output.size_bytes


def rows_of(name: str) -> list[list[str]]:
    """A model's rows of the table."""
    graph = load_tflite(folder() / "models" / published(name).file)
    program = pipeline.compile_graph(graph, None, load_board(M4), pipeline.Options()).program
    whole, sums = estimated_cycles(program), dict[str, list[int]]()
    for kind, size in fusible([s.bound for s in program.steps]):
        sums.setdefault(kind, []).append(size)
    return [
        [name, kind, str(len(sizes)), f"{sum(sizes):,}", *_saved(sum(sizes), whole)]
        for kind, sizes in sums.items()
    ]


def _saved(size: int, whole: float) -> tuple[str, str]:
    cycles = size // WORD * STORE_AND_LOAD
    return f"{cycles:,}", f"{100 * cycles / whole:.2f} %"


def main() -> None:
    """Print the table, write it."""
    rows = [row for name in MODELS for row in rows_of(name)]
    table = Table(*TITLES, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    replace_section(PAGE, "fusion", markdown(TITLES, rows))


if __name__ == "__main__":
    main()
