"""What the kernels that could execute a node really take: all of them in one image, followed by the cycle model.

The image runs on a board with the core of the user's and more memory than that has. Outputs must equal the reference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinygen import building, bundle, evaluate, profiling
from tinygen.boards import Board, Region
from tinygen.building import Firmware
from tinygen.emission import Library, emit_library
from tinygen.firmware import firmware_files, needs_of
from tinygen.graph import BoundNode, Graph
from tinygen.ops.base import Kernel
from tinygen.placement import place
from tinygen.plan_check import verify
from tinygen.planning import plan
from tinygen.profiling import Profile, Run
from tinygen.program import Program, Step
from tinygen.wishes import Wishes

INFERENCES = 2
"""A cold one, and the one that is counted."""
ROOM = 16 * 1024 * 1024
"""Bytes of each region: more than any layer needs."""
PREFIX, RUN_ID = "layer", "0" * 16


@dataclass(frozen=True)
class Count:
    """One kernel on one node. instructions: counted; cycles: modelled at zero wait states; code: bytes, linked."""

    instructions: int
    cycles: int
    code: int


def count(b: BoundNode, kernels: Sequence[Kernel], board: Board) -> dict[str, Count]:
    """Kernel's name -> what it takes for the node. Raises RunError when one's outputs are not the reference's."""
    made, code = followed(side_by_side(b, kernels), roomy(board))
    found = {}
    for kernel, layer in zip(kernels, made.layers, strict=True):
        assert layer.cost.zero_wait_cycles is not None, "only cores with a cycle model are counted on"
        found[kernel.name] = Count(layer.cost.instructions, layer.cost.zero_wait_cycles, code[layer.name])
    return found


def followed(program: Program, board: Board) -> tuple[Profile, Mapping[str, int]]:
    """(profile of a program with random inputs and nothing pinned, layer -> bytes of its kernel's code).

    Raises RunError when outputs are not the reference's.
    """
    memory = plan(program)
    verify(program, memory)
    library = emit_library(program, memory, PREFIX)
    inputs = bundle.random_inputs(program.graph, INFERENCES)
    with tempfile.TemporaryDirectory(prefix="tinygen-tune-") as folder:
        firmware = _built(library, board, Path(folder))
        run = Run(inputs, evaluate.expected(program.graph, inputs))
        made = profiling.profile(program, firmware, board, library.movables, run)
    return made, _code_bytes(firmware, library)


def side_by_side(b: BoundNode, kernels: Sequence[Kernel]) -> Program:
    """A graph that computes the node once per kernel, from the same inputs."""
    copies = [
        BoundNode(
            replace(b.node, name=f"{PREFIX}{i}", output=f"{PREFIX}{i}"),
            b.inputs,
            replace(b.output, name=f"{PREFIX}{i}"),
        )
        for i in range(len(kernels))
    ]
    tensors = {t.name: t for t in (*b.inputs, *(c.output for c in copies))}
    inputs = tuple(dict.fromkeys(t.name for t in b.activations))
    graph = Graph(
        PREFIX, tuple(c.node for c in copies), tensors, inputs, tuple(c.output.name for c in copies)
    )
    steps = (Step(c, k, k.scratch(c)) for c, k in zip(copies, kernels, strict=True))
    return Program(graph, tuple(steps))


def roomy(board: Board) -> Board:
    """The board with two regions only, for code and data, larger than they are: cycles without waits stay the same."""
    code, data = (_grown(r, board) for r in (board.code, board.ram))
    return replace(board, regions=(code, data) if code.name != data.name else (code,))


def _grown(region: Region, board: Board) -> Region:
    """As large as it can be without reaching the other region or the devices (0x4000_0000 and 0xE000_0000)."""
    starts = (board.code.origin, board.ram.origin, 0x4000_0000, 0xE000_0000)
    free = min(start - region.origin for start in starts if start > region.origin)
    return replace(region, length=max(region.length, min(ROOM, free)))


def _built(library: Library, board: Board, folder: Path) -> Firmware:
    needs = needs_of([library])
    placement = place(needs, board, Wishes(pin="none", pin_code="none"))
    files = firmware_files([library], board, RUN_ID, placement)
    for name, text in {**files, **library.files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return building.build(folder, board)


def _code_bytes(firmware: Firmware, library: Library) -> Mapping[str, int]:
    """Layer -> bytes of its kernel's functions: the one that is called, and those named after it."""
    sizes = {}
    for movable in library.movables:
        if movable.is_code:
            own = (movable.symbol, f"{movable.symbol}_")
            sizes[movable.layer] = sum(
                s.size for name, s in firmware.symbols.items() if name == own[0] or name.startswith(own[1])
            )
    return sizes
