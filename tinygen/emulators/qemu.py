"""QEMU: qemu-system-arm, one process per run, counting instructions by -icount and the board's own timer.

With `-icount shift=N` every instruction takes 2**N ns of virtual time; N is chosen so that the timer makes at
least three ticks per instruction: two readings give the exact number of instructions between them.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tinygen import building
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.emulators.base import log_limit
from tinygen.emulators.process import Ended, watch
from tinygen.runlog import finished

PROGRAM = "qemu-system-arm"
INSTALL = "apt-get install qemu-system-arm"
MIN_TICKS_PER_INSTRUCTION = 3


@dataclass(frozen=True)
class Qemu:
    """The boards' machines in qemu-system-arm. mps2 machines enforce no memory limits there; Unicorn does."""

    name: str = "qemu"
    program: str = PROGRAM

    def unavailable(self, board: Board) -> str | None:
        """No machine for this board, or no QEMU."""
        if board.qemu is None:
            return f"QEMU has no machine for board '{board.name}'; 'tinygen doctor' shows what runs it"
        if shutil.which(self.program) is None:
            return f"{self.program} is not installed; as root: {INSTALL}; or use --emulator unicorn"
        return None

    def build(self, project: Path, board: Board) -> Firmware:
        """The board's own image."""
        return building.build(project, board)

    def execute(self, firmware: Firmware, board: Board, inputs: bytes, timeout: float) -> str:
        """See Emulator.execute."""
        if reason := self.unavailable(board):
            return finished(b"", f"HOST UNAVAILABLE {reason}")
        with tempfile.TemporaryDirectory(prefix="tinygen-qemu-") as folder:
            block = Path(folder) / "inputs.bin"
            block.write_bytes(inputs)
            ended = watch(self._command(firmware, board, block), timeout, log_limit(firmware, inputs))
        ratio = 1 / ticks_per_instruction(board)
        return finished(
            ended.raw, f"HOST RATIO {ratio.numerator} {ratio.denominator}", *_host_lines(ended, timeout)
        )

    def _command(self, firmware: Firmware, board: Board, block: Path) -> list[str]:
        assert board.qemu is not None
        address = firmware.symbols["__tg_input_start"].address
        return [
            self.program,
            *("-machine", board.qemu.machine, *board.qemu.options),
            *("-kernel", str(firmware.elf)),
            *("-device", f"loader,file={str(block).replace(',', ',,')},addr={address:#x},force-raw=on"),
            *("-icount", f"shift={icount_shift(board)}"),
            *("-display", "none", "-monitor", "none", "-serial", "stdio"),
        ]


def icount_shift(board: Board) -> int:
    """Smallest N for which 2**N ns hold enough ticks of the board's timer."""
    return next(n for n in range(32) if _ticks(board, n) >= MIN_TICKS_PER_INSTRUCTION)


def ticks_per_instruction(board: Board) -> Fraction:
    """Ticks of the board's timer while QEMU executes one instruction."""
    return _ticks(board, icount_shift(board))


def _ticks(board: Board, shift: int) -> Fraction:
    return Fraction(board.timer.clock_hz * 2**shift, 10**9)


def _host_lines(ended: Ended, timeout: float) -> list[str]:
    """What the log must say of an end that was not the firmware's own."""
    told = " ".join(ended.stderr.split())[:300]
    if "Lockup" in ended.stderr:
        return ["HOST FAULT kind=lockup"]
    if ended.timed_out:
        return [f"HOST TIMEOUT {timeout:g}"]
    if ended.flooded:
        return ["HOST EXIT stopped: it printed without end"]
    if ended.returncode is not None:
        return [f"HOST EXIT qemu-system-arm ended with code {ended.returncode}: {told}"]
    return []
