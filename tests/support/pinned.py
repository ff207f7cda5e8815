"""Images with pinned weights, and Unicorn with probes: what is read in an inference, what changes when memory does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import unicorn as uc
from elftools.elf.elffile import ELFFile

from tests.support import tinyfw
from tinygen import boards, building, pipeline, placement_check, running
from tinygen.boards import Board, Region, load_board
from tinygen.building import Firmware
from tinygen.emulators import Unicorn, unicorn_machine
from tinygen.firmware import firmware_files
from tinygen.graph import Array, Graph
from tinygen.judge import RunResult
from tinygen.pipeline import Compiled
from tinygen.placement import Pinned, Placement
from tinygen.selection import Optimize
from tinygen.wishes import Wishes


@dataclass(frozen=True)
class Built:
    """A compiled model in an image for a board."""

    board: Board
    compiled: Compiled
    placement: Placement
    project: Path
    firmware: Firmware

    @property
    def arrays(self) -> tuple[Pinned, ...]:
        """Pinned arrays: what is no code."""
        return tuple(p for p in self.placement.pins if not p.movable.is_code)

    def run_range(self, symbol: str) -> range:
        """Addresses of a C object when the firmware runs."""
        at, size = self.firmware.symbols[symbol]
        return range(at & ~1 if self._is_code(symbol) else at, (at & ~1) + size)

    def load_range(self, symbol: str) -> range:
        """Addresses that the loader writes it to."""
        run = self.run_range(symbol)
        for address, load, size in segments(self.firmware.elf):
            if address <= run.start and run.stop <= address + size:
                return range(run.start - address + load, run.stop - address + load)
        raise AssertionError(f"{symbol} is in no segment")

    def _is_code(self, symbol: str) -> bool:
        return any(m.symbol == symbol and m.is_code for m in self.compiled.library.movables)


@cache
def segments(elf: Path) -> tuple[tuple[int, int, int], ...]:
    """(run address, load address, bytes) of what is loaded."""
    with elf.open("rb") as file:
        loaded = [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
        return tuple((s["p_vaddr"], s["p_paddr"], s["p_filesz"]) for s in loaded)


def on_unicorn(name: str) -> Board:
    """The board; the Cortex-M55 one with the core of a Cortex-M33, as Unicorn has no M55."""
    board = load_board(name)
    if board.cpu != "cortex-m55":
        return board
    core = boards.Unicorn("cortex-m33", "a stand-in for the M55")
    timer = load_board("mps2_an505").timer
    return replace(board, cpu="cortex-m33", isa=("dsp",), fpu="none", unicorn=core, timer=timer)


def compiled_for(graph: Graph, board: Board, wishes: Wishes, optimize: Optimize = "balanced") -> Compiled:
    """The int8 graph with C prefix "net"."""
    return pipeline.lower(graph, board, pipeline.Options(name="net", wishes=wishes, optimize=optimize))


def write_project(compiled: Compiled, board: Board, folder: Path, placement: Placement | None = None) -> Path:
    """The image's project. placement: another than the compiled model's own."""
    files = firmware_files([compiled.library], board, tinyfw.RUN_ID, placement or compiled.placement)
    return tinyfw.write(folder, {**files, **compiled.library.files})


def build(graph: Graph, board: Board, wishes: Wishes, folder: Path, optimize: Optimize = "balanced") -> Built:
    """Compile and build."""
    compiled = compiled_for(graph, board, wishes, optimize)
    assert compiled.placement is not None
    project = write_project(compiled, board, folder)
    return Built(board, compiled, compiled.placement, project, building.build(project, board))


def linker_script(project: Path) -> Path:
    """The project's one linker script."""
    (path,) = project.rglob("*.ld")
    return path


class Probe(unicorn_machine.Machine):
    """Unicorn that lets a test at the core when the first inference starts, all start-up code done."""

    at_start: Callable[[Any], None]
    started = False

    def _switch_counting(self) -> None:
        super()._switch_counting()
        if not self.started:
            self.started = True
            self.at_start(self._core)
            self._core.ctl_flush_tb()


def run(
    built: Built,
    inputs: Sequence[Array],
    expected: Sequence[Array],
    at_start: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> RunResult:
    """Run with a probe. at_start: gets Unicorn's core before the first inference."""
    probe = type("Probe", (Probe,), {"at_start": staticmethod(at_start)})
    monkeypatch.setattr(unicorn_machine, "Machine", probe)
    return running.run(built.firmware, built.board, Unicorn(), inputs, expected)


def counting_reads(ranges: Mapping[str, range], reads: Counter[str]) -> Callable[[Any], None]:
    """A probe that counts data reads that touch these addresses; reads[name] in bytes."""

    def at_start(core: Any) -> None:
        for name, addresses in ranges.items():

            def read(core: Any, kind: int, address: int, size: int, value: int, name: str) -> None:
                reads[name] += size

            core.hook_add(uc.UC_HOOK_MEM_READ, read, name, addresses.start, addresses.stop - 1)

    return at_start


def corrupting(ranges: Sequence[range]) -> Callable[[Any], None]:
    """A probe that inverts every byte at these addresses."""

    def at_start(core: Any) -> None:
        for addresses in ranges:
            old = core.mem_read(addresses.start, len(addresses))
            core.mem_write(addresses.start, bytes(b ^ 0xFF for b in old))

    return at_start


def table_of(placement: Placement) -> placement_check.Table:
    """The plan as the check reads it."""
    return placement_check.table_of(placement.table())


def arrays_of(built: Built) -> dict[str, bytes]:
    """Symbol -> bytes of the project's C arrays."""
    return placement_check.read_arrays(built.project / "lib")


def with_region(board: Board, changed: Region) -> Board:
    """The board with one region described otherwise."""
    regions = tuple(changed if r.name == changed.name else r for r in board.regions)
    return replace(board, regions=regions)
