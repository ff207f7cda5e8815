"""What reading memory costs: modelled cycles that the core waits, from a region's width, wait states and caches.

A model and no measurement: it ranks memories, it does not predict a latency. Rules, per inference:
- memory without wait states costs nothing extra (the load itself is counted elsewhere);
- what a miss of a cache brings in costs what cycles/memory.h says: the wait states of one access (fill "access" and
  "background"), or all accesses of a line less the cycle that a read takes anyway (fill "line"); what fits the cache is
  fetched once, what does not is fetched anew in every pass over it;
- flash and serial memory without a cache keep the last `width` bytes, so that sequential reads wait once per width;
- SRAM with wait states (behind a bus) waits at every access.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinygen.boards import Board, Cache, Region
from tinygen.code_size import BYTES_PER_CYCLE, encoding_of

Kind = Literal["instructions", "data"]
FAR_CALLS = {"thumb1": 0.011}
"""Share of its own cycles that a kernel's calls to functions in the code region cost once it lies elsewhere: on ARMv6-M
every 64-bit multiplication is such a call, and a call that far goes through a veneer (KWS: 1.1 % more instructions)."""


@dataclass(frozen=True)
class Traffic:
    """What one inference reads from an object. footprint: its bytes; read: bytes read, again and again counted;
    element: bytes per load."""

    footprint: int
    read: int
    element: int
    kind: Kind = "data"


def waiting(board: Board, region: Region, traffic: Traffic) -> float:
    """Cycles that the core waits for this traffic in one inference when the object lies in the region."""
    if region.wait_states == 0 or traffic.read == 0:
        return 0.0
    cache = _cache(board, region, traffic.kind)
    if cache is not None:
        fetched = traffic.footprint if traffic.footprint <= cache.size else traffic.read
        return fetched * _per_byte(cache, region)
    if region.writable:
        return traffic.read / traffic.element * region.wait_states
    return traffic.read / max(region.width, traffic.element) * region.wait_states


def far_calls(board: Board, traffic: Traffic) -> float:
    """Cycles that a kernel's calls cost in one inference once it is far from what it calls; 0 for data."""
    if traffic.kind == "data":
        return 0.0
    return FAR_CALLS.get(encoding_of(board.cpu), 0.0) * traffic.read / BYTES_PER_CYCLE


def _per_byte(cache: Cache, region: Region) -> float:
    """Cycles that the core waits per byte that is read in order and missed."""
    if cache.fill == "access":
        return region.wait_states / region.width
    behind = max(0, -(-cache.line // region.width) - 1) * (1 + region.sequential_wait_states)
    return (region.wait_states + (behind if cache.fill == "line" else 0)) / cache.line


def _cache(board: Board, region: Region, kind: Kind) -> Cache | None:
    """The largest cache in front of the region that serves such reads."""
    serving = [c for c in board.caches_of(region) if c.serves in (kind, "both")]
    return max(serving, key=lambda c: c.size, default=None)
