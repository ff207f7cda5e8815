"""Follow any bare Cortex-M image, not only ours: tests hold the model to sequences computed by hand with it, benchmarks
weigh other runtimes' images.

The image marks the stretch that is measured by calling a function; it needs no devices and ends at a symbol.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from tinygen.boards import Board
from tinygen.building import Symbol, load_segments
from tinygen.cycles.places import places
from tinygen.cycles.trace import Trace
from tinygen.cycles.tracing import Landmarks, Tracer
from tinygen.errors import RunError

SYSTEM = (0xE000_0000, 0x10_0000)
"""Registers of the core (CPACR...): plain memory here."""


def trace_elf(elf: Path, board: Board, mark: str, done: str, samples: int = 1) -> Trace:
    """Run an image from reset to the symbol `done`. mark: function called at the start and at the end of each sample.

    The vector table is at the start of the board's code region. Raises RunError when the run does not get to `done`.
    """
    import unicorn as uc
    from unicorn import arm_const

    from tinygen.emulators.unicorn_machine import CPUS

    symbols, code = _read(elf)
    for name in (mark, done):
        if name not in symbols:
            raise RunError(f"'{elf}' has no symbol '{name}'\n  name the functions that mark and end the run")
    assert board.unicorn is not None
    core: Any = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS)
    core.ctl_set_cpu_model(CPUS[board.unicorn.cpu])
    for origin, length in (*((r.origin, r.length) for r in board.regions), SYSTEM):
        core.mem_map(origin, length)
    for address, data in load_segments(elf):
        core.mem_write(address, data)
    landmarks = Landmarks(symbols[mark].address & ~1, (0, 0), 0, samples)
    tracer = Tracer(core, board, places(elf, symbols, code), landmarks)
    stack, entry = struct.unpack("<II", core.mem_read(board.code.origin, 8))
    core.reg_write(arm_const.UC_ARM_REG_SP, stack)
    try:
        core.emu_start(entry | 1, symbols[done].address & ~1)
    except uc.UcError as problem:
        at = core.reg_read(arm_const.UC_ARM_REG_PC)
        raise RunError(f"'{elf}' stopped at {at:#010x}: {problem}") from None
    return tracer.trace()


def _read(elf: Path) -> tuple[dict[str, Symbol], tuple[tuple[int, int], ...]]:
    """(symbols by name, (address, bytes) of every section with instructions)."""
    with elf.open("rb") as file:
        image = ELFFile(file)
        sections = [s for s in image.iter_sections() if s["sh_flags"] & 4 and s["sh_size"]]
        table = image.get_section_by_name(".symtab")
        symbols = {s.name: Symbol(s["st_value"], s["st_size"]) for s in table.iter_symbols() if s.name}
        return symbols, tuple((s["sh_addr"], s["sh_size"]) for s in sections)
