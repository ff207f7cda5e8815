"""Where an image has its arrays and functions, and where they are loaded from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tinygen.building import Symbol


@dataclass(frozen=True)
class Place:
    """An object of the image and where it is loaded from (its own address when it is not pinned)."""

    symbol: str
    address: int
    size: int
    load: int


def places(
    elf: Path, symbols: Mapping[str, Symbol], code_ranges: Sequence[tuple[int, int]]
) -> tuple[Place, ...]:
    """Arrays and functions of an image that have a size, sorted by address, disjoint."""
    segments = _segments(elf)
    found: list[Place] = []
    for name, symbol in sorted(symbols.items(), key=lambda s: (s[1].address & ~1, -s[1].size, s[0])):
        if not symbol.size:
            continue
        is_code = any(low <= symbol.address < low + size for low, size in code_ranges)
        address = symbol.address & ~1 if is_code else symbol.address
        if found and address < found[-1].address + found[-1].size:
            continue  # a second name for the same bytes
        found.append(Place(name, address, symbol.size, _load_address(segments, address)))
    return tuple(found)


def _segments(elf: Path) -> tuple[tuple[int, int, int], ...]:
    """(run address, load address, bytes) of what the loader writes."""
    with elf.open("rb") as file:
        segments = [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
        return tuple((s["p_vaddr"], s["p_paddr"], s["p_filesz"]) for s in segments)


def _load_address(segments: Sequence[tuple[int, int, int]], address: int) -> int:
    for run, load, size in segments:
        if run <= address < run + size:
            return load + address - run
    return address
