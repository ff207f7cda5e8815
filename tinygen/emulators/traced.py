"""Unicorn with every instruction and access followed by the cycle model (cycles/tracing.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.cycles.places import places
from tinygen.cycles.trace import Trace
from tinygen.cycles.tracing import Landmarks, Tracer
from tinygen.emulators.base import log_limit
from tinygen.emulators.unicorn_ import Unicorn, run_to_log
from tinygen.runlog import finished


@dataclass(frozen=True)
class Traced(Unicorn):
    """One run of an image of one model. steps: kernels that one inference calls. traces: gets one Trace a run."""

    steps: int = 0
    traces: list[Trace] = field(default_factory=list)

    def execute(self, firmware: Firmware, board: Board, inputs: bytes, timeout: float) -> str:
        """See Emulator.execute."""
        if reason := self.unavailable(board):
            return finished(b"", f"HOST UNAVAILABLE {reason}")
        from tinygen.emulators.unicorn_machine import Machine

        machine = Machine(firmware, board, inputs, frozenset(), log_limit(firmware, inputs))
        samples = int.from_bytes(inputs[4:8], "little")
        objects = places(firmware.elf, firmware.symbols, firmware.code_ranges)
        tracer = Tracer(machine.core, board, objects, Landmarks.of(firmware, self.steps, samples))
        log = run_to_log(machine, timeout)
        self.traces.append(tracer.trace())
        return log
