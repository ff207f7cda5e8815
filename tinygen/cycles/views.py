"""From a board's regions and caches to the memories of memory.h."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tinygen.boards import Board, Cache, Region
from tinygen.cycles.native import CacheState, View, Way

FILLS = {"access": 0, "line": 1, "background": 2}
"""As memory.h numbers them."""


def memories(board: Board, view: View) -> list[Any]:
    """Fill in a view; returns what must stay alive as long as it is used."""
    described = [_state(cache) for cache in board.caches]
    buffers = [_state(_buffer(region)) for region in board.regions]
    states = [state for state, _ in (*described, *buffers)]
    caches = (CacheState * max(1, len(states)))(*states)
    view.caches = caches
    for index, region in enumerate(board.regions):
        memory = view.memory[index]
        memory.start, memory.end, memory.width = region.origin, region.end, region.width
        memory.wait, memory.wait_next = region.wait_states, region.sequential_wait_states
        memory.prefetch = region.prefetch
        memory.next_unit = (1 << 64) - 1
        for kind, serves in enumerate(("instructions", "data")):
            memory.cache[kind] = _cache_index(board, region, serves, len(board.caches) + index)
    return [caches, *(content for _, content in (*described, *buffers))]


def in_units(board: Board) -> Board:
    """The board as memory.h sees it: memory that is wider than a line of its caches delivers such a line at once."""
    return replace(board, regions=tuple(_in_units(board, r) for r in board.regions))


def _in_units(board: Board, region: Region) -> Region:
    lines = (cache.line for cache in board.caches_of(region))
    return replace(region, width=min((region.width, *lines)))


def _cache_index(board: Board, region: Region, serves: str, buffer: int) -> int:
    """The cache that serves such accesses; the read buffer of flash and serial memory; -1 for SRAM without a cache."""
    for index, cache in enumerate(board.caches):
        if cache.name in region.caches and cache.serves in (serves, "both"):
            return index
    return -1 if region.writable else buffer


def _buffer(region: Region) -> Cache:
    """What flash and serial memory deliver at once stays at hand until they deliver something else."""
    return Cache("", "memory", "both", region.width, region.width, 1, "access", "through", "")


def _state(cache: Cache) -> tuple[CacheState, Any]:
    sets = cache.size // (cache.line * cache.ways)
    content = (Way * (sets * cache.ways))()
    state = CacheState(cache.line, cache.ways, sets, FILLS[cache.fill], cache.write == "back")
    state.content = content
    return state, content
