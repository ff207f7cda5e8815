"""The firmware around the libraries of one or more models: startup, harness, port, linker script.

Pure: board and models in, path -> text out. One image runs any inputs: the emulator fills a block with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tinygen import placement_check
from tinygen.access import Traffic
from tinygen.boards import Board
from tinygen.ctext import environment
from tinygen.errors import BoardError
from tinygen.placement import HANDLER_STACK_BYTES, Movable, Needs, Placement, aligned, place

GUARD_BYTES = 64 * 1024
"""Below SRAM, made inaccessible: a stack frame would have to be larger than this to jump over it."""
BLOCK_LIMIT = 1024 * 1024
"""The input block takes what SRAM is left, at most this many bytes: more would only slow loading down."""
HEADER_BYTES = {"rp2040_boot2": 0x100, "imxrt_flexspi": 0x2000}
"""Bytes of the boot header in front of the vectors."""
DESCRIPTION = "firmware.json"
HARNESS = "test/test_model"
"""The image that emulators run, a PlatformIO test suite; src/ is the user's application."""
MAGIC = 0x31474E54  # "TNG1", first word of the input block


class ModelLibrary(Protocol):
    """What the firmware must know of a model's library (emission.Library is one). Sizes in bytes."""

    @property
    def name(self) -> str: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def input_sizes(self) -> tuple[int, ...]: ...
    @property
    def output_sizes(self) -> tuple[int, ...]: ...
    @property
    def movables(self) -> tuple[Movable, ...]: ...
    @property
    def arena_traffic(self) -> Traffic: ...
    @property
    def profile_steps(self) -> int: ...
    @property
    def variable_bytes(self) -> int: ...
    @property
    def precision(self) -> str: ...


@dataclass(frozen=True)
class FirmwareModel:
    """One model of an image. Sizes in bytes. precision: type of inputs and outputs, int8 or float32.

    profile_steps: layers with timestamps.
    """

    name: str
    arena_bytes: int
    input_sizes: tuple[int, ...]
    output_sizes: tuple[int, ...]
    profile_steps: int = 0
    precision: str = "int8"

    @property
    def record_bytes(self) -> int:
        """Bytes of one sample in the input block: model, sample, inputs padded to 4 bytes each."""
        return 8 + sum(-(-size // 4) * 4 for size in self.input_sizes)


@dataclass(frozen=True)
class Description:
    """firmware.json: what a runner must know of a project besides its image."""

    run_id: str
    boards: tuple[str, ...]
    models: tuple[FirmwareModel, ...]

    @classmethod
    def parse(cls, text: str) -> Description:
        """The description in that JSON text. Raises ValueError, KeyError or TypeError when it is not one."""
        data = json.loads(text)
        models = tuple(
            FirmwareModel(
                str(m["name"]),
                int(m["arena_bytes"]),
                tuple(map(int, m["input_sizes"])),
                tuple(map(int, m["output_sizes"])),
                int(m.get("profile_steps", 0)),
                {"int8": "int8", "float32": "float32"}[m.get("precision", "int8")],
            )
            for m in data["models"]
        )
        return cls(str(data["run_id"]), tuple(map(str, data["boards"])), models)

    def text(self) -> str:
        """JSON that parse() reads. What came later stands there only where it is used: others stay as they were."""
        data = asdict(self)
        for model in data["models"]:
            if not model["profile_steps"]:
                del model["profile_steps"]
            if model["precision"] == "int8":
                del model["precision"]
        return json.dumps(data, indent=2) + "\n"


def needs_of(libraries: Sequence[ModelLibrary]) -> Needs:
    """What an image of these libraries needs of memory: one arena for all, the largest record, everything movable."""
    models = _models(libraries)
    traffics = [library.arena_traffic for library in libraries]
    arena = aligned(max(m.arena_bytes for m in models))
    return Needs(
        arena=arena,
        record=_record_bytes(models),
        arena_traffic=Traffic(arena, sum(t.read for t in traffics), min(t.element for t in traffics)),
        movables=tuple(m for library in libraries for m in library.movables),
        variables=sum(library.variable_bytes for library in libraries),
    )


def firmware_files(
    libraries: Sequence[ModelLibrary], board: Board, run_id: str, placement: Placement | None = None
) -> Mapping[str, str]:
    """Path below the project -> text, for an image of these libraries (in this order, names distinct).

    run_id comes back in the log. placement None: place() decides. Raises BoardError when the models do not fit the
    board or the stack cannot be guarded on it.
    """
    return {
        **common_files(libraries, (board,), run_id),
        **board_files(libraries, board, placement or place(needs_of(libraries), board)),
    }


def common_files(
    libraries: Sequence[ModelLibrary], boards: Sequence[Board], run_id: str
) -> Mapping[str, str]:
    """What is the same on all boards: the harness that tests run, the console's text, the host's port."""
    models = _models(libraries)
    context = {
        "models": models,
        "run_id": run_id,
        "arena_bytes": max(m.arena_bytes for m in models),
        "profiled": any(m.profile_steps for m in models),
    }
    paths = {
        HARNESS + "/test_main.c": "main.c.j2",
        HARNESS + "/tg_harness.c": "tg_harness.c",
        HARNESS + "/tg_harness.h": "tg_harness.h",
        "include/tg_port.h": "tg_port.h",
        "boards/tg_console.c": "tg_console.c",
        "host/tg_port_host.c": "tg_port_host.c",
    }
    description = Description(run_id, tuple(b.name for b in boards), models)
    return {**_rendered(paths, context), DESCRIPTION: description.text()}


def board_files(
    libraries: Sequence[ModelLibrary], board: Board, placement: Placement, arena_bytes: int | None = None
) -> Mapping[str, str]:
    """What belongs to one board: start-up code, port, linker script and its description.

    arena_bytes: what the linker script says of the arena; None: one for the largest model.
    """
    check_guard(board)
    folder = board_folder(board.name)
    paths = {
        f"{folder}/tg_startup.S": "tg_startup.S.j2",
        f"{folder}/tg_port.c": "tg_port.c.j2",
        linker_script(board.name): "board.ld.j2",
    }
    context = _context(_models(libraries), board, placement)
    files = _rendered(paths, {**context, "arena_bytes": arena_bytes or context["arena_bytes"]})
    table = json.dumps(placement.table(), indent=2) + "\n"
    return {**files, f"{folder}/board.toml": board.text, f"{folder}/{placement_check.TABLE}": table}


def board_folder(board: str) -> str:
    """Where a project keeps what belongs to one board."""
    return f"boards/{board}"


def linker_script(board: str) -> str:
    """A board's linker script, below the project."""
    return f"ldscripts/{board}.ld"


def _rendered(paths: Mapping[str, str], context: Mapping[str, Any]) -> dict[str, str]:
    """Path -> text of the template of that name."""
    return {
        path: environment().get_template(f"firmware/{name}").render(context) for path, name in paths.items()
    }


def _models(libraries: Sequence[ModelLibrary]) -> tuple[FirmwareModel, ...]:
    models = tuple(
        FirmwareModel(m.name, m.arena_bytes, m.input_sizes, m.output_sizes, m.profile_steps, m.precision)
        for m in libraries
    )
    assert models and len({m.name for m in models}) == len(models), "an image needs distinct models"
    return models


def _record_bytes(models: Sequence[FirmwareModel]) -> int:
    """The smallest input block: its header and one record."""
    return 8 + max(m.record_bytes for m in models)


def _context(models: tuple[FirmwareModel, ...], board: Board, placement: Placement) -> dict[str, Any]:
    """What the templates see."""
    return {
        "board": board,
        "code": board.code,
        "data": board.ram,
        "writable": board.writable,
        "placement": placement,
        "copied": [c for r in board.writable for c in placement.copied(r.name)],
        "weights": board.region(placement.homes.arrays) if placement.homes.apart else None,
        "core_caches": [c for c in board.caches if c.owner == "core"],
        "header_bytes": HEADER_BYTES.get(board.layout.header, 0),
        "arena_bytes": max(m.arena_bytes for m in models),
        "record_bytes": _record_bytes(models),
        "stack_bytes": board.reserved.stack,
        "handler_stack_bytes": HANDLER_STACK_BYTES,
        "block_limit": BLOCK_LIMIT,
        "guard_bytes": GUARD_BYTES,
        "guard_comment": {
            "none": "below it, where the bus answers nothing",
            "mpu": "below it, in a stretch that the memory protection unit denies",
            "limit": "at the stack limit register",
        }[board.core.guard],
    }


def check_guard(board: Board) -> None:
    """Raise BoardError when memory lies right below SRAM, where an overflowing stack must fault."""
    if board.core.guard == "limit":
        return
    low = board.ram.origin - GUARD_BYTES
    neighbours = [r.name for r in board.regions if r.origin < board.ram.origin and r.end > low]
    if neighbours or low < 0 or (board.core.guard == "mpu" and low % GUARD_BYTES):
        what = f"region '{neighbours[0]}' is there" if neighbours else f"it starts at {board.ram.origin:#x}"
        raise BoardError(
            f"{board.path}: the stack cannot be guarded below region '{board.ram.name}': {what}\n"
            f"  the first region of kind 'sram' needs {GUARD_BYTES:,} free bytes below it, aligned to as many"
        )
