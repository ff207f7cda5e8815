"""What a candidate costs on a board, asked of the real planner and of the cycle model.

estimate() takes milliseconds: sizes are the compiler's own, cycles come from formulas (cycle_formulas.py) that
calibrate() fits to followed images of this very model. measure() builds the image and follows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinygen.boards import Board
from tinygen.budgets import Budgets
from tinygen.channels import groups
from tinygen.cycles.cores import TIMINGS
from tinygen.errors import BoardError
from tinygen.graph import Graph
from tinygen.profiling import Profile
from tinygen.pruning import cycle_formulas, measuring
from tinygen.pruning.cycle_formulas import Formulas, Point
from tinygen.pruning.lowering import Key, Lowered, key_of, lower
from tinygen.pruning.measuring import Measured
from tinygen.pruning.records import Cost, LayerCost, Resource
from tinygen.pruning.shrinking import shrunk
from tinygen.pruning.uniform import Families
from tinygen.wishes import NONE, Wishes

VARIANTS = ((1.0, False), (0.75, False), (0.55, True), (0.35, True))
"""(share of channels, odd number of them) of the models that formulas are fitted to."""
LEFT_OUT = (0.65, False)
"""The one that tells their error."""
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


class Costs:
    """Costs on one board with the user's wishes for pinning. Answers are kept: equal shapes are asked once."""

    def __init__(self, board: Board, wishes: Wishes = NONE) -> None:
        self.board, self.wishes = board, wishes
        self.formulas: Formulas | None = None
        self._lowered: dict[Key, Lowered] = {}
        self._measured: dict[Key, Measured | None] = {}

    @property
    def modelled(self) -> bool:
        """True where the core has a cycle model."""
        return self.board.cpu in TIMINGS

    def within(self, budget_sram: int | None) -> Costs:
        """The same with an SRAM budget for what is pinned: --pin auto fills up to it and no further."""
        costs = Costs(self.board, replace(self.wishes, budget_sram=budget_sram))
        costs.formulas = self.formulas
        return costs

    def lower(self, graph: Graph) -> Lowered:
        """The candidate as it would be compiled."""
        key = key_of(graph)
        if key not in self._lowered:
            self._lowered[key] = lower(graph, self.board, self.wishes)
        return self._lowered[key]

    def estimate(self, graph: Graph) -> Cost:
        """The cost of a float or int8 graph. cycles: None before calibrate(), and on cores without a cycle model."""
        lowered = self.lower(graph)
        if self.formulas is None:
            return lowered.cost(None)
        return lowered.cost(self.formulas.layers(lowered), self.formulas.outside)

    def measure(self, graph: Graph) -> Cost:
        """The cost of the linked image, followed for a cold and a warm inference on random inputs.

        An image that does not fit the board cannot be built: its estimate is given then (measured=False).
        """
        key, lowered = key_of(graph), self.lower(graph)
        if key not in self._measured:
            self._measured[key] = _measured(lowered)
        made = self._measured[key]
        return self.estimate(graph) if made is None else _cost(lowered, made)

    def calibrate(self, graph: Graph, variants: Sequence[tuple[float, bool]] = VARIANTS) -> Accuracy:
        """Fit the formulas to the model and narrower variants of it, and tell their error on another variant."""
        if not self.modelled:
            return Accuracy(None, {}, 0, (f"no cycles are modelled for {self.board.cpu}",))
        families = Families.of(groups(graph))
        followed = [f for v in variants if (f := self._follow(graph, families, v)) is not None]
        if not followed:
            return Accuracy(None, {}, 0, (f"no variant fits '{self.board.name}': cycles are not estimated",))
        points = [p for lowered, profile in followed for p in _points(lowered, profile)]
        outside = sum(profile.outside.cycles or 0 for _, profile in followed) / len(followed)
        self.formulas = cycle_formulas.fit(points, outside)
        return self._accuracy(self._follow(graph, families, LEFT_OUT), len(followed))

    def _follow(
        self, graph: Graph, families: Families, variant: tuple[float, bool]
    ) -> tuple[Lowered, Profile] | None:
        """A variant's profile; None where it does not fit the board."""
        narrower = shrunk(graph, families.without(*variant))
        key, lowered = key_of(narrower), self.lower(narrower)
        if key not in self._measured:
            self._measured[key] = _measured(lowered)
        made = self._measured[key]
        return (lowered, made.profile) if made is not None and made.profile is not None else None

    def _accuracy(self, left_out: tuple[Lowered, Profile] | None, measured: int) -> Accuracy:
        assert self.formulas is not None
        guessed = self.formulas.layers(left_out[0]) if left_out else None
        if left_out is None or guessed is None:
            return Accuracy(None, {}, measured, ("the formulas' error could not be measured",))
        taken = {layer.name: float(layer.cost.cycles or 0) for layer in left_out[1].layers}
        error = (sum(guessed.values()) + self.formulas.outside) / float(left_out[1].worst.cycles or 1) - 1.0
        layers = {name: guessed[name] / cycles - 1.0 for name, cycles in taken.items() if cycles}
        told = f"estimated cycles are {error:+.1%} off on a variant with {LEFT_OUT[0]:.0%} of the channels"
        return Accuracy(error, layers, measured + 1, (told,) if abs(error) > TOLERATED else ())


def _measured(lowered: Lowered) -> Measured | None:
    """None where the image does not fit the board."""
    try:
        return measuring.measure(lowered)
    except BoardError:
        return None


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
    cycles = _layer_cycles(made.profile) if made.profile else None
    estimate = lowered.cost(cycles)
    total = float(made.profile.worst.cycles or 0) if made.profile else None
    ms = None if total is None else 1000.0 * total / lowered.board.clock_hz
    return replace(estimate, flash=made.flash, sram=made.sram, cycles=total, ms=ms, measured=True)


def _layer_cycles(profile: Profile) -> dict[str, float]:
    return {layer.name: float(layer.cost.cycles or 0) for layer in profile.layers}


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
