"""Proof that a linked image lies in memory as planned: from the ELF file, the board and placement.json.

Nothing here is shared with placement.py or with the linker script's template: addresses come from symbols, sections
and segments, memory limits from the board, the arrays' values from the C sources. building.build() calls check().
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from elftools.elf.elffile import ELFFile

from tinygen.boards import Board, Region
from tinygen.errors import BoardError, OutputError

TABLE = "placement.json"
"""The plan's file in a project's folder of a board."""
ALLOCATED, EXECUTABLE = 2, 4  # sh_flags of ELF
TYPES = {
    "int8_t": "<i1",
    "uint8_t": "<u1",
    "int16_t": "<i2",
    "uint16_t": "<u2",
    "int32_t": "<i4",
    "int64_t": "<i8",
    "float": "<f4",
}
ARRAY = re.compile(r"^const (\w+) (\w+)\[\d+\] = \{\n(.*?)\};", re.S | re.M)
LOWEST = "(-2147483647 - 1)"  # C has no literal for it


@dataclass(frozen=True)
class Planned:
    """One object. symbol: of the C object; layer, role: what it is to the user; region: where it must be."""

    symbol: str
    layer: str
    role: str
    region: str

    def __str__(self) -> str:
        return f"{self.role} of layer '{self.layer}' (symbol {self.symbol})"


@dataclass(frozen=True)
class Table:
    """The plan: regions of the arena and of the input block, and of every pinned object.

    weights: the region where arrays have their home, None for that of the code; loose: those that are read there.
    """

    arena: str
    inputs: str
    pins: tuple[Planned, ...]
    weights: str | None = None
    loose: tuple[Planned, ...] = ()

    def home(self, pin: Planned, board: Board) -> Region:
        """Where the pinned object must be loaded to."""
        return board.code if self.weights is None or pin.role == "code" else board.region(self.weights)

    def copy_of(self, pin: Planned) -> str:
        """Prefix of the linker script's symbols for the copy that brings the pinned object into its region."""
        apart = self.weights is not None and pin.role != "code"
        return f"__weights_{pin.region}" if apart else f"__pin_{pin.region}"


class Extent(NamedTuple):
    """Run addresses [low, high) of something."""

    what: str
    low: int
    high: int


class Segment(NamedTuple):
    """What a loader copies: run address, load address, bytes."""

    run: int
    load: int
    data: bytes


class Image:
    """What the ELF file says. symbols: (address without the Thumb bit, size, whether it is a function) by name."""

    def __init__(self, elf: Path) -> None:
        with elf.open("rb") as file:
            image = ELFFile(file)
            segments = [s for s in image.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
            self.segments = [Segment(s["p_vaddr"], s["p_paddr"], s.data()) for s in segments]
            self.sections = [
                (Extent(s.name, s["sh_addr"], s["sh_addr"] + s["sh_size"]), bool(s["sh_flags"] & EXECUTABLE))
                for s in image.iter_sections()
                if s["sh_flags"] & ALLOCATED and s["sh_size"]
            ]
            self.symbols: dict[str, tuple[int, int, bool]] = {}
            for s in image.get_section_by_name(".symtab").iter_symbols():
                function = s["st_info"]["type"] == "STT_FUNC"
                self.symbols[s.name] = (s["st_value"] & ~int(function), s["st_size"], function)

    def extent(self, what: str, symbol: str) -> Extent:
        """Where a C object lies."""
        if symbol not in self.symbols:
            raise BoardError(f"placement: {what} is not in the image")
        address, size, _ = self.symbols[symbol]
        return Extent(what, address, address + size)

    def parts(self, pin: Planned) -> list[Extent]:
        """Where a pinned object lies; of a kernel also the functions beside it, which bear its name and their own."""
        beside = [
            n for n, (_, _, is_code) in self.symbols.items() if is_code and n.startswith(f"{pin.symbol}_")
        ]
        return [self.extent(str(pin), name) for name in (pin.symbol, *(beside if pin.role == "code" else ()))]

    def between(self, what: str, first: str, last: str) -> Extent:
        """What lies between two symbols of the linker script."""
        return Extent(what, self.symbols[first][0], self.symbols[last][0])

    def loaded(self, extent: Extent) -> tuple[int, bytes] | None:
        """(load address, bytes) of what runs there; None where the image holds no bytes for all of it."""
        for run, load, data in self.segments:
            if run <= extent.low and extent.high <= run + len(data):
                at = extent.low - run
                return load + at, data[at : at + extent.high - extent.low]
        return None


def check(elf: Path, board: Board, table: Table, arrays: Mapping[str, bytes]) -> None:
    """Raise BoardError that names layer and region where the image is not as planned. arrays: symbol -> its bytes."""
    image = Image(elf)
    arena = [Extent("the arena", e.low, e.high) for e, _ in image.sections if e.what == ".arena"]
    inputs = image.between("the input block", "__tg_input_start", "__tg_input_end")
    stays = _stays(image)
    homes = (
        [(e, table.arena) for e in arena] + [(inputs, table.inputs)] + [(e, board.layout.data) for e in stays]
    )
    for extent, name in homes:
        _inside(extent, board, name)
    pins = [(pin, extent) for pin in table.pins for extent in image.parts(pin)]
    for pin, extent in pins:
        _inside(extent, board, pin.region)
        _check_copy(image, board, table, pin, extent)
        _check_values(image, pin, extent, arrays)
    loose = [image.extent(str(array), array.symbol) for array in table.loose]
    for array, extent in zip(table.loose, loose, strict=True):
        _inside(extent, board, array.region)
        _check_in_place(image, array, extent)
        _check_values(image, array, extent, arrays)
    _check_disjoint([*arena, inputs, *stays, *(extent for _, extent in pins), *loose])
    _check_disjoint([Extent(f"segment at {s.run:#x}", s.load, s.load + len(s.data)) for s in image.segments])
    _check_executable(image, board)


def _stays(image: Image) -> list[Extent]:
    """Stacks and variables: always in the data region."""
    return [
        image.between("the stack", "__stack_start", "__stack_end"),
        image.between("the handlers' stack", "__handler_stack_start", "__handler_stack_end"),
        image.between("initialised data", "__data_start", "__data_end"),
        image.between("zeroed data", "__bss_start", "__bss_end"),
    ]


def _limit(board: Board, region: Region) -> int:
    """First address of the region that the firmware must leave alone."""
    return region.end - (board.reserved.application if region.name == board.layout.data else 0)


def _inside(extent: Extent, board: Board, name: str) -> None:
    region = board.region(name)
    if not region.origin <= extent.low <= extent.high <= _limit(board, region):
        raise BoardError(
            f"placement: {extent.what} is at {_span(extent)}, not in region '{name}' of board '{board.name}' "
            f"({region.origin:#x} to {_limit(board, region):#x})\n  the linker script is not the one that was generated"
        )


def _check_copy(image: Image, board: Board, table: Table, pin: Planned, extent: Extent) -> None:
    """The load copy is in the object's home, and the copy loop takes it from there."""
    copy, home = image.loaded(extent), table.home(pin, board)
    if copy is None or extent.low == extent.high:
        raise BoardError(f"placement: {pin} has no bytes in the image to copy into region '{pin.region}'")
    load, data = copy
    if not home.origin <= load <= load + len(data) <= home.end:
        raise BoardError(
            f"placement: {pin} is loaded to {load:#x}, not into region '{home.name}' of board '{board.name}'"
        )
    start, end, source = (
        image.symbols.get(f"{table.copy_of(pin)}_{name}", (-1, 0, False))[0]
        for name in ("start", "end", "load")
    )
    if not start <= extent.low <= extent.high <= end or load - extent.low != source - start:
        raise BoardError(f"placement: the start-up code does not copy {pin} into region '{pin.region}'")


def _check_in_place(image: Image, array: Planned, extent: Extent) -> None:
    """What nobody copies is loaded where it is read."""
    found = image.loaded(extent)
    if found is None or found[0] != extent.low:
        where = "not in the image" if found is None else f"loaded to {found[0]:#x}"
        raise BoardError(f"placement: {array} is read at {_span(extent)}, but its bytes are {where}")


def _check_values(image: Image, planned: Planned, extent: Extent, arrays: Mapping[str, bytes]) -> None:
    """The image holds the array's values."""
    found = image.loaded(extent)
    if planned.role != "code" and (found is None or arrays.get(planned.symbol) != found[1]):
        raise BoardError(
            f"placement: the image's bytes of {planned} for region '{planned.region}' are not those of its C array"
        )


def _check_disjoint(extents: Iterable[Extent]) -> None:
    ordered = sorted((e for e in extents if e.low < e.high), key=lambda e: (e.low, e.high))
    for one, other in pairwise(ordered):
        if other.low < one.high:
            raise BoardError(f"placement: {one.what} ({_span(one)}) overlaps {other.what} ({_span(other)})")


def _check_executable(image: Image, board: Board) -> None:
    """No instructions where the core cannot fetch them."""
    code = [extent for extent, executable in image.sections if executable]
    code += [
        Extent(f"function {n}", at, at + max(size, 2))
        for n, (at, size, is_f) in image.symbols.items()
        if is_f
    ]
    for extent in code:
        homes = [r for r in board.regions if r.origin <= extent.low and extent.high <= r.end]
        if not homes or not homes[0].executable:
            where = f"region '{homes[0].name}', which is not executable" if homes else "no region"
            raise BoardError(
                f"placement: {extent.what} ({_span(extent)}) is in {where} on board '{board.name}'"
            )


def _span(extent: Extent) -> str:
    return f"{extent.low:#x} to {extent.high:#x}"


def read_table(folder: Path) -> Table:
    """The plan in a project's folder of a board. Raises OutputError where there is none that can be read."""
    path = folder / TABLE
    try:
        return table_of(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise OutputError(
            f"'{path}' holds no placement that can be read ({type(problem).__name__})\n  generate the project again"
        ) from None


def table_of(data: Mapping[str, Any]) -> Table:
    """The plan as placement.json holds it. Raises KeyError or TypeError when it is none."""
    pins = tuple(_planned(p, p["region"]) for p in data["pins"])
    weights = None if "weights" not in data else str(data["weights"])
    loose = () if weights is None else tuple(_planned(p, weights) for p in data["loose"])
    return Table(str(data["arena"]), str(data["inputs"]), pins, weights, loose)


def _planned(entry: Mapping[str, Any], region: object) -> Planned:
    return Planned(str(entry["symbol"]), str(entry["layer"]), str(entry["role"]), str(region))


def read_arrays(folder: Path) -> dict[str, bytes]:
    """Symbol -> bytes of every constant array in the *_weights.c files below a folder."""
    return {
        name: values
        for path in sorted(folder.rglob("*_weights.c"))
        for name, values in c_arrays(path.read_text()).items()
    }


def c_arrays(text: str) -> dict[str, bytes]:
    """Symbol -> bytes, as the target stores them, of the constant arrays in a generated C file."""
    arrays = {}
    for c_type, name, values in ARRAY.findall(text):
        numbers = values.replace(LOWEST, "-2147483648").split(",")
        if c_type == "float":
            parsed = np.array([np.float32(n.strip().rstrip("f")) for n in numbers])
        else:
            parsed = np.array([int(n) for n in numbers])
        arrays[name] = parsed.astype(TYPES[c_type]).tobytes()
    return arrays
