"""Colours and type of the charts. Colours are CSS variables, so that light, dark and paper need no second chart."""

from __future__ import annotations

from typing import Any

INK, DIM, LINE, CARD = "var(--ink)", "var(--dim)", "var(--line)", "var(--card)"
BLUE, AMBER, RUST, GREEN, VIOLET, TEAL, ROSE, GREY = (
    f"var(--{name})" for name in ("blue", "amber", "rust", "green", "violet", "teal", "rose", "grey")
)
SERIES = (BLUE, AMBER, GREEN, VIOLET, TEAL, ROSE, RUST, GREY)
"""Colours of categories that have no meaning of their own, in order."""

ROW = 21
"""Pixels per row of a bar chart."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

CONFIG: dict[str, Any] = {
    "background": None,
    "font": FONT,
    "padding": {"left": 2, "right": 8, "top": 4, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "labelColor": DIM,
        "titleColor": DIM,
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
        "labelFontSize": 11.5,
        "titleFontSize": 11.5,
        "titleFontWeight": 500,
        "labelPadding": 6,
    },
    "axisY": {"ticks": False, "domain": False},
    "legend": {
        "orient": "top",
        "direction": "horizontal",
        "title": None,
        "labelColor": INK,
        "labelFontSize": 12,
        "symbolType": "square",
        "symbolSize": 110,
        "symbolStrokeWidth": 0,
        "offset": 8,
        "columnPadding": 14,
    },
    "bar": {"cornerRadiusEnd": 1.5},
    "scale": {"bandPaddingInner": 0.22},
    "text": {"color": INK, "fontSize": 11},
    "rule": {"color": DIM},
}
"""Configuration of every chart of a page."""
