"""Plays a board's start-up steps on the reset values of an STM32's registers, as the chip would take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tinygen.boards import StartStep

WORD = 0xFFFFFFFF
AHB = (2, 4, 8, 16, 64, 128, 256, 512)
APB = (2, 4, 8, 16)
Registers = Mapping[int, int]


class ClockError(Exception):
    """The steps ask something of the chip that its manual forbids, or wait for what never comes."""


@dataclass(frozen=True)
class Clocks:
    """Frequencies in Hz. flash: the bus whose clocks the flash's wait states count; source: of the core's clock."""

    source: str
    core: float
    flash: float
    console: float
    wait_states: int


@dataclass(frozen=True)
class Tree:
    """A chip. reset: register -> value; status: bits that the hardware shows at an address, given what was written;
    gate: (register, mask) that must be set for a write to an address to be heard; frozen: the same, must be clear;
    decode: the clocks, given the registers and the console's base. leap: no change of source may end above it, in Hz.
    """

    reset: Registers
    status: Callable[[int, Registers], int]
    gate: Callable[[int], tuple[int, int] | None]
    decode: Callable[[Registers, int], Clocks]
    frozen: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    leap: float = float("inf")


def play(steps: Sequence[StartStep], tree: Tree, console: int) -> tuple[Clocks, dict[int, int]]:
    """The clocks and the registers after all steps. Raises ClockError at the first step that cannot be."""
    registers = dict(tree.reset)
    clocks = tree.decode(registers, console)
    for step in steps:
        if step.kind == "write":
            _check_write(step, tree, registers)
            registers[step.address] = registers.get(step.address, 0) & ~step.mask & WORD | step.value
        else:
            registers[step.address] = _after_wait(step, tree, registers)
        before, clocks = clocks, tree.decode(registers, console)
        if clocks.source != before.source and clocks.core > tree.leap:
            raise ClockError(f"{step.why}: from {before.core} to {clocks.core} Hz at once")
    return clocks, registers


def _check_write(step: StartStep, tree: Tree, registers: Registers) -> None:
    gate = tree.gate(step.address)
    if gate is not None and registers.get(gate[0], 0) & gate[1] != gate[1]:
        raise ClockError(f"{step.why}: {step.address:#x} has no clock, {gate[0]:#x} lacks {gate[1]:#x}")
    lock = tree.frozen.get(step.address)
    if lock is not None and registers.get(lock[0], 0) & lock[1]:
        raise ClockError(f"{step.why}: {step.address:#x} is frozen while {lock[0]:#x} has {lock[1]:#x}")


def _after_wait(step: StartStep, tree: Tree, registers: Registers) -> int:
    shown = registers.get(step.address, 0) | tree.status(step.address, registers)
    if shown & step.mask != step.value:
        raise ClockError(f"{step.why}: waits for ever, {step.address:#x} shows {shown:#x}")
    return shown


def within(what: str, value: float, low: float, high: float) -> None:
    """Raise ClockError unless low <= value <= high."""
    if not low <= value <= high:
        raise ClockError(f"{what} is {value:g}, allowed are {low:g} to {high:g}")


def prescaler(code: int, first: int, divisors: Sequence[int]) -> int:
    """Divisor of a field where codes below `first` divide by 1 and those from it on by divisors[0], [1] ..."""
    return 1 if code < first else divisors[code - first]
