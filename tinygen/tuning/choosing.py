"""The best kernel of every layer by count, under what the boards have room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinygen import pipeline
from tinygen.boards import Board
from tinygen.errors import BoardError
from tinygen.graph import BoundNode, Graph
from tinygen.ops.base import Kernel
from tinygen.pipeline import Compiled, Report
from tinygen.program import select
from tinygen.rendering import body_of
from tinygen.selection import Choice, Figures, Optimize, by_formula, candidates
from tinygen.tuning.cache import Cache, key_of
from tinygen.tuning.counting import Count, count

Counts = Mapping[str, Mapping[str, Count]]
"""Layer -> kernel -> what it takes. Layers that only reinterpret bytes, and those in 16 bits, are not in it."""


@dataclass(frozen=True)
class Counted:
    """counts: of every layer; made, known: how many kernels were counted now, and how many the cache had."""

    counts: Counts
    made: int
    known: int


def countable(b: BoundNode) -> bool:
    """Alone in an image its inputs are the model's, which are int8 or float32."""
    return all(t.dtype in ("int8", "float32") for t in (*b.activations, b.output))


def count_all(graph: Graph, board: Board, cache: Cache, report: Report) -> Counted:
    """Count every kernel that can execute a layer, those that the cache knows excepted."""
    nodes = [b for b in graph.bound() if countable(b)]
    counts: dict[str, dict[str, Count]] = {}
    made = known = 0
    for done, b in enumerate(nodes):
        report("tune", done, len(nodes))
        kernels = {k.name: k for k in candidates(b, board) if not k.alias}
        keys = {name: key_of(k, b, body_of(k, b), board) for name, k in kernels.items()}
        found = {name: seen for name, key in keys.items() if (seen := cache.read(key)) is not None}
        missing = [k for name, k in kernels.items() if name not in found]
        new = count(b, missing, board) if missing else {}
        for name, one in new.items():
            cache.write(keys[name], name, one)
        made, known = made + len(new), known + len(found)
        if kernels:
            counts[b.name] = {**found, **new}
    report("tune", len(nodes), len(nodes))
    return Counted(counts, made, known)


def named(graph: Graph, board: Board, aim: Optimize, counts: Counts) -> tuple[tuple[str, str], ...]:
    """(layer, kernel) for every layer that was counted and has a choice."""

    def weigh(kernel: Kernel, b: BoundNode, body: str) -> Figures:
        seen = counts.get(b.name, {}).get(kernel.name)
        return by_formula(kernel, b, body) if seen is None else Figures(float(seen.cycles), seen.code)

    steps = select(graph, board, Choice(aim), weigh).steps
    return tuple((s.bound.name, s.kernel.name) for s in steps if len(counts.get(s.bound.name, {})) > 1)


def fitting(
    graph: Graph, boards: Sequence[Board], options: pipeline.Options, counts: Counts
) -> tuple[list[Compiled], pipeline.Options, Optimize]:
    """(compiled for every board, its options, the aim that was reached).

    What is best by count for the user's aim; where that does not fit a board or its budgets, for the next aim that
    takes less memory. Raises BoardError when nothing fits.
    """
    aims: list[Optimize] = ["speed", "balanced", "size"]
    problem: BoardError | None = None
    for aim in aims[0 if options.optimize == "portable" else aims.index(options.optimize) :]:
        chosen = replace(options, kernels=named(graph, boards[0], aim, counts))
        try:
            return [pipeline.lower(graph, board, chosen) for board in boards], chosen, aim
        except BoardError as error:
            problem = error
    assert problem is not None
    raise problem
