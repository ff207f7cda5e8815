"""Figure: this build against a former one."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen import profile_json
from tinygen.report import theme
from tinygen.report.bars import amount, base, colour, layer_axis, tall, tooltips
from tinygen.report.data import Data, Json
from tinygen.report.figure import Chart, Figure, Table, number, spec_of

MISSING = "Nothing to compare with was given: --compare OLD, another project or a saved profile."
BUILDS = {"before": theme.GREY, "after": theme.BLUE}
BOTH = 28
"""Pixels per layer."""


def rows(compared: Json) -> list[dict[str, Any]]:
    """One per layer and build that has it."""
    return [
        {
            "layer": layer["name"],
            "build": build,
            "amount": layer[build],
            "shown": number(layer[build]),
            "change": change(layer["before"], layer["after"]),
            "says": f"{layer['name']}, {build}: {number(layer[build])}",
        }
        for layer in compared["layers"]
        for build in BUILDS
        if layer[build] is not None
    ]


def change(before: float | None, after: float | None) -> str:
    """From old to new in percent; a dash where one of them is missing."""
    if not before or after is None:
        return "–"
    return f"{100 * (after / before - 1):+.1f} %"


def chart(found: list[dict[str, Any]], unit: str) -> alt.Chart:
    """Two bars per layer."""
    tips = (("layer", "layer"), ("build", "build"), ("shown", unit), ("change", "change"))
    return (
        base(found, tall(found, each=BOTH))
        .mark_bar()
        .encode(
            x=amount("amount", unit),
            y=layer_axis(),
            yOffset=alt.YOffset("build:N", sort=list(BUILDS)),
            color=colour("build", list(BUILDS), list(BUILDS.values())),
            tooltip=tooltips(*tips),
            description="says:N",
        )
    )


def tables(compared: Json, unit: str) -> tuple[Table, ...]:
    """Totals first, then layers."""
    totals: list[tuple[str, float | None, float | None]] = [
        (unit, compared["total"]["before"], compared["total"]["after"]),
        ("ms", *compared["ms"]),
        *((f"{name}, bytes", *pair) for name, pair in compared["memory"].items()),
    ]
    head = ("before", "after", "change")
    summary = tuple((name, number(a), number(b), change(a, b)) for name, a, b in totals)
    layers = tuple(
        (r["name"], number(r["before"]), number(r["after"]), change(r["before"], r["after"]))
        for r in compared["layers"]
    )
    return Table(("in all", *head), summary, title="In all"), Table(("layer", *head), layers, title="Layers")


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "Compared with a former build"
    if data.before is None or data.profile is None:
        return Figure("comparison", title, MISSING)
    compared = profile_json.comparison(data.before, data.profile)
    unit = "modelled cycles" if compared["unit"] == "cycles" else "instructions"
    total = compared["total"]
    says = f"{number(total['before'])} {unit} before, {number(total['after'])} now"
    says += f" ({change(total['before'], total['after'])})."
    old, new = compared["before"], compared["after"]
    if old["board"] != new["board"]:
        says += f" The boards differ: {old['board']} before, {new['board']} now."
    found = rows(compared)
    drawn = (Chart("comparison", f"{unit} per layer, before and after", spec_of(chart(found, unit))),)
    return Figure("comparison", title, says, drawn if found else (), tables(compared, unit))
