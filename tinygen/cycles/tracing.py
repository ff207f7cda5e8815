"""Run firmware in Unicorn and follow it: instructions, zero-wait cycles, stalls and bytes, per step of each inference.

The run is followed in two views: as linked, and as if every pinned object were still at its load address; the second
says what pinning saves on the very same run.
"""

from __future__ import annotations

import ctypes as c
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinygen.boards import Board, Region
from tinygen.building import Firmware
from tinygen.cycles import native
from tinygen.cycles.cores import timing_of
from tinygen.cycles.instructions import Instruction, Kind, decode
from tinygen.cycles.pipeline import Cost, body_cost, branch_cycles
from tinygen.cycles.places import Place
from tinygen.cycles.trace import Counts, Inference, Touched, Trace
from tinygen.cycles.views import in_units, memories
from tinygen.emulators.native_code import HOOK_ACCESS, HOOK_BLOCK, add_hook
from tinygen.errors import RunError

MOST_BLOCKS, MOST_EDGES = 1 << 16, 1 << 18


@dataclass(frozen=True)
class Landmarks:
    """What tells where a run is. mark: entered at the start and at the end of each sample.

    invoke: addresses [low, high) of the function that calls the kernels, in order, once each: `steps` of them.
    """

    mark: int
    invoke: tuple[int, int]
    steps: int
    samples: int

    @classmethod
    def of(cls, firmware: Firmware, steps: int, samples: int) -> Landmarks:
        """Those of an image of one model."""
        invoke = firmware.symbols[f"{firmware.description.models[0].name}_invoke"]
        low = invoke.address & ~1
        return cls(firmware.symbols["tg_mark"].address & ~1, (low, low + invoke.size), steps, samples)


class Tracer:
    """Installed on a core before it runs; `trace` reads the result."""

    def __init__(self, core: Any, board: Board, objects: Sequence[Place], landmarks: Landmarks) -> None:
        board = in_units(board)
        self._core, self._regions, self._timing = core, board.regions, timing_of(board)
        self._failure: BaseException | None = None
        self._keep: list[Any] = []
        self._code: list[tuple[Instruction, ...]] = []
        self._costs: list[Cost] = []
        self.places = objects
        self._state = self._make_state(board, landmarks)
        self._install()

    def _make_state(self, board: Board, landmarks: Landmarks) -> native.Tracer:
        state = native.Tracer()
        moved = any(p.address != p.load for p in self.places)
        state.view_count = 2 if moved else 1
        state.region_count, state.object_count = len(board.regions), len(self.places)
        steps, samples = landmarks.steps, landmarks.samples
        state.step_count, state.sample_count = steps, samples
        self._buckets = (native.Bucket * (2 + samples * (steps + 1)))()
        self._objects = (native.Object * max(1, len(self.places)))(
            *(native.Object(p.address, p.address + p.size, p.load) for p in self.places)
        )
        self._blocks = (native.Block * MOST_BLOCKS)()
        self._by_address = (c.c_uint64 * (2 * MOST_BLOCKS))()
        self._edges = (native.Edge * MOST_EDGES)()
        for view in state.views:
            self._keep.append(memories(board, view))
        state.objects, state.buckets = self._objects, self._buckets
        state.blocks, state.by_address, state.edges = self._blocks, self._by_address, self._edges
        state.by_address_size, state.edges_size = 2 * MOST_BLOCKS, MOST_EDGES
        state.mark, (state.invoke, state.invoke_end) = landmarks.mark, landmarks.invoke
        return state

    def _install(self) -> None:
        from unicorn import arm_const
        from unicorn.unicorn_py3 import unicorn as binding

        library, state = native.library(), self._state
        state.find, state.weigh = (
            native.Find(self._guarded(self._find)),
            native.Weigh(self._guarded(self._weigh)),
        )
        state.read_register = c.cast(binding.uclib.uc_reg_read, c.c_void_p)
        state.write_register = c.cast(binding.uclib.uc_reg_write, c.c_void_p)
        state.xpsr = arm_const.UC_ARM_REG_XPSR
        for kind, function in ((HOOK_BLOCK, library.tg_trace_block), (HOOK_ACCESS, library.tg_trace_access)):
            add_hook(self._core, kind, function, state)

    def _guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        """Exceptions cannot pass through C: the first one is kept, and raised by `trace`."""

        def call(*arguments: Any) -> int:
            try:
                return function(*arguments)
            except BaseException as problem:
                self._failure = self._failure or problem
                self._core.emu_stop()
                return 0

        return call

    def _find(self, core: int, address: int, size: int, blocks: Any) -> int:
        """Decode a block that is entered for the first time."""
        index = len(self._code)
        if index == MOST_BLOCKS:
            raise RunError(f"more than {MOST_BLOCKS:,} different blocks of code\n  profile a smaller model")
        code = decode(bytes(self._core.mem_read(address, size)), address)
        cost = body_cost(self._timing, code)
        self._code.append(code)
        self._costs.append(cost)
        self._fill(self._blocks[index], code, cost, size)
        return index

    def _fill(self, block: native.Block, code: Sequence[Instruction], cost: Cost, size: int) -> None:
        address = code[0].at
        block.address, block.size, block.instructions, block.cycles = address, size, len(code), cost.cycles
        starts = [at + i for one, at in zip(code, cost.starts, strict=True) for i in range(one.transfers)]
        block.accesses, block.starts = len(starts), self._numbers(starts)
        block.conditional = any(one.kind is Kind.IT for one in code)
        block.object = next(
            (i for i, p in enumerate(self.places) if p.address <= address < p.address + p.size), -1
        )
        here = self.places[block.object] if block.object >= 0 else Place("", 0, 0, 0)
        block.moved = address - here.address + here.load
        for view, at in enumerate((address, block.moved)):
            region, points = fetches(self._regions, code, cost, at)
            block.region[view], block.fetches[view] = region, len(points)
            block.fetch[view] = self._numbers([n for point in points for n in point])

    def _numbers(self, values: Sequence[int]) -> Any:
        array = (c.c_uint32 * max(1, len(values)))(*values)
        self._keep.append(array)
        return array

    def _weigh(self, before: int, block: int) -> int:
        """Cycles of a block behind the one that ran before it (indices plus 1; 0: none)."""
        code = self._code[block - 1]
        if before == 0:
            return self._costs[block - 1].cycles
        last = self._code[before - 1][-1]
        falls_through = last.end == code[0].at
        cost = body_cost(self._timing, code, last if falls_through else None)
        return cost.cycles + branch_cycles(self._timing, last, code[0].at)

    def trace(self) -> Trace:
        """What the run took. Raises RunError when it could not be followed."""
        if self._failure is not None:
            raise self._failure
        if self._state.overflow:
            raise RunError(
                "the image runs too many different blocks of code to follow\n  profile a smaller model"
            )
        names = [r.name for r in self._regions]
        counts = [_counts(bucket, names, self._state.view_count) for bucket in self._buckets]
        columns = self._state.step_count + 1
        samples = [counts[1 + i * columns :][:columns] for i in range(self._state.sample_count)]
        touched = tuple(
            Touched(p.symbol, p.address, p.size, o.read, o.stalls[0], o.stalls[self._state.view_count - 1])
            for p, o in zip(self.places, self._objects, strict=False)
        )
        return Trace(
            counts[0],
            self._state.copy_cycles,
            counts[-1],
            tuple(Inference(s[0], tuple(s[1:])) for s in samples),
            touched,
        )


def _counts(bucket: native.Bucket, regions: Sequence[str], views: int) -> Counts:
    here, apart = bucket.stalls[0], bucket.stalls[views - 1]
    return Counts(
        instructions=bucket.instructions,
        cycles=bucket.cycles,
        fetch=here[native.FETCH],
        data=here[native.DATA],
        apart_fetch=apart[native.FETCH],
        apart_data=apart[native.DATA],
        read=dict(zip(regions, bucket.read, strict=False)),
        written=dict(zip(regions, bucket.written, strict=False)),
    )


def fetches(
    regions: Sequence[Region], code: Sequence[Instruction], cost: Cost, address: int
) -> tuple[int, list[tuple[int, int]]]:
    """(index of the region, points) of a block at an address: (offset, cycle) where it needs another unit of memory.

    (-1, ()) where the memory never waits.
    """
    index = next((i for i, r in enumerate(regions) if r.origin <= address < r.end), -1)
    if index < 0 or regions[index].wait_states == 0:
        return -1, []
    width, points, unit = regions[index].width, [], -1
    for one, start in zip(code, cost.starts, strict=True):
        offset = one.at - code[0].at
        for part in range(0, one.size, 2):
            if (address + offset + part) // width != unit:
                unit = (address + offset + part) // width
                points.append((offset + part, start))
    return index, points
