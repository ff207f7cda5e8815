"""What following a run gives: counts per step of each inference, and per array and function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """What a stretch of a run took. instructions: counted; cycles: modelled, without stalls; fetch, data: stall cycles.

    apart_fetch, apart_data: stall cycles if nothing were pinned. read, written: bytes of data per region.
    """

    instructions: int
    cycles: int
    fetch: int
    data: int
    apart_fetch: int
    apart_data: int
    read: Mapping[str, int]
    written: Mapping[str, int]

    @property
    def total(self) -> int:
        """Modelled cycles with stalls."""
        return self.cycles + self.fetch + self.data

    @property
    def apart_total(self) -> int:
        """Modelled cycles if nothing were pinned."""
        return self.cycles + self.apart_fetch + self.apart_data


@dataclass(frozen=True)
class Inference:
    """One sample. outside: invoke itself and its caller; steps: one entry per call of a kernel, in order."""

    outside: Counts
    steps: tuple[Counts, ...]


@dataclass(frozen=True)
class Touched:
    """An array or function over the whole run. stalls: cycles the core waited for it; apart: if nothing were pinned."""

    symbol: str
    address: int
    size: int
    read: int
    stalls: int
    apart: int


@dataclass(frozen=True)
class Trace:
    """One run. startup: from reset to the first sample; copy_cycles: its share that copies pinned objects.

    between: outside of samples: from one's end to the next one's start, and after the last.
    """

    startup: Counts
    copy_cycles: int
    between: Counts
    inferences: tuple[Inference, ...]
    touched: tuple[Touched, ...]
