"""Profiles of cores that cannot be followed access by access (Cortex-M55): instructions, counted by the firmware.

A second image of the same project takes a timestamp behind every layer and runs in QEMU, whose timer counts
instructions. There are no modelled cycles.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tinygen import building
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.device_profile import layers_of
from tinygen.emulators import Qemu
from tinygen.errors import RunError
from tinygen.judge import RunResult
from tinygen.occupancy import occupancy
from tinygen.profiling import NOTHING, Cost, Layer, Profile, Run, layer_of, median, warm_of
from tinygen.program import Program
from tinygen.project import Project, write_project


def profile(program: Program, firmware: Firmware, stamped: Project, board: Board, run: Run) -> Profile:
    """The profile of an image. stamped: the same project with timestamps. Raises RunError when a run does not pass."""
    result = run.passed(firmware, board, Qemu())
    totals = tuple(_cost(n) for n in result.instructions if n is not None)
    if not totals:
        raise RunError(f"QEMU counted no instructions on '{board.name}'\n  see 'tinygen doctor'")
    with tempfile.TemporaryDirectory(prefix="tinygen-stamped-") as folder:
        write_project(stamped, Path(folder) / "project")
        image = building.build(Path(folder) / "project", board)
        layers = _layers(program, board, run.passed(image, board, Qemu()), totals)
    followed = tuple(index > 0 for index in range(len(totals)))
    within = sum(layer.cost.instructions for layer in layers)
    return Profile(
        model=firmware.description.models[0].name,
        board=board,
        run_id=firmware.description.run_id,
        counted_by="qemu",
        layers=layers,
        outside=_cost(median(warm_of(totals, followed)).instructions - within),
        totals=totals,
        followed=followed,
        cold=None,
        objects=(),
        arena_bytes=firmware.description.models[0].arena_bytes,
        stack_bytes=result.stack_bytes,
        flash_bytes=firmware.code_bytes,
        sram_bytes=firmware.ram_bytes,
        regions=occupancy(firmware, board),
    )


def _cost(instructions: int) -> Cost:
    return Cost(instructions, None, None, None, None, None, {}, {})


def _layers(program: Program, board: Board, stamped: RunResult, totals: Sequence[Cost]) -> tuple[Layer, ...]:
    """Layers of the median run, without the instructions of the timestamps: equal shares of what they add in all."""
    taken = {layer.step: layer.instructions or 0 for layer in layers_of(stamped.models[0], program, board)}
    with_stamps = sorted(n for n in stamped.instructions if n is not None)
    plain = sorted(c.instructions for c in totals)
    stamp = (with_stamps[len(with_stamps) // 2] - plain[len(plain) // 2]) // max(1, len(taken))
    return tuple(
        layer_of(i, step, _cost(taken[i] - stamp) if i in taken else NOTHING)
        for i, step in enumerate(program.steps)
    )
