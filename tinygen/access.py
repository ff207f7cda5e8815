"""What reading memory costs: modelled cycles that the core waits, from a region's width, wait states and caches.

A model and no measurement: it ranks memories, it does not predict a latency. Rules, per inference:
- memory without wait states costs nothing extra (the load itself is counted elsewhere);
- a line of a cache is fetched in ceil(line / width) accesses of 1 + wait_states cycles each; what fits the cache is
  fetched once, what does not is fetched anew in every pass over it;
- flash and serial memory without a cache keep the last `width` bytes, so that sequential reads wait once per width;
- SRAM with wait states (behind a bus) waits at every access.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinygen.boards import Board, Cache, Region

Kind = Literal["instructions", "data"]


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
        accesses = -(-cache.line // region.width)
        fetched = traffic.footprint if traffic.footprint <= cache.size else traffic.read
        return fetched / cache.line * accesses * (1 + region.wait_states)
    if region.writable:
        return traffic.read / traffic.element * region.wait_states
    return traffic.read / max(region.width, traffic.element) * region.wait_states


def _cache(board: Board, region: Region, kind: Kind) -> Cache | None:
    """The largest cache in front of the region that serves such reads."""
    serving = [c for c in board.caches_of(region) if c.serves in (kind, "both")]
    return max(serving, key=lambda c: c.size, default=None)
