"""Unicorn: a core from PyPI and nothing around it: exact memory limits, no system package needed.

Exactly the regions of the board's TOML are mapped, code read-only, SRAM not executable and filled with junk,
plus the registers that the firmware touches (peripherals.py). Any other access ends the run as FAULTED.
Instructions are counted exactly by a hook on every basic block, between two entries to tg_mark. The hook is
slow (about 2 us a block), so by default only the first sample of each model is counted: the others run
without it and have instructions None. count_all counts every sample.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tinygen import building
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.emulators import block_counter
from tinygen.emulators.base import log_limit
from tinygen.emulators.peripherals import CONSOLES, PAGE, TIMERS
from tinygen.runlog import finished

if TYPE_CHECKING:
    from tinygen.emulators.unicorn_machine import Machine

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
        from tinygen.emulators.unicorn_machine import Machine, samples_to_count

        count_all = self.count_all or block_counter.library() is not None
        counted = samples_to_count(firmware, inputs, count_all)
        return run_to_log(Machine(firmware, board, inputs, counted, log_limit(firmware, inputs)), timeout)


def run_to_log(machine: Machine, timeout: float) -> str:
    """Run the machine to its end; its console's text and how the run ended, as Emulator.execute returns them."""
    fault, silent = _run(machine, timeout)
    lines = ["HOST RATIO 1 1"]
    if fault:
        lines.append(f"HOST FAULT {fault}")
    elif silent:
        lines.append(f"HOST TIMEOUT {timeout:g}")
    elif machine.console.floods:
        lines.append("HOST EXIT stopped: it printed without end")
    return finished(bytes(machine.console.raw), *lines)


def _run(machine: Machine, timeout: float) -> tuple[str | None, bool]:
    """(fault, whether the console fell silent). The machine has a thread of its own, so that Ctrl-C works."""
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(machine.run)
        try:
            silent = _watch(machine, run, timeout)
        finally:
            while not run.done():  # again and again: a stop between two starts of the core is lost
                machine.stop()
                time.sleep(POLL_SECONDS)
        return run.result(), silent


def _watch(machine: Machine, run: Future[str | None], timeout: float) -> bool:
    """Wait for the run's end; True when no new line came for `timeout` seconds."""
    lines, deadline = 0, time.monotonic() + timeout
    while not wait([run], POLL_SECONDS).done:
        if machine.console.lines != lines:
            lines, deadline = machine.console.lines, time.monotonic() + timeout
        elif time.monotonic() > deadline:
            return True
    return False
