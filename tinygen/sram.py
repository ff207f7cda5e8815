"""How much writable memory an image takes: the one definition behind --budget-sram, `fit`, `prune` and `profile`.

Arena, what is pinned, both stacks and the firmware's variables; not the inputs of the test. Before linking this is
sram_bytes(), afterwards building.Firmware.ram_bytes counts the same in the image. A budget is met where what must be
there fits: what --pin auto adds only fills what is left.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinygen.boards import Board
from tinygen.placement import Movable, Needs, fixed_bytes
from tinygen.wishes import Wishes


def sram_bytes(needs: Needs, board: Board, pinned: Iterable[Movable]) -> int:
    """Bytes of arena, pinned arrays and (estimated) code, stacks and variables."""
    return needs.arena + sum(m.traffic.footprint for m in pinned) + fixed_bytes(board, needs.variables)


def demanded(needs: Needs, board: Board, wishes: Wishes) -> tuple[Movable, ...]:
    """What the user wants in writable memory whatever it takes: --pin all, or a region for a layer."""
    regions = {r.name for r in board.writable}

    def wish(movable: Movable) -> str:
        return wishes.pin_code if movable.is_code else wishes.layers.get(movable.layer, wishes.pin)

    return tuple(m for m in needs.movables if wish(m) in {"all", *regions})
