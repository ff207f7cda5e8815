"""A candidate's real image, built and followed by the cycle model. Inputs are random: what kernels execute hardly
depends on them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tinygen import building, bundle, profiling
from tinygen.building import Firmware
from tinygen.cycles.cores import TIMINGS
from tinygen.errors import BoardError
from tinygen.firmware import firmware_files
from tinygen.profiling import Profile, Run
from tinygen.pruning.lowering import Lowered

RUN_ID = "0000000000000000"
INFERENCES = 2
"""A cold one and a warm one."""


@dataclass(frozen=True)
class Measured:
    """Bytes of the linked image; pinned: those of its SRAM that hold what is pinned; profile: None where cycles
    are not modelled."""

    flash: int
    sram: int
    pinned: int
    profile: Profile | None


def measure(lowered: Lowered, inferences: int = INFERENCES) -> Measured:
    """Build and follow it. Raises BoardError where it does not fit the board, and what building and running raise."""
    if lowered.placement is None:
        raise BoardError(f"'{lowered.graph.name}' does not fit '{lowered.board.name}'\n  it cannot be built")
    with tempfile.TemporaryDirectory(prefix="tinygen-cost-") as folder:
        firmware = _built(lowered, Path(folder))
        profile = _followed(lowered, firmware, inferences) if lowered.board.cpu in TIMINGS else None
        return Measured(firmware.code_bytes, firmware.ram_bytes, firmware.pinned_bytes, profile)


def _built(lowered: Lowered, folder: Path) -> Firmware:
    files = firmware_files([lowered.library], lowered.board, RUN_ID, lowered.placement)
    for name, text in {**files, **lowered.library.files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return building.build(folder, lowered.board)


def _followed(lowered: Lowered, firmware: Firmware, inferences: int) -> Profile:
    inputs = bundle.random_inputs(lowered.graph, inferences)
    movables = lowered.library.movables
    return profiling.profile(lowered.program, firmware, lowered.board, movables, Run(inputs))
