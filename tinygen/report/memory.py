"""Figure: what the image puts where in the board's memory, every region to scale; and what fills it, magnified."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen.report import theme
from tinygen.report.bars import amount, base, colour, layer_axis, tooltips
from tinygen.report.data import NO_PROFILE, Data
from tinygen.report.figure import Chart, Figure, Table, number, percent, spec_of

KINDS = {
    "code": theme.BLUE,
    "weights": theme.GREEN,
    "constants": theme.TEAL,
    "pinned": theme.VIOLET,
    "load image": theme.ROSE,
    "arena": theme.AMBER,
    "stack": theme.RUST,
    "data": theme.GREY,
    "inputs": "var(--inputs)",
    "free": "var(--free)",
}
"""What a part is to the user -> its colour."""

MEANINGS = {
    "pinned": "weights and kernels copied into fast memory",
    "load image": "where these copies are loaded from",
    "inputs": "of the test harness; free in an application",
}
"""What needs a word more."""

EMPTY = ("inputs", "free")
"""Kinds that an application does not fill."""


def rows(data: Data) -> list[dict[str, Any]]:
    """One per part of a region. low, high: percent of the region; says: the part in words."""
    assert data.profile is not None
    found = []
    for region in data.profile["memory"]["regions"]:
        for part in region["parts"]:
            low = 100 * part["offset"] / region["length"]
            where = f"{region['origin'] + part['offset']:#010x}"
            size = number(part["bytes"], "bytes")
            kind, share = part["kind"], part["bytes"] / region["length"]
            found.append(
                {
                    "region": f"{region['name']}, {size_text(region['length'])}",
                    "kind": kind if kind in KINDS else "data",
                    "what": " ".join((kind, part["name"])).strip(),
                    "low": low,
                    "high": low + 100 * share,
                    "bytes": part["bytes"],
                    "size": size,
                    "share": percent(share),
                    "address": where,
                    "says": f"{region['name']}: {kind} {part['name']} at {where}, {size}, {percent(share)}",
                }
            )
    return found


def size_text(size: int) -> str:
    """Bytes as KB or MB (of 1,024), where that is exact to a tenth."""
    for unit, step in (("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= step:
            return f"{size / step:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} bytes"


def _kinds(found: list[dict[str, Any]], without: tuple[str, ...] = ()) -> alt.Color:
    present = [k for k in KINDS if k not in without and any(row["kind"] == k for row in found)]
    return colour("kind", present, [KINDS[k] for k in present])


TIPS = (("what", "part"), ("size", "size"), ("share", "of the region"), ("address", "address"))


def scale_chart(found: list[dict[str, Any]]) -> alt.Chart:
    """Every region as one bar from its first to its last byte."""
    regions = len({row["region"] for row in found})
    return (
        base(found, 46 * regions)
        .mark_bar(height=26, stroke=theme.CARD, strokeWidth=0.5, cornerRadius=0)
        .encode(
            x=alt.X(
                "low:Q",
                title="percent of the region",
                scale=alt.Scale(domain=[0, 100]),
                axis=alt.Axis(tickCount=5),
            ),
            x2="high:Q",
            y=layer_axis("region"),
            color=_kinds(found),
            tooltip=tooltips(*TIPS),
            description="says:N",
        )
    )


def used_chart(found: list[dict[str, Any]]) -> alt.Chart:
    """What an application fills, in bytes, all regions on one scale."""
    used = [row for row in found if row["kind"] not in EMPTY and row["bytes"]]
    regions = len({row["region"] for row in used})
    return (
        base(used, 46 * regions)
        .mark_bar(height=26, stroke=theme.CARD, strokeWidth=0.5, cornerRadius=0)
        .encode(
            x=amount("bytes", "bytes"),
            y=layer_axis("region"),
            color=_kinds(used, EMPTY),
            order=alt.Order("low:Q"),
            tooltip=tooltips(*TIPS),
            description="says:N",
        )
    )


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "Memory of the board"
    if data.profile is None:
        return Figure("memory", title, NO_PROFILE)
    found, memory = rows(data), data.profile["memory"]
    present = {row["kind"] for row in found}
    meanings = "; ".join(f"{k}: {v}" for k, v in MEANINGS.items() if k in present)
    says = f"{number(memory['flash'], 'bytes')} of flash and {number(memory['sram'], 'bytes')} of SRAM are taken."
    says += f" {meanings[0].upper()}{meanings[1:]}." if meanings else ""
    table = Table(
        ("region", "part", "address", "bytes", "of the region"),
        tuple((r["region"], r["what"], r["address"], number(r["bytes"]), r["share"]) for r in found),
        text=3,
    )
    charts = (
        Chart(
            "memory-scale", "regions of the board's memory to scale", spec_of(scale_chart(found)), "To scale"
        ),
        Chart("memory-used", "bytes in use by region", spec_of(used_chart(found)), "In use, magnified"),
    )
    return Figure("memory", title, says, charts, (table,))
