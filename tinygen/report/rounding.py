"""Figures of quantization: signal-to-noise per activation with its worst channels, and histograms of int8 values."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen.quantization_error import BINS, QuantizationError, TensorError
from tinygen.report import theme
from tinygen.report.bars import base, layer_axis, tooltips
from tinygen.report.data import ALIAS, Data
from tinygen.report.figure import Chart, Figure, Table, number, percent, spec_of, values

MISSING = (
    "The project has no quantization.json: it was compiled from an int8 model without --representative samples, "
    "or by an earlier tinygen. Compile it again with samples."
)
NO_FLOAT = "The model came as int8: there is no float model to compare with, only histograms of its values."
RIDGE = 38
"""Pixels per histogram."""
STEP = 256 // BINS


def shown_tensors(data: Data) -> list[TensorError]:
    """Activations with bytes of their own: what an alias step puts out is shown once."""
    assert data.error is not None
    aliases = {layer["layer"] for layer in data.layers["layers"] if layer["kernel"] == ALIAS}
    outputs = {n.output for n in data.graph.nodes if n.name in aliases}
    return [t for t in data.error.tensors if t.name not in outputs]


def decibels(value: float | None) -> str:
    """A ratio; what has none is exact or silent."""
    return "exact" if value is None else f"{value:.1f} dB"


# ---- signal to noise


def snr_rows(tensors: list[TensorError]) -> list[dict[str, Any]]:
    """One per activation with a ratio."""
    return [
        {
            "layer": t.name,
            "snr": t.snr_db,
            "shown": decibels(t.snr_db),
            "clipped": "–" if t.clipped is None else percent(t.clipped),
            "says": f"{t.name}: {decibels(t.snr_db)}",
        }
        for t in tensors
        if t.snr_db is not None
    ]


def channel_rows(tensors: list[TensorError]) -> list[dict[str, Any]]:
    """One per activation and bad channel."""
    return [
        {
            "layer": t.name,
            "snr": c.snr_db,
            "shown": decibels(c.snr_db),
            "channel": str(c.index),
            "says": f"{t.name}, channel {c.index}: {decibels(c.snr_db)}",
        }
        for t in tensors
        if t.snr_db is not None
        for c in t.worst
    ]


def snr_chart(bars: list[dict[str, Any]], channels: list[dict[str, Any]]) -> alt.LayerChart:
    """A bar per activation, a dot per bad channel."""
    x = alt.X("snr:Q", title="signal-to-noise ratio, dB (more is better; dots: the worst channels)")
    drawn = (
        base(bars)
        .mark_bar(color=theme.BLUE, opacity=0.8)
        .encode(
            x=x,
            y=layer_axis(),
            tooltip=tooltips(("layer", "activation"), ("shown", "signal to noise"), ("clipped", "clipped")),
            description="says:N",
        )
    )
    dots = (
        base(channels)
        .mark_point(filled=True, size=26, color=theme.RUST, opacity=0.9)
        .encode(
            x=x,
            y=layer_axis(),
            tooltip=tooltips(("layer", "activation"), ("channel", "channel"), ("shown", "signal to noise")),
            description="says:N",
        )
    )
    return alt.layer(drawn, dots).properties(width="container", height=alt.Step(theme.ROW))


# ---- histograms


def histogram_rows(tensors: list[TensorError]) -> list[dict[str, Any]]:
    """One per activation and bin, and one to close the outline. top: 0 ... 0.8 of a row, of the fullest bin."""
    found: list[dict[str, Any]] = []
    for row, t in enumerate(tensors):
        fullest, total = max(t.histogram) or 1, sum(t.histogram) or 1
        for i, count in enumerate((*t.histogram, t.histogram[-1])):
            low = -128 + STEP * i
            found.append({"row": row, "value": low, "foot": row + 1, "top": row + 1 - 0.72 * count / fullest})
            if i < BINS:
                span, share = f"{low} … {low + STEP - 1}", percent(count / total)
                found[-1] |= {"layer": t.name, "span": span, "share": share, "count": number(count)}
    return found


def histogram_chart(tensors: list[TensorError]) -> alt.LayerChart:
    """Histograms under each other on one axis of int8 values, each with its name and zero point."""
    found = histogram_rows(tensors)
    count = len(tensors)
    x = alt.X("value:Q", title="int8 value", scale=alt.Scale(domain=[-128, 128], nice=False))
    y = alt.Y("top:Q", scale=alt.Scale(domain=[count, 0], nice=False, zero=False), axis=None)
    names = [
        {
            "row": i + 0.2,
            "layer": t.name,
            "zero": t.zero_point + 0.5,
            "low": i + 0.35,
            "high": i + 1,
            "left": -128,
        }
        for i, t in enumerate(tensors)
    ]
    area = alt.Chart(values(found)).mark_area(
        interpolate="step-after", color=theme.TEAL, opacity=0.55, line={"color": theme.TEAL, "strokeWidth": 1}
    )
    marks = alt.Chart(values(names))
    hover = alt.Chart(values([r for r in found if "layer" in r])).mark_rect(opacity=0, aria=False)
    return alt.layer(
        area.encode(x=x, y=y, y2="foot:Q", detail="row:N"),
        marks.mark_rule(strokeDash=[2, 2], aria=False).encode(x="zero:Q", y="low:Q", y2="high:Q"),
        marks.mark_text(align="left", dx=3, fontSize=11, limit=alt.ExprRef("width - 8")).encode(
            x="left:Q", y="row:Q", text="layer:N"
        ),
        hover.transform_calculate(right=f"datum.value + {STEP}").encode(
            x="value:Q",
            x2="right:Q",
            y="row:Q",
            y2="foot:Q",
            tooltip=tooltips(
                ("layer", "activation"), ("span", "int8 values"), ("share", "share"), ("count", "count")
            ),
        ),
    ).properties(width="container", height=count * RIDGE)


# ---- the section


def table(error: QuantizationError, tensors: list[TensorError]) -> Table:
    """All activations with their worst channels."""
    shown = []
    for t in tensors:
        worst = ", ".join(f"{c.index} ({decibels(c.snr_db)})" for c in t.worst)
        ratio = decibels(t.snr_db) if error.compared else "–"
        clipped = "–" if t.clipped is None else percent(t.clipped)
        shown.append((t.name, worst, ratio, clipped, f"{t.scale:.4g}", str(t.zero_point)))
    columns = ("activation", "worst channels", "signal to noise", "clipped", "scale", "zero point")
    return Table(columns, tuple(shown), text=2)


def figure(data: Data) -> Figure:
    """The section of the page."""
    title = "Quantization error"
    if data.error is None:
        return Figure("quantization", title, MISSING)
    tensors = shown_tensors(data)
    bars = snr_rows(tensors)
    charts = []
    if bars:
        spec = spec_of(snr_chart(bars, channel_rows(tensors)))
        charts.append(Chart("snr", "signal-to-noise ratio per activation", spec, "Signal to noise"))
    histograms = spec_of(histogram_chart(tensors))
    caption = "Where int8 values lie (dashed: zero)"
    charts.append(Chart("histograms", "histograms of int8 activations", histograms, caption))
    worst = min(bars, key=lambda row: row["snr"], default=None)
    says = NO_FLOAT
    if data.error.compared:
        says = f"Float against the int8 reference on {data.error.samples} representative samples."
        says += f" The noisiest activation is {worst['layer']} with {worst['shown']}." if worst else ""
    return Figure("quantization", title, says, tuple(charts), (table(data.error, tensors),))
