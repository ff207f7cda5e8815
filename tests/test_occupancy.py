"""What an image puts where: every byte of every region is told, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.support.profiled import built
from tinygen.occupancy import Occupied, occupancy

pytestmark = pytest.mark.arm

SLOW = "nucleo_l4r5zi"


@pytest.mark.parametrize(("board", "pin"), [("microbit", "none"), (SLOW, "none"), (SLOW, "all")])
def test_every_byte_of_every_region_is_told(board: str, pin: str) -> None:
    """Parts follow each other without a gap; what they hold is what the image's sections hold."""
    image = built(board, pin)
    regions = occupancy(image.firmware, image.board)
    assert [o.region.name for o in regions] == [
        r.name for r in sorted(image.board.regions, key=lambda r: r.origin)
    ]
    for occupied in regions:
        assert_gapless(occupied)
    assert filled(regions) == sections(image.firmware.elf)
    loaded = sum(p.bytes for o in regions for p in o.parts if p.kind == "load image")
    copied = sum(size for name, size in image.firmware.sections.items() if name == ".data" or ".pin_" in name)
    assert loaded == pytest.approx(copied, abs=16)
    assert (pin == "all") == any(p.kind == "pinned" for o in regions for p in o.parts)
    flash = next(o for o in regions if o.region.name == image.board.layout.code)
    assert flash.used == pytest.approx(image.firmware.code_bytes, abs=64)  # alignment between sections


def assert_gapless(occupied: Occupied) -> None:
    at = 0
    for part in occupied.parts:
        assert part.offset == at and part.bytes > 0, (occupied.region.name, part)
        at += part.bytes
    assert at == occupied.region.length
    assert occupied.used == sum(p.bytes for p in occupied.parts if p.kind != "free")


def filled(regions: tuple[Occupied, ...]) -> int:
    """Bytes of all parts that are neither free nor load images."""
    return sum(p.bytes for o in regions for p in o.parts if p.kind not in ("free", "load image"))


def sections(elf: Path) -> int:
    """Bytes of all sections that take memory."""
    with elf.open("rb") as file:
        return sum(s["sh_size"] for s in ELFFile(file).iter_sections() if s["sh_flags"] & 2)
