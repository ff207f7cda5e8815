"""Unicorn: a core from PyPI and nothing around it: exact memory limits, no system package needed.

Exactly the regions of the board's TOML are mapped, code read-only, SRAM not executable and filled with junk,
plus the registers that the firmware touches (peripherals.py). Any other access ends the run as FAULTED.
Instructions are counted exactly by a hook on every basic block, between two entries to tg_mark. The hook is
slow (about 2 us a block), so by default only the first sample of each model is counted: the others run
without it and have instructions None. count_all counts every sample.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tinygen import building
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.emulators.base import log_limit
from tinygen.emulators.peripherals import CONSOLES, PAGE, TIMERS
from tinygen.runlog import finished

INSTALL = "pip install unicorn"
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Unicorn:
    """The boards' cores in Unicorn. Its M0 also executes Thumb-2: the assembler and QEMU prove legality."""

    count_all: bool = False
    name: str = "unicorn"

    def unavailable(self, board: Board) -> str | None:
        """No model of the core or of a device, odd regions, or no Unicorn."""
        if board.unicorn is None:
            return f"Unicorn has no model of {board.cpu} (board '{board.name}'); use --emulator qemu"
        if find_spec("unicorn") is None:
            return f"the Python package unicorn is not installed; type: {INSTALL}"
        if board.console.kind not in CONSOLES or board.timer.kind not in TIMERS:
            devices = f"{board.console.kind} with {board.timer.kind}"
            return f"tinygen models no {devices} for Unicorn; use --emulator qemu"
        odd = next((r for r in board.regions if r.origin % PAGE or r.length % PAGE), None)
        if odd is not None:
            return (
                f"Unicorn maps multiples of {PAGE:,} bytes, region '{odd.name}' is none; use --emulator qemu"
            )
        return None

    def build(self, project: Path, board: Board) -> Firmware:
        """The board's own image."""
        return building.build(project, board)

    def execute(self, firmware: Firmware, board: Board, inputs: bytes, timeout: float) -> str:
        """See Emulator.execute."""
        if reason := self.unavailable(board):
            return finished(b"", f"HOST UNAVAILABLE {reason}")
        from tinygen.emulators.unicorn_machine import Machine

        machine = Machine(firmware, board, inputs, self.count_all, log_limit(firmware, inputs))
        stop, silent = threading.Event(), threading.Event()
        watchdog = threading.Thread(target=_watch, args=(machine, timeout, stop, silent), daemon=True)
        watchdog.start()
        try:
            fault = machine.run()
        finally:
            stop.set()
            watchdog.join()
        lines = ["HOST RATIO 1 1"]
        if fault:
            lines.append(f"HOST FAULT {fault}")
        elif silent.is_set():
            lines.append(f"HOST TIMEOUT {timeout:g}")
        elif machine.console.floods:
            lines.append("HOST EXIT stopped: it printed without end")
        return finished(bytes(machine.console.raw), *lines)


def _watch(machine: object, timeout: float, stop: threading.Event, silent: threading.Event) -> None:
    """Stop the machine when its console gives no new line for `timeout` seconds."""
    from tinygen.emulators.unicorn_machine import Machine

    assert isinstance(machine, Machine)
    lines, deadline = -1, 0.0
    while not stop.wait(POLL_SECONDS):
        if machine.console.lines != lines:
            lines, deadline = machine.console.lines, time.monotonic() + timeout
        elif time.monotonic() > deadline:
            silent.set()
            machine.stop()
