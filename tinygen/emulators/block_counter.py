"""Counting instructions in Unicorn by a native block hook, compiled by the host's C compiler when there is one.

Without a compiler unicorn_machine counts with a Python hook: the same numbers, hundreds of times slower.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tinygen.emulators.native_code import HOOK_BLOCK, add_hook, shared_library
from tinygen.emulators.thumb import count_instructions
from tinygen.errors import ToolError

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
    """The compiled hook, built once per process; None where no C compiler is, or it refuses the file."""
    try:
        return shared_library(SOURCE)
    except ToolError:
        return None


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
        self._handle = add_hook(core, HOOK_BLOCK, native.tg_count_block, self._counter)

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
