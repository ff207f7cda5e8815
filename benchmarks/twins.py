"""QEMU machines that stand in for boards that QEMU has no model of: the same core, the same compiler flags."""

from __future__ import annotations

from pathlib import Path

from tinygen.boards import Board

TWINS = {
    "cortex-m0plus": """extends = "microbit"
cpu = "cortex-m0plus"
[[region]]
name = "flash"
kind = "flash"
origin = 0
length = 0x8_0000
source = "QEMU property nrf51-soc.flash-size"
[[region]]
name = "sram"
kind = "sram"
origin = 0x2000_0000
length = 0x4_0000
source = "QEMU property nrf51-soc.sram-size"
[qemu]
machine = "microbit"
options = ["-global", "nrf51-soc.flash-size=0x80000", "-global", "nrf51-soc.sram-size=0x40000"]
source = "QEMU 7.2, hw/arm/nrf51_soc.c: its core is an M0, which executes what an M0+ does"
""",
    "cortex-m4": 'extends = "mps2_an386"\n',
    "cortex-m7": 'extends = "mps2_an500"\n',
    "cortex-m3": 'extends = "mps2_an385"\n',
}


def twin_of(board: Board, folder: Path) -> Path:
    """A board description, written into `folder`, of a QEMU machine with the board's core and FPU."""
    path = folder / f"twin_of_{board.name}.toml"
    head, _, tables = TWINS[board.cpu].partition("[[")
    own = f'name = "{path.stem}"\ntitle = "QEMU twin"\nfpu = "{board.fpu}"\n'
    path.write_text(head + own + ("[[" + tables if tables else ""))
    return path
