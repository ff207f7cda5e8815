"""What a linked image puts where: every region of the board as a sequence of parts, free space among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile

from tinygen.boards import Board, Region
from tinygen.building import Firmware

KINDS = {
    ".boot_header": "code",
    ".vectors": "code",
    ".text": "code",
    ".rodata": "constants",
    ".weights": "weights",
    ".ARM.exidx": "code",
    ".data": "data",
    ".bss": "data",
    ".stack": "stack",
    ".arena": "arena",
    ".input": "inputs",
}
"""Section -> what it is to the user. Sections named .pin_REGION and .weights_REGION hold what is pinned."""


@dataclass(frozen=True)
class Part:
    """Bytes [offset, offset + bytes) of a region. kind: as in KINDS, "pinned", "load image" or "free"."""

    kind: str
    name: str
    offset: int
    bytes: int


@dataclass(frozen=True)
class Occupied:
    """One region of the board and its parts in address order, without gaps."""

    region: Region
    parts: tuple[Part, ...]

    @property
    def used(self) -> int:
        """Bytes that are not free."""
        return sum(p.bytes for p in self.parts if p.kind != "free")


def occupancy(firmware: Firmware, board: Board) -> tuple[Occupied, ...]:
    """All regions of the board, in address order."""
    stretches = list(_stretches(firmware))
    regions = sorted(board.regions, key=lambda r: r.origin)
    return tuple(Occupied(r, _parts(r, stretches)) for r in regions)


def _stretches(firmware: Firmware) -> Iterator[tuple[int, int, str, str]]:
    """(address, bytes, kind, name) of every section where it runs, and of the copies that it is loaded from."""
    arrays = _arrays(firmware)
    with firmware.elf.open("rb") as file:
        image = ELFFile(file)
        for section in image.iter_sections():
            if not section["sh_flags"] & 2 or not section["sh_size"]:
                continue
            name, at, size = section.name, section["sh_addr"], section["sh_size"]
            if name == ".rodata":
                yield from _split_constants(at, size, arrays)
                continue
            kind = "pinned" if name.startswith((".pin_", ".weights_")) else KINDS.get(name, "data")
            yield at, size, kind, name
        for segment in image.iter_segments():
            if (
                segment["p_type"] == "PT_LOAD"
                and segment["p_filesz"]
                and segment["p_paddr"] != segment["p_vaddr"]
            ):
                yield segment["p_paddr"], segment["p_filesz"], "load image", "copied at start-up"


def _arrays(firmware: Firmware) -> list[tuple[int, int]]:
    """(address, bytes) of the model's constant arrays."""
    prefixes = tuple(f"{m.name}_" for m in firmware.description.models)
    code = [(low, low + size) for low, size in firmware.code_ranges]
    return sorted(
        (s.address, s.size)
        for name, s in firmware.symbols.items()
        if name.startswith(prefixes) and s.size and not any(low <= s.address < high for low, high in code)
    )


def _split_constants(
    at: int, size: int, arrays: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, str, str]]:
    """The section of constants: the model's arrays, which lie together, apart from the firmware's own."""
    inside = [(a, n) for a, n in arrays if at <= a < at + size]
    if not inside:
        yield at, size, "constants", ".rodata"
        return
    low, high = inside[0][0], max(a + n for a, n in inside)
    yield low, high - low, "weights", "weights and tables"
    if low > at:
        yield at, low - at, "constants", ".rodata"
    if at + size > high:
        yield high, at + size - high, "constants", ".rodata"


def _parts(region: Region, stretches: Sequence[tuple[int, int, str, str]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    at = region.origin
    for start, size, kind, name in sorted(s for s in stretches if region.origin <= s[0] < region.end):
        if start > at:
            parts.append(Part("free", "", at - region.origin, start - at))
        parts.append(Part(kind, name, start - region.origin, size))
        at = max(at, start + size)
    if at < region.end:
        parts.append(Part("free", "", at - region.origin, region.end - at))
    return tuple(parts)
