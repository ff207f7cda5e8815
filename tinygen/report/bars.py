"""Horizontal bars, one row per layer: the shape of most figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from tinygen.report import theme
from tinygen.report.figure import values

Rows = Sequence[Mapping[str, Any]]


def layer_axis(field: str = "layer") -> alt.Y:
    """Names in the order of the rows; the page cuts long ones, the tooltip has them whole."""
    return alt.Y(f"{field}:N", sort=None, title=None, axis=alt.Axis(labelColor=theme.INK))


def colour(field: str, names: Sequence[str], colours: Sequence[str]) -> alt.Color:
    """A legend of fixed names with fixed colours."""
    scale = alt.Scale(domain=list(names), range=list(colours))
    return alt.Color(f"{field}:N", scale=scale, legend=alt.Legend(), sort=None)


def amount(field: str, title: str, **axis: Any) -> alt.X:
    """A quantity along x with short numbers (1.2M)."""
    settings = {"labelExpr": "format(abs(datum.value), '~s')", "tickCount": 5, **axis}
    return alt.X(f"{field}:Q", title=title, axis=alt.Axis(**settings))


def tooltips(*fields: tuple[str, str]) -> list[alt.Tooltip]:
    """(field, title) of texts that are ready to be shown."""
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in fields]


def tall(rows: Rows, field: str = "layer", each: int = theme.ROW) -> int:
    """Pixels for one bar per different value of a field, `each` of them per bar."""
    return each * max(1, len({row[field] for row in rows}))


def base(rows: Rows, height: int) -> alt.Chart:
    """A chart as wide as its place; height in pixels."""
    return alt.Chart(values(rows)).properties(width="container", height=height)
