"""Renode 1.16: the board's own memory map, core, console and timer (renode_platform.py), one process per run.

Renode executes one instruction a tick, so counts are exact; caches and wait states it does not know. An access outside
memory is a warning to it: here it ends the run as FAULTED. Writes to flash it lets pass; Unicorn does not.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tinygen import building, renode_platform
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.emulators.base import log_limit
from tinygen.emulators.peripherals import TIMERS
from tinygen.emulators.process import Console
from tinygen.runlog import finished

PROGRAM = "renode"
VARIABLE = "TINYGEN_RENODE"
INSTALL = f"unpack a Linux package of Renode 1.16 from renode.io and put it on PATH, or set {VARIABLE} to its program"
OPTIONS = ("--disable-gui", "--console", "--plain", "--config", "renode.config", "run.resc")
POLL_SECONDS = 0.02
START_SECONDS = 120.0
"""Renode reads its platform for some seconds before the firmware's time runs."""
END_SECONDS = 30.0
"""After the log's last line Renode writes down its own log and ends."""
NO_LIMIT = 10**6

_ACCESS = re.compile(
    r"\[cpu: 0x([0-9A-F]+)[^\]]*\] (Read|Write)\w+ (?:from|to) non existing peripheral at 0x([0-9A-F]+)"
)
_FETCH = re.compile(r"outside RAM or ROM at 0x([0-9A-Fa-f]+)")
_STARTUP = re.compile(r"tinygen: (the start-up .+)")
_ABORT = re.compile(r"CPU abort (.+)")


@dataclass(frozen=True)
class Renode:
    """Renode, found on PATH or by the environment variable TINYGEN_RENODE."""

    name: str = "renode"

    def unavailable(self, board: Board) -> str | None:
        """No model of this board, or no Renode."""
        if board.renode is None or board.timer.kind not in TIMERS:
            return f"Renode has no model of board '{board.name}'; 'tinygen doctor' shows what runs it"
        if shutil.which(program()) is None:
            return f"Renode is not here (no program '{program()}'): {INSTALL}; or use --emulator unicorn"
        return None

    def build(self, project: Path, board: Board) -> Firmware:
        """The board's own image: the one that would be flashed."""
        return building.build(project, board)

    def execute(self, firmware: Firmware, board: Board, inputs: bytes, timeout: float) -> str:
        """See Emulator.execute."""
        if reason := self.unavailable(board):
            return finished(b"", f"HOST UNAVAILABLE {reason}")
        with tempfile.TemporaryDirectory(prefix="tinygen-renode-") as folder:
            run = _Run(Path(folder), log_limit(firmware, inputs))
            _write_files(run.folder, firmware.elf, board, inputs)
            path = shutil.which(program())
            assert path is not None
            run.watch([path, *OPTIONS], timeout)
            return finished(bytes(run.console.raw), "HOST RATIO 1 1", *run.host_lines(firmware, timeout))


def program() -> str:
    """How Renode is called here."""
    return os.environ.get(VARIABLE, PROGRAM)


def _write_files(folder: Path, elf: Path, board: Board, inputs: bytes) -> None:
    (folder / "board.repl").write_text(renode_platform.platform(board))
    (folder / "run.resc").write_text(renode_platform.script(board, NO_LIMIT))
    (folder / "inputs.bin").write_bytes(inputs)
    shutil.copyfile(elf, folder / "firmware.elf")


class _Run:
    """One process: what it writes into its folder is read while it runs."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.console = Console(limit)
        self.problem: str | None = None
        self.silent = False
        self.returncode: int | None = None
        self._read = {"console.log": 0, "renode.log": 0}
        self._rest = ""

    def watch(self, command: list[str], timeout: float) -> None:
        """Until the log's last line, an access outside memory, silence, a flood, or Renode's own end."""
        with (self.folder / "told.txt").open("wb") as told:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._follow(process, timeout)
            if self.console.finished:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # Renode's launcher has a child
            process.wait()
        self._take()

    def host_lines(self, firmware: Firmware, timeout: float) -> list[str]:
        """What the log must say of an end that was not the firmware's own."""
        if self.problem is not None:
            return [f"HOST FAULT {self.problem} stack={firmware.symbols['__stack_start'].address:08x}"]
        if self.silent:
            return [f"HOST TIMEOUT {timeout:g}"]
        if self.console.floods:
            return ["HOST EXIT stopped: it printed without end"]
        if self.returncode is not None:
            return [f"HOST EXIT renode ended with code {self.returncode}: {self._told()}"]
        return []

    def _follow(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        deadline, lines = time.monotonic() + START_SECONDS, -1
        while not (self.console.finished or self.console.floods or self.problem):
            self.returncode = process.poll()
            self._take()
            if self.returncode is not None and not self.console.finished:
                return
            if (self.folder / "console.log").exists() and self.console.lines > lines:
                deadline, lines = time.monotonic() + timeout, self.console.lines
            if time.monotonic() > deadline:
                self.silent = True
                return
            time.sleep(POLL_SECONDS)
        self.returncode = None

    def _take(self) -> None:
        """What came since the last look: console bytes, and the first problem in Renode's own log."""
        self.console.add(self._new("console.log"))
        *lines, self._rest = (self._rest + self._new("renode.log").decode("utf-8", "replace")).split("\n")
        if self.problem is None:
            self.problem = next(filter(None, map(problem_in, lines)), None)

    def _new(self, name: str) -> bytes:
        try:
            with (self.folder / name).open("rb") as file:
                file.seek(self._read[name])
                data = file.read(1 << 20)
        except FileNotFoundError:
            return b""
        self._read[name] += len(data)
        return data

    def _told(self) -> str:
        """Renode's own words about its end: from the first error on."""
        text = (self.folder / "told.txt").read_text(errors="replace")
        at = text.lower().find("error")
        return " ".join(text[max(at, 0) :].split())[:300]


def problem_in(line: str) -> str | None:
    """A line of Renode's log as fields of a FAULT line; None where it tells of nothing that ends a run."""
    if match := _ACCESS.search(line):
        return f"access={match[2].lower()} address={match[3].lower()} pc={match[1].lower()}"
    if match := _FETCH.search(line):
        return f"access=instruction_fetch address={match[1].lower()}"
    if match := _STARTUP.search(line) or _ABORT.search(line):
        return f"kind=renode text={match[1].strip().replace(' ', '_')}"
    return None
