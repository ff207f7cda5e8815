"""Counting instructions in Unicorn by a native block hook, compiled by the host's C compiler when there is one.

Without a compiler unicorn_machine counts with a Python hook: the same numbers, hundreds of times slower.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tinygen.emulators.thumb import count_instructions

SOURCE = Path(__file__).with_name("block_counter.c")


class Range(ctypes.Structure):
    """tg_range of block_counter.c."""

    _fields_ = (("code", ctypes.c_char_p), ("base", ctypes.c_uint64), ("size", ctypes.c_uint64))


class Counter(ctypes.Structure):
    """tg_counter of block_counter.c."""

    _fields_ = (
        ("ranges", ctypes.c_void_p),
        ("range_count", ctypes.c_uint64),
        ("mark", ctypes.c_uint64),
        ("mark_size", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("outside", ctypes.c_uint64),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled hook, or None where no C compiler is. Built once per process, in about 0.1 s."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="tinygen-hook-") as folder:
        target = Path(folder) / "block_counter.so"
        command = [compiler, "-O2", "-fPIC", "-shared", str(SOURCE), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, check=False)
        # The file may go once it is loaded: the mapping stays.
        return ctypes.CDLL(str(target)) if done.returncode == 0 else None


class NativeHook:
    """A block hook on one core, installed from construction to `remove`.

    ranges: (address, bytes) of the code; mark: address of the block that is entered at both ends and counted once.
    """

    def __init__(self, core: Any, ranges: Sequence[tuple[int, bytes]], mark: int) -> None:
        from unicorn.unicorn_py3 import unicorn as binding

        native = library()
        assert native is not None
        self._core, self._native = core, binding.uclib
        self._ranges = tuple(ranges)  # the structures hold only the addresses of the bytes
        self._table = (Range * len(ranges))(*(Range(code, base, len(code)) for base, code in ranges))
        self._counter = Counter(ctypes.addressof(self._table), len(ranges), mark, 0, 0, 0)
        self._handle = ctypes.c_ulong()
        callback = ctypes.cast(native.tg_count_block, ctypes.c_void_p)
        # UC_HOOK_BLOCK over all addresses: begin 1 > end 0.
        arguments = (core._uch, ctypes.byref(self._handle), 8, callback, ctypes.byref(self._counter), 1, 0)
        status = self._native.uc_hook_add(*arguments)
        assert status == 0, f"uc_hook_add gave {status}"

    def count(self) -> int:
        """Instructions since the hook was installed, the block at `mark` counted once."""
        counter = self._counter
        assert counter.outside == 0, f"{counter.outside} blocks outside the image's code"
        base, code = next(r for r in self._ranges if r[0] <= counter.mark < r[0] + len(r[1]))
        at = counter.mark - base
        return int(counter.count) + count_instructions(code[at : at + counter.mark_size])

    def so_far(self) -> int:
        """Instructions since the hook was installed, up to the end of the block that runs; without that at `mark`."""
        return int(self._counter.count)

    def remove(self) -> None:
        """Take the hook away."""
        self._native.uc_hook_del(self._core._uch, self._handle)
