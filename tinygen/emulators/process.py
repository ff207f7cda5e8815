"""Run a program that prints a log, and stop it: at its last line, when it falls silent, or when it floods."""

from __future__ import annotations

import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LAST_LINES = (b"END ", b"FAULT ", b"READY ")
"""READY: it found no inputs and waits for them on its console."""


@dataclass
class Console:
    """Bytes that came over a console, at most about `limit`. finished: the last line is there."""

    limit: int
    raw: bytearray = field(default_factory=bytearray)
    finished: bool = False
    lines: int = 0
    _line_start: int = 0
    _searched: int = 0

    @property
    def floods(self) -> bool:
        """More bytes came than any honest log has."""
        return len(self.raw) > self.limit

    def add(self, data: bytes) -> None:
        """Take in bytes and look at the lines that they complete."""
        self.raw += data
        while (end := self.raw.find(b"\n", self._searched)) >= 0:
            line = bytes(self.raw[self._line_start : min(end, self._line_start + 16)])
            self._line_start = self._searched = end + 1
            self.lines += 1
            self.finished = self.finished or line.startswith(LAST_LINES)
        self._searched = len(self.raw)


@dataclass(frozen=True)
class Ended:
    """How a program ended. timed_out, flooded: it was stopped for that; returncode: it ended by itself."""

    raw: bytes
    timed_out: bool
    flooded: bool
    returncode: int | None
    stderr: str


def watch(
    command: Sequence[str], timeout: float, limit: int, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run until the log's last line, silence of `timeout` seconds, `limit` bytes, or its own end."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
        )
        try:
            console, timed_out = _read(process, timeout, limit)
            returncode = None if console.finished or timed_out or console.floods else process.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out, returncode = True, None
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        errors.seek(0)
        told = errors.read(100_000).decode("utf-8", "replace")
    return Ended(bytes(console.raw), timed_out, console.floods, returncode, told)


def _read(process: subprocess.Popen[bytes], timeout: float, limit: int) -> tuple[Console, bool]:
    """(console, whether it fell silent)."""
    assert process.stdout is not None
    console, deadline, lines = Console(limit), time.monotonic() + timeout, 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not console.finished and not console.floods:
            left = deadline - time.monotonic()
            if left <= 0:
                return console, True
            if not selector.select(left):
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                break
            console.add(data)
            if console.lines > lines:
                deadline, lines = time.monotonic() + timeout, console.lines
    return console, False
