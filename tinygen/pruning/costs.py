"""What a candidate costs on a board, asked of the real planner and of the cycle model.

estimate() takes milliseconds: sizes are the compiler's own, cycles come from formulas (cycle_formulas.py) that
calibrate() fits to followed images of this very model. measure() builds the image and follows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tinygen.boards import Board
from tinygen.budgets import Budgets
from tinygen.channels import groups
from tinygen.cycles.cores import TIMINGS
from tinygen.errors import BoardError
from tinygen.fit import Fitter
from tinygen.graph import Graph
from tinygen.profiling import Profile
from tinygen.pruning import cycle_formulas, measuring, multiples
from tinygen.pruning.cycle_formulas import Formulas, Point
from tinygen.pruning.lowering import Key, Lowered, key_of, lower
from tinygen.pruning.measuring import Measured
from tinygen.pruning.records import Cost, LayerCost, Resource
from tinygen.pruning.shrinking import shrunk
from tinygen.pruning.uniform import Families
from tinygen.selection import DEFAULT, Choice
from tinygen.wishes import NONE, Wishes

VARIANTS = ((1.0, False), (0.75, False), (0.55, True), (0.35, True), (0.2, False))
"""(share of channels, odd number of them) of the models that formulas are fitted to."""
LEFT_OUT = ((0.65, False), (0.45, False), (0.25, False))
"""The first of them that fits the board tells their error."""
TOLERATED = 0.05
"""Relative error of an inference's cycles beyond which a warning is due."""


@dataclass(frozen=True)
class Accuracy:
    """error: of an inference's cycles on the variant left out, relative, with its sign; None where it could not be
    measured. layers: the same by layer. measured: images that were followed; warnings: in words."""

    error: float | None
    layers: Mapping[str, float]
    measured: int
    warnings: tuple[str, ...]


@dataclass
class Costs:
    """Costs on one board with the user's wishes for pinning; budgets: what pinning has to leave room for.

    Every image that is followed makes the formulas better, so equal runs must ask in equal order. Equal shapes are
    asked once; fitters may be shared by the costs of several boards.
    """

    board: Board
    wishes: Wishes = NONE
    budgets: Budgets = field(default_factory=Budgets)
    choice: Choice = DEFAULT
    fitters: dict[Key, Fitter] = field(default_factory=dict, repr=False)
    _lowered: dict[tuple[Key, Budgets], Lowered] = field(default_factory=dict, repr=False)
    _measured: dict[tuple[Key, Budgets], Measured | None] = field(default_factory=dict, repr=False)
    _formulas: Formulas | None = field(default=None, repr=False)

    @property
    def timed(self) -> bool:
        """True where the core has a cycle model."""
        return self.board.cpu in TIMINGS

    @property
    def followed(self) -> bool:
        """True when an image was followed: cycles are more than the operators' rough figures then."""
        return any(m and m.profile for m in self._measured.values())

    def lower(self, graph: Graph) -> Lowered:
        """The candidate as it would be compiled."""
        key = (key_of(graph), self.budgets)
        if key not in self._lowered:
            wishes = replace(self.wishes, budget_sram=self.budgets.sram, budget_flash=self.budgets.flash)
            if key[0] not in self.fitters:
                self.fitters[key[0]] = Fitter(graph, choice=self.choice)
            timed = (self.budgets.cycles, self.budgets.ms)
            banded = all(amount is None for amount in timed)  # bands take more calls, and move rows
            self._lowered[key] = lower(self.fitters[key[0]], self.board, wishes, banded)
        return self._lowered[key]

    def estimate(self, graph: Graph) -> Cost:
        """The cost of a float or int8 graph, in milliseconds; never raises for one that does not fit.

        Before calibrate() or measure() cycles are what the operators' files say: good to a factor of 2.
        """
        lowered = self.lower(graph)
        if not self.timed:
            return lowered.cost(None)
        formulas = self.formulas
        return lowered.cost(formulas.layers(lowered), formulas.outside)

    def measure(self, graph: Graph) -> Cost:
        """The cost of the linked image, followed for a cold and a warm inference on random inputs.

        An image that does not fit the board cannot be built: its estimate is given then (measured=False).
        """
        made = self._follow(graph)
        return self.estimate(graph) if made is None else _cost(self.lower(graph), made)

    @property
    def formulas(self) -> Formulas:
        """Fitted to all that was followed so far."""
        if self._formulas is None:
            seen = [(self._lowered[key], m.profile) for key, m in self._measured.items() if m and m.profile]
            points = [point for lowered, profile in seen for point in _points(lowered, profile)]
            outside = [float(profile.outside.cycles or 0) for _, profile in seen]
            self._formulas = cycle_formulas.fit(points, sum(outside) / max(len(outside), 1))
        return self._formulas

    def multiple(self, graph: Graph, layer: str) -> int:
        """The number whose multiples the layer's kernel likes, by measured cycles: multiples.py."""
        return multiples.multiple(graph, layer, self.board, self.wishes) if self.timed else 1

    def calibrate(self, graph: Graph, variants: Sequence[tuple[float, bool]] = VARIANTS) -> Accuracy:
        """Fit the formulas to the model and narrower variants of it, and tell their error on another variant."""
        if not self.timed:
            return Accuracy(None, {}, 0, (f"no cycles are modelled for {self.board.cpu}",))
        families = Families.of(groups(graph))
        made = [self._follow(shrunk(graph, families.without(*v))) for v in variants]
        count = sum(m is not None for m in made)
        if not count:
            return Accuracy(
                None, {}, 0, (f"no variant fits '{self.board.name}': cycles are rough estimates",)
            )
        for variant in LEFT_OUT:
            narrower = shrunk(graph, families.without(*variant))
            guess, real = self.estimate(narrower), self.measure(narrower)
            if real.measured and guess.cycles and real.cycles:
                return _accuracy(guess, real, count, variant[0])
        return Accuracy(None, {}, count, ("the formulas' error could not be measured",))

    def _follow(self, graph: Graph) -> Measured | None:
        """What was measured of the image; None where it does not fit the board."""
        key, lowered = (key_of(graph), self.budgets), self.lower(graph)
        if key not in self._measured:
            try:
                self._measured[key] = measuring.measure(lowered)
            except BoardError:
                self._measured[key] = None
            self._formulas = None
        return self._measured[key]


def _accuracy(guess: Cost, real: Cost, count: int, share: float) -> Accuracy:
    """How far an estimate was from what was measured then."""
    assert guess.cycles and real.cycles
    error = guess.cycles / real.cycles - 1.0
    pairs = zip(guess.layers, real.layers, strict=True)
    layers = {g.name: g.cycles / r.cycles - 1.0 for g, r in pairs if r.cycles}
    told = f"estimated cycles are {error:+.1%} off on a variant with {share:.0%} of the channels"
    return Accuracy(error, layers, count + 1, (told,) if abs(error) > TOLERATED else ())


def _points(lowered: Lowered, profile: Profile) -> list[Point]:
    return [
        Point(
            layer.name,
            layer.kernel,
            cycle_formulas.features(step, lowered),
            float(layer.cost.cycles or 0),
        )
        for step, layer in zip(lowered.program.steps, profile.layers, strict=True)
        if not step.kernel.alias
    ]


def _cost(lowered: Lowered, made: Measured) -> Cost:
    """The estimate with what was measured in its place."""
    profile = made.profile
    cycles = {layer.name: float(layer.cost.cycles or 0) for layer in profile.layers} if profile else None
    total = float(profile.worst.cycles or 0) if profile else None
    ms = None if total is None else 1000.0 * total / lowered.board.clock_hz
    guess = lowered.cost(cycles)
    return replace(
        guess, flash=made.flash, sram=_sram(lowered, made, guess), cycles=total, ms=ms, measured=True
    )


def _sram(lowered: Lowered, made: Measured, guess: Cost) -> int:
    """What the image takes without what need not be pinned: its code is estimated, so all that is pinned gives way to
    what must be. An image that has not all that is wished says nothing."""
    if not lowered.as_wished:
        return guess.sram
    return made.sram - made.pinned + guess.pinned if lowered.extra else made.sram


# ---- budgets


def over(cost: Cost, budgets: Budgets) -> dict[Resource, float]:
    """Amount / budget of every resource that exceeds its budget, the worst first."""
    amounts = {name: (cost.of(name), allowed) for name, allowed in budgets.given()}  # type: ignore[arg-type]
    ratios = {name: amount / allowed for name, (amount, allowed) in amounts.items() if amount is not None}
    worst = sorted((n for n, r in ratios.items() if r > 1.0), key=lambda n: -ratios[n])
    return {name: ratios[name] for name in worst}  # type: ignore[misc]


def peaks(cost: Cost) -> tuple[LayerCost, ...]:
    """The layers at which the arena is fullest: to need less of it, all of them must shrink."""
    most = max((layer.live for layer in cost.layers), default=0)
    return tuple(layer for layer in cost.layers if layer.live == most)
