"""Placement: which region holds the arena, the input block and each pinned array or function.

Code has its home in the code region; arrays too, unless the user names another read-only one (`--weights`). Pinning
copies an object from its home, at start-up, into memory that the core reads faster.
Choosing objects and regions under the room that arena and stack leave is a multiple knapsack: knapsack.py solves it,
benchmarks/pinning.py tells how far a greedy choice would be off.
placement_check.py proves the result on the linked image without sharing code with this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.access import Traffic, far_calls, waiting
from tinygen.boards import Board, Region
from tinygen.errors import BoardError
from tinygen.knapsack import Knapsacks, solve
from tinygen.wishes import NONE, PINS, Wishes, check_layers

HANDLER_STACK_BYTES = 512
"""Main stack, used by exception handlers only: the fault report needs about 150 bytes."""
OWN_DATA_BYTES = 64
"""Initialised and zeroed variables of the firmware besides the arena."""
ALIGNMENT = 8
CODE_MARGIN = 1.5
VENEER_BYTES = 64
"""Room for a function that no compiler has seen yet: its estimate times CODE_MARGIN, and its long jumps to others."""


def aligned(size: int) -> int:
    """Bytes up to the next boundary."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Movable:
    """An array or function that can be pinned. symbol: of the C object; layer, role: what it is to the user."""

    symbol: str
    layer: str
    role: str
    traffic: Traffic

    @property
    def bytes(self) -> int:
        """Room that it takes, aligned; a function's is an estimate on the safe side."""
        size = self.traffic.footprint
        return aligned(int(size * CODE_MARGIN) + VENEER_BYTES if self.is_code else size)

    @property
    def is_code(self) -> bool:
        """A function: it needs an executable region."""
        return self.traffic.kind == "instructions"

    def owns(self, symbol: str) -> bool:
        """True for the object, and for functions in a kernel's section: they bear its name and one of their own."""
        return symbol == self.symbol or (self.is_code and symbol.startswith(f"{self.symbol}_"))


@dataclass(frozen=True)
class Needs:
    """What an image needs. arena (aligned), record (inputs of one sample), variables (the libraries'): bytes;
    arena_traffic: reads and writes of it."""

    arena: int
    record: int
    arena_traffic: Traffic
    movables: tuple[Movable, ...]
    variables: int = 0


@dataclass(frozen=True)
class Pinned:
    """One object in a region; saved: modelled cycles per inference."""

    movable: Movable
    region: str
    saved: float


@dataclass(frozen=True)
class Homes:
    """Regions that hold what is constant. code: vectors, functions, initial values; arrays: the models' arrays."""

    code: str
    arrays: str

    @property
    def apart(self) -> bool:
        """True where arrays have a region of their own."""
        return self.arrays != self.code

    def of(self, movable: Movable) -> str:
        """The object's home: where its load address is, and where it is read unless it is pinned."""
        return self.code if movable.is_code else self.arrays


@dataclass(frozen=True)
class Copied:
    """What the start-up code copies in one go. name: of the output section; region: where it runs; home: where it is
    loaded."""

    name: str
    region: str
    home: str
    pins: tuple[Pinned, ...]


@dataclass(frozen=True)
class Placement:
    """Where everything goes. inputs: region of the input block (test firmware). saved, bound: modelled cycles saved per
    inference, and the most that any placement could save. loose: arrays that are read at home."""

    arena: str
    inputs: str
    homes: Homes
    pins: tuple[Pinned, ...]
    loose: tuple[Movable, ...]
    saved: float
    bound: float

    @property
    def array_bytes(self) -> int:
        """Bytes of all arrays, which are stored in their home."""
        pinned = (p.movable for p in self.pins if not p.movable.is_code)
        return sum(m.traffic.footprint for m in (*pinned, *self.loose))

    def of(self, region: str) -> tuple[Pinned, ...]:
        """What is pinned in that region."""
        return tuple(p for p in self.pins if p.region == region)

    def copied(self, region: str) -> tuple[Copied, ...]:
        """What is copied into that region: at most one output section for each home."""
        pins, homes = self.of(region), self.homes
        arrays = tuple(p for p in pins if homes.apart and not p.movable.is_code)
        others = tuple(p for p in pins if p not in arrays)
        made = (
            Copied(f"pin_{region}", region, homes.code, others),
            Copied(f"weights_{region}", region, homes.arrays, arrays),
        )
        return tuple(c for c in made if c.pins)

    def table(self) -> dict[str, Any]:
        """The plan, JSON-ready, to which placement_check.py holds the linked image."""
        pins = [{**_named(p.movable), "region": p.region} for p in self.pins]
        table = {"arena": self.arena, "inputs": self.inputs, "pins": pins}
        if not self.homes.apart:
            return table
        return {**table, "weights": self.homes.arrays, "loose": [_named(m) for m in self.loose]}


def _named(movable: Movable) -> dict[str, str]:
    """The object as placement.json names it."""
    return {"symbol": movable.symbol, "layer": movable.layer, "role": movable.role}


def rooms(board: Board, variables: int = 0) -> dict[str, int]:
    """Bytes of every writable region that arena, inputs and pinned objects may take. variables: Needs.variables."""
    kept = fixed_bytes(board, variables) + board.reserved.application
    return {r.name: r.length - (kept if r.name == board.layout.data else 0) for r in board.writable}


def place(needs: Needs, board: Board, wishes: Wishes = NONE) -> Placement:
    """The placement that saves most. Raises BoardError when the model does not fit, UsageError for unknown layers."""
    check_layers({m.layer for m in needs.movables if not m.is_code}, board, wishes)
    room = rooms(board, needs.variables)
    _check_fits(needs, board, room, wishes)
    chosen = _Problem(needs, board, wishes, room).solve()
    if chosen is None:
        raise _does_not_fit(needs, board, room, wishes)
    return chosen


class _Problem:
    """Binary variables x[object, region]: the arena and the record first, then the movables."""

    def __init__(self, needs: Needs, board: Board, wishes: Wishes, room: Mapping[str, int]) -> None:
        self.needs, self.board, self.wishes, self.room = needs, board, wishes, room
        self.homes = Homes(board.code.name, wishes.weights or board.code.name)
        self.fixed = fixed_bytes(board, needs.variables)
        self.regions = [board.region(name) for name in room]
        arena = Movable("", "", "arena", needs.arena_traffic)
        record = Movable("", "", "inputs", Traffic(needs.record, 0, 4))
        self.objects = [arena, record, *needs.movables]
        self.value = np.array([[self._saved(i, r) for r in self.regions] for i in range(len(self.objects))])

    def _saved(self, index: int, region: Region) -> float:
        """Cycles saved by the object in this region: against its home, for the arena against the slowest."""
        movable = self.objects[index]
        here = waiting(self.board, region, movable.traffic)
        if index < 2:
            return max(waiting(self.board, r, movable.traffic) for r in self.regions) - here
        price = far_calls(self.board, movable.traffic)
        return waiting(self.board, self.board.region(self.homes.of(movable)), movable.traffic) - here - price

    def _allowed(self, index: int, region: Region) -> tuple[int, int]:
        """(fewest, most) copies of the object in the region."""
        if index < 2:
            return 0, 1
        movable = self.objects[index]
        if movable.is_code and not region.executable:
            return 0, 0
        wish = self._wish(movable)
        if wish in PINS:
            return (0, 0) if wish == "none" else (0, 1)
        return (1, 1) if wish == region.name else (0, 0)

    def _must(self, index: int) -> bool:
        """True for objects that must be in one of the regions."""
        if index < 2:
            return True
        return self._wish(self.objects[index]) == "all"

    def _wish(self, movable: Movable) -> str:
        """One of PINS, a region's name or "flash"; what the user says of a layer is about its arrays."""
        if movable.is_code:
            return self.wishes.pin_code
        return self.wishes.layers.get(movable.layer, self.wishes.pin)

    def solve(self) -> Placement | None:
        """The best choice, or None when there is none."""
        indices = range(len(self.objects))
        limits = np.array([[self._allowed(i, r) for r in self.regions] for i in indices], dtype=bool)
        budget = self.wishes.budget_sram
        problem = Knapsacks(
            sizes=np.array([m.bytes // ALIGNMENT for m in self.objects], dtype=float),
            rooms=np.array([r // ALIGNMENT for r in self.room.values()], dtype=float),
            values=self._preference(),
            forced=limits[:, :, 0],
            allowed=limits[:, :, 1],
            must=np.array([self._must(i) for i in indices]),
            pays=np.arange(len(self.objects)) != 1,  # the input block belongs to the test, not to the model
            budget=None if budget is None else float((budget - self.fixed) // ALIGNMENT),
        )
        answer = solve(problem)
        return None if answer is None else self._placement(*answer)

    def _preference(self) -> np.ndarray:
        """Value of every choice, less a tiny price per byte that decides where memories are equally fast."""
        price = [
            [1e-6 * m.bytes * self._dislike(i, r) for r in self.regions] for i, m in enumerate(self.objects)
        ]
        return np.asarray(self.value - np.array(price))

    def _dislike(self, index: int, region: Region) -> int:
        """How little a region suits an object. Pinning has to save something; tightly coupled memory first; the arena
        where DMA can fill the model's input; functions not in the memory of the stack, if the core has another."""
        behind_bus = region.kind == "sram"
        if index == 0:
            return behind_bus + 2 * (not region.dma)
        if index == 1:
            return 0
        return 1 + behind_bus + (self.objects[index].is_code and region.name == self.board.layout.data)

    def _placement(self, taken: np.ndarray, bound: float) -> Placement:
        where = {i: self.regions[int(np.argmax(row))].name for i, row in enumerate(taken) if row.any()}
        pins = tuple(
            Pinned(self.objects[i], name, float(self.value[i][taken[i]].sum()))
            for i, name in where.items()
            if i >= 2
        )
        loose = tuple(m for i, m in enumerate(self.objects) if i >= 2 and i not in where and not m.is_code)
        saved = float(self.value[taken].sum())
        return Placement(where[0], where[1], self.homes, pins, loose, saved, max(bound, saved))


def fixed_bytes(board: Board, variables: int = 0) -> int:
    """Bytes of SRAM that every image takes: both stacks and the firmware's own variables, and the libraries'."""
    return board.reserved.stack + HANDLER_STACK_BYTES + OWN_DATA_BYTES + variables


def _check_fits(needs: Needs, board: Board, room: Mapping[str, int], wishes: Wishes) -> None:
    """Arena and inputs must fit before anything is pinned."""
    budget, fixed = wishes.budget_sram, fixed_bytes(board, needs.variables)
    if budget is not None and needs.arena + fixed > budget:
        raise BoardError(
            f"the model does not fit --budget-sram {budget:,}: arena {needs.arena:,} + stacks and variables "
            f"{fixed:,} are {needs.arena + fixed:,} bytes\n  prune it, or raise the budget"
        )
    if max(needs.arena, needs.record) > max(room.values()) or needs.arena + needs.record > sum(room.values()):
        raise _does_not_fit(needs, board, room, wishes)


def _does_not_fit(needs: Needs, board: Board, room: Mapping[str, int], wishes: Wishes) -> BoardError:
    rows = [f"  {name:<10} {free:>10,} bytes free" for name, free in room.items()]
    pinned = [m for m in needs.movables if (wishes.pin_code if m.is_code else wishes.pin) == "all"]
    pinned += [m for m in needs.movables if wishes.layers.get(m.layer) in room]
    asked = sum(m.bytes for m in pinned)
    first = f" + pinned {asked:,} (largest: {max(pinned, key=lambda m: m.bytes).layer})" if pinned else ""
    return BoardError(
        f"the model does not fit '{board.name}': it needs arena {needs.arena:,} + inputs of one sample "
        f"{needs.record:,}{first}\n"
        + "\n".join(rows)
        + f"\n  try {'--pin auto, ' if pinned else ''}a smaller model, or a board with more SRAM (tinygen fit MODEL)"
    )
