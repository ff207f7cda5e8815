"""Figures of quantization: signal-to-noise per activation with its worst channels, and histograms of int8 values."""

from __future__ import annotations

from typing import Any

import altair as alt

from tinygen.quantization_error import BINS, QuantizationError, TensorError
from tinygen.report import theme
from tinygen.report.bars import base, layer_axis, tall, tooltips
from tinygen.report.data import ALIAS, Data
from tinygen.report.figure import Chart, Figure, Table, number, percent, spec_of, values

MISSING = (
    "The project has no quantization.json: it was compiled from an int8 model without --representative samples, "
    "or by an earlier tinygen. Compile it again with samples."
)
NO_FLOAT = "The model came as int8: there is no float model to compare with, only histograms of its values."
NOT_INT8 = "The project computes in float32: nothing is quantized."
RIDGE = 44
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
    x = alt.X("snr:Q", title="dB (dots: worst channels)", axis=alt.Axis(tickCount=6))
    drawn = (
        base(bars, tall(bars))
        .mark_bar(color=theme.BLUE, opacity=0.45)
        .encode(
            x=x,
            y=layer_axis(),
            tooltip=tooltips(("layer", "activation"), ("shown", "signal to noise"), ("clipped", "clipped")),
            description="says:N",
        )
    )
    dots = (
        base(channels, tall(bars))
        .mark_point(filled=True, size=30, color=theme.RUST, opacity=1)
        .encode(
            x=x,
            y=layer_axis(),
            tooltip=tooltips(("layer", "activation"), ("channel", "channel"), ("shown", "signal to noise")),
            description="says:N",
        )
    )
    return alt.layer(drawn, dots).properties(width="container", height=tall(bars))


# ---- histograms


def histogram_rows(tensors: list[TensorError]) -> list[dict[str, Any]]:
    """One per activation. bins: their numbers, one more to close the outline; foot: where its row ends."""
    return [
        {
            "layer": t.name,
            "counts": [*t.histogram, t.histogram[-1]],
            "bins": list(range(BINS + 1)),
            "fullest": max(*t.histogram, 1),
            "total": max(sum(t.histogram), 1),
            "zero": t.zero_point + 0.5,
            "head": row,
            "foot": row + 1,
            "says": f"{t.name}: histogram of {number(sum(t.histogram))} int8 values",
        }
        for row, t in enumerate(tensors)
    ]


def histogram_chart(found: list[dict[str, Any]]) -> alt.LayerChart:
    """Histograms under each other on one axis of int8 values, each with its name and zero point."""
    axis = alt.Axis(tickCount=8, format="d")
    x_scale = alt.Scale(domain=[-128, 128], nice=False)
    y_scale = alt.Scale(domain=[len(found), 0], nice=False, zero=False)
    rows = alt.Chart(values(found)).encode(description="says:N")
    bins = rows.transform_flatten(["counts", "bins"], ["count", "bin"]).transform_calculate(
        low=f"{STEP} * datum.bin - 128",
        high=f"{STEP} * datum.bin + {STEP - 128}",
        top="datum.foot - 0.6 * datum.count / datum.fullest",
        span=f"({STEP} * datum.bin - 128) + ' … ' + ({STEP} * datum.bin + {STEP - 129})",
        share="format(datum.count / datum.total, '.1%')",
        shown="format(datum.count, ',')",
    )
    tips = (("layer", "activation"), ("span", "int8 values"), ("share", "share"), ("shown", "values"))
    x, y = (
        alt.X("low:Q", title="int8 value", scale=x_scale, axis=axis),
        alt.Y("top:Q", scale=y_scale, axis=None),
    )
    stepped = {"interpolate": "step-after", "color": theme.TEAL}
    area = bins.mark_area(**stepped, opacity=0.5)
    line = bins.mark_line(**stepped, strokeWidth=1, aria=False)
    hover = bins.transform_filter(f"datum.bin < {BINS}").mark_rect(opacity=0, aria=False)
    rule = rows.transform_calculate(above="datum.foot - 0.64").mark_rule(strokeDash=[2, 2], aria=False)
    name = rows.transform_calculate(left="-128", middle="datum.head + 0.22")
    text = name.mark_text(align="left", dx=1, fontSize=11.5, limit=alt.ExprRef("width - 8"), aria=False)
    return alt.layer(
        area.encode(x=x, y=y, y2="foot:Q", detail="head:N"),
        line.encode(x=x, y=y, detail="head:N"),
        rule.encode(x=alt.X("zero:Q"), y="above:Q", y2="foot:Q"),
        text.encode(x="left:Q", y="middle:Q", text="layer:N"),
        hover.encode(x=x, x2="high:Q", y="head:Q", y2="foot:Q", tooltip=tooltips(*tips)),
    ).properties(width="container", height=len(found) * RIDGE)


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
        return Figure("quantization", title, MISSING if data.graph.precision == "int8" else NOT_INT8)
    tensors = shown_tensors(data)
    bars = snr_rows(tensors)
    charts = []
    if bars:
        spec = spec_of(snr_chart(bars, channel_rows(tensors)))
        charts.append(Chart("snr", "signal-to-noise ratio per activation", spec, "Signal-to-noise ratio"))
    histograms = spec_of(histogram_chart(histogram_rows(tensors)))
    caption = "Where int8 values lie (dashed: zero)"
    charts.append(Chart("histograms", "histograms of int8 activations", histograms, caption))
    worst = min(bars, key=lambda row: row["snr"], default=None)
    says = NO_FLOAT
    if data.error.compared:
        says = f"Float against the int8 reference on {data.error.samples} representative samples."
        says += f" The noisiest activation is {worst['layer']} with {worst['shown']}." if worst else ""
    return Figure("quantization", title, says, tuple(charts), (table(data.error, tensors),))
