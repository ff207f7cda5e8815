"""The profile stage: where every instruction and modelled cycle of an inference goes.

Instructions are counted, cycles are modelled (cycles/, docs/cycles.md). Where no emulator can be followed access by
access (Cortex-M55), instructions are counted by the firmware's own timestamps in QEMU and there are no cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinygen import ops, running
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.cycles.trace import Counts, Inference, Touched, Trace
from tinygen.emulators.base import Emulator
from tinygen.emulators.traced import Traced
from tinygen.errors import RunError
from tinygen.graph import Array
from tinygen.judge import RunResult
from tinygen.occupancy import Occupied, occupancy
from tinygen.placement import Movable
from tinygen.program import Program, Step
from tinygen.running import Progress

ALIAS = "alias"
"""Kernel of a step that costs nothing: its output is its input's bytes."""


@dataclass(frozen=True)
class Cost:
    """Per inference. instructions: counted. cycles: modelled, with stalls; None where only instructions are known.

    zero_wait_cycles + fetch_stalls + data_stalls = cycles. unpinned_cycles: the same run if nothing were pinned.
    read, written: bytes of data per region.
    """

    instructions: int
    cycles: int | None
    zero_wait_cycles: int | None
    fetch_stalls: int | None
    data_stalls: int | None
    unpinned_cycles: int | None
    read: Mapping[str, int]
    written: Mapping[str, int]


NOTHING = Cost(0, 0, 0, 0, 0, 0, {}, {})


@dataclass(frozen=True)
class Layer:
    """One step of the program. kernel: ALIAS for steps without code."""

    step: int
    name: str
    op: str
    kernel: str
    macs: int
    cost: Cost


@dataclass(frozen=True)
class Object:
    """An array or kernel: where it is, and the cycles that the core waits for it in one inference.

    unpinned_stalls: if nothing were pinned; 0 more than `stalls` for what is not.
    """

    symbol: str
    layer: str
    role: str
    region: str
    bytes: int
    bytes_read: int
    stalls: int
    unpinned_stalls: int
    pinned: bool


@dataclass(frozen=True)
class Cold:
    """The first inference after a reset. Cycles; pays_after: inferences after which pinning has paid for its copy.

    pays_after None: nothing is pinned, or it never pays.
    """

    startup_cycles: int
    copy_cycles: int
    first_cycles: int
    pays_after: int | None


@dataclass(frozen=True)
class Profile:
    """One image on one board. layers: of the median warm inference; outside: what it spent outside of the kernels.

    totals: one Cost per input, in order. followed: for each, whether it followed another one: the first inference
    after a reset is cold, and an image whose input block holds few samples is reset between them.
    """

    model: str
    board: Board
    run_id: str
    counted_by: str
    layers: tuple[Layer, ...]
    outside: Cost
    totals: tuple[Cost, ...]
    followed: tuple[bool, ...]
    cold: Cold | None
    objects: tuple[Object, ...]
    arena_bytes: int
    stack_bytes: int | None
    flash_bytes: int
    sram_bytes: int
    regions: tuple[Occupied, ...]

    @property
    def is_warm(self) -> bool:
        """There is an inference that followed another one."""
        return any(self.followed)

    @property
    def warm(self) -> tuple[Cost, ...]:
        """Inferences that followed another one; all where none did."""
        return warm_of(self.totals, self.followed)

    @property
    def median(self) -> Cost:
        """The warm inference in the middle, by time."""
        return median(self.warm)

    @property
    def worst(self) -> Cost:
        """The slowest warm inference."""
        return max(self.warm, key=duration)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    def milliseconds(self, cycles: int | None) -> float | None:
        """Modelled cycles at the board's clock."""
        return None if cycles is None else 1000.0 * cycles / self.board.clock_hz


def duration(cost: Cost) -> int:
    """What costs are compared by: cycles, or instructions where there are no cycles."""
    return cost.instructions if cost.cycles is None else cost.cycles


def warm_of(totals: Sequence[Cost], followed: Sequence[bool]) -> tuple[Cost, ...]:
    """Those that followed another inference; all of them where none did."""
    return tuple(cost for cost, warm in zip(totals, followed, strict=True) if warm) or tuple(totals)


def median(costs: Sequence[Cost]) -> Cost:
    """The lower median by duration: one that was really run, so that its layers add up."""
    return sorted(costs, key=duration)[(len(costs) - 1) // 2]


@dataclass(frozen=True)
class Run:
    """What is run to profile an image.

    inputs: (N, *shape) as C takes them. expected: outputs that must come, None takes any. timeout: seconds without a
    new line of the log.
    """

    inputs: Sequence[Array]
    expected: Sequence[Array] | None = None
    timeout: float = 120.0
    progress: Progress | None = None

    def passed(self, firmware: Firmware, board: Board, emulator: Emulator) -> RunResult:
        """The result of a run. Raises RunError when it cannot be run, or does not pass."""
        if reason := emulator.unavailable(board):
            raise RunError(f"this board cannot be profiled: {reason}")
        result = running.run(
            firmware, board, emulator, self.inputs, self.expected, self.timeout, self.progress
        )
        if not result.passed:
            raise RunError(f"the profiled run did not pass: {result.outcome.name}\n  {result.detail}")
        return result


def profile(
    program: Program, firmware: Firmware, board: Board, movables: Sequence[Movable], run: Run
) -> Profile:
    """Follow the image. movables: the model's arrays and kernels (emission.Library.movables), to name objects.

    Raises RunError when the run does not pass, or the core cannot be followed.
    """
    traced = Traced(steps=sum(not s.kernel.alias for s in program.steps))
    result = run.passed(firmware, board, traced)
    return summarize(program, firmware, board, movables, traced.traces, result)


def summarize(
    program: Program,
    firmware: Firmware,
    board: Board,
    movables: Sequence[Movable],
    traces: Sequence[Trace],
    result: RunResult,
) -> Profile:
    """The profile of one or several runs of an image (several where its input block is small)."""
    inferences = [inference for trace in traces for inference in trace.inferences]
    followed = tuple(index > 0 for trace in traces for index in range(len(trace.inferences)))
    totals = tuple(_sum([i.outside, *i.steps]) for i in inferences)
    middle = median(warm_of(totals, followed))
    shown = inferences[next(i for i, cost in enumerate(totals) if cost is middle)]
    return Profile(
        model=firmware.description.models[0].name,
        board=board,
        run_id=firmware.description.run_id,
        counted_by="unicorn",
        layers=_layers(program, shown),
        outside=_cost(shown.outside),
        totals=totals,
        followed=followed,
        cold=_cold(traces[0], totals[0], middle),
        objects=_objects(traces, movables, board, len(inferences)),
        arena_bytes=firmware.description.models[0].arena_bytes,
        stack_bytes=result.stack_bytes,
        flash_bytes=firmware.code_bytes,
        sram_bytes=firmware.ram_bytes,
        regions=occupancy(firmware, board),
    )


def _layers(program: Program, inference: Inference) -> tuple[Layer, ...]:
    counts = iter(inference.steps)
    return tuple(
        layer_of(i, step, NOTHING if step.kernel.alias else _cost(next(counts)))
        for i, step in enumerate(program.steps)
    )


def layer_of(index: int, step: Step, cost: Cost) -> Layer:
    b = step.bound
    kernel = ALIAS if step.kernel.alias else step.kernel.name
    return Layer(index, b.name, b.node.op, kernel, ops.get(b.node.op).macs(b), cost)


def _cost(c: Counts) -> Cost:
    return Cost(c.instructions, c.total, c.cycles, c.fetch, c.data, c.apart_total, c.read, c.written)


def _sum(counts: Sequence[Counts]) -> Cost:
    costs = [_cost(c) for c in counts]
    regions = {name for c in costs for name in c.read}
    added = {
        name: sum(getattr(c, name) for c in costs)
        for name in (
            "instructions",
            "cycles",
            "zero_wait_cycles",
            "fetch_stalls",
            "data_stalls",
            "unpinned_cycles",
        )
    }
    read, written = (
        {r: sum(getattr(c, name)[r] for c in costs) for r in sorted(regions)} for name in ("read", "written")
    )
    return Cost(**added, read=read, written=written)


def _cold(trace: Trace, first: Cost, warm: Cost) -> Cold:
    assert warm.cycles is not None and warm.unpinned_cycles is not None and first.cycles is not None
    saved = warm.unpinned_cycles - warm.cycles
    pays = -(-trace.copy_cycles // saved) if trace.copy_cycles and saved > 0 else None
    return Cold(trace.startup.total, trace.copy_cycles, first.cycles, pays)


def _objects(
    traces: Sequence[Trace], movables: Sequence[Movable], board: Board, inferences: int
) -> tuple[Object, ...]:
    """Every array and kernel of the model, per inference; the start-up copy's reads are not counted."""
    found = []
    for movable in movables:
        rows = [t for trace in traces for t in trace.touched if movable.owns(t.symbol)]
        if rows:  # else the linker dropped it: nothing reads it
            found.append(_object(movable, rows, len(traces), board, inferences))
    return tuple(sorted(found, key=lambda o: (-o.stalls, -o.unpinned_stalls, -o.bytes_read, o.symbol)))


def _object(movable: Movable, rows: Sequence[Touched], traces: int, board: Board, inferences: int) -> Object:
    """rows: of every part in every trace."""
    place = next(row for row in rows if row.symbol == movable.symbol)
    region = next(r for r in board.regions if r.origin <= place.address < r.end)
    read, stalls, apart = (
        round(sum(getattr(row, name) for row in rows) / inferences) for name in ("read", "stalls", "apart")
    )
    return Object(
        symbol=place.symbol,
        layer=movable.layer,
        role=movable.role,
        region=region.name,
        bytes=sum(row.size for row in rows) // traces,
        bytes_read=read,
        stalls=stalls,
        unpinned_stalls=apart,
        pinned=region.writable,
    )
