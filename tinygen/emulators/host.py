"""The host: the same harness and library compiled by its gcc, if wanted with sanitizers. Counts nothing."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tinygen import building
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.emulators.base import log_limit
from tinygen.emulators.process import Ended, watch
from tinygen.runlog import finished


@dataclass(frozen=True)
class Host:
    """Any board's project as a program of this machine. sanitize: ASan and UBSan, fatal at first error."""

    sanitize: bool = False

    @property
    def name(self) -> str:
        """Two emulators: with and without sanitizers."""
        return "host-sanitized" if self.sanitize else "host"

    def unavailable(self, board: Board) -> str | None:
        """No host compiler."""
        if shutil.which("gcc") is None:
            return f"gcc is not installed; as root: {building.INSTALL_HOST}"
        return None

    def build(self, project: Path, board: Board) -> Firmware:
        """The host's image."""
        return building.build_host(project, self.sanitize)

    def execute(self, firmware: Firmware, board: Board, inputs: bytes, timeout: float) -> str:
        """See Emulator.execute."""
        if reason := self.unavailable(board):
            return finished(b"", f"HOST UNAVAILABLE {reason}")
        with tempfile.TemporaryDirectory(prefix="tinygen-host-") as folder:
            block = Path(folder) / "inputs.bin"
            block.write_bytes(inputs)
            environment = {"TG_INPUT_FILE": str(block), "ASAN_OPTIONS": "detect_leaks=0"}
            ended = watch([str(firmware.elf)], timeout, log_limit(firmware, inputs), environment)
        return finished(ended.raw, *_host_lines(ended, timeout))


def _host_lines(ended: Ended, timeout: float) -> list[str]:
    """What the log must say of an end that was not the firmware's own."""
    lines = ended.stderr.splitlines()
    errors = [line for line in lines if "error:" in line.lower()] or lines
    told = "_".join(errors[0].split())[:200] if errors else ""
    if ended.timed_out:
        return [f"HOST TIMEOUT {timeout:g}"]
    if ended.flooded:
        return ["HOST EXIT stopped: it printed without end"]
    if ended.returncode is not None and ended.returncode < 0:
        return [f"HOST FAULT kind=signal text=signal_{-ended.returncode}"]
    if "Sanitizer" in ended.stderr or "runtime error" in ended.stderr:
        return [f"HOST FAULT kind=sanitizer text={told}"]
    if ended.returncode:
        return [f"HOST EXIT with code {ended.returncode}: {told}"]
    return []
