"""What is missing on this machine and the line that installs it; which board runs in which emulator.

Examining imports nothing heavy and runs only `--version` of the tools.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tinygen import building
from tinygen.boards import Board, all_boards
from tinygen.emulators import EMULATORS, Emulator, qemu, renode

OK, MISSING = "ok", "missing"


@dataclass(frozen=True)
class Need:
    """Something that tinygen uses. kind: "tool" (a program), "newlib" or "package" (of Python)."""

    name: str
    kind: str
    needed_for: str
    install: str
    required: bool


@dataclass(frozen=True)
class Finding:
    """A need as it stands here. version: None when it is missing."""

    need: Need
    version: str | None


@dataclass(frozen=True)
class Cell:
    """One board in one emulator. reason: why it does not run, None when it does."""

    board: str
    cpu: str
    emulator: str
    reason: str | None


@dataclass(frozen=True)
class Examination:
    """All findings and the matrix board x emulator."""

    findings: tuple[Finding, ...]
    matrix: tuple[Cell, ...]

    @property
    def ready(self) -> bool:
        """Nothing that is required is missing."""
        return all(f.version is not None for f in self.findings if f.need.required)


def _package(name: str, needed_for: str) -> Need:
    return Need(name, "package", needed_for, f"{sys.executable} -m pip install {name}", True)


NEEDS = (
    Need("arm-none-eabi-gcc", "tool", "building firmware", building.INSTALL_ARM, True),
    Need("newlib", "newlib", "building firmware (the C library for Arm)", building.INSTALL_ARM, True),
    Need(qemu.PROGRAM, "tool", "--emulator qemu; without it, --emulator unicorn", qemu.INSTALL, False),
    Need(
        renode.program(), "tool", "--emulator renode; without it, --emulator unicorn", renode.INSTALL, False
    ),
    Need("gcc", "tool", "--emulator host", building.INSTALL_HOST, False),
    Need("cppcheck", "tool", "the test suite", "apt-get install cppcheck", False),
    _package("tensorflow", "reading Keras models"),
    _package("keras", "reading Keras models"),
    _package("ai-edge-litert", "the oracle of quantized models"),
    _package("unicorn", "--emulator unicorn"),
    _package("pyelftools", "measuring images"),
)


def examine(
    needs: Sequence[Need] = NEEDS,
    boards: Sequence[Board] | None = None,
    emulators: Sequence[Emulator] = EMULATORS,
) -> Examination:
    """Look at this machine. boards: None takes all that travel with tinygen."""
    known = all_boards() if boards is None else boards
    findings = tuple(Finding(need, _version(need)) for need in needs)
    matrix = tuple(Cell(b.name, b.cpu, e.name, e.unavailable(b)) for b in known for e in emulators)
    return Examination(findings, matrix)


def to_json(examination: Examination) -> dict[str, Any]:
    """The examination as plain data."""
    findings = [{**asdict(f.need), "version": f.version} for f in examination.findings]
    return {
        "ready": examination.ready,
        "needs": findings,
        "matrix": [asdict(cell) for cell in examination.matrix],
    }


def render(examination: Examination) -> Group:
    """The examination for a terminal: what is there, the lines that install the rest, the matrix."""
    missing = dict.fromkeys(f.need.install for f in examination.findings if f.version is None)
    advice = ["nothing is missing"]
    if missing:
        advice = [
            "to install what is missing (as root where it is apt-get):",
            *(f"  {line}" for line in missing),
        ]
    reasons = dict.fromkeys(cell.reason for cell in examination.matrix if cell.reason)
    return Group(
        _findings_table(examination),
        Text("\n".join(["", *advice, ""])),
        _matrix_table(examination),
        *(Text(f"- {reason}") for reason in reasons),
    )


def _findings_table(examination: Examination) -> Table:
    table = Table("", "name", "version", "needed for", box=None, header_style="bold", pad_edge=False)
    for finding in examination.findings:
        need, found = finding.need, finding.version is not None
        mark = Text(OK, "green") if found else Text(MISSING, "red" if need.required else "yellow")
        table.add_row(mark, need.name, finding.version or "", need.needed_for)
    return table


def _matrix_table(examination: Examination) -> Table:
    """Boards down, emulators across."""
    emulators = list(dict.fromkeys(cell.emulator for cell in examination.matrix))
    table = Table("board", "core", *emulators, box=None, header_style="bold", pad_edge=False)
    rows: dict[str, list[Cell]] = {}
    for cell in examination.matrix:
        rows.setdefault(cell.board, []).append(cell)
    for board, cells in rows.items():
        marks = [Text("runs", "green") if c.reason is None else Text("-", "yellow") for c in cells]
        table.add_row(board, cells[0].cpu, *marks)
    return table


def _version(need: Need) -> str | None:
    look = {"tool": tool_version, "newlib": newlib_version, "package": _package_version}
    return look[need.kind](need.name)


def tool_version(name: str) -> str | None:
    """The version that --version tells; None when the tool is absent or does not start."""
    first = _told(name, "--version")
    if first is None:
        return None
    found = re.findall(r"(?<![\w:.])\d+\.\d+[\d.]*", first.partition("\n")[0])
    return found[-1].rstrip(".") if found else "unknown"


def newlib_version(name: str) -> str | None:
    """Where the compiler finds newlib's nano variant; None when it does not."""
    path = _told("arm-none-eabi-gcc", "-print-file-name=libc_nano.a")
    return "present" if path and "/" in path else None


def _told(program: str, argument: str) -> str | None:
    """What the program prints when called with this argument; None when it is absent or fails."""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        done = subprocess.run([path, argument], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
