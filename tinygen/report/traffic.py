"""Figure: bytes of data that every layer reads from and writes to each region of memory."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen.report import theme
from tinygen.report.bars import amount, base, colour, layer_axis, tall, tooltips
from tinygen.report.data import NO_PROFILE, Data
from tinygen.report.figure import Chart, Figure, Table, number, spec_of


def regions(data: Data) -> list[str]:
    """Names of the regions that data is read from or written to, in the profile's order."""
    seen: dict[str, None] = {}
    for cost in data.costs():
        for direction in ("bytes_read", "bytes_written"):
            seen |= {name: None for name, count in cost[direction].items() if count}
    return list(seen)


def rows(data: Data) -> list[dict[str, Any]]:
    """One per layer, region and direction that has traffic. amount: bytes, negative for writes: they go left."""
    found = []
    for cost in data.costs():
        for direction, sign in (("read", 1), ("written", -1)):
            for region in regions(data):
                count = cost[f"bytes_{direction}"].get(region, 0)
                if count:
                    says = f"{cost['name']}: {number(count)} bytes {direction}, {region}"
                    found.append(
                        {
                            "layer": cost["name"],
                            "region": region,
                            "direction": direction,
                            "amount": sign * count,
                            "shown": number(count, "bytes"),
                            "says": says,
                        }
                    )
    return found


def chart(found: list[dict[str, Any]], names: list[str]) -> alt.Chart:
    """Reads to the right, writes to the left."""
    return (
        base(found, tall(found))
        .mark_bar()
        .encode(
            x=amount("amount", "bytes (left of 0, paler: written)"),
            y=layer_axis(),
            color=colour("region", names, theme.SERIES[: len(names)]),
            opacity=alt.Opacity(
                "direction:O",
                scale=alt.Scale(domain=["read", "written"], range=[1, 0.5]),
                legend=None,
            ),
            tooltip=tooltips(
                ("layer", "layer"), ("region", "region"), ("direction", "direction"), ("shown", "data")
            ),
            description="says:N",
        )
    )


def table(data: Data, names: list[str]) -> Table:
    """Reads and writes of every layer by region."""
    columns = [(f"bytes_{d}", r, f"{d}, {r}") for d in ("read", "written") for r in names]
    shown = tuple(
        (cost["name"], *(number(cost[d].get(r, 0)) for d, r, _ in columns)) for cost in data.costs()
    )
    return Table(("layer", *(title for _, _, title in columns)), shown)


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "Memory traffic per layer"
    names, found = regions(data), rows(data)
    if data.profile is None or not found:
        return Figure("traffic", title, NO_PROFILE if data.profile is None else "No traffic was counted.")
    sums = {n: sum(row["amount"] for row in found if row["region"] == n and row["amount"] > 0) for n in names}
    parts = ", ".join(f"{number(count, 'bytes')} from {name}" for name, count in sums.items())
    drawn = Chart("traffic", "bytes read and written per layer", spec_of(chart(found, names[:8])))
    return Figure("traffic", title, f"One inference reads {parts}.", (drawn,), (table(data, names),))
