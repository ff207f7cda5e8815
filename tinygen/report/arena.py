"""Figure: lifetimes of the arena's buffers: when which bytes are in use."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen.memory_map import buffer_name
from tinygen.report import theme
from tinygen.report.bars import base, tooltips
from tinygen.report.data import Data
from tinygen.report.figure import Chart, Figure, Table, number, percent, spec_of

HEIGHT = 300


def rows(data: Data) -> list[dict[str, Any]]:
    """One per buffer. last: the first step after it; holds: the tensors that live there one after the other."""
    names = {layer["step"]: layer["layer"] for layer in data.layers["layers"]}
    found = []
    for index, buffer in enumerate(data.layers["arena"]["buffers"]):
        scratch = f"scratch of {names.get(buffer['scratch_step'], '')}"
        holds = " → ".join(buffer["tensors"]) or scratch
        steps = f"{buffer['first']} to {_time(buffer['last'], len(names))}"
        size = number(buffer["size"], "bytes")
        found.append(
            {
                "buffer": buffer_name(index),
                "first": buffer["first"],
                "last": buffer["last"] + 1,
                "low": buffer["offset"],
                "high": buffer["offset"] + buffer["size"],
                "bytes": buffer["size"],
                "size": size,
                "steps": steps,
                "holds": holds,
                "colour": index % len(theme.SERIES),
                "says": f"{holds}: {size} at offset {number(buffer['offset'])}, steps {steps}",
            }
        )
    return found


def _time(step: int, count: int) -> str:
    return "the end" if step >= count else str(step)


def chart(found: list[dict[str, Any]], steps: int, arena: int) -> alt.LayerChart:
    """x: steps, one more for after the run; y: offsets in the arena."""
    x = alt.X(
        "first:Q",
        title="step",
        scale=alt.Scale(domain=[0, steps + 1], nice=False),
        axis=alt.Axis(format="d", tickMinStep=1, grid=False),
    )
    y = alt.Y(
        "low:Q",
        title="offset in the arena, bytes",
        scale=alt.Scale(domain=[0, max(arena, 1)], nice=False),
        axis=alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=6, domain=False),
    )
    eight = alt.Scale(domain=list(range(len(theme.SERIES))), range=list(theme.SERIES))
    colours = {
        "fill": alt.Fill("colour:O", scale=eight, legend=None),
        "stroke": alt.Stroke("colour:O", scale=eight, legend=None),
    }
    tips = tooltips(("holds", "holds"), ("size", "size"), ("steps", "in use, steps"))
    boxes = base(found, HEIGHT).mark_rect(fillOpacity=0.3, strokeWidth=1.3, cornerRadius=3)
    room = f"(datum.last - datum.first) * width / {steps + 1} - 8"
    tall = f"(datum.high - datum.low) * height / {max(arena, 1)} >= 13 && {room} >= 40"
    label = base(found, HEIGHT).transform_calculate(
        middle="(datum.low + datum.high) / 2", label=f"{tall} ? datum.holds : ''"
    )
    text = label.mark_text(align="left", dx=5, fontSize=10.5, limit=alt.ExprRef(room), aria=False)
    return alt.layer(
        boxes.encode(x=x, x2="last:Q", y=y, y2="high:Q", **colours, tooltip=tips, description="says:N"),
        text.encode(x="first:Q", y="middle:Q", text="label:N"),
    ).properties(width="container", height=HEIGHT)


def figure(data: Data) -> Figure:
    """The section of the page."""
    arena, found, steps = data.layers["arena"], rows(data), len(data.layers["layers"])
    separate = sum(row["bytes"] for row in found)
    says = (
        f"{number(arena['bytes'], 'bytes')} hold {number(separate, 'bytes')} of buffers, one after the other"
    )
    if arena["bytes"] == arena["lower_bound"]:
        says += ": equal to the lower bound, no plan for these steps is smaller."
    else:
        proved = ", proved the smallest possible" if arena["optimal"] else ""
        says += f": {percent(arena['gap'])} above the lower bound of {number(arena['lower_bound'])}{proved}."
    table = Table(
        ("buffer", "holds", "in use, steps", "offset", "bytes"),
        tuple((r["buffer"], r["holds"], r["steps"], number(r["low"]), number(r["bytes"])) for r in found),
        text=3,
    )
    drawn = Chart("arena", "lifetimes of buffers in the arena", spec_of(chart(found, steps, arena["bytes"])))
    return Figure("arena", "The arena over time", says, (drawn,), (table,))
