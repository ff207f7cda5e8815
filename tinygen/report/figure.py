"""What a figure is: charts, a sentence, and the same numbers as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt


@dataclass(frozen=True)
class Table:
    """Cells as they are shown. text: how many columns, from the left, hold words (the others are numbers)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: int = 1
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """One Vega-Lite chart. key: its id in the page. label: what it shows, for those who hear the page.

    width: pixels that it takes at most; 0: all there are.
    """

    key: str
    label: str
    spec: Mapping[str, Any]
    title: str = ""
    width: int = 0


@dataclass(frozen=True)
class Figure:
    """A section of the page. says: the result in a sentence or two; charts (): only that is shown.

    wide: the table stands open beside the chart.
    """

    key: str
    title: str
    says: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    wide: bool = False


def spec_of(chart: alt.Chart | alt.LayerChart) -> dict[str, Any]:
    """The chart as Vega-Lite; size and theme are the page's."""
    spec: dict[str, Any] = chart.to_dict()
    for key in ("$schema", "config"):
        spec.pop(key, None)
    return {"autosize": {"type": "fit-x", "contains": "padding"}, **spec}


def values(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Rows as a chart's data."""
    return alt.InlineData(values=[dict(row) for row in rows])


def number(value: float | None, unit: str = "") -> str:
    """Thousands separators for whole numbers, three significant digits for others; a dash for what is not known."""
    if value is None:
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) >= 1000):
        text = f"{int(value):,}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}" if unit else text


def percent(share: float) -> str:
    """A share of 1 as percent, to a tenth."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"
