"""Which channel groups go in one step: those that cost least loss for what they save of the budgets that bind.

Pure: what a choice costs on the board and what it loses are asked of `Oracle`, which the driver fills with the memory
planner, the cycle model and the masked network (costs.py, masks.py). Groups are indices into one list; a family
is a layer, or layers that share their channels, with its groups in the order in which they would go.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tinygen.budgets import Budgets
from tinygen.pruning.records import Cost, Resource

FRACTIONS = (0.125, 0.25, 0.5, 0.75)
"""Shares of a family at which its sensitivity is measured."""
CHUNKS = 8
"""A family is taken in so many portions."""
KEPT = 0.125
"""Share of a family that stays in any case, and of what a step finds half."""
SHARPNESS = 16
"""Exponent of the norm that stands for the arena's maximum: where several layers tie for the peak, shrinking one
of them lowers the norm, but not the maximum."""
LEAST_LOSS = 1e-9
"""Added to every loss, so that of free channels those go first that save most."""


@dataclass(frozen=True)
class Family:
    """order: group indices, the least important first. multiple: the number that should be left is one of it."""

    name: str
    order: tuple[int, ...]
    multiple: int = 1

    @property
    def most(self) -> int:
        """Groups that may go in one step: half of them, and never all."""
        return min(len(self.order) - 1, max(1, len(self.order) // 2))

    def portion(self, gone: int) -> int:
        """Groups that go after so many: about 1/CHUNKS of the family, up to the next good multiple; 0: none left."""
        left = len(self.order) - gone
        wanted = left - max(1, len(self.order) // CHUNKS)
        good = wanted - wanted % self.multiple if wanted >= self.multiple else wanted
        return max(0, min(left - good, self.most - gone))


@dataclass(frozen=True)
class Curve:
    """Sensitivity of a family: mean loss when its first groups go. counts ascend from 0; losses never fall."""

    family: Family
    counts: tuple[int, ...]
    losses: tuple[float, ...]

    def at(self, gone: int) -> float:
        """Loss when the first `gone` groups go, between measurements by a straight line."""
        return float(np.interp(gone, self.counts, self.losses))


@dataclass(frozen=True)
class Oracle:
    """Of the model without these groups. cost: estimated; loss: mean distance from the teacher, untrained."""

    cost: Callable[[frozenset[int]], Cost]
    loss: Callable[[frozenset[int]], float]


@dataclass(frozen=True)
class Plan:
    """What goes in a step. counts: family -> groups; predicted: sum of the curves; how: the rule that chose."""

    how: str
    groups: frozenset[int]
    counts: Mapping[str, int]
    cost: Cost
    predicted: float


# ---- budgets


def ratios(cost: Cost, budgets: Budgets) -> dict[Resource, float]:
    """Amount / budget of every resource that has a budget and an amount."""
    found: dict[Resource, float] = {}
    for name, allowed in budgets.given():
        amount = cost.of(name)  # type: ignore[arg-type]
        if amount is not None:
            found[name] = amount / allowed  # type: ignore[index]
    return found


def excess(cost: Cost, budgets: Budgets) -> float:
    """Sum of log(amount / budget) over the budgets that are not met: 0 when all are."""
    return sum(max(0.0, math.log(max(r, 1e-9))) for r in ratios(cost, budgets).values())


def worst(cost: Cost, budgets: Budgets) -> float:
    """log(amount / budget) of the budget that is exceeded most; 0 when all are met."""
    return max((math.log(r) for r in ratios(cost, budgets).values() if r > 1), default=0.0)


def binding(cost: Cost, budgets: Budgets) -> Resource | None:
    """The budget that is exceeded most; None when all are met."""
    over = [(ratio, name) for name, ratio in ratios(cost, budgets).items() if ratio > 1]
    return max(over)[1] if over else None


def saved(before: Cost, after: Cost, budgets: Budgets) -> float:
    """Fall of log(amount) summed over the budgets that `before` exceeds; the arena counts by its soft maximum."""
    over = [name for name, ratio in ratios(before, budgets).items() if ratio > 1]
    return sum(math.log(_soft(before, name) / max(_soft(after, name), 1e-9)) for name in over)


def _soft(cost: Cost, resource: Resource) -> float:
    """The amount, with the arena's peak replaced by a norm of what all layers need."""
    amount = cost.of(resource)
    assert amount is not None, resource
    if resource != "sram" or not cost.layers:
        return amount
    live = np.array([layer.live for layer in cost.layers], float)
    peak = max(float(live.max()), 1.0)
    return amount - cost.arena + peak * float(np.linalg.norm(live / peak, SHARPNESS))


def comparable(budgets: Budgets, estimated: Cost, measured: Cost) -> Budgets:
    """The budgets in the units of estimates: by what the model at hand was measured, formulas are corrected."""
    changed: dict[str, float] = {}
    for name, amount in budgets.given():
        guess, real = estimated.of(name), measured.of(name)  # type: ignore[arg-type]
        if guess is not None and real:
            scaled = amount * guess / real
            changed[name] = scaled if name == "ms" else int(scaled)
    return replace(budgets, **changed)  # type: ignore[arg-type]


# ---- sensitivity


def sensitivity(
    families: Sequence[Family], loss: Callable[[frozenset[int]], float], report: Callable[[int, int], None]
) -> tuple[Curve, ...]:
    """One curve per family, measured at FRACTIONS of it."""
    base = loss(frozenset())
    found = []
    for number, family in enumerate(families):
        counts = sorted({0, *(max(1, int(f * len(family.order))) for f in FRACTIONS)} - {len(family.order)})
        losses = [base, *(loss(frozenset(family.order[:count])) for count in counts[1:])]
        found.append(Curve(family, tuple(counts), tuple(np.maximum.accumulate(losses).tolist())))
        report(number + 1, len(families))
    return tuple(found)


# ---- plans


@dataclass(frozen=True)
class _Choice:
    """Numbers of groups that go, by position of the family, with what they cost."""

    curves: Sequence[Curve]
    oracle: Oracle
    counts: tuple[int, ...]

    @cached_property
    def groups(self) -> frozenset[int]:
        return frozenset(
            g for curve, n in zip(self.curves, self.counts, strict=True) for g in curve.family.order[:n]
        )

    @cached_property
    def cost(self) -> Cost:
        return self.oracle.cost(self.groups)

    @property
    def predicted(self) -> float:
        """Losses of the families one by one, summed."""
        pairs = zip(self.curves, self.counts, strict=True)
        return sum(curve.at(count) - curve.losses[0] for curve, count in pairs)

    def with_count(self, family: int, count: int) -> _Choice:
        counts = (*self.counts[:family], count, *self.counts[family + 1 :])
        return replace(self, counts=counts)

    def plan(self, how: str) -> Plan:
        names = (curve.family.name for curve in self.curves)
        counts = {name: n for name, n in zip(names, self.counts, strict=True) if n}
        return Plan(how, self.groups, counts, self.cost, self.predicted)


def cheapest(curves: Sequence[Curve], oracle: Oracle, budgets: Budgets, target: float) -> Plan:
    """Portions by loss per saved share of the binding budgets, until `excess` is at most `target` or nothing is left.

    Lazy greedy: what a portion saves shrinks as others go, so a price that was asked earlier is a lower bound, and only
    the best of the queue is asked anew. Families that save nothing of what binds leave the queue.
    """
    choice = _Choice(curves, oracle, (0,) * len(curves))
    queue = [(-math.inf, family) for family in range(len(curves))]
    while queue and excess(choice.cost, budgets) > target:
        _, family = heapq.heappop(queue)
        price, taken = _price(choice, family, budgets)
        if price == math.inf:
            continue
        if not queue or price <= queue[0][0]:
            choice = taken
        heapq.heappush(queue, (price, family))
    return _given_back(choice, budgets, target).plan("least loss for what is saved")


def _price(choice: _Choice, family: int, budgets: Budgets) -> tuple[float, _Choice]:
    """(loss per saved share, the choice with the family's next portion); infinite where nothing goes or is saved."""
    curve, gone = choice.curves[family], choice.counts[family]
    portion = curve.family.portion(gone)
    if not portion:
        return math.inf, choice
    taken = choice.with_count(family, gone + portion)
    gain = saved(choice.cost, taken.cost, budgets)
    loss = max(0.0, curve.at(gone + portion) - curve.at(gone)) + LEAST_LOSS
    return (loss / gain if gain > 0 else math.inf), taken


def _given_back(choice: _Choice, budgets: Budgets, target: float) -> _Choice:
    """Groups that need not have gone come back, those of the dearest families first."""
    for family in sorted(range(len(choice.curves)), key=lambda f: -_last_loss(choice, f)):
        step = choice.curves[family].family.multiple
        while choice.counts[family] >= step:
            less = choice.with_count(family, choice.counts[family] - step)
            if excess(less.cost, budgets) > target:
                break
            choice = less
    return choice


def _last_loss(choice: _Choice, family: int) -> float:
    """What the last of the family's groups that go loses."""
    curve, gone = choice.curves[family], choice.counts[family]
    return curve.at(gone) - curve.at(gone - 1) if gone else 0.0


def even(
    curves: Sequence[Curve], oracle: Oracle, budgets: Budgets, target: float, spared: Set[str] = frozenset()
) -> Plan:
    """The same share of every family that is not `spared`, as small as `target` allows: bisected to about one
    channel."""

    def sharing(share: float) -> _Choice:
        families = [c.family for c in curves]
        counts = (0 if f.name in spared else min(f.most, round(share * len(f.order))) for f in families)
        return _Choice(curves, oracle, tuple(counts))

    low, high = 0.0, 1 - KEPT
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(sharing(middle).cost, budgets) <= target else (middle, high)
    return sharing(high).plan("the same share of every layer" + " but the narrowest" * bool(spared))


def narrowest(families: Sequence[Family]) -> frozenset[str]:
    """The families with the fewest groups, if at most half of the widest's: the bottleneck of an autoencoder."""
    sizes = {family.name: len(family.order) for family in families}
    least, most = min(sizes.values(), default=0), max(sizes.values(), default=0)
    return frozenset(name for name, size in sizes.items() if size == least <= most / 2)


def plans(
    curves: Sequence[Curve], oracle: Oracle, budgets: Budgets, target: float, spared: Set[str] = frozenset()
) -> Iterator[Plan]:
    """The candidates of a step, each different from the ones before. spared: families that `even` leaves."""
    seen: list[frozenset[int]] = [frozenset()]
    for plan in (cheapest(curves, oracle, budgets, target), even(curves, oracle, budgets, target, spared)):
        if plan.groups not in seen:
            seen.append(plan.groups)
            yield plan


def targets(first: float, worst: float, share: float) -> Iterator[float]:
    """What excess the steps aim at, from `first` down to 0: as many as take at most `share` of `worst`, the largest
    log(amount / budget), each. Of several budgets, what meets one mostly helps the others."""
    count = max(1, math.ceil(worst / share))
    yield from (first * (1 - (number + 1) / count) for number in range(count))
