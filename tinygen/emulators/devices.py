"""What answers at a board's register addresses in Unicorn: console, timer, system control, start-up registers.

The start-up's registers are stubs that hold the firmware to its board description: every write must be the next one of
[startup] steps, with its value; a register that is waited for becomes ready when that wait is due. When all steps
are done the registers keep what is written. Whether the steps give the clock that the board claims is another matter:
the tests decode them with the clock trees of the reference manuals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinygen.boards import Board, StartStep
from tinygen.emulators.peripherals import (
    CONSOLES,
    PAGE,
    SYSTEM_CONTROL,
    SYSTEM_CONTROL_SPACE,
    TIMERS,
    Registers,
)


@dataclass(frozen=True)
class Device:
    """Registers at a base address."""

    base: int
    registers: Registers


class Bus:
    """Reads and writes by address. printed: gets what goes to the console; clock: gives the timer's count."""

    def __init__(self, board: Board, printed: Callable[[int], None], clock: Callable[[], int]) -> None:
        self._printed, self._clock = printed, clock
        self._devices = (
            Device(board.console.base, CONSOLES[board.console.kind]),
            Device(board.timer.base, TIMERS[board.timer.kind]),
            Device(SYSTEM_CONTROL_SPACE, SYSTEM_CONTROL),
        )
        self._steps = board.startup.steps
        self._done = 0
        self._stored = {step.address: 0 for step in self._steps}

    def pages(self) -> tuple[int, ...]:
        """Addresses of all pages that hold a register."""
        used = {a & -PAGE for a in self._stored}
        for device in self._devices:
            registers = device.registers
            offsets = {*registers.plain, *registers.constant, registers.data or 0, registers.counter or 0}
            used |= {(device.base + offset) & -PAGE for offset in offsets}
        return tuple(sorted(used))

    def pending(self) -> StartStep | None:
        """The first step of the start-up that the firmware has not made yet."""
        return self._steps[self._done] if self._done < len(self._steps) else None

    def read(self, address: int) -> int | None:
        """The register's value; None: nothing is there."""
        step = self.pending()
        if address in self._stored and (step is not None or self._device(address) is None):
            if step is not None and step.kind == "wait" and step.address == address:
                self._done += 1
                return (self._stored[address] & ~step.mask) | step.value
            return self._stored[address]
        device = self._device(address)
        if device is None:
            return None
        offset, registers = address - device.base, device.registers
        if offset == registers.counter:
            return 0xFFFFFFFF - self._clock() if registers.counts_down else self._clock()
        return registers.constant.get(offset, 0)

    def write(self, address: int, value: int) -> bool:
        """Take a write; False: nothing is there, or it is not what the start-up should write now."""
        if (step := self.pending()) is not None and address in self._stored:
            due = (self._stored[address] & ~step.mask) | step.value
            if step.kind != "write" or step.address != address or value != due:
                return False
            self._done += 1
            self._stored[address] = value
            return True
        device = self._device(address)
        if device is not None and address - device.base == device.registers.data:
            self._printed(value)
        elif address in self._stored:
            self._stored[address] = value
        return device is not None or address in self._stored

    def _device(self, address: int) -> Device | None:
        """The device that has a register there."""
        for device in self._devices:
            registers, offset = device.registers, address - device.base
            known = (registers.data, registers.counter)
            if offset in registers.plain or offset in registers.constant or offset in known:
                return device
        return None
