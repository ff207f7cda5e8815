"""What an emulator is. How to run (here and beside) and how to judge (judge.py) are separate."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Protocol, runtime_checkable

from tinygen.boards import Board
from tinygen.building import Firmware


class Emulator(Protocol):
    """Runs firmware. An implementation holds no state between calls; `execute` never judges."""

    @property
    def name(self) -> str:
        """As --emulator takes it."""
        ...

    def unavailable(self, board: Board) -> str | None:
        """Why this emulator cannot run this board here, and the line that installs what is missing."""
        ...

    def build(self, project: Path, board: Board) -> Firmware:
        """The image that this emulator runs. Raises what building.build raises."""
        ...

    def execute(self, firmware: Firmware, board: Board, inputs: bytes, timeout: float) -> str:
        """Run the image on the records of an input block; returns the log (format: runlog.py).

        timeout: seconds of wall time without a new line on the console. Firmware cannot make it raise.
        """
        ...


@runtime_checkable
class Slow(Protocol):
    """An emulator that is better given few samples at a time: what is on its way shows no progress."""

    @property
    def most_bytes(self) -> int:
        """Bytes of inputs that one execution should have at most; a sample that is longer goes alone."""
        ...


def log_limit(firmware: Firmware, inputs: bytes) -> int:
    """Bytes that no honest log of these records exceeds: what prints without end is stopped there."""
    records = struct.unpack_from("<I", inputs, 4)[0] if len(inputs) >= 8 else 0
    largest = max(
        sum(4 * size + 100 for size in m.output_sizes) + 20 * m.profile_steps
        for m in firmware.description.models
    )
    return int(records * (largest + 100) + (1 << 16))
