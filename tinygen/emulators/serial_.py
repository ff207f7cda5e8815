"""A real board on a serial port: the harness image that was flashed; inputs and log go over its console.

The firmware's side of the protocol is described in templates/firmware/tg_harness.c. The board needs no reset between
runs: while it waits for inputs it answers a '?' with its READY line.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinygen import building
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.emulators import ports
from tinygen.emulators.base import Emulator, log_limit
from tinygen.emulators.process import Console
from tinygen.errors import UsageError
from tinygen.runlog import READY, finished, printable

FRAME_WORDS = 64
FRAME_BYTES = 1 + 4 * (2 + FRAME_WORDS + 1)
FILLER = b"\n" * FRAME_BYTES
"""Brings a board that waits for the rest of a frame to the frame's end."""
PROBE_SECONDS = 1.0
QUIET_SECONDS = 0.1
"""Longer than a USB adapter keeps bytes back."""
ANSWER_SECONDS = 2.0
"""For the answer to a frame, besides the time that the frame is on the line."""
MOST_ALIKE = 6
"""Failures in a row at one place; in all as many and one for every second frame."""
MOST_BYTES = 16 * 1024


class TransferError(Exception):
    """The board does not confirm what is sent to it."""


@dataclass(frozen=True)
class Serial:
    """The board on `port` (a device, or what pyserial takes as a URL). baud: None takes the board description's.

    announce: seconds without a word from the board before it counts as silent.
    """

    port: str | None = None
    baud: int | None = None
    announce: float = 5.0
    name: str = "serial"
    most_bytes: int = MOST_BYTES

    def unavailable(self, board: Board) -> str | None:
        """No port was given, or it is not there."""
        if self.port is None:
            return f"--port is missing: where the board is plugged in; {ports.listed()}"
        if board.console.kind == "nrf51_uart" and board.console.rx_pin is None:
            return f"the console of board '{board.name}' has no rx_pin: it cannot receive inputs"
        return ports.missing(self.port)

    def build(self, project: Path, board: Board) -> Firmware:
        """The image that the board must hold; to flash it is the user's part."""
        return building.build(project, board)

    def execute(self, firmware: Firmware, board: Board, inputs: bytes, timeout: float) -> str:
        """See Emulator.execute."""
        if reason := self.unavailable(board):
            return finished(b"", f"HOST UNAVAILABLE {reason}")
        assert self.port is not None
        try:
            line = ports.opened(self.port, self.baud or board.console.baud)
        except (OSError, ValueError) as problem:
            return finished(b"", f"HOST UNAVAILABLE {ports.refused(self.port, problem)}")
        session = _Session(line, log_limit(firmware, inputs), self.baud or board.console.baud)
        try:
            return self._converse(session, firmware, board, inputs, timeout)
        except OSError as problem:
            told = f"HOST EXIT {self.port} went away (unplugged?): {problem}"
            return finished(bytes(session.console.raw), told)
        finally:
            ports.close(line)

    def _converse(
        self, session: _Session, firmware: Firmware, board: Board, inputs: bytes, timeout: float
    ) -> str:
        """From READY to the end of the log."""
        flash = f"flash it: {ports.flash_advice(firmware, board)}"
        ready = session.wait_until_ready(self.announce)
        if ready is None:
            return finished(b"", f"HOST UNAVAILABLE {self._silent(session, board)}; {flash}")
        run_id, capacity = ready
        if run_id != firmware.description.run_id:
            return finished(f"READY {run_id} {capacity}".encode(), f"HOST ADVICE {flash}")
        if capacity < len(inputs):
            what = f"the board's input block has {capacity:,} bytes: its image is not the one just built"
            return finished(b"", f"HOST UNAVAILABLE {what}; {flash}")
        try:
            session.send(inputs)
        except TransferError as problem:
            return finished(b"", f"HOST UNAVAILABLE {self.port}: {problem}")
        ended = session.collect(timeout)
        return finished(bytes(session.console.raw), f"HOST CLOCK {board.timer.clock_hz}", *ended)

    def _silent(self, session: _Session, board: Board) -> str:
        """Why there was no READY, as far as it can be told."""
        heard = bytes(session.heard[:60])
        if not heard:
            return (
                f"the board on {self.port} is silent: {board.console.reset}, and look whether it is this port"
            )
        if sum(32 <= byte < 127 or byte in b"\r\n" for byte in heard) < 0.9 * len(heard):
            return f"{self.port} gives no text ({printable(heard[:12])}): is {session.baud} its baud rate (--baud)?"
        shown = " ".join(printable(heard).split())
        return f"the board on {self.port} runs another program (it prints '{shown}')"


def with_port(emulator: Emulator, port: str | None, baud: int | None) -> Emulator:
    """The emulator, told where the board is. Raises UsageError when it is none that has a port."""
    if port is None and baud is None:
        return emulator
    if not isinstance(emulator, Serial):
        raise UsageError(f"--port and --baud belong to --emulator serial, not to '{emulator.name}'")
    return replace(emulator, port=port, baud=baud)


def frame(block: bytes, offset: int) -> bytes:
    """The frame with 64 words of an input block from a word offset. MAGIC's place is 0: only what is filled has it."""
    words = len(block) // 4
    data = (bytes(4) + block[4:])[4 * offset : 4 * (offset + FRAME_WORDS)].ljust(4 * FRAME_WORDS, b"\0")
    body = struct.pack("<II", offset, words) + data
    return b"\x01" + body + struct.pack("<I", zlib.crc32(body))


class _Session:
    """A conversation over an open port. heard: all that came before READY; console: the log."""

    def __init__(self, line: Any, limit: int, baud: int) -> None:
        self.console, self.baud = Console(limit), baud
        self.heard = bytearray()
        self._line = line
        self._rest = b""

    def wait_until_ready(self, seconds: float) -> tuple[str, int] | None:
        """(run_id, bytes of the block) of a board that waits for inputs; None after silence of some seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._line.write(FILLER + b"?")
            for line in self._lines(min(PROBE_SECONDS, seconds)):
                self.heard += line + b"\n"
                if match := READY.fullmatch(printable(line)):
                    self._drain()
                    return match[1], int(match[2])
                if _is_log(line):
                    deadline = time.monotonic() + seconds  # the end of an earlier run: READY will come
        self.heard += self._rest
        return None

    def send(self, block: bytes) -> None:
        """Frame after frame, as the board asks for them, until its log begins. Raises TransferError."""
        wanted, alike, left = 0, 0, MOST_ALIKE + len(block) // (8 * FRAME_WORDS)
        while left and alike < MOST_ALIKE:
            self._line.write(frame(block, wanted))
            answer = self._answer()
            if self.console.raw:
                return
            alike = 0 if answer not in (None, wanted) else alike + 1
            left -= answer != wanted + FRAME_WORDS
            if answer is None:
                self._line.write(FILLER)
                self._drain()
            elif 4 * answer < len(block):
                wanted = answer
        raise TransferError(
            f"inputs from byte {4 * wanted:,} on do not arrive undamaged: look at wiring and baud rate"
        )

    def collect(self, timeout: float) -> list[str]:
        """The rest of the log; HOST lines about an end that was not the firmware's own."""
        deadline, lines = time.monotonic() + timeout, self.console.lines
        while not (self.console.finished or self.console.floods):
            if time.monotonic() > deadline:
                return [f"HOST TIMEOUT {timeout:g}"]
            self.console.add(self._read())
            if self.console.lines > lines:
                deadline, lines = time.monotonic() + timeout, self.console.lines
        return [] if self.console.finished else ["HOST EXIT stopped: it printed without end"]

    def _answer(self) -> int | None:
        """The offset that the board wants next; None when it says nothing, or when its log has begun."""
        for line in self._lines(ANSWER_SECONDS + 10 * FRAME_BYTES / self.baud):
            if line.startswith(b"TINYGEN "):
                self.console.add(line + b"\n" + self._rest)
                self._rest = b""
                return None
            word, _, number = line.partition(b" ")
            if word == b"AT" and number.isdigit():
                return int(number)
        return None

    def _lines(self, seconds: float) -> Iterator[bytes]:
        """Whole lines, for that long."""
        deadline = time.monotonic() + seconds
        while True:
            while b"\n" in self._rest:
                line, _, self._rest = self._rest.partition(b"\n")
                yield line.rstrip(b"\r")
            if time.monotonic() > deadline:
                return
            self._rest += self._read()

    def _drain(self) -> None:
        """Forget what comes, until nothing comes."""
        while self._read(QUIET_SECONDS):
            pass
        self._rest = b""

    def _read(self, seconds: float = 0.02) -> bytes:
        """What is there; waits at most some seconds for the first byte."""
        self._line.timeout = seconds
        first: bytes = self._line.read(1)
        more: bytes = self._line.read(self._line.in_waiting) if first else b""
        return first + more


def _is_log(line: bytes) -> bool:
    return line.startswith((b"TINYGEN ", b"SAMPLE ", b"LAYERS ", b"OUT ", b"STACK ", b"END "))
