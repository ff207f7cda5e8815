"""Boards are data: boards/*.toml, one file per board, read into frozen dataclasses.

A wrong description is a BoardError with file and line: unknown keys, impossible values, overlapping regions.
Every table must name the source of its figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinygen import locate
from tinygen.boardfile import BoardFile, Table
from tinygen.errors import BoardError, did_you_mean

REGION_KINDS = ("flash", "sram", "tcm", "external")
CONSOLE_KINDS = ("cmsdk_uart", "nrf51_uart")
TIMER_KINDS = ("cmsdk_timer", "nrf51_timer", "sse_counter")
ADDRESS_SPACE = 1 << 32


@dataclass(frozen=True)
class Core:
    """What an Arm core can have: instruction set extensions, gcc -mfpu values, and how a stack is guarded."""

    isa: tuple[str, ...]
    fpus: tuple[str, ...]
    guard: str  # "none": the bus must fault below SRAM; "mpu": of ARMv7-M; "limit": PSPLIM of ARMv8-M
    fault_status: bool  # has CFSR and HFSR


CORES = {
    "cortex-m0": Core((), ("none",), "none", False),
    "cortex-m0plus": Core((), ("none",), "none", False),
    "cortex-m3": Core((), ("none",), "mpu", True),
    "cortex-m4": Core(("dsp",), ("none", "fpv4-sp-d16"), "mpu", True),
    "cortex-m7": Core(("dsp",), ("none", "fpv5-sp-d16", "fpv5-d16"), "mpu", True),
    "cortex-m33": Core(("dsp",), ("none", "fpv5-sp-d16"), "limit", True),
    "cortex-m55": Core(("dsp", "mve"), ("none", "auto"), "limit", True),
}


@dataclass(frozen=True)
class Region:
    """One stretch of memory. origin, length in bytes; width: bytes per access; wait_states per access."""

    name: str
    kind: str
    origin: int
    length: int
    width: int
    wait_states: int
    source: str

    @property
    def end(self) -> int:
        """First address behind the region."""
        return self.origin + self.length


@dataclass(frozen=True)
class Reserved:
    """SRAM bytes that no model may use: the stack, and what the user's application keeps."""

    stack: int
    application: int
    source: str


@dataclass(frozen=True)
class Console:
    """The UART on which the firmware prints."""

    kind: str
    base: int
    source: str


@dataclass(frozen=True)
class Timer:
    """The 32-bit timer that the firmware reads; clock_hz: its ticks per second."""

    kind: str
    base: int
    clock_hz: int
    source: str


@dataclass(frozen=True)
class Qemu:
    """Machine of qemu-system-arm and further options."""

    machine: str
    options: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Unicorn:
    """Core model of Unicorn."""

    cpu: str
    source: str


@dataclass(frozen=True)
class Board:
    """One board. name: that of its file, where it travels with tinygen.

    qemu, unicorn: None where that emulator has no model of it.
    """

    name: str
    path: Path
    title: str
    cpu: str
    isa: tuple[str, ...]
    fpu: str
    clock_hz: int
    source: str
    regions: tuple[Region, ...]
    reserved: Reserved
    console: Console
    timer: Timer
    qemu: Qemu | None
    unicorn: Unicorn | None

    @property
    def core(self) -> Core:
        """What the board's core can have."""
        return CORES[self.cpu]

    @property
    def code(self) -> Region:
        """The region that holds vectors, code and constants."""
        return next(r for r in self.regions if r.kind == "flash")

    @property
    def ram(self) -> Region:
        """The region that holds stack, data, arena and input block."""
        return next(r for r in self.regions if r.kind == "sram")

    @property
    def compiler_flags(self) -> tuple[str, ...]:
        """Options of gcc that select core and FPU; the assembler refuses what the core lacks."""
        if self.fpu == "none":
            return (f"-mcpu={self.cpu}", "-mthumb", "-mfloat-abi=soft")
        return (f"-mcpu={self.cpu}", "-mthumb", "-mfloat-abi=hard", f"-mfpu={self.fpu}")


def board_names() -> tuple[str, ...]:
    """Names of the boards that travel with tinygen, sorted."""
    return tuple(sorted(path.stem for path in locate.folder("boards").glob("*.toml")))


def all_boards() -> tuple[Board, ...]:
    """All boards that travel with tinygen, sorted by name."""
    return tuple(load_board(name) for name in board_names())


def load_board(name: str | Path) -> Board:
    """The board of that name, or described by the .toml file of that path.

    Raises BoardError: no such board or file, or a description that is wrong (with file and line).
    """
    text = str(name)
    if text.endswith(".toml"):
        return read_board(Path(text))
    known = board_names()
    if text not in known:
        raise BoardError(
            f"there is no board '{text}'{did_you_mean(text, known)}\n"
            f"  known: {', '.join(known)}; or give the path of a .toml file"
        )
    return read_board(locate.folder("boards") / f"{text}.toml")


def read_board(path: Path) -> Board:
    """Read one description. Raises BoardError with file and line."""
    top = BoardFile.read(path).top()
    cpu = top.choice("cpu", CORES)
    board = Board(
        name=top.identifier("name"),
        path=path,
        title=top.text("title"),
        cpu=cpu,
        isa=top.choices("isa", CORES[cpu].isa, default=()),
        fpu=top.choice("fpu", CORES[cpu].fpus),
        clock_hz=top.number("clock_hz", 1, 10**10),
        source=top.text("source"),
        regions=_regions(top),
        reserved=_reserved(top.table("reserved")),
        console=_console(top.table("console")),
        timer=_timer(top.table("timer")),
        qemu=_qemu(top.optional("qemu")),
        unicorn=_unicorn(top.optional("unicorn")),
    )
    top.finish()
    _check_reserved(board, top)
    return board


def _regions(top: Table) -> tuple[Region, ...]:
    """All [[region]] tables, checked to be disjoint and to hold one flash and one sram at least."""
    tables = top.tables("region")
    regions = tuple(_region(table) for table in tables)
    for i, (region, table) in enumerate(zip(regions, tables, strict=True)):
        for other in regions[:i]:
            _check_disjoint(region, other, table)
    for kind in ("flash", "sram"):
        if not any(region.kind == kind for region in regions):
            raise top.error("region", f"there is no region of kind '{kind}'", "describe at least one")
    return regions


def _region(table: Table) -> Region:
    region = Region(
        name=table.identifier("name"),
        kind=table.choice("kind", REGION_KINDS),
        origin=table.number("origin", 0, ADDRESS_SPACE - 1, multiple=32),
        length=table.number("length", 256, ADDRESS_SPACE, multiple=32),
        width=table.number("width", 1, 64, default=4),
        wait_states=table.number("wait_states", 0, 255, default=0),
        source=table.text("source"),
    )
    table.finish()
    if region.end > ADDRESS_SPACE:
        raise table.error("length", f"region '{region.name}' ends at {region.end:#x}", "at most 0x100000000")
    return region


def _check_disjoint(region: Region, other: Region, table: Table) -> None:
    if region.name == other.name:
        raise table.error("name", f"two regions are named '{region.name}'", "names must differ")
    if region.origin < other.end and other.origin < region.end:
        raise table.error(
            "origin",
            f"region '{region.name}' ({region.origin:#010x} to {region.end - 1:#010x}) overlaps "
            f"'{other.name}' ({other.origin:#010x} to {other.end - 1:#010x})",
            "regions must be disjoint; name each memory once, by one of its aliases",
        )


def _reserved(table: Table) -> Reserved:
    reserved = Reserved(
        stack=table.number("stack", 256, ADDRESS_SPACE, multiple=8),
        application=table.number("application", 0, ADDRESS_SPACE, default=0, multiple=8),
        source=table.text("source"),
    )
    table.finish()
    return reserved


def _check_reserved(board: Board, top: Table) -> None:
    """Stack and application must leave something of the SRAM."""
    total = board.reserved.stack + board.reserved.application
    if total >= board.ram.length:
        raise top.table("reserved", again=True).error(
            "stack",
            f"stack + application are {total:,} bytes, region '{board.ram.name}' has {board.ram.length:,}",
            "they must leave room for a model",
        )


def _console(table: Table) -> Console:
    console = Console(table.choice("kind", CONSOLE_KINDS), _address(table, "base"), table.text("source"))
    table.finish()
    return console


def _timer(table: Table) -> Timer:
    kind, base = table.choice("kind", TIMER_KINDS), _address(table, "base")
    timer = Timer(kind, base, table.number("clock_hz", 1, 10**10), table.text("source"))
    table.finish()
    return timer


def _address(table: Table, key: str) -> int:
    return table.number(key, 0, ADDRESS_SPACE - 1, multiple=4)


def _qemu(table: Table | None) -> Qemu | None:
    if table is None:
        return None
    qemu = Qemu(table.text("machine"), table.texts("options", default=()), table.text("source"))
    table.finish()
    return qemu


def _unicorn(table: Table | None) -> Unicorn | None:
    if table is None:
        return None
    unicorn = Unicorn(table.choice("cpu", CORES), table.text("source"))
    table.finish()
    return unicorn
