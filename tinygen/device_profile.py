"""What each layer took on the device: timestamps of an image compiled with --profile-on-device, made readable.

The firmware gives ticks of the board's timer (judge.ModelRun). They are seconds on a real board, instructions in an
emulator that counts; in an emulator time is not real, and a board counts no instructions.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from statistics import median_low

from tinygen.boards import Board
from tinygen.errors import RunError
from tinygen.judge import ModelRun
from tinygen.program import Program

COARSE_TICKS = 20
"""Fewer ticks than this say little of a layer: a reading is off by up to one."""


@dataclass(frozen=True)
class DeviceLayer:
    """One layer that executes code. step: its index in the program; kernel: name of its template.

    ticks: of the board's timer, median over the samples (the lower of two); ticks_max: the most. instructions, seconds:
    the same two; None where nothing says what a tick is. share: of all layers' medians, 0 to 1.
    A layer's ticks begin behind the stamp before it and hold the stamp behind it, some six instructions.
    """

    step: int
    name: str
    kernel: str
    ticks: int
    ticks_max: int
    instructions: int | None
    instructions_max: int | None
    seconds: float | None
    seconds_max: float | None
    share: float

    @property
    def coarse(self) -> bool:
        """The timer is too slow to tell this layer's time."""
        return self.seconds is not None and self.ticks < COARSE_TICKS


def layers_of(run: ModelRun, program: Program, board: Board) -> tuple[DeviceLayer, ...]:
    """The layers of a run on this board; () when the image takes no timestamps or nothing was counted.

    Raises RunError when the image has other layers than the program.
    """
    counted = [ticks for ticks in run.layer_ticks or () if ticks is not None]
    steps = [(i, step) for i, step in enumerate(program.steps) if not step.kernel.alias]
    if not counted:
        return ()
    if len(counted[0]) != len(steps):
        raise RunError(
            f"the image of '{run.name}' has timestamps of {len(counted[0])} layers, its graph {len(steps)} that "
            "execute code: they are of different versions\n  compile the project again"
        )
    columns = list(zip(*counted, strict=True))
    middle = [median_low(column) for column in columns]
    hertz = board.timer.clock_hz if any(s is not None for s in run.seconds) else None
    return tuple(
        DeviceLayer(
            step=index,
            name=step.bound.name,
            kernel=step.kernel.name,
            ticks=ticks,
            ticks_max=max(column),
            instructions=_instructions(ticks, run.ratio),
            instructions_max=_instructions(max(column), run.ratio),
            seconds=ticks / hertz if hertz else None,
            seconds_max=max(column) / hertz if hertz else None,
            share=ticks / max(sum(middle), 1),
        )
        for (index, step), ticks, column in zip(steps, middle, columns, strict=True)
    )


def _instructions(ticks: int, ratio: Fraction | None) -> int | None:
    """Ticks as instructions: exact, as an instruction takes at least three ticks where they are not equal."""
    return round(ticks * ratio) if ratio else None
