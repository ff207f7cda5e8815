"""What pruning could reach, said before any training: the largest share of channels, kept alike everywhere, that fits.

A search keeps more where it matters and less elsewhere: this is the yardstick, not the best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tinygen import pipeline
from tinygen.boards import Board
from tinygen.budgets import Budgets, amount, resolve
from tinygen.channels import groups
from tinygen.errors import BudgetError, UsageError
from tinygen.fit import Fit, Fitter
from tinygen.graph import Graph
from tinygen.pruning.costs import Costs, over, peaks
from tinygen.pruning.lowering import key_of
from tinygen.pruning.records import Cost, Resource
from tinygen.pruning.shrinking import shrunk
from tinygen.pruning.uniform import Families
from tinygen.wishes import Wishes

Text = str | int | float | None

FOLLOWED = 0.5
"""Share of channels of the variant whose image tells how long kernels take: a quarter of the work, soon followed."""
_TIME = ("ms", "cycles")
_BYTES = ("sram", "flash")
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
    if not costs.followed:
        cost = replace(cost, cycles=None, ms=None)
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


def answers(
    fitter: Fitter, graph: Graph, boards: Sequence[Board], texts: Mapping[str, Text], weights: str | None
) -> tuple[Fit, ...]:
    """Every board's answer; where a float model does not fit, with what pruning could reach.

    fitter: of the graph. texts: resource -> budget, percents of what the model takes.
    """
    if fitter.graph.precision == "float32":
        budgets = _float32_budgets(texts)
        return tuple(fitter.fit(board, budgets, weights) for board in boards)
    fitters = {key_of(graph): fitter}
    return tuple(
        _answer(graph, Costs(b, Wishes(weights=weights), fitters=fitters, choice=fitter.choice), texts)
        for b in boards
    )


def _answer(graph: Graph, costs: Costs, texts: Mapping[str, Text]) -> Fit:
    budgets = costs.budgets = _budgets(texts, graph, costs)
    fit = costs.fitters[key_of(graph)].fit(costs.board, budgets, costs.wishes.weights)
    timed = any(name in _TIME for name, _ in budgets.given())
    if timed and not costs.timed:
        why = f"a budget of time cannot be checked: no cycles are modelled for {costs.board.cpu}"
        return replace(fit, reasons=(*fit.reasons, why))
    reasons = (*fit.reasons, *_others(graph, costs, budgets, timed))
    can = reasons and not pipeline.is_quantized(graph)
    return replace(fit, reasons=reasons, reach=reach(graph, costs, budgets) if can else None)


def _others(graph: Graph, costs: Costs, budgets: Budgets, timed: bool) -> Iterator[str]:
    """What is over the budgets that `Fitter.fit` does not know."""
    if {name for name, _ in budgets.given()} <= {*_BYTES}:
        return
    cost = costs.measure(graph) if timed else costs.estimate(graph)
    for name in over(cost, budgets):
        if name not in _BYTES:
            yield _reason(name, cost, budgets)


def _budgets(texts: Mapping[str, Text], graph: Graph, costs: Costs) -> Budgets:
    """The texts as amounts on this board; the model is followed only where a percentage of its time is asked."""
    shares = [name for name, text in texts.items() if "%" in str(text)]
    if not shares:
        return resolve(texts, None)
    if costs.timed and not {*shares}.isdisjoint(_TIME):
        return resolve(texts, costs.measure(graph))
    return resolve(texts, replace(costs.estimate(graph), cycles=None, ms=None))


def _float32_budgets(texts: Mapping[str, Text]) -> Budgets:
    """Bytes of SRAM and flash alone; costs are those of int8 models."""
    for name, text in texts.items():
        if text is not None and (name not in ("sram", "flash") or "%" in str(text)):
            raise UsageError(
                f"--budget-{name} {text} is for int8 models\n"
                "  with --precision float32 give --budget-sram or --budget-flash in bytes"
            )
    return Budgets(**{n: int(amount(n, text, None)) for n, text in texts.items() if text is not None})


def _reason(name: Resource, cost: Cost, budgets: Budgets) -> str:
    allowed = getattr(budgets, name)
    return f"--budget-{name} allows {allowed:,.10g} {UNITS[name]}, it takes {_amount(cost, name)}"
