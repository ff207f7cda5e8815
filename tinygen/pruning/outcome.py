"""What pruning came to: the result against every budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinygen import metrics
from tinygen.pruning.folders import PROJECT, RESULT
from tinygen.pruning.log import End, Log
from tinygen.pruning.records import RESOURCES, Resource


@dataclass(frozen=True)
class Pruned:
    """A finished run. folder: its output folder; log: with its end; notes: what the user should know."""

    folder: Path
    log: Log
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> Path:
        """The result, for plain Keras."""
        return self.folder / RESULT

    @property
    def project(self) -> Path:
        """Its int8 project."""
        return self.folder / PROJECT


@dataclass(frozen=True)
class Verdict:
    """One resource. budget: None where nothing was asked; before: of the original; after: of the result."""

    resource: Resource
    budget: float | None
    before: float | None
    after: float | None

    @property
    def met(self) -> bool | None:
        """None without a budget."""
        return None if self.budget is None else self.after is not None and self.after <= self.budget


def verdicts(log: Log) -> tuple[Verdict, ...]:
    """Every resource of a log with at least one step."""
    first, last = log.line[0].after.cost, log.line[-1].after.cost
    asked = dict(log.budgets.given())
    return tuple(Verdict(r, asked.get(r), first.of(r), last.of(r)) for r in RESOURCES)


def drop(end: End | None) -> float | None:
    """What the int8 result loses against the float original on the evaluation set, as metrics.drop counts."""
    if end is None or end.original is None or end.int8 is None:
        return None
    return metrics.drop(end.original, end.int8)
