"""Figure: how the cells of `tinygen bench` changed from commit to commit."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen.report import theme
from tinygen.report.bars import base, tooltips
from tinygen.report.data import Data
from tinygen.report.figure import Chart, Figure, Table, number, spec_of

MISSING = "No history was given: --history FILE, as 'tinygen bench' keeps it."
HEIGHT = 260


def cells(data: Data) -> list[str]:
    """Names of all cells, in the order in which they appear."""
    return list(dict.fromkeys(name for entry in data.history or () for name in entry["cells"]))


def figure_of(cell: dict[str, Any]) -> float | None:
    """What a cell is judged by: modelled cycles, or instructions where there are none."""
    value = cell.get("cycles")
    return cell.get("instructions") if value is None else value


def rows(data: Data) -> list[dict[str, Any]]:
    """One per cell and entry that has it. percent: of the cell's first figure."""
    found = []
    for name in cells(data):
        first = None
        for order, entry in enumerate(data.history or ()):
            value = figure_of(entry["cells"].get(name) or {})
            if not value:
                continue
            first = first or value
            commit, date = str(entry["commit"] or "no commit")[:10], str(entry["date"])[:10]
            ratio = 100 * value / first
            says = f"{name}, {commit}: {number(value)}, {ratio:.1f} % of the first"
            found.append(
                {
                    "cell": name,
                    "order": order,
                    "commit": commit,
                    "date": date,
                    "percent": round(ratio, 3),
                    "shown": number(value),
                    "ratio": f"{ratio:.1f} %",
                    "says": says,
                }
            )
    return found


def chart(found: list[dict[str, Any]], names: list[str]) -> alt.LayerChart:
    """Lines that start at 100 %."""
    lines = base(found, HEIGHT).encode(
        x=alt.X("order:O", title="entry", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("percent:Q", title="percent of the first", scale=alt.Scale(zero=False)),
        color=alt.Color(
            "cell:N",
            sort=None,
            scale=alt.Scale(domain=names, range=[theme.SERIES[i % 8] for i in range(len(names))]),
            legend=alt.Legend(symbolLimit=12),
        ),
    )
    tips = (
        ("cell", "cell"),
        ("commit", "commit"),
        ("date", "date"),
        ("shown", "figure"),
        ("ratio", "of the first"),
    )
    return alt.layer(
        lines.mark_line(strokeWidth=2, aria=False),
        lines.mark_point(filled=True, size=40, opacity=1).encode(
            tooltip=tooltips(*tips), description="says:N"
        ),
    ).properties(width="container", height=HEIGHT)


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "History"
    found = rows(data) if data.history else []
    if not found:
        return Figure("history", title, MISSING)
    names = [n for n in cells(data) if any(row["cell"] == n for row in found)]
    last = {name: [row for row in found if row["cell"] == name][-1] for name in names}
    best, worst = (choose(names, key=lambda n: last[n]["percent"]) for choose in (min, max))
    says = f"{len(names)} cells over {len(data.history or ())} entries, each in percent of its first figure. Now "
    says += f"{best} stands at {last[best]['ratio']}, {worst} at {last[worst]['ratio']}."
    shown = tuple((r["cell"], r["commit"], r["date"], r["shown"], r["ratio"]) for r in found)
    table = Table(("cell", "commit", "date", "figure", "of the first"), shown, text=3)
    return Figure(
        "history", title, says, (Chart("history", "history", spec_of(chart(found, names))),), (table,)
    )
