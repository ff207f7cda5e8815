"""registry.json: the models that a pruning run left, each with its file and figures, for whoever chooses among them.

for point in tinygen.read_registry("pruned").points: print(point.model, point.sram, point.loss)
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path

from tinygen.errors import OutputError
from tinygen.metrics import Metric
from tinygen.pruning.folders import REGISTRY, RESULT
from tinygen.pruning.log import Log
from tinygen.pruning.records import Figures, Step
from tinygen.serialization import read_dataclass

SCHEMA = 1


@dataclass(frozen=True)
class Point:
    """One model. name: "original", "step 3" or "final"; model: its file, inside the folder of the registry.

    loss, metric, int8: as in records.Figures; the sizes as in records.RESOURCES; measured: of a built image.
    pareto: no other point is as good in quality, SRAM, flash, MACs and cycles and better in one of them.
    """

    name: str
    step: int
    model: str
    sha256: str
    loss: float
    metric: Metric | None
    int8: Metric | None
    sram: int
    flash: int
    weights: int
    macs: int
    cycles: float | None
    ms: float | None
    measured: bool
    pareto: bool = False
    result: bool = False


@dataclass(frozen=True)
class Registry:
    """All points of one board, in the order of the steps; those that were rolled back are not among them."""

    board: str
    points: tuple[Point, ...]


def of(log: Log) -> Registry:
    """The registry of a log with at least one step."""
    line = log.line
    points = [_point(step, _name(step, log)) for step in line]
    if log.end:
        points[-1] = replace(points[-1], model=RESULT, result=True)
    best = pareto(tuple(points))
    marked = (replace(point, pareto=good) for point, good in zip(points, best, strict=True))
    return Registry(line[0].after.cost.board, tuple(marked))


def _name(step: Step, log: Log) -> str:
    if log.end and step.number == log.current:
        return "final"
    return "original" if step.action == "original" else f"step {step.number}"


def _point(step: Step, name: str) -> Point:
    after: Figures = step.after
    cost = after.cost
    return Point(
        name=name,
        step=step.number,
        model=step.model,
        sha256=step.sha256,
        loss=after.loss,
        metric=after.metric,
        int8=after.int8,
        sram=cost.sram,
        flash=cost.flash,
        weights=cost.weights,
        macs=cost.macs,
        cycles=cost.cycles,
        ms=cost.ms,
        measured=cost.measured,
    )


def pareto(points: tuple[Point, ...]) -> tuple[bool, ...]:
    """Per point whether no other dominates it.

    Quality is the metric where all points have one and it tells them apart, else the loss.
    """
    figures = [point.metric for point in points]
    judged = None not in figures and len({figure.value for figure in figures if figure}) > 1
    timed = all(point.cycles is not None for point in points)
    amounts = [(_badness(p, judged), p.sram, p.flash, p.macs, p.cycles if timed else 0) for p in points]

    def dominated(one: tuple[float | None, ...]) -> bool:
        return any(
            other != one and all(a <= b for a, b in zip(other, one, strict=True))  # type: ignore[operator]
            for other in amounts
        )

    return tuple(not dominated(one) for one in amounts)


def _badness(point: Point, judged: bool) -> float:
    """Less is better."""
    if not judged or point.metric is None:
        return point.loss
    return point.metric.value if point.metric.kind == "mse" else -point.metric.value


# ---- text


def to_json(registry: Registry) -> str:
    """Deterministic text."""
    data = {"schema": SCHEMA, **dataclasses.asdict(registry)}
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def read(folder: str | Path) -> Registry:
    """The registry of an output folder of prune, or of its registry.json. Raises OutputError."""
    path = Path(folder) / REGISTRY if Path(folder).is_dir() else Path(folder)
    try:
        data = json.loads(path.read_text())
        if data.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        registry: Registry = read_dataclass(Registry, data)
    except FileNotFoundError:
        raise OutputError(
            f"'{path}' does not exist\n  a registry is made by: tinygen prune MODEL ... --out FOLDER"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise OutputError(
            f"'{path}' is not a registry that this tinygen wrote ({type(problem).__name__}: {problem})\n"
            "  'tinygen prune --resume' in that folder writes it anew"
        ) from None
    return registry
