"""Does a model fit a board? Answered in seconds, before anything is generated and before a Keras model is trained.

Sizes of int8 tensors, of the arena and of code depend on shapes, not on trained values: a float model is quantized
with made-up samples and plain min-max ranges. What a real compile may change: docs/boards.md, "Does it fit?".
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tinygen import bands, ops, pipeline, spec
from tinygen.boards import Board
from tinygen.budgets import NO_BUDGETS, Budgets
from tinygen.calibration import calibrate
from tinygen.code_size import Encoding, encoding_of
from tinygen.decisions import Activations
from tinygen.decisions import Options as QuantizationOptions
from tinygen.emission import Library, emit_library
from tinygen.errors import BoardError, DataError
from tinygen.firmware import check_guard, needs_of
from tinygen.flash import Shares, flash_shares, limited, verdict
from tinygen.fusion import fuse
from tinygen.graph import Graph
from tinygen.placement import Needs, Placement, fixed_bytes, place, rooms
from tinygen.planning import MemoryPlan, plan
from tinygen.program import Program, select
from tinygen.quantization import quantize
from tinygen.samples import Samples
from tinygen.selection import DEFAULT, Choice
from tinygen.wishes import Wishes

if TYPE_CHECKING:
    from tinygen.pruning.reach import Reach

SAMPLES = 2
"""Made-up samples: ranges must exist, what they are does not matter."""
ENDS = ((-1.0, 1.0), (0.0, 1.0), (0.5, 1.0))
"""Ranges of made-up samples, tried in turn until every activation is a finite number."""


@dataclass(frozen=True)
class Fit:
    """One board's answer. flash: of the code region; weights: of the region that the weights have to themselves, None
    where they are in flash; sram: all writable memory. pinned: bytes of weights and tables that are copied into faster
    memory, pinned_code: estimated bytes of kernels.

    arena_over: bytes by which the arena is too large. reasons: why it does not fit, in words; advice: what would make
    it fit; both empty where it fits. reach: what pruning could do then, None where that was not asked. banded: it fits
    in bands of rows only (bands.py).
    """

    board: Board
    flash: Shares
    weights: Shares | None
    sram: Shares
    constants: int
    pinned: int
    pinned_code: int
    placement: Placement | None
    arena_over: int
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    reach: Reach | None = None
    banded: bool = False

    @property
    def fits(self) -> bool:
        """True when the firmware fits the board and the budgets."""
        return not self.reasons

    @property
    def read_only(self) -> tuple[Shares, ...]:
        """What the regions for code and weights would hold, one or two."""
        return (self.flash,) if self.weights is None else (self.flash, self.weights)

    @property
    def pinned_share(self) -> float:
        """Pinned weights and tables / all of them."""
        return self.pinned / max(self.constants, 1)


@dataclass(frozen=True)
class Sized:
    """A model without a board. Bytes; peak: name of the layer where the arena is fullest; exact: False where ranges
    were made up."""

    arena: int
    constants: int
    record: int
    macs: int
    layers: int
    peak: str
    exact: bool
    precision: str = "int8"


def assumed_int8(graph: Graph, activations: Activations = "int8") -> Graph:
    """The int8 graph of a float graph with ranges from made-up samples: right in every size, not in its numbers.

    activations: of layers that have an int16 form.
    Raises DataError when no made-up samples keep all activations finite.
    """
    fused = spec.check(fuse(spec.check(graph, quantized=False)), quantized=False)
    problem: DataError | None = None
    for low, high in ENDS:
        random = np.random.default_rng(0)
        x = tuple(
            random.uniform(low, high, (SAMPLES, *t.shape)).astype(np.float32) for t in fused.input_tensors
        )
        try:
            calibration = calibrate(fused, Samples(x))
        except DataError as error:
            problem = error
            continue
        options = QuantizationOptions("min-max", "off", "off", activations=activations)
        return quantize(fused, calibration, options).graph
    assert problem is not None
    raise problem


class Fitter:
    """A model against boards. Programs that are equal on several boards are planned and emitted once."""

    def __init__(
        self,
        graph: Graph,
        name: str = "model",
        precision: pipeline.Precision = "int8",
        choice: Choice = DEFAULT,
    ) -> None:
        self.choice, self.precision = choice, precision
        self.exact = pipeline.is_quantized(graph) or precision == "float32"
        self.graph = pipeline.float_program(graph) if precision == "float32" else self._int8(graph)
        self.name = name
        self.kernels: dict[Board | None, tuple[str, ...]] = {}
        self.plans: dict[tuple[str, ...], tuple[Program, MemoryPlan]] = {}
        self.libraries: dict[tuple[tuple[str, ...], Encoding], Library] = {}

    def _int8(self, graph: Graph) -> Graph:
        final = pipeline.final(graph if self.exact else assumed_int8(graph), proven=self.exact)
        return bands.smallest(final) if self.choice.optimize == "size" else final

    @cached_property
    def banded(self) -> tuple[Fitter, ...]:
        """The model in bands of rows, from few nodes to many, for boards that it does not fit in another way."""
        return (
            () if self.precision == "float32" else tuple(map(self._arranged, bands.arrangements(self.graph)))
        )

    def _arranged(self, graph: Graph) -> Fitter:
        made = copy(self)
        made.graph, made.banded = graph, ()
        made.kernels, made.plans, made.libraries = {}, {}, {}
        return made

    def planned(self, board: Board | None) -> tuple[tuple[str, ...], Program, MemoryPlan]:
        """(kernels, program, plan) for the board."""
        if board not in self.kernels:
            program = select(self.graph, board, self.choice)
            key = tuple(step.kernel.name for step in program.steps)
            if key not in self.plans:
                self.plans[key] = program, plan(program)
            self.kernels[board] = key
        return self.kernels[board], *self.plans[self.kernels[board]]

    def library(self, board: Board) -> Library:
        """The model's library as it would be emitted for the board."""
        key, program, memory = self.planned(board)
        encoding = encoding_of(board.cpu)
        if (key, encoding) not in self.libraries:
            self.libraries[key, encoding] = emit_library(program, memory, self.name, encoding=encoding)
        return self.libraries[key, encoding]

    def sized(self, board: Board) -> Sized:
        """What the model needs whatever surrounds it."""
        _, program, memory = self.planned(board)
        library = self.library(board)
        macs = ops.macs(s.bound for s in program.steps)
        return Sized(
            memory.arena_bytes,
            library.constant_bytes,
            needs_of([library]).record,
            macs,
            len(program.steps),
            peak(program, memory),
            self.exact,
            library.precision,
        )

    def fit(self, board: Board, budgets: Budgets = NO_BUDGETS, weights: str | None = None) -> Fit:
        """The board's answer. Never raises for a model that does not fit. weights: the region that is their home, None
        for that of the code."""
        plain = self._fit(board, budgets, weights)
        if plain.fits or not plain.arena_over:
            return plain

        def attempt(fitter: Fitter) -> Fit | None:
            banded = fitter._fit(board, budgets, weights)
            return replace(banded, banded=True) if banded.fits else None

        return bands.cheapest(self.banded, attempt) or plain

    def _fit(self, board: Board, budgets: Budgets, weights: str | None) -> Fit:
        library = self.library(board)
        needs = needs_of([library])
        board = limited(board, budgets.flash)
        flash, *own = flash_shares(library, board, weights)
        told = [v for s in (flash, *own) if (v := verdict(s, board, budgets.flash))]
        reasons, advice = tuple(why for why, _ in told), tuple(what for _, what in told)
        placement: Placement | None = None
        over = 0
        try:
            check_guard(board)
            placement = place(needs, board, Wishes(budget_sram=budgets.sram, weights=weights))
        except BoardError as problem:
            over, why, what = _sram_verdict(needs, board, budgets, self.sized(board).peak, problem)
            reasons, advice = (*reasons, why), (*advice, *what)
        pins = placement.pins if placement else ()
        return Fit(
            board,
            flash,
            own[0] if own else None,
            sram_shares(needs, board, budgets),
            library.constant_bytes,
            sum(p.movable.traffic.footprint for p in pins if not p.movable.is_code),
            sum(p.movable.traffic.footprint for p in pins if p.movable.is_code),
            placement,
            over,
            reasons,
            advice,
        )


def peak(program: Program, memory: MemoryPlan) -> str:
    """Name of the layer during which most bytes of the arena are in use."""
    steps = range(len(program.steps))
    return program.steps[max(steps, key=memory.live)].bound.name if program.steps else ""


def sram_shares(needs: Needs, board: Board, budgets: Budgets = NO_BUDGETS) -> Shares:
    """What writable memory would hold. The inputs of one sample are the test firmware's, in no budget of the user's."""
    parts = [("arena", needs.arena), ("stacks and variables", fixed_bytes(board))]
    room = sum(r.length for r in board.writable)
    if budgets.sram is not None:
        return Shares(tuple(parts), min(room, budgets.sram))
    parts += [("inputs of one sample", needs.record), ("application", board.reserved.application)]
    return Shares(tuple(p for p in parts if p[1]), room)


# ---- verdicts in words


def _sram_verdict(
    needs: Needs, board: Board, budgets: Budgets, layer: str, problem: BoardError
) -> tuple[int, str, tuple[str, ...]]:
    """(bytes by which the arena is too large, why, what would help)."""
    room = rooms(board)
    if budgets.sram is not None and needs.arena + fixed_bytes(board) > budgets.sram:
        largest, where = budgets.sram - fixed_bytes(board), "--budget-sram leaves"
    else:
        name = max(room, key=lambda region: room[region])
        largest, where = room[name], f"region '{name}' leaves"
        if needs.arena <= largest:  # alone it would fit
            largest = max(largest, sum(room.values())) - needs.record
            where = "beside the inputs of one sample the board leaves"
    if needs.arena <= largest:
        return 0, str(problem).splitlines()[0], ()
    over = needs.arena - largest
    why = f"{where} {max(largest, 0):,} bytes, the arena needs {needs.arena:,}: {over:,} too many"
    if largest <= 0:
        return over, why, ("a board with more SRAM",)
    share = 100 * largest / needs.arena
    return (
        over,
        why,
        (f"shrink the activations at layer '{layer}' (fullest) to {share:.0f} %: fewer channels or pixels",),
    )


def smallest(fits: Sequence[Fit]) -> Fit | None:
    """Of the boards that fit that with the least SRAM, then flash; None when none does."""
    good = [f for f in fits if f.fits]

    def size(fit: Fit) -> tuple[int, int, str]:
        return sum(r.length for r in fit.board.writable), fit.board.code.length, fit.board.name

    return min(good, key=size, default=None)
