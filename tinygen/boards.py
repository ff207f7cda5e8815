"""Boards are data: boards/*.toml, one file per board, read into frozen dataclasses (board_schema.py reads them).

A wrong description is a BoardError with file and line: unknown keys, impossible values, overlapping regions.
Every table must name the source of its figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinygen import locate
from tinygen.errors import BoardError, did_you_mean


@dataclass(frozen=True)
class Core:
    """What an Arm core can have: instruction set extensions, gcc -mfpu values, and how a stack is guarded."""

    isa: tuple[str, ...]
    fpus: tuple[str, ...]
    guard: str  # "none": the bus must fault below SRAM; "mpu": of ARMv7-M; "limit": PSPLIM of ARMv8-M
    fault_status: bool  # has CFSR and HFSR
    vector_offset: bool  # has VTOR


CORES = {
    "cortex-m0": Core((), ("none",), "none", False, False),
    "cortex-m0plus": Core((), ("none",), "none", False, True),
    "cortex-m3": Core((), ("none",), "mpu", True, True),
    "cortex-m4": Core(("dsp",), ("none", "fpv4-sp-d16"), "mpu", True, True),
    "cortex-m7": Core(("dsp",), ("none", "fpv5-sp-d16", "fpv5-d16"), "mpu", True, True),
    "cortex-m33": Core(("dsp",), ("none", "fpv5-sp-d16"), "limit", True, True),
    "cortex-m55": Core(("dsp", "mve"), ("none", "auto"), "limit", True, True),
}


@dataclass(frozen=True)
class Cache:
    """What stands between the core and slow memory. size, line in bytes.

    owner: "core" (SCB: the start-up code enables it) or "memory" (an accelerator of the flash interface).
    serves: "instructions", "data" or "both".
    fill: what a miss brings in: "access", as many bytes as the memory delivers at once; "line", the core waits for all
    of it; "background", the core goes on with the bytes it asked for while the others arrive behind them.
    write: "back" (writes allocate and stay in the cache), or "through" (they go past it).
    """

    name: str
    owner: str
    serves: str
    size: int
    line: int
    ways: int
    fill: str
    write: str
    source: str


@dataclass(frozen=True)
class Region:
    """One stretch of memory. origin; length in bytes; width: bytes per access; wait_states per access.

    sequential_wait_states: of an access that follows the last one in address order (a burst that goes on).
    prefetch: the memory reads ahead of instruction fetches.
    kind: "flash" and "external" (execute in place behind a serial bus) are read-only, "sram" and "tcm" are not.
    dma: bus masters other than the core reach it. caches: names of those in front of it. programming: what writes
    {hex} into it where the board's flash_command does not, "" where that is not said.
    """

    name: str
    kind: str
    origin: int
    length: int
    width: int
    wait_states: int
    sequential_wait_states: int
    prefetch: bool
    executable: bool
    dma: bool
    caches: tuple[str, ...]
    programming: str
    source: str

    @property
    def end(self) -> int:
        """First address behind the region."""
        return self.origin + self.length

    @property
    def writable(self) -> bool:
        """True for memory that can hold variables."""
        return self.kind in ("sram", "tcm")


@dataclass(frozen=True)
class Layout:
    """Names of the regions for code and for data; header: the boot header in front of the vectors, or "none"."""

    code: str
    data: str
    header: str


@dataclass(frozen=True)
class StartStep:
    """One step of bringing the chip up. write: (register & ~mask) | value; wait: until register & mask == value."""

    kind: str  # "write" or "wait"
    address: int
    mask: int
    value: int
    why: str


@dataclass(frozen=True)
class Startup:
    """Steps from reset to the clock that the board claims, in order; steps () where reset leaves it so."""

    steps: tuple[StartStep, ...]
    source: str


@dataclass(frozen=True)
class Reserved:
    """SRAM bytes that no model may use: the stack, and what the user's application keeps."""

    stack: int
    application: int
    source: str


@dataclass(frozen=True)
class Console:
    """The UART on which the firmware prints. clock_hz: that its divider gets; 0 where the baud rate is fixed.

    tx_pin, rx_pin: where the UART itself selects its pins (nrf51_uart), else 0 and None; rx_pin None: it only prints.
    reset: what a user does to reset the board, a clause.
    """

    kind: str
    base: int
    clock_hz: int
    baud: int
    tx_pin: int
    rx_pin: int | None
    reset: str
    source: str


@dataclass(frozen=True)
class Timer:
    """The up to 32-bit timer that the firmware reads; clock_hz: its ticks per second."""

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
class Renode:
    """Core and UART as Renode names them."""

    cpu: str
    uart: str
    source: str


@dataclass(frozen=True)
class PlatformIO:
    """How PlatformIO names the board. platform: with its version; upload: protocol, "" for the platform's own.

    flash, ram: bytes as PlatformIO states them: the cross-check of the regions. flash_command: writes an image into the
    board without PlatformIO's uploader packages; {elf} and {build} stand for the image and its folder, "" where none.
    """

    platform: str
    board: str
    upload: str
    flash_command: str
    flash: int
    ram: int
    source: str


@dataclass(frozen=True)
class Board:
    """One board. name: that of its file, where it travels with tinygen.

    multiplier_cycles: of a 32-bit multiplication on an M0 or M0+, 1 or 32 by how the chip was built.
    qemu, unicorn, renode, platformio: None where that tool has no model of it. text: its TOML, complete.
    """

    name: str
    path: Path
    text: str
    title: str
    cpu: str
    isa: tuple[str, ...]
    fpu: str
    clock_hz: int
    multiplier_cycles: int
    source: str
    regions: tuple[Region, ...]
    caches: tuple[Cache, ...]
    layout: Layout
    startup: Startup
    reserved: Reserved
    console: Console
    timer: Timer
    qemu: Qemu | None
    unicorn: Unicorn | None
    renode: Renode | None
    platformio: PlatformIO | None

    @property
    def core(self) -> Core:
        """What the board's core can have."""
        return CORES[self.cpu]

    def region(self, name: str) -> Region:
        """The region of that name."""
        return next(r for r in self.regions if r.name == name)

    def caches_of(self, region: Region) -> tuple[Cache, ...]:
        """The caches in front of a region."""
        return tuple(c for c in self.caches if c.name in region.caches)

    @property
    def flash_command(self) -> str:
        """See PlatformIO.flash_command; "" for a board that PlatformIO does not know."""
        return self.platformio.flash_command if self.platformio else ""

    @property
    def code(self) -> Region:
        """The region that holds vectors, code and constants."""
        return self.region(self.layout.code)

    @property
    def ram(self) -> Region:
        """The region that holds stack, data and, where nothing better is found, arena and input block."""
        return self.region(self.layout.data)

    @property
    def writable(self) -> tuple[Region, ...]:
        """Regions that can hold variables, that of the stack first."""
        others = tuple(r for r in self.regions if r.writable and r.name != self.layout.data)
        return (self.ram, *others)

    @property
    def compiler_flags(self) -> tuple[str, ...]:
        """Options of gcc that select core and FPU; the assembler refuses what the core lacks."""
        if self.fpu == "none":
            return (f"-mcpu={self.cpu}", "-mthumb", "-mfloat-abi=soft")
        return (f"-mcpu={self.cpu}", "-mthumb", "-mfloat-abi=hard", f"-mfpu={self.fpu}")


def common(boards: Sequence[Board]) -> tuple[Board, ...]:
    """The boards of one project, each with the instructions that all of them have.

    They share a library, and its kernels are chosen by what the core can do.
    """
    shared = tuple(name for name in boards[0].isa if all(name in b.isa for b in boards))
    return tuple(replace(board, isa=shared) for board in boards)


def board_names(folders: Sequence[Path] = ()) -> tuple[str, ...]:
    """Names of the boards that travel with tinygen, and of those in the user's folders; sorted."""
    places = (*folders, locate.folder("boards"))
    return tuple(sorted({path.stem for folder in places for path in folder.glob("*.toml")}))


def all_boards(folders: Sequence[Path] = ()) -> tuple[Board, ...]:
    """All boards that travel with tinygen or lie in the user's folders, sorted by name."""
    return tuple(load_board(name, folders) for name in board_names(folders))


def load_board(name: str | Path, folders: Sequence[Path] = ()) -> Board:
    """The board of that name, or described by the .toml file of that path.

    folders: where the user keeps descriptions of his own; they come before those that travel with tinygen.
    Raises BoardError: no such board or file, or a description that is wrong (with file and line).
    """
    from tinygen.board_schema import read_board

    return read_board(find_board(str(name), folders), folders)


def find_board(name: str, folders: Sequence[Path] = ()) -> Path:
    """The file that describes the board. Raises BoardError when there is none."""
    if name.endswith(".toml"):
        return Path(name)
    places = [*folders, locate.folder("boards")]
    for folder in places:
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    known = sorted({path.stem for folder in places for path in folder.glob("*.toml")})
    raise BoardError(
        f"there is no board '{name}'{did_you_mean(name, known)}\n"
        f"  known: {', '.join(known)}; or give the path of a .toml file"
    )
