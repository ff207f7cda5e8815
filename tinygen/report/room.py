"""Figure: what the firmware takes of what it may take: SRAM, flash, milliseconds."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen.report import theme
from tinygen.report.bars import base, layer_axis, tooltips
from tinygen.report.data import NO_PROFILE, Data
from tinygen.report.figure import Chart, Figure, Table, number, percent, spec_of


def rows(data: Data) -> list[dict[str, Any]]:
    """One per limit. low, high: percent of it that is taken; of: who sets it."""
    assert data.profile is not None
    board, given, memory = data.board, data.budgets, data.profile["memory"]
    sram = sum(r.length for r in board.writable) - board.reserved.application
    found = [
        _row("SRAM", memory["sram"], given.sram, sram, "bytes"),
        _row("flash", memory["flash"], given.flash, board.code.length, "bytes"),
    ]
    slowest = data.profile["latency"]["max_ms"]
    if given.ms is not None and slowest is not None:
        found.append(_row("time", slowest, given.ms, given.ms, "ms"))
    return found


def _row(name: str, used: float, budget: float | None, limit: float, unit: str) -> dict[str, Any]:
    allowed = limit if budget is None else budget
    share = used / allowed if allowed else float(used > 0)
    over = used > allowed
    source = "of the board" if budget is None else "budget"
    return {
        "name": name,
        "low": 0,
        "high": min(100 * share, 100),
        "state": "too much" if over else "taken",
        "used": number(used, unit),
        "allowed": number(allowed, unit),
        "of": source,
        "share": percent(share),
        "beyond": max(0.0, 100 * share - 100),
        "label": f"{number(used)} of {number(allowed, unit)} ({percent(share)})",
        "says": f"{name}: {number(used, unit)} of {number(allowed, unit)}, {percent(share)}, {source}",
    }


def chart(found: list[dict[str, Any]]) -> alt.LayerChart:
    """Bars in a frame that is what is allowed; the label stands above each."""
    frames = base([{**row, "high": 100} for row in found], 58 * len(found))
    bars = base(found, 58 * len(found))
    scale = alt.Scale(domain=[0, 100], nice=False)
    x, y = alt.X("low:Q", scale=scale, axis=None), layer_axis("name")
    colours = alt.Color(
        "state:N", scale=alt.Scale(domain=["taken", "too much"], range=[theme.BLUE, theme.RUST]), legend=None
    )
    tips = tooltips(
        ("name", "what"), ("used", "taken"), ("allowed", "allowed"), ("share", "share"), ("of", "limit")
    )
    return alt.layer(
        frames.mark_bar(color="var(--free)", height=18, cornerRadius=4, aria=False).encode(
            x=x, x2="high:Q", y=y
        ),
        bars.mark_bar(height=18, cornerRadius=4).encode(
            x=x, x2="high:Q", y=y, color=colours, tooltip=tips, description="says:N"
        ),
        bars.mark_text(align="left", dy=-18, aria=False).encode(x=x, y=y, text="label:N"),
    ).properties(width="container", height=58 * len(found))


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "Budgets"
    if data.profile is None:
        return Figure("budgets", title, NO_PROFILE)
    found = rows(data)
    over = [row["name"] for row in found if row["state"] == "too much"]
    says = f"Too much: {', '.join(over)}." if over else "Everything fits."
    if data.unit != "cycles":
        says += f" Time cannot be checked: no cycles are modelled for {data.profile['core']}."
    elif data.budgets.ms is None:
        says += " Time has no limit: give one with --budget-ms."
    table = Table(
        ("what", "limit", "taken", "allowed", "share"),
        tuple((r["name"], r["of"], r["used"], r["allowed"], r["share"]) for r in found),
        text=2,
    )
    return Figure("budgets", title, says, (Chart("budgets", "budgets", spec_of(chart(found))),), (table,))
