"""What a block of instructions costs after the one that ran before it: the timing tables applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinygen.cycles.cores import Timing
from tinygen.cycles.instructions import (
    BRANCHES,
    COMPUTING,
    FLOATING,
    MEMORY,
    MULTIPLIES,
    WORD_BY_WORD,
    Instruction,
    Kind,
)


@dataclass(frozen=True)
class Cost:
    """cycles: of all instructions, their branch not taken. starts: cycle in which each one begins."""

    cycles: int
    starts: tuple[int, ...]


def body_cost(timing: Timing, block: Sequence[Instruction], before: Instruction | None = None) -> Cost:
    """Cost of a block. before: the instruction that ran just before it without a branch between them."""
    if timing.issue == 2:
        return _paired(timing, block)
    starts, now = [], 0
    for instruction in block:
        starts.append(now)
        now += single_cycles(timing, instruction, before)
        before = instruction
    return Cost(now, tuple(starts))


def branch_cycles(timing: Timing, last: Instruction, following: int) -> int:
    """Cycles that the last instruction of a block adds for going to the address `following`."""
    taken = last.branches and (following != last.end or last.unconditional)
    if not taken:
        return 0
    return timing.return_from_pop if last.sets_pc else timing.taken.get(last.kind, 0)


def single_cycles(timing: Timing, this: Instruction, before: Instruction | None) -> int:
    """Cycles of one instruction behind another, on a core that issues one at a time."""
    cycles = own_cycles(timing, this)
    if before is None:
        return cycles
    behind_load = before.kind is Kind.LOAD and not before.sets_pc
    if behind_load and this.kind is Kind.LOAD and timing.load_behind_load is not None:
        cycles = cycles if before.writes & this.address else timing.load_behind_load
    if behind_load and this.kind is Kind.STORE_INDEXED and timing.store_behind_load is not None:
        cycles = timing.store_behind_load
    if before.kind in COMPUTING and before.writes & this.address:
        cycles += timing.address_delay
    if before.kind in FLOATING and before.kind is not Kind.FP_MOVE and before.writes & this.reads:
        cycles += timing.result_delay
    return cycles


def own_cycles(timing: Timing, this: Instruction) -> int:
    """Cycles of one instruction whatever ran before; those that move several words take one more for each."""
    return timing.of(this.kind) + (this.transfers if this.kind in WORD_BY_WORD else 0)


UNITS = (MEMORY, MULTIPLIES | {Kind.DIV}, BRANCHES, FLOATING)
"""Of each of these kinds one instruction starts in a cycle."""


def _paired(timing: Timing, block: Sequence[Instruction]) -> Cost:
    """In order, up to two a cycle, each when its operands are ready."""
    ready: dict[int, int] = {}
    starts: list[int] = []
    slot: list[Instruction] = []
    now = end = 0
    for instruction in block:
        when = max([now, *(ready.get(r, 0) for r in instruction.reads)])
        if when > now or (slot and not _pairs(slot, instruction)):
            now, slot = max(when, now + bool(slot)), []
        slot.append(instruction)
        starts.append(now)
        busy = max(1, own_cycles(timing, instruction))
        for register in instruction.writes:
            ready[register] = now + max(busy, timing.latency.get(instruction.kind, 1))
        end = max(end, now + busy)
        if busy > 1:
            now, slot = now + busy, []
    return Cost(end, tuple(starts))


def _pairs(slot: Sequence[Instruction], this: Instruction) -> bool:
    """True when `this` can start in the cycle of the one in the slot."""
    if len(slot) > 1 or slot[0].writes & this.reads or slot[0].kind is Kind.SYSTEM:
        return False
    return not any(slot[0].kind in unit and this.kind in unit for unit in UNITS)
