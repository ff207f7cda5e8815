"""memory.h by itself: one memory with its caches, asked unit by unit at times that the test chooses."""

from __future__ import annotations

import ctypes as c
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tinygen.boards import Board, Cache, load_board
from tinygen.cycles import native
from tinygen.cycles.native import DATA, FETCH, View
from tinygen.cycles.views import memories

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow")
SOURCE = """#include "memory.h"
uint64_t ask(tg_memory *m, tg_cache *c, uint32_t kind, uint64_t unit, uint32_t write, uint64_t now);
uint64_t ask(tg_memory *m, tg_cache *c, uint32_t kind, uint64_t unit, uint32_t write, uint64_t now)
{
    return tg_unit_stalls(m, c, kind, unit, write, now);
}
"""
SLOW = "slow"
"""Name of the region that board_with adds."""


@cache
def _library() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "ask.c", Path(folder) / "ask.so"
        source.write_text(SOURCE)
        include = f"-I{native.SOURCE.parent}"
        command = ["gcc", *WARNINGS, "-O1", include, "-fPIC", "-shared", source, "-o", target]
        subprocess.run([str(a) for a in command], check=True)
        library = c.CDLL(str(target))
    library.ask.restype = c.c_uint64
    return library


def board_with(caches: Sequence[Cache] = (), **region: Any) -> Board:
    """An M4 without wait states, and one more region SLOW at 0x60000000, described by `region`, behind the caches.

    sequential_wait_states is wait_states unless given.
    """
    board = load_board("mps2_an386")
    region.setdefault("sequential_wait_states", region["wait_states"])
    slow = replace(
        board.code,
        name=SLOW,
        origin=0x6000_0000,
        length=0x1_0000,
        caches=tuple(k.name for k in caches),
        **region,
    )
    return replace(board, regions=(*board.regions, slow), caches=tuple(caches))


def cache_of(name: str = "cache", **described: Any) -> Cache:
    """A cache for both kinds of access that writes through, and whatever else `described` says."""
    return Cache(
        **{"name": name, "owner": "core", "serves": "both", "write": "through", "source": "", **described}
    )


@dataclass
class Clocked:
    """Asks the board's region SLOW. now: the cycle of the next access."""

    board: Board
    now: int = 100

    def __post_init__(self) -> None:
        self._view = View()
        self._keep = memories(self.board, self._view)
        self._memory = self._view.memory[[r.name for r in self.board.regions].index(SLOW)]

    def ask(self, unit: int, kind: int = DATA, write: bool = False) -> int:
        """Stall cycles of one access; the clock goes on by them and the access's own cycle."""
        stalls = _library().ask(
            c.byref(self._memory), self._view.caches, kind, c.c_uint64(unit), int(write), c.c_uint64(self.now)
        )
        self.now += 1 + int(stalls)
        return int(stalls)

    def read(self, *units: int) -> list[int]:
        """Stalls of data reads, one right behind the other."""
        return [self.ask(u) for u in units]

    def fetch(self, *units: int, apart: int = 1) -> list[int]:
        """Stalls of fetches, `apart` cycles from one to the next where nothing waits."""
        found = []
        for unit in units:
            found.append(self.ask(unit, FETCH))
            self.now += apart - 1
        return found

    def write(self, *units: int) -> list[int]:
        """Stalls of writes."""
        return [self.ask(u, write=True) for u in units]

    def rest(self, cycles: int = 1000) -> None:
        """Let time pass, as while the core computes."""
        self.now += cycles
