"""Serial ports of this machine: which there are, opening one, and what to say when that fails."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
from pathlib import Path
from typing import Any

import serial
from serial.tools import list_ports

from tinygen import flashing
from tinygen.boards import Board
from tinygen.building import Firmware

WRITE_SECONDS = 10.0


def listed() -> str:
    """The ports that are there, as a clause."""
    found = [f"{p.device} ({p.description})" for p in sorted(list_ports.comports()) if p.hwid != "n/a"]
    if not found:
        return "no port was found: is the board plugged in, with a cable that has data lines?"
    return f"found: {', '.join(found)}"


def missing(port: str) -> str | None:
    """What to say when a device file is not there; None when it is, or when the port is none of a file system."""
    if port.startswith("/") and not Path(port).exists():
        return f"there is no {port}; {listed()}"
    return None


def opened(port: str, baud: int) -> Any:
    """The open port, its old input forgotten. Raises OSError or ValueError."""
    line = serial.serial_for_url(
        port, baudrate=baud, timeout=0, write_timeout=WRITE_SECONDS, do_not_open=True
    )
    if os.name == "posix" and isinstance(line, serial.Serial):
        line.exclusive = True
    line.open()
    line.reset_input_buffer()
    return line


def close(line: Any) -> None:
    """Close a port that may be gone already."""
    with contextlib.suppress(OSError):
        line.close()


def refused(port: str, problem: Exception) -> str:
    """Why a port could not be opened, and what to do."""
    number = getattr(problem, "errno", None)
    if number == errno.EACCES:
        return f"{port} may not be opened: {_permission(port)}"
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"{port} is in use: close the program that has it (a serial monitor?)"
    hint = "is what listens there running?" if "://" in port else listed()
    return f"{port} cannot be opened: {problem}; {hint}"


def flash_advice(firmware: Firmware, board: Board) -> str:
    """The command line that writes the image into the board; weights in a memory of their own need another."""
    elf, build = (shlex.quote(str(path)) for path in (firmware.elf, firmware.elf.parent))
    command = flashing.flash_command(board, firmware.weights_bytes > 0)
    told = flashing.filled(command, elf, build) if command else f"write {elf} with the board's own programmer"
    weights = "; the weights have a memory of their own: the project's README.md says what fills it"
    return told + (weights if firmware.weights_bytes else "")


def _permission(port: str) -> str:
    """Linux gives ports to a group."""
    with contextlib.suppress(ImportError, OSError, KeyError):
        import grp

        group = grp.getgrgid(Path(port).stat().st_gid).gr_name
        return f"sudo usermod -aG {group} $USER, then log in again"
    return "it needs the rights of another user"
