"""What a float graph would take on a board: sizes from the memory planner, cycles from formulas fitted to profiles.

`measure` builds the int8 image and follows it, in seconds; `estimate` asks planner and formulas, in milliseconds.
Sizes do not depend on trained values, so ranges are made up (fit.assumed_int8).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from tinygen import bundle, ops, pipeline
from tinygen.boards import Board
from tinygen.budgets import Budgets
from tinygen.cycles.cores import TIMINGS
from tinygen.emission import Library
from tinygen.errors import BoardError
from tinygen.fit import Fitter
from tinygen.flash import flash_shares
from tinygen.graph import Array, Graph
from tinygen.placement import fixed_bytes
from tinygen.planning import MemoryPlan
from tinygen.profile_api import follow
from tinygen.profiling import Profile
from tinygen.program import Program, Step
from tinygen.project import write_project
from tinygen.pruning.records import Cost, LayerCost
from tinygen.samples import Options as SampleOptions
from tinygen.wishes import Wishes

INPUTS = 2
"""A cold inference and a warm one: kernels do not depend on data, but for a few branches of the requantization."""


@dataclass
class Costs:
    """One board and its wishes. Every profile makes the formulas better, so equal runs must ask in equal order."""

    board: Board
    wishes: Wishes
    budgets: Budgets = field(default_factory=Budgets)
    _seen: dict[str, list[tuple[Array, float]]] = field(default_factory=dict)
    _known: dict[tuple[object, ...], Cost] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        """Cycles are modelled for this core."""
        return self.board.cpu in TIMINGS

    def estimate(self, graph: Graph) -> Cost:
        """Of a float graph, without building it. Never raises for a model that does not fit."""
        key = _shapes(graph)
        if key not in self._known:
            self._known[key] = self._cost(Fitter(graph), None)
        return self._known[key]

    def measure(self, graph: Graph) -> Cost:
        """Of a float graph, or an int8 one: built and profiled where it fits the board, else estimated."""
        fitter = Fitter(graph)
        profile = self._profile(fitter.graph)
        if profile is None:
            return self._cost(fitter, None)
        program = fitter.planned(self.board)[1]
        for step, layer in zip(program.steps, profile.layers, strict=True):
            if layer.cost.cycles is not None and not step.kernel.alias:
                self._seen.setdefault(step.kernel.name, []).append(
                    (_features(step), float(layer.cost.cycles))
                )
        self._known.clear()
        return self._cost(fitter, profile)

    # ---- sizes

    def _cost(self, fitter: Fitter, profile: Profile | None) -> Cost:
        _, program, memory = fitter.planned(self.board)
        library = fitter.library(self.board)
        pinned = self._pinned(library)
        cycles = None if not self.timed else self._cycles(program, profile)
        total = None if cycles is None else sum(cycles) + (profile.outside.cycles or 0 if profile else 0)
        live = _live(memory, len(program.steps))
        rows = zip(program.steps, cycles or [0.0] * len(program.steps), live, strict=True)
        return Cost(
            board=self.board.name,
            arena=memory.arena_bytes,
            pinned=pinned,
            sram=memory.arena_bytes + pinned + fixed_bytes(self.board, library.variable_bytes),
            flash=sum(s.needed for s in flash_shares(library, self.board, self.wishes.weights)),
            weights=library.constant_bytes,
            macs=sum(ops.get(s.bound.node.op).macs(s.bound) for s in program.steps),
            cycles=total,
            ms=None if total is None else 1000.0 * total / self.board.clock_hz,
            measured=profile is not None,
            layers=tuple(_layer(step, took, bytes_) for step, took, bytes_ in rows),
        )

    def _pinned(self, library: Library) -> int:
        """Bytes of arrays that must be in SRAM: all with --pin all; with auto none has to be."""
        if self.wishes.pin != "all":
            return 0
        return sum(m.traffic.footprint for m in library.movables if not m.is_code)

    # ---- cycles

    def _profile(self, int8: Graph) -> Profile | None:
        """A profile of the int8 graph on the board; None where it does not fit or no cycles are modelled.

        With --pin all of what does not fit, weights are where there is room: as it would run today.
        """
        if not self.timed:
            return None
        for wishes in (self._limited(), replace(self.wishes, pin="auto", pin_code="auto")):
            options = pipeline.Options(wishes=wishes)
            try:
                compiled = pipeline.lower(int8, self.board, options)
                manifest = bundle.manifest_of(None, None, [self.board], options, SampleOptions())
                project = bundle.make_project([compiled], [self.board], manifest, None, options)
            except BoardError:
                continue
            with tempfile.TemporaryDirectory(prefix="tinygen-cost-") as folder:
                path = Path(folder) / "project"
                write_project(project, path)
                inputs = bundle.random_inputs(int8, INPUTS)
                return follow(path, bundle.load_project(path), inputs)
        return None

    def _limited(self) -> Wishes:
        """Pins take what the budgets leave them."""
        return replace(self.wishes, budget_sram=self.budgets.sram, budget_flash=self.budgets.flash)

    def _cycles(self, program: Program, profile: Profile | None) -> list[float]:
        """Cycles of each layer: as profiled, or by the formula of its kernel."""
        if profile is not None:
            return [float(layer.cost.cycles or 0) for layer in profile.layers]
        formulas = self._formulas()
        return [0.0 if s.kernel.alias else _by_formula(s, formulas) for s in program.steps]

    def _formulas(self) -> Mapping[str, Array]:
        """Kernel -> coefficients of _features, none negative, from all profiles so far; relative errors count."""
        found = {}
        for kernel, rows in self._seen.items():
            features = np.stack([row / took for row, took in rows if took > 0])
            found[kernel] = nnls(features, np.ones(len(features)))[0]
        return found


def _by_formula(step: Step, formulas: Mapping[str, Array]) -> float:
    """A kernel that no profile has seen costs what its operator's file says."""
    if step.kernel.name not in formulas:
        return float(step.kernel.cost(step.bound))
    return float(_features(step) @ formulas[step.kernel.name])


def _features(step: Step) -> Array:
    """(3,) what a kernel's time is made of: the call, elements that come and go, multiply-accumulates."""
    b = step.bound
    elements = b.output.elements + b.inputs[0].elements
    return np.array([1.0, elements, ops.get(b.node.op).macs(b)], np.float64)


def _live(memory: MemoryPlan, steps: int) -> list[int]:
    """Bytes of the arena in use during each step."""
    return [sum(b.size for b in memory.buffers if b.first <= t <= b.last) for t in range(steps)]


def _layer(step: Step, cycles: float, live: int) -> LayerCost:
    return LayerCost(step.bound.name, ops.get(step.bound.node.op).macs(step.bound), cycles, live)


def _shapes(graph: Graph) -> tuple[object, ...]:
    """What sizes depend on."""
    return tuple((name, t.shape) for name, t in graph.tensors.items())
