"""Boards on a desk, as far as a port can tell: a QEMU machine or a host image at the other end of a pseudo terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tinygen.boards import Board
from tinygen.building import Firmware


@dataclass
class Desk:
    """A running board and the port it is plugged into."""

    port: str
    process: subprocess.Popen[bytes]

    def unplug(self) -> None:
        """Its end of the line goes away."""
        self.process.kill()
        self.process.wait()


@contextmanager
def qemu_board(image: Firmware, board: Board) -> Iterator[Desk]:
    """The image in QEMU from reset, nobody fills its input block, its UART is a pseudo terminal."""
    assert board.qemu is not None
    command = [
        "qemu-system-arm",
        "-machine",
        board.qemu.machine,
        *board.qemu.options,
        "-kernel",
        str(image.elf),
    ]
    command += ["-display", "none", "-monitor", "none", "-serial", "pty"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        told = process.stdout.readline().decode()
        match = re.search(r"redirected to (\S+)", told)
        assert match, told
        yield from _kept_open(Desk(match[1], process))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def host_board(image: Firmware) -> Iterator[Desk]:
    """A host image that got no TG_INPUT_FILE: its stdin and stdout are the port."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    port = os.ttyname(slave)
    environment = {k: v for k, v in os.environ.items() if k != "TG_INPUT_FILE"}
    process = subprocess.Popen([str(image.elf)], stdin=master, stdout=master, env=environment)
    os.close(master)
    try:
        yield Desk(port, process)
    finally:
        process.kill()
        process.wait()
        os.close(slave)


@contextmanager
def program_on_a_port(text: bytes) -> Iterator[str]:
    """A port at whose other end something printed this and listens to nothing."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.write(master, text)
    try:
        yield os.ttyname(slave)
    finally:
        os.close(master)
        os.close(slave)


@contextmanager
def chattering(text: bytes) -> Iterator[str]:
    """A port at whose other end something prints this again and again."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    done = threading.Event()

    def chatter() -> None:
        while not done.wait(0.05):
            with contextlib.suppress(BlockingIOError):
                os.write(master, text)

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        done.set()
        thread.join()
        os.close(master)
        os.close(slave)


def _kept_open(desk: Desk) -> Iterator[Desk]:
    """QEMU looks only once a second whether somebody opened a port: keep it open between runs."""
    kept = os.open(desk.port, os.O_RDWR | os.O_NOCTTY)
    try:
        yield desk
    finally:
        os.close(kept)
