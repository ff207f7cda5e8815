"""Figure: the ladder, one model compiled in steps from the plainest C to what tinygen generates."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen.report import theme
from tinygen.report.bars import amount, base, layer_axis, tall, tooltips
from tinygen.report.data import Data
from tinygen.report.figure import Chart, Figure, Table, number, spec_of

MISSING = (
    "No ladder was given: python -m benchmarks.ladder measures this model in steps from plain C to tinygen's. "
    "Give its file with --ladder, or put it into the project as ladder.json."
)


def rows(data: Data) -> list[dict[str, Any]]:
    """One per rung, slowest first as they stand. times: how much faster than the first rung."""
    assert data.ladder is not None
    rungs = data.ladder["rungs"]
    unit = "cycles" if all(r.get("cycles") is not None for r in rungs) else "instructions"
    first = rungs[0][unit]
    found = []
    for rung in rungs:
        times = f"{first / rung[unit]:.2f} ×" if rung[unit] else "–"
        shown = number(rung[unit])
        found.append(
            {
                "rung": str(rung["name"]),
                "amount": rung[unit],
                "unit": "modelled cycles" if unit == "cycles" else unit,
                "shown": shown,
                "times": times,
                "says": f"{rung['name']}: {shown}, {times}",
            }
        )
    return found


def chart(found: list[dict[str, Any]]) -> alt.LayerChart:
    """Bars that shrink, with the speed-up beside them."""
    bars = base(found, tall(found, "rung", theme.ROW + 6)).encode(
        x=amount("amount", found[0]["unit"]), y=layer_axis("rung")
    )
    tips = tooltips(("rung", "step"), ("shown", found[0]["unit"]), ("times", "faster than the first"))
    return alt.layer(
        bars.mark_bar(color=theme.BLUE).encode(tooltip=tips, description="says:N"),
        bars.mark_text(align="left", dx=5, aria=False).encode(text="times:N"),
    ).properties(width="container", height=tall(found, "rung", theme.ROW + 6))


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "The ladder"
    if data.ladder is None:
        return Figure("ladder", title, MISSING)
    found = rows(data)
    says = f"From “{found[0]['rung']}” to “{found[-1]['rung']}”: {found[-1]['times']} in {found[0]['unit']}."
    table = Table(
        ("step", found[0]["unit"], "faster than the first"),
        tuple((r["rung"], r["shown"], r["times"]) for r in found),
    )
    drawn = Chart("ladder", f"{found[0]['unit']} per step of the ladder", spec_of(chart(found)))
    return Figure("ladder", title, says, (drawn,), (table,))
