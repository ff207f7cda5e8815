"""Figure: the ladder, one model built in steps: float32, int8, pruned, pinned (benchmarks/ladder.py measures them)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from tinygen.pruning.log import Log
from tinygen.report import theme
from tinygen.report.bars import amount, base, layer_axis, tall, tooltips
from tinygen.report.data import Data, Json
from tinygen.report.figure import Chart, Figure, Table, number, spec_of

MISSING = (
    "No ladder was given: 'python -m benchmarks.ladder --json F' measures models in steps, from float32 to pinned "
    "int8. Give F with --ladder, or put it into the project as ladder.json."
)


PRUNED = "pruned"


def ladders(data: Data) -> list[Json]:
    """Those of this model, one per board that was measured, with at least one step that was made."""
    models = [Path(data.manifest["model"]["file"]).stem]
    origin = data.pruning.inputs.sources.get("model") if data.pruning else None
    if origin:
        models.append(Path(origin.name).stem)
    found = [filled(one, data.pruning) for one in data.ladder or () if one["model"] in models]
    return [one for one in found if rows(one)]


def filled(one: Json, log: Log | None) -> Json:
    """The ladder with its step "pruned" as the log has it, where it was not made and the board is the same."""
    cost = log.line[-1].after.cost if log and log.line else None
    if cost is None or cost.board != one["board"] or cost.cycles is None:
        return one
    cycles = round(cost.cycles)
    made = {"where": f"as it was pruned, {cost.pinned:,} bytes pinned", "cycles": cycles, "ms": cost.ms}
    steps = [
        {**step, **made} if step["name"] == PRUNED and not step["cycles"] else step for step in one["steps"]
    ]
    return {**one, "steps": steps}


def rows(one: Json) -> list[dict[str, Any]]:
    """One per step that was made, in order. times: how much faster than the first."""
    made = [step for step in one["steps"] if step["cycles"]]
    found = []
    for step in made:
        times = f"{made[0]['cycles'] / step['cycles']:.2f} ×"
        row = {
            "step": step["name"],
            "amount": step["cycles"],
            "shown": number(step["cycles"]),
            "times": times,
        }
        row |= {"where": step["where"], "ms": number(step["ms"], "ms")}
        found.append({**row, "says": f"{step['name']}: {row['shown']} modelled cycles, {times}"})
    return found


def chart(found: list[dict[str, Any]]) -> alt.LayerChart:
    """Bars that shrink, with the speed-up beside them."""
    height = tall(found, "step", theme.ROW + 6)
    longest = max(row["amount"] for row in found)
    scale = alt.Scale(domain=[0, 1.12 * longest], nice=False)
    bars = base(found, height).encode(
        x=amount("amount", "modelled cycles").scale(scale), y=layer_axis("step")
    )
    tips = (("step", "step"), ("where", "weights"), ("shown", "modelled cycles"), ("ms", "time"))
    return alt.layer(
        bars.mark_bar(color=theme.BLUE).encode(
            tooltip=tooltips(*tips, ("times", "faster than the first")), description="says:N"
        ),
        bars.mark_text(align="left", dx=5, aria=False).encode(text="times:N"),
    ).properties(width="container", height=height)


def table(one: Json) -> Table:
    """All steps of a ladder that were made."""
    shown = tuple((r["step"], r["where"], r["shown"], r["ms"], r["times"]) for r in rows(one))
    columns = ("step", "weights", "modelled cycles", "ms", "faster than the first")
    return Table(columns, shown, text=2, title=f"On {one['board']}")


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "The ladder"
    if data.ladder is None:
        return Figure("ladder", title, MISSING)
    chosen = ladders(data)
    if not chosen:
        others = ", ".join(dict.fromkeys(one["model"] for one in data.ladder))
        return Figure("ladder", title, f"The file has no ladder of this model, only of: {others or 'none'}.")
    says = "From the first step to the last: "
    says += ", ".join(f"{rows(one)[-1]['times']} on {one['board']}" for one in chosen) + "."
    charts = tuple(
        Chart(
            f"ladder-{i}",
            f"modelled cycles per step on {one['board']}",
            spec_of(chart(rows(one))),
            one["board"],
        )
        for i, one in enumerate(chosen)
    )
    return Figure("ladder", title, says, charts, tuple(table(one) for one in chosen))
