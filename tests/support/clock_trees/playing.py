"""Plays the start-up steps of a board on a model of its chip's clock registers.

The models know their manual and nothing of tinygen. What a PLL or oscillator still needs time for counts as ready only
after a wait step has seen it: a forgotten wait is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tinygen.boards import StartStep

WORD = 0xFFFFFFFF


class StartError(Exception):
    """The steps do what the manual forbids, or wait for what never comes."""


class Chip:
    """Registers by address, with their values after reset. Subclasses react to writes and compute status registers."""

    RESET: ClassVar[dict[int, int]] = {}

    def __init__(self) -> None:
        self.words = dict(self.RESET)

    def field(self, address: int, low: int, bits: int) -> int:
        """A bit field of a register."""
        return (self.words[address] >> low) & ((1 << bits) - 1)

    def read(self, address: int) -> int:
        """What the core reads."""
        return self.words[address]

    def before(self, address: int, value: int) -> None:
        """Called before a write: raises StartError where the manual forbids it."""

    def after(self, address: int) -> None:
        """Called after a write: side effects, then limits."""

    def seen(self, address: int, mask: int) -> None:
        """Called when a wait has ended."""

    def play(self, steps: Iterable[StartStep]) -> None:
        """Run the steps. Raises StartError."""
        for number, step in enumerate(steps, 1):
            try:
                self._step(step)
            except StartError as problem:
                raise StartError(f"step {number} ({step.why}): {problem}") from None

    def _step(self, step: StartStep) -> None:
        if step.address not in self.words:
            raise StartError(f"no register at {step.address:#010x}")
        if step.kind == "wait":
            if self.read(step.address) & step.mask != step.value:
                raise StartError(f"waits for ever: it reads {self.read(step.address):#010x}")
            self.seen(step.address, step.mask)
            return
        old = 0 if step.mask == WORD else self.read(step.address) & ~step.mask
        self.before(step.address, old | step.value)
        self.words[step.address] = old | step.value
        self.after(step.address)


def require(condition: bool, what: str) -> None:
    """Raise StartError unless the condition holds."""
    if not condition:
        raise StartError(what)
