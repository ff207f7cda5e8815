"""From a board's TOML to the dataclasses of boards.py: every key is checked, errors name file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinygen.boardfile import BoardFile
from tinygen.boards import (
    CORES,
    Board,
    Cache,
    Console,
    Layout,
    PlatformIO,
    Qemu,
    Region,
    Renode,
    Reserved,
    StartStep,
    Startup,
    Timer,
    Unicorn,
    find_board,
)
from tinygen.tomlfile import Table

REGION_KINDS = ("flash", "sram", "tcm", "external")
CACHE_OWNERS = ("core", "memory")
CACHE_SERVES = ("instructions", "data", "both")
CACHE_FILLS = ("access", "line", "background")
CACHE_WRITES = ("through", "back")
HEADERS = ("none", "rp2040_boot2", "imxrt_flexspi")
CONSOLE_KINDS = (
    "cmsdk_uart",
    "nrf51_uart",
    "stm32_usart",
    "stm32_usart_v2",
    "stm32_lpuart",
    "pl011",
    "imxrt_lpuart",
)
TIMER_KINDS = ("cmsdk_timer", "nrf51_timer", "sse_counter", "dwt", "stm32_timer", "rp2040_timer")
ADDRESS_SPACE = 1 << 32
WORD = (1 << 32) - 1
MOST_STEPS = 256
MOST_REGIONS = 16
"""As many as the cycle model follows (cycles/tracer.c)."""
MOST_ACCESSES = 64
"""Accesses of a memory that one cache line can be made of (cycles/memory.h)."""


def read_board(path: Path, folders: Sequence[Path] = ()) -> Board:
    """Read one description, and those that it extends. Raises BoardError with file and line."""
    file = BoardFile.read(path, lambda name: find_board(name, folders))
    top = file.top()
    cpu = top.choice("cpu", CORES)
    regions, caches = _regions(top), _caches(top)
    board = Board(
        name=top.identifier("name"),
        path=path,
        text=file.complete_text(),
        title=top.text("title"),
        cpu=cpu,
        isa=top.choices("isa", CORES[cpu].isa, default=()),
        fpu=top.choice("fpu", CORES[cpu].fpus),
        clock_hz=top.number("clock_hz", 1, 10**10),
        multiplier_cycles=_multiplier(top, cpu),
        source=top.text("source"),
        regions=regions,
        caches=caches,
        layout=_layout(top, regions),
        startup=_startup(top.optional("startup")),
        reserved=_reserved(top.table("reserved")),
        console=_console(top.table("console")),
        timer=_timer(top.table("timer")),
        qemu=_qemu(top.optional("qemu")),
        unicorn=_unicorn(top.optional("unicorn")),
        renode=_renode(top.optional("renode")),
        platformio=_platformio(top.optional("platformio")),
    )
    top.finish()
    _check_caches(board, top)
    _check_reserved(board, top)
    return board


def _regions(top: Table) -> tuple[Region, ...]:
    """All [[region]] tables, checked to be disjoint and to hold read-only and writable memory."""
    tables = top.tables("region")
    if len(tables) > MOST_REGIONS:
        raise tables[MOST_REGIONS].error(
            "name", f"there are {len(tables)} regions", f"at most {MOST_REGIONS}"
        )
    regions = tuple(_region(table) for table in tables)
    for i, (region, table) in enumerate(zip(regions, tables, strict=True)):
        for other in regions[:i]:
            _check_disjoint(region, other, table)
    return regions


def _multiplier(top: Table, cpu: str) -> int:
    """1, or 32 for an M0 or M0+ that was built with the small multiplier."""
    cycles = top.number("multiplier_cycles", 1, 32, default=1)
    if cycles not in (1, 32) or (cycles == 32 and cpu not in ("cortex-m0", "cortex-m0plus")):
        raise top.error(
            "multiplier_cycles",
            f"{cpu} cannot have it as {cycles}",
            "1, or 32 on a cortex-m0 or cortex-m0plus",
        )
    return cycles


def _region(table: Table) -> Region:
    kind = table.choice("kind", REGION_KINDS)
    wait_states = table.number("wait_states", 0, 1023, default=0)
    region = Region(
        name=table.identifier("name"),
        kind=kind,
        origin=table.number("origin", 0, ADDRESS_SPACE - 1, multiple=32),
        length=table.number("length", 256, ADDRESS_SPACE, multiple=32),
        width=table.number("width", 1, 64, default=4),
        wait_states=wait_states,
        sequential_wait_states=table.number("sequential_wait_states", 0, wait_states, default=wait_states),
        prefetch=table.flag("prefetch", default=False),
        executable=table.flag("executable", default=True),
        dma=table.flag("dma", default=kind != "tcm"),
        caches=table.texts("caches", default=()),
        programming=table.text("programming", default=""),
        source=table.text("source"),
    )
    table.finish()
    if region.programming and (region.writable or "{hex}" not in region.programming):
        what = f"region '{region.name}' of kind '{kind}' has programming = '{region.programming}'"
        raise table.error(
            "programming", what, "read-only memory only; {hex} in it stands for the file to write"
        )
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


def _caches(top: Table) -> tuple[Cache, ...]:
    if "cache" not in top.values:
        top.asked.add("cache")
        return ()
    return tuple(_cache(table) for table in top.tables("cache"))


def _cache(table: Table) -> Cache:
    cache = Cache(
        name=table.identifier("name"),
        owner=table.choice("owner", CACHE_OWNERS),
        serves=table.choice("serves", CACHE_SERVES),
        size=table.number("size", 4, 1 << 24),
        line=table.number("line", 4, 256, multiple=4),
        ways=table.number("ways", 1, 1024),
        fill=table.choice("fill", CACHE_FILLS, default="line"),
        write=table.choice("write", CACHE_WRITES, default="through"),
        source=table.text("source"),
    )
    table.finish()
    if cache.size % (cache.line * cache.ways):
        what = f"{cache.size:,} bytes are no whole sets of {cache.ways} ways with lines of {cache.line} bytes"
        raise table.error("size", f"cache '{cache.name}': {what}", "size must be sets x ways x line")
    return cache


def _check_caches(board: Board, top: Table) -> None:
    """Regions name caches that there are, every cache serves a region, names differ."""
    names = [c.name for c in board.caches]
    for table, region in zip(top.tables("region"), board.regions, strict=True):
        for name in region.caches:
            if name not in names:
                what = f"region '{region.name}' names cache '{name}'"
                raise table.error("caches", what, f"described are: {', '.join(names) or 'none'}")
        for cache in board.caches_of(region):
            _check_line(region, cache, table)
    for i, name in enumerate(names):
        if name in names[:i] or not any(name in r.caches for r in board.regions):
            table = top.tables("cache")[i]
            raise table.error(
                "name", f"cache '{name}' is named twice or by no region", "name it in one at least"
            )


def _check_line(region: Region, cache: Cache, table: Table) -> None:
    """A line is made of whole accesses; memory that is wider than a line delivers a line at once."""
    width = min(region.width, cache.line)
    if cache.line % width or cache.line // width > MOST_ACCESSES:
        what = f"region '{region.name}' delivers {width} bytes at once, a line of cache '{cache.name}' has {cache.line}"
        raise table.error("width", what, f"a line is 1 to {MOST_ACCESSES} whole accesses")


def _layout(top: Table, regions: tuple[Region, ...]) -> Layout:
    """Where code and data go: the first region of kind flash, the first of kind sram, unless [layout] says else."""
    table = top.optional("layout") or Table(top.file, "layout", 0, {})
    layout = Layout(
        code=_region_name(top, table, "code", [r for r in regions if not r.writable], "flash"),
        data=_region_name(top, table, "data", [r for r in regions if r.writable], "sram"),
        header=table.choice("header", HEADERS, default="none"),
    )
    table.finish()
    return layout


def _region_name(top: Table, table: Table, key: str, usable: list[Region], kind: str) -> str:
    names = [r.name for r in sorted(usable, key=lambda r: r.kind != kind)]
    if not names:
        raise top.error("region", f"there is no region of kind '{kind}'", "describe at least one")
    return table.choice(key, names, default=names[0])


def _startup(table: Table | None) -> Startup:
    if table is None:
        return Startup((), "reset leaves the clock as it is claimed")
    steps = tuple(_step(item) for item in table.items("steps", MOST_STEPS))
    startup = Startup(steps, table.text("source"))
    table.finish()
    return startup


def _step(item: Table) -> StartStep:
    """{ write = ADDRESS, mask = M, value = V, why = "..." }, or wait instead of write; no mask: the whole word."""
    kind = "wait" if "wait" in item.values else "write"
    step = StartStep(
        kind=kind,
        address=item.number(kind, 0, ADDRESS_SPACE - 1, multiple=4),
        mask=item.number("mask", 1, WORD, default=WORD),
        value=item.number("value", 0, WORD),
        why=item.text("why"),
    )
    item.finish()
    if step.value & ~step.mask:
        raise item.error(
            "value", f"{step.value:#x} has bits outside mask {step.mask:#x}", "they would be lost"
        )
    return step


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
    kind = table.choice("kind", CONSOLE_KINDS)
    console = Console(
        kind=kind,
        base=_address(table, "base"),
        clock_hz=table.number("clock_hz", 0, 10**10, default=0),
        baud=table.number("baud", 0, 10**8, default=115200),
        tx_pin=table.number("tx_pin", 0, 63) if kind == "nrf51_uart" else 0,
        rx_pin=table.number("rx_pin", 0, 63) if kind == "nrf51_uart" and "rx_pin" in table.values else None,
        reset=table.text("reset", "press its reset button"),
        source=table.text("source"),
    )
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


def _renode(table: Table | None) -> Renode | None:
    if table is None:
        return None
    renode = Renode(table.text("cpu"), table.text("uart"), table.text("source"))
    table.finish()
    return renode


def _platformio(table: Table | None) -> PlatformIO | None:
    if table is None:
        return None
    made = PlatformIO(
        platform=table.text("platform"),
        board=table.text("board"),
        upload=table.text("upload", default=""),
        flash_command=table.text("flash_command", default=""),
        flash=table.number("flash", 0, ADDRESS_SPACE),
        ram=table.number("ram", 0, ADDRESS_SPACE),
        source=table.text("source"),
    )
    table.finish()
    return made
