"""Figure: where the time of an inference goes, layer by layer: computing, waiting for code, waiting for data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from tinygen.report import theme
from tinygen.report.bars import amount, base, colour, layer_axis, tall, tooltips
from tinygen.report.data import NO_PROFILE, Data
from tinygen.report.figure import Chart, Figure, Table, number, percent, spec_of

PARTS = {
    "zero_wait_cycles": ("compute", theme.BLUE),
    "fetch_stalls": ("fetch stalls", theme.AMBER),
    "data_stalls": ("data stalls", theme.RUST),
}
"""Field of the profile -> name and colour."""


def rows(data: Data) -> list[dict[str, Any]]:
    """One per layer and part of its cycles; one per layer with its instructions where no cycles are modelled."""
    found = []
    parts = PARTS if data.unit == "cycles" else {"instructions": ("instructions", theme.BLUE)}
    for order, cost in enumerate(data.costs()):
        for place, (field, (part, _)) in enumerate(parts.items()):
            amount_, ms = cost[field] or 0, cost["ms"]
            row = {"layer": cost["name"], "part": part, "place": place, "amount": amount_, "order": order}
            row |= {"shown": number(amount_), "total": number(cost[data.unit]), "kernel": cost["kernel"]}
            row |= {"ms": number(ms, "ms"), "instructions": number(cost["instructions"])}
            found.append({**row, "says": f"{cost['name']}, {part}: {number(amount_)}; in all {row['total']}"})
    return found


def chart(found: Sequence[dict[str, Any]], data: Data) -> alt.LayerChart | alt.Chart:
    """Stacked bars; milliseconds along the top where the clock says how long cycles are."""
    parts = dict.fromkeys(row["part"] for row in found)
    colours = dict(PARTS.values()) | {"instructions": theme.BLUE}
    longest = max(sum(r["amount"] for r in found if r["order"] == row["order"]) for row in found) or 1
    scale = alt.Scale(domain=[0, longest], nice=False)
    tips = [("layer", "layer"), ("kernel", "kernel"), ("part", "part"), ("shown", data.spoken_unit)]
    tips += [
        ("total", f"{data.spoken_unit}, in all"),
        ("ms", "time, in all"),
        ("instructions", "instructions"),
    ]
    bars = (
        base(found, tall(found))
        .mark_bar()
        .encode(
            x=amount("amount", data.spoken_unit).scale(scale),
            y=layer_axis(),
            color=colour("part", list(parts), [colours[p] for p in parts]),
            order="place:Q",
            tooltip=tooltips(*tips),
            description="says:N",
        )
    )
    if data.unit != "cycles":
        return bars
    assert data.profile is not None
    clock = _clock(found, 1000.0 * longest / data.profile["clock_hz"])
    return (
        alt.layer(bars, clock)
        .resolve_scale(x="independent")
        .properties(width="container", height=tall(found))
    )


def _clock(found: Sequence[dict[str, Any]], longest: float) -> alt.Chart:
    """An axis of milliseconds along the top, up to `longest`; nothing is seen but the axis."""
    axis = alt.Axis(orient="top", grid=False, tickCount=5, labelExpr="format(datum.value, '.3~r')")
    scale = alt.Scale(domain=[0, longest], nice=False)
    return (
        base([{"layer": found[0]["layer"], "ms": longest}], tall(found))
        .mark_point(size=0, opacity=0, aria=False)
        .encode(x=alt.X("ms:Q", title="ms", axis=axis, scale=scale), y=layer_axis())
    )


def table(data: Data) -> Table:
    """Every layer and the sum, with cycles per multiply-accumulate."""
    assert data.profile is not None
    total = {**data.profile["totals"], "name": "sum", "kernel": ""}
    keys = ("instructions", "cycles", *PARTS, "cycles_per_mac", "ms")
    shown = []
    for cost in (*data.costs(), total):
        whole = total[data.unit] or 1
        cells = (number(cost.get("macs", 0)), *(number(cost[k]) for k in keys))
        shown.append((cost["name"], cost["kernel"], *cells, percent((cost[data.unit] or 0) / whole)))
    columns = ("layer", "kernel", "MACs", "instructions", "modelled cycles", "compute", "fetch stalls")
    return Table((*columns, "data stalls", "cycles per MAC", "ms", "share"), tuple(shown), text=2)


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "Time per layer"
    found = rows(data)
    if not found or data.profile is None:
        return Figure("time", title, NO_PROFILE)
    costs, unit = data.costs(), data.unit
    slowest = max(costs, key=lambda c: c[unit] or 0)
    total = data.profile["totals"]
    says = f"{slowest['name']} takes most: {percent((slowest[unit] or 0) / (total[unit] or 1))} of all "
    says += f"{number(total[unit])} {data.spoken_unit}."
    if unit == "cycles":
        waits = (total["fetch_stalls"] + total["data_stalls"]) / (total["cycles"] or 1)
        says += f" The core waits for memory in {percent(waits)} of them."
    else:
        says += f" No cycles are modelled for {data.profile['core']}."
    drawn = Chart("time", f"{data.spoken_unit} per layer", spec_of(chart(found, data)))
    return Figure("time", title, says, (drawn,), (table(data),))
