"""Figure: what pruning cost, step by step: quality against cycles, SRAM and MACs; channels per layer."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen.metrics import Metric
from tinygen.pruning.log import Log
from tinygen.pruning.outcome import verdicts
from tinygen.pruning.records import Cost, Resource, Step
from tinygen.report import theme
from tinygen.report.bars import base, colour, layer_axis, tall, tooltips
from tinygen.report.data import Data
from tinygen.report.figure import Chart, Figure, Table, number, spec_of, values

MISSING = (
    "Nothing was pruned: 'tinygen prune MODEL --budget-sram 80K ... --out pruned/' makes a smaller model, and its "
    "project shows here what each step cost."
)
HEIGHT = 230
AXES: dict[Resource, str] = {"cycles": "modelled cycles", "sram": "bytes of SRAM", "macs": "MACs"}
STATES = {
    "original": theme.GREY,
    "step": theme.BLUE,
    "result": theme.GREEN,
    "rolled back": theme.AMBER,
}


def quality(step: Step) -> Metric | None:
    """On held-out samples: of the float model, so that all steps are alike."""
    return step.after.metric


def by_metric(log: Log) -> bool:
    """True when labels judged every step, and not all of them alike; else the loss stands in."""
    found = [quality(entry.step) for entry in log.entries]
    return None not in found and len({metric.value for metric in found if metric}) > 1


def _measure(log: Log) -> tuple[str, float]:
    """(what the curve shows upwards, factor to the shown unit)."""
    first = quality(log.line[0])
    if first is None or not by_metric(log):
        return "loss", 1.0
    return ("accuracy, %", 100.0) if first.kind == "accuracy" else (first.kind, 1.0)


def rows(log: Log, resource: Resource) -> list[dict[str, Any]]:
    """One per step whose amount is known, in order; those that were rolled back last."""
    title, factor = _measure(log)
    found = []
    for step in (*log.line, *log.rolled_back):
        amount, metric = step.after.cost.of(resource), quality(step)
        if amount is None:
            continue
        judged = title != "loss" and metric is not None
        value = factor * metric.value if judged and metric else step.after.loss
        shown = metric.short if judged and metric else f"{value:.4g}"
        amount_text = f"{number(round(amount))} {AXES[resource]}"
        found.append(
            {
                "step": step.number,
                "action": step.action,
                "state": _state(log, step),
                "amount": amount,
                "quality": round(value, 6),
                "shown": shown,
                "took": amount_text,
                "says": f"step {step.number}, {step.action}: {shown}, {amount_text}",
            }
        )
    return _labelled(found)


def _labelled(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With a label per place: steps that lie on one another share it."""
    numbers: dict[tuple[float, float], list[int]] = {}
    for row in found:
        numbers.setdefault((row["amount"], row["quality"]), []).append(row["step"])
    texts = {steps[0]: ", ".join(map(str, steps)) for steps in numbers.values()}
    return [{**row, "label": texts.get(row["step"], "")} for row in found]


def _state(log: Log, step: Step) -> str:
    if step in log.rolled_back:
        return "rolled back"
    if step.number == log.current:
        return "result"
    return "original" if step.action == "original" else "step"


def chart(found: list[dict[str, Any]], log: Log, resource: Resource) -> alt.LayerChart:
    """A line through the steps that lead to the result, better ones higher; the budget as an upright line."""
    title = _measure(log)[0]
    amount = alt.X(
        "amount:Q",
        title=AXES[resource],
        scale=alt.Scale(zero=False, padding=14),
        axis=alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=4, grid=False),
    )
    less_is_better = title in ("loss", "mse")
    scale = alt.Scale(zero=False, padding=14, reverse=less_is_better)
    worth = alt.Y("quality:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5))
    line = base([row for row in found if row["state"] != "rolled back"], HEIGHT)
    drawn = line.mark_line(color=theme.GREY, strokeWidth=1.5, opacity=0.6, aria=False)
    layers: list[Any] = [drawn.encode(x=amount, y=worth, order="step:Q"), *_budget(log, resource)]
    layers += _dots(base(found, HEIGHT).encode(x=amount, y=worth), found, title)
    return alt.layer(*layers).properties(width="container", height=HEIGHT)


def _dots(places: alt.Chart, found: list[dict[str, Any]], title: str) -> list[alt.Chart]:
    """A dot per step with its number; the result's is greater."""
    states = [state for state in STATES if any(row["state"] == state for row in found)]
    tips = tooltips(("step", "step"), ("action", "what"), ("shown", title), ("took", "takes"))
    dots = places.mark_circle(opacity=1).encode(
        color=colour("state", states, [STATES[state] for state in states]),
        size=alt.condition("datum.state === 'result'", alt.value(170), alt.value(70)),
        tooltip=tips,
        description="says:N",
    )
    return [dots, places.mark_text(dy=-12, aria=False).encode(text="label:N")]


def _budget(log: Log, resource: Resource) -> list[alt.Chart]:
    allowed = dict(log.budgets.given()).get(resource)
    if allowed is None:
        return []
    line = alt.Chart(values([{"amount": allowed, "label": "budget"}])).encode(x="amount:Q")
    rule = line.mark_rule(color=theme.RUST, strokeDash=[5, 4], strokeWidth=1.5, aria=False)
    label = line.mark_text(color=theme.RUST, align="left", dx=5, baseline="top", aria=False)
    return [rule, label.encode(y=alt.value(2), text="label:N")]


# ---- channels


def channels(log: Log) -> list[dict[str, Any]]:
    """One per layer that lost channels: how many it had, how many are left. In the order of the layers."""
    had: dict[str, int] = {}
    left: dict[str, int] = {}
    for removal in (r for step in log.line for r in step.removed):
        had.setdefault(removal.layer, removal.left + len(removal.channels))
        left[removal.layer] = removal.left
    order = {layer.name: n for n, layer in enumerate(log.line[0].after.cost.layers)}
    names = sorted(had, key=lambda name: (order.get(name, len(order)), list(had).index(name)))
    return [
        {
            "layer": name,
            "had": had[name],
            "left": left[name],
            "label": f"{left[name]} of {had[name]}",
            "says": f"{name}: {left[name]} of {had[name]} channels are left",
        }
        for name in names
    ]


def channel_chart(found: list[dict[str, Any]]) -> alt.LayerChart:
    """What is left, in a frame that is what there was."""
    height = tall(found)
    most = max(row["had"] for row in found)
    scale = alt.Scale(domain=[0, 1.12 * most], nice=False)
    bars = base(found, height).encode(y=layer_axis())
    left = alt.X("left:Q", title="channels", scale=scale, axis=alt.Axis(tickCount=5))
    tips = tooltips(("layer", "layer"), ("label", "left"))
    return alt.layer(
        bars.mark_bar(color="var(--free)", aria=False).encode(x=alt.X("had:Q", scale=scale)),
        bars.mark_bar(color=theme.BLUE).encode(x=left, tooltip=tips, description="says:N"),
        bars.mark_text(align="left", dx=5, aria=False).encode(x=alt.X("had:Q", scale=scale), text="label:N"),
    ).properties(width="container", height=height)


# ---- tables and words


def tables(log: Log) -> tuple[Table, ...]:
    """Every step with its cost, then channels."""
    title = _measure(log)[0]
    steps = tuple(_step_row(log, step) for step in (*log.line, *log.rolled_back))
    head = ("#", "step", "why", title.removesuffix(", %"), "SRAM", "flash", "MACs", "modelled cycles", "ms")
    made = [Table(head, steps, text=3, title="Steps")]
    found = channels(log)
    if found:
        shown = tuple((r["layer"], str(r["had"]), str(r["left"])) for r in found)
        made.append(Table(("layer", "channels before", "after"), shown, title="Channels per layer"))
    return tuple(made)


def _step_row(log: Log, step: Step) -> tuple[str, ...]:
    cost, metric = step.after.cost, quality(step)
    shown = metric.short if metric is not None and by_metric(log) else f"{step.after.loss:.4g}"
    action = f"{step.action} (rolled back)" if step in log.rolled_back else step.action
    cycles = None if cost.cycles is None else round(cost.cycles)
    amounts = (number(v) for v in (cost.sram, cost.flash, cost.macs, cycles, cost.ms))
    return (str(step.number), action, step.why, shown, *amounts)


def sentence(log: Log, board: str) -> str:
    """What was won, for what, and whether it is enough."""
    first, last = log.line[0], log.line[-1]
    won = [_times(first.after.cost, last.after.cost, resource) for resource in AXES]
    before, after = quality(first), quality(last)
    said = f"From the original to step {last.number}, the result: {', '.join(filter(None, won))}."
    if before and after:
        said += f" On held-out samples {before.kind} was {before.short} and is {after.short}."
    over = [v.resource for v in verdicts(log) if v.met is False]
    if dict(log.budgets.given()):
        said += f" Over its budget: {', '.join(over)}." if over else " Every budget is met."
    if log.rolled_back:
        said += f" Steps that were rolled back: {len(log.rolled_back)}."
    if last.after.cost.board != board:
        said += f" It was pruned for another board: {last.after.cost.board}."
    return said


def _times(before: Cost, after: Cost, resource: Resource) -> str:
    """`1.80 × fewer MACs`; "" where it is not known."""
    old, new = before.of(resource), after.of(resource)
    return f"{old / new:.2f} × fewer {AXES[resource]}" if old and new else ""


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "What pruning cost"
    log = data.pruning
    if log is None or not log.line:
        return Figure("pruning", title, MISSING)
    drawn = []
    for resource, axis in AXES.items():
        found = rows(log, resource)
        if found:
            label = f"{_measure(log)[0]} against {axis}, step by step"
            key = f"tradeoff-{resource}"
            drawn.append(Chart(key, label, spec_of(chart(found, log, resource)), f"Against {axis}"))
    left = channels(log)
    if left:
        spec = spec_of(channel_chart(left))
        drawn.append(Chart("channels", "channels per layer, before and after", spec, "Channels per layer"))
    return Figure("pruning", title, sentence(log, data.board.name), tuple(drawn), tables(log))
