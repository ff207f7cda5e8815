"""What pruning could reach, said before any training: the largest share of channels, kept alike everywhere, that fits.

A search keeps more where it matters and less elsewhere: this is the yardstick, not the best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tinygen.boards import Board
from tinygen.budgets import Budgets
from tinygen.channels import groups
from tinygen.errors import BudgetError
from tinygen.fit import Fit
from tinygen.flash import limited
from tinygen.graph import Graph
from tinygen.pruning.costs import Costs, over, peaks
from tinygen.pruning.records import Cost, Resource
from tinygen.pruning.shrinking import shrunk
from tinygen.pruning.uniform import Families

FOLLOWED = 0.5
"""Share of channels of the variant whose image tells how long kernels take: a quarter of the work, soon followed."""
UNITS: dict[Resource, str] = {
    "sram": "bytes of SRAM",
    "flash": "bytes of flash",
    "weights": "bytes of weights",
    "macs": "MACs",
    "cycles": "modelled cycles",
    "ms": "ms",
}


@dataclass(frozen=True)
class Reach:
    """kept: the largest share of the channels, alike everywhere, with which all is met; None: no share is enough.

    cost: estimated, with that share; or with the fewest channels, one a layer, where none is enough. left: channels
    of the largest layer then. over: what is still too much, resource -> amount / budget.
    """

    kept: float | None
    left: int
    cost: Cost
    over: dict[Resource, float]

    @property
    def words(self) -> str:
        """One line for people."""
        if self.kept is not None:
            return f"reachable: keep about {self.kept:.0%} of the channels ({_figures(self.cost)})"
        what = ", ".join(
            f"{_amount(self.cost, name)} {UNITS[name]} ({ratio:.2f} times too many)"
            for name, ratio in self.over.items()
        )
        fullest = ", ".join(layer.name for layer in peaks(self.cost)[:3])
        needs = what or f"{_figures(self.cost)}: fullest at {fullest}"
        return f"not reachable by pruning: with one channel a layer it still needs {needs}"


def reach(graph: Graph, costs: Costs, budgets: Budgets) -> Reach:
    """The answer for a float graph; budgets: absolute. Nothing is trained; seconds where time is in a budget."""
    families = Families.of(groups(graph))
    if costs.timed and (budgets.ms is not None or budgets.cycles is not None):
        costs.measure(shrunk(graph, families.without(FOLLOWED)))

    def at(left: int) -> tuple[bool, Cost]:
        narrower = shrunk(graph, families.without(left / max(families.largest, 1)))
        cost = costs.estimate(narrower)
        return costs.lower(narrower).fits and not over(cost, budgets), cost

    left = _largest(at, families.largest)
    _, cost = at(left or 0)
    kept = None if left is None else left / max(families.largest, 1)
    return Reach(kept, max(left or 0, 1), cost, over(cost, budgets))


def check(found: Reach) -> None:
    """Raise BudgetError where no model is small enough; it says what is reachable."""
    if found.kept is None:
        raise BudgetError(f"{found.words}\n  allow more, or take a larger board (tinygen fit MODEL)")


def _largest(at: Callable[[int], tuple[bool, Cost]], most: int) -> int | None:
    """The largest count that is good, None when not even 1 is: costs grow with the count."""
    if not at(min(1, most))[0]:
        return None
    good, bad = min(1, most), most + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if at(middle)[0] else (good, middle)
    return good


def _figures(cost: Cost) -> str:
    time = "" if cost.ms is None else f", about {cost.ms:,.3g} ms"
    return f"arena {cost.arena:,}, weights {cost.weights:,}, {cost.macs:,} MACs{time}"


def _amount(cost: Cost, name: Resource) -> str:
    value = cost.of(name) or 0.0
    return f"{value:,.4g}" if name == "ms" else f"{value:,.0f}"


# ---- for `tinygen fit`


def answered(fit: Fit, graph: Graph, costs: Costs, budgets: Budgets) -> Fit:
    """A board's answer with all budgets, and what pruning could reach where it does not fit."""
    if costs.timed and (budgets.ms is not None or budgets.cycles is not None):
        costs.measure(graph)
    cost = costs.estimate(graph)
    too_much = [name for name in over(cost, budgets) if name not in ("sram", "flash")]
    reasons = (*fit.reasons, *(_reason(name, cost, budgets) for name in too_much))
    unknown = [name for name, _ in budgets.given() if name in ("ms", "cycles") and not costs.timed]
    reasons += tuple(
        f"--budget-{n} cannot be checked: no cycles are modelled for {costs.board.cpu}" for n in unknown
    )
    found = reach(graph, costs, budgets) if reasons and not unknown else None
    return replace(fit, reasons=reasons, reach=found)


def _reason(name: Resource, cost: Cost, budgets: Budgets) -> str:
    allowed = getattr(budgets, name)
    return f"--budget-{name} allows {allowed:,.10g} {UNITS[name]}, it takes {_amount(cost, name)}"


def costs_of(board: Board, budgets: Budgets, like: Costs | None) -> Costs:
    """Costs on a board; shares what is the same on all boards with `like`."""
    return Costs(limited(board, budgets.flash), budgets=budgets, fitters=like.fitters if like else {})
