"""Steps, budgets and result of `tinygen prune` as text: one line per step, a table, a summary, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from tinygen import metrics
from tinygen.budgets import Budgets
from tinygen.metrics import Metric
from tinygen.pruning.log import Log
from tinygen.pruning.outcome import Pruned, Verdict, drop, verdicts
from tinygen.pruning.records import Resource, Step
from tinygen.pruning.search import binding, ratios

NAMES: dict[Resource, str] = {
    "sram": "SRAM",
    "flash": "flash",
    "weights": "weights",
    "macs": "MACs",
    "cycles": "cycles",
    "ms": "ms",
}
ALWAYS: tuple[Resource, ...] = ("sram", "flash", "macs", "ms")
"""Columns of the table; the others only where a budget asks for them."""

UNITS: dict[Resource, str] = {"sram": " bytes", "flash": " bytes", "weights": " bytes"}
WIDE = 110
"""Columns of a terminal from which a step says more."""

LAYERS = 2
"""Layers that a step names on a narrow terminal."""


def amount_text(resource: Resource, amount: float | None) -> str:
    """Bytes and counts whole, or in millions from ten of them; ms with four digits; a dash for what is not known."""
    if amount is None:
        return "–"
    if resource == "ms":
        return f"{amount:.4g}"
    return f"{amount / 1e6:,.2f} M" if amount >= 1e7 else f"{round(amount):,}"


def went_text(step: Step, layers: int = LAYERS) -> str:
    """`conv2d -8, dense -16 and 3 more`: the channels that went."""
    shown = [f"{r.layer} -{len(r.channels)}" for r in step.removed[:layers]]
    more = len(step.removed) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def went_short(step: Step) -> str:
    """`conv2d -8`, or, of several layers, `-58 in 9 layers`."""
    if len(step.removed) < LAYERS:
        return went_text(step)
    return f"-{sum(len(r.channels) for r in step.removed)} in {len(step.removed)} layers"


def quality(step: Step) -> Metric | None:
    """The int8 figure where it was made, else the float one."""
    return step.after.int8 or step.after.metric


def step_line(step: Step, budgets: Budgets) -> str:
    """One line for a step that was just taken."""
    cost, figure = step.after.cost, quality(step)
    parts = [f"loss {step.after.loss:.4g}"]
    if figure is not None:
        parts.append(f"{figure.kind} {figure.short}")
    for resource, allowed in budgets.given():
        name: Resource = resource  # type: ignore[assignment]
        of = f"{amount_text(name, cost.of(name))} of {amount_text(name, allowed)}"
        parts.append(f"{NAMES[name]} {of}")
    went = f" ({went_text(step)})" if step.removed else ""
    return f"step {step.number}: {step.action}{went}: {', '.join(parts)}"


# ---- the table


def columns_of(log: Log) -> list[Resource]:
    """The resources that the table shows: those with a budget, and ALWAYS where they are known."""
    asked = dict(log.budgets.given())
    costs = [step.after.cost for step in log.line]
    known: list[Resource] = [r for r in NAMES if any(c.of(r) is not None for c in costs)]
    return [r for r in known if r in asked or r in ALWAYS]


def steps_table(log: Log, width: int = WIDE) -> Table:
    """One row per step that leads to the result. Red: over its budget; the arrow: the one that is exceeded most."""
    shown, asked = columns_of(log), dict(log.budgets.given())
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", style="dim")
    table.add_column("step", no_wrap=True)
    table.add_column("what went", no_wrap=True, overflow="ellipsis")
    for title in ("loss", *_metric_titles(log)):
        table.add_column(title, justify="right", no_wrap=True)
    for resource in shown:
        budget = f"\n≤ {amount_text(resource, asked[resource])}" if resource in asked else ""
        table.add_column(f"{NAMES[resource]}{budget}", justify="right", no_wrap=True)
    for step in log.line:
        table.add_row(*_row(step, log, shown, width))
    return table


def _metric_titles(log: Log) -> Sequence[str]:
    """The title of the metric's column; none where there is no metric."""
    return list({figure.kind: None for figure in map(quality, log.line) if figure is not None})[:1]


def _row(step: Step, log: Log, shown: Sequence[Resource], width: int) -> list[Text | str]:
    cost, figure = step.after.cost, quality(step)
    over, worst = ratios(cost, log.budgets), binding(cost, log.budgets)
    went = went_text(step) if width >= WIDE else went_short(step)
    figures = [figure.short if figure is not None else "–"] if _metric_titles(log) else []
    cells = [_cell(r, cost.of(r), over.get(r), r == worst) for r in shown]
    return [str(step.number), step.action, Text(went, "dim"), f"{step.after.loss:.4g}", *figures, *cells]


def _cell(resource: Resource, amount: float | None, ratio: float | None, worst: bool) -> Text:
    """An amount; green within its budget, red over it."""
    style = "" if ratio is None else "red" if ratio > 1 else "green"
    return Text(f"{'▸' if worst else ''}{amount_text(resource, amount)}", f"bold {style}" if worst else style)


# ---- the summary


def summary(made: Pruned) -> Table:
    """Every resource of the original and the result against its budget, then how good the result is."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "", "original", "result", "change", "budget"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for verdict in verdicts(made.log):
        if verdict.after is not None:
            table.add_row(*_verdict_row(verdict))
    for row in _score_rows(made.log):
        table.add_row(*row)
    return table


MARKS = {True: ("✓", "bold green"), False: ("✗", "bold red"), None: ("", "")}


def _score_rows(log: Log) -> list[list[Text | str]]:
    """On the evaluation set: what pruning cost in float, what int8 costs in all; against --max-drop. [] without one."""
    end = log.end
    if end is None or end.original is None:
        return []
    allowed = log.inputs.options.get("max_drop")
    return [
        _score_row(end.original, figure, name, limit)
        for figure, name, limit in ((end.pruned, "float", None), (end.int8, "int8", allowed))
        if figure is not None
    ]


def _score_row(original: Metric, figure: Metric, name: str, allowed: float | None) -> list[Text | str]:
    lost = metrics.drop(original, figure)
    mark = MARKS[None if allowed is None else metrics.allowed(lost, allowed)]
    budget = "" if allowed is None else f"{-allowed:+g}"
    title = Text(f"{figure.kind}, {name}")
    return [Text(*mark), title, original.short, figure.short, f"{-lost:+.2f}", budget]


def _verdict_row(v: Verdict) -> list[Text | str]:
    change = f"{100 * (v.after / v.before - 1):+.1f} %" if v.before and v.after is not None else ""
    budget = "" if v.budget is None else amount_text(v.resource, v.budget)
    cells = [amount_text(v.resource, amount) for amount in (v.before, v.after)]
    unit = UNITS.get(v.resource, "")
    return [Text(*MARKS[v.met]), Text(f"{NAMES[v.resource]}{unit}"), *cells, change, budget]


def closing(made: Pruned) -> list[str]:
    """What came of it, where it is, and what to do next."""
    log = made.log
    lines = [log.end.why] if log.end else []
    if log.rolled_back:
        numbers = ", ".join(str(step.number) for step in log.rolled_back)
        lines.append(f"rolled back: {numbers}; --rollback STEP brings one back")
    lines += [f"model    {made.model}", f"project  {made.project}"]
    return [
        *lines,
        f"next: tinygen report {made.project}, or go back: tinygen prune --rollback STEP --out {made.folder}",
    ]


# ---- JSON


def pruned_data(made: Pruned) -> dict[str, Any]:
    """The result as JSON-ready data. Sizes in bytes; drop: points, or percent of a mean squared error."""
    log, end = made.log, made.log.end
    scores = {name: asdict(m) if m else None for name, m in _scores(log).items()}
    return {
        "folder": str(made.folder),
        "model": str(made.model),
        "project": str(made.project),
        "reached": bool(end and end.reached),
        "why": end.why if end else "",
        "budgets": {v.resource: {**asdict(v), "met": v.met} for v in verdicts(log)},
        "scores": {**scores, "drop": drop(end)},
        "steps": [step_data(step) for step in log.line],
        "rolled_back": [step.number for step in log.rolled_back],
        "seconds": round(log.seconds, 1),
        "notes": list(made.notes),
    }


def _scores(log: Log) -> dict[str, Metric | None]:
    end = log.end
    return {name: getattr(end, name) if end else None for name in ("original", "pruned", "int8")}


def step_data(step: Step) -> dict[str, Any]:
    """A step, without the layers' costs."""
    cost, figure = step.after.cost, quality(step)
    return {
        "step": step.number,
        "action": step.action,
        "why": step.why,
        "removed": {r.layer: len(r.channels) for r in step.removed},
        "loss": step.after.loss,
        "metric": asdict(figure) if figure else None,
        **{resource: cost.of(resource) for resource in NAMES},
        "model": step.model,
        "sha256": step.sha256,
    }
