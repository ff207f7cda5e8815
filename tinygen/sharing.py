"""What boards of unlike cores pay for sharing one project: kernels that all of them can execute."""

from __future__ import annotations

from collections.abc import Sequence

from tinygen.boards import Board, common
from tinygen.graph import Graph
from tinygen.program import estimated_cycles, select
from tinygen.selection import Choice


def notes(graph: Graph, boards: Sequence[Board], choice: Choice) -> tuple[str, ...]:
    """A sentence per board whose instructions the project makes no use of. boards: as they are, not as common() has
    them. A choice by name was made for what all have: it is left out where a board is looked at alone."""
    shared = common(boards)
    together = estimated_cycles(select(graph, shared[0], choice))
    told = []
    for board, less in zip(boards, shared, strict=True):
        lost = [name for name in board.isa if name not in less.isa]
        if not lost:
            continue
        other = next(b for b in boards if any(name not in b.isa for name in lost))
        times = together / estimated_cycles(select(graph, board, Choice(choice.optimize)))
        told.append(
            f"'{board.name}' shares its kernels with '{other.name}' ({other.cpu}): they make no use of its "
            f"{' and '.join(lost)} instructions and take about "
            f"{times:.1f} times the cycles; a project of its own avoids that"
        )
    return tuple(told)
