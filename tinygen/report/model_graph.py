"""Figure: the model as a graph, in layers from input to output, with the kernel that was chosen for every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
from fast_sugiyama import from_edges

from tinygen.graph import Graph
from tinygen.report import theme
from tinygen.report.bars import tooltips
from tinygen.report.data import ALIAS, Data
from tinygen.report.figure import Chart, Figure, Table, number, percent, spec_of, values

SPACING = 72.0
"""Distance of neighbours in the layout."""
ROW, WIDTH = 60, 205
"""Pixels per row, and per column at most."""
HALF_HEIGHT, HALF_WIDTH = 0.32, 0.45
"""Half of a box, in rows and columns."""


@dataclass(frozen=True)
class Layout:
    """Centres in rows and columns from the top left. nodes: index of input or step -> (x, y). edges: way points."""

    nodes: Mapping[int, tuple[float, float]]
    edges: tuple[tuple[tuple[float, float], ...], ...]

    @property
    def rows(self) -> int:
        return 1 + int(max(y for _, y in self.nodes.values()))

    @property
    def span(self) -> tuple[float, float]:
        """Left and right edge of everything that is drawn."""
        every = [x for x, _ in self.nodes.values()] + [x for edge in self.edges for x, _ in edge]
        return min(every) - 0.5, max(every) + 0.5


def edges_of(graph: Graph) -> list[tuple[int, int]]:
    """(from, to) by index: the graph's inputs come first, then its nodes in order of execution. No edge is twice."""
    index = {name: i for i, name in enumerate(graph.inputs)}
    found = []
    for position, b in enumerate(graph.bound(), len(graph.inputs)):
        found += [(index[t], position) for t in dict.fromkeys(t.name for t in b.activations)]
        index[b.output.name] = position
    return found


def layout(graph: Graph) -> Layout:
    """Layered: data flows down, few edges cross, long edges go around boxes."""
    edges = edges_of(graph)
    places: dict[int, tuple[float, float]] = {}
    routes: list[tuple[tuple[float, float], ...]] = []
    left, count = 0.0, len(graph.inputs) + len(graph.nodes)
    for positions, width, height, pieces in from_edges(edges):
        part = {int(n): (left + x / SPACING, (height - y) / SPACING) for n, (x, y) in positions}
        places |= part
        routes += _routes(part, [(int(a), int(b)) for a, b in pieces or ()], count)
        left += width / SPACING + 1.0
    for lonely in sorted(set(range(count)) - set(places)):
        places[lonely], left = (left, 0.0), left + 1.0
    return Layout({i: places[i] for i in range(count)}, tuple(routes))


def _routes(
    part: Mapping[int, tuple[float, float]], pieces: list[tuple[int, int]], count: int
) -> list[tuple[tuple[float, float], ...]]:
    """Pieces of edges, joined where they meet at places that are no boxes (numbers from `count` on)."""
    onward = {a: b for a, b in pieces if a >= count}
    routes = []
    for start, end in pieces:
        if start >= count:
            continue
        ways = [start, end]
        while ways[-1] >= count:
            ways.append(onward[ways[-1]])
        routes.append(tuple(part[n] for n in ways))
    return sorted(routes)


def rows(data: Data) -> list[dict[str, Any]]:
    """One per input and step, in the order of the layout's indices. share: of the time, 0 where not known."""
    shares = {c["name"]: c["share"] or 0.0 for c in data.costs() if "share" in c}
    found = [
        {"name": t["name"], "kernel": "input", "kind": "input", "shape": _shape(t["shape"]), "share": 0.0}
        for t in data.layers["inputs"]
    ]
    for layer in data.layers["layers"]:
        kind = "alias" if layer["kernel"] == ALIAS else "kernel"
        share = shares.get(layer["layer"], 0.0)
        found.append(
            {
                "name": layer["layer"],
                "kernel": "no code" if kind == "alias" else layer["kernel"].removeprefix("tg_"),
                "kind": kind,
                "shape": _shape(layer["shape"]),
                "share": share,
            }
        )
    for row in found:
        row["below"] = row["kernel"] + (f" · {percent(row['share'])}" if row["share"] >= 0.0005 else "")
        row["says"] = f"{row['name']}: {row['below']}, output {row['shape']}"
    return found


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape)


def chart(found: list[dict[str, Any]], places: Layout) -> alt.LayerChart:
    """Boxes at their places, edges behind them."""
    boxes = []
    for i, row in enumerate(found):
        x, y = places.nodes[i]
        edges = {"x": x - HALF_WIDTH, "x2": x + HALF_WIDTH, "y": y - HALF_HEIGHT, "y2": y + HALF_HEIGHT}
        boxes.append({**row, **edges, "cx": x, "cy": y})
    low, high = places.span
    x_scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    y_scale = alt.Scale(domain=[places.rows - 0.5, -0.5], nice=False, zero=False)
    nodes = alt.Chart(values(boxes)).encode(
        tooltip=tooltips(("name", "layer"), ("below", "kernel"), ("shape", "output")),
        description="says:N",
    )
    limit = alt.ExprRef(f"{2 * HALF_WIDTH - 0.05} * width / {high - low}")
    centre = {"x": alt.X("cx:Q", scale=x_scale, axis=None), "y": alt.Y("cy:Q", scale=y_scale, axis=None)}
    box = {"x": alt.X("x:Q", scale=x_scale, axis=None), "x2": "x2:Q"}
    box |= {"y": alt.Y("y:Q", scale=y_scale, axis=None), "y2": "y2:Q"}
    frame = {"fill": theme.CARD, "stroke": theme.GREY, "strokeOpacity": 0.6, "cornerRadius": 6}
    under = nodes.transform_filter("datum.kind != 'alias'").mark_rect(**frame)
    dashed = nodes.transform_filter("datum.kind == 'alias'").mark_rect(**frame, strokeDash=[4, 3])
    most = max((row["share"] for row in found), default=0) or 1
    tint = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, most], range=[0.05, 0.5]), legend=None)
    over = nodes.mark_rect(fill=theme.BLUE, cornerRadius=6, aria=False).encode(**box, opacity=tint)
    title = nodes.mark_text(fontSize=12, fontWeight=600, dy=-7, limit=limit, aria=False)
    below = nodes.mark_text(fontSize=10.5, opacity=0.8, dy=9, limit=limit, aria=False)
    return alt.layer(
        _lines(places, x_scale, y_scale),
        _heads(places, x_scale, y_scale),
        under.encode(**box),
        dashed.encode(**box),
        over,
        title.encode(**centre, text="name:N"),
        below.encode(**centre, text="below:N"),
    ).properties(width="container", height=places.rows * ROW)


def _lines(places: Layout, x: Any, y: Any) -> alt.Chart:
    """Edges as curves that leave and reach boxes vertically; those that skip a row are told apart."""
    points = []
    for number_, edge in enumerate(places.edges):
        ways = [(edge[0][0], edge[0][1] + HALF_HEIGHT), *edge[1:-1], (edge[-1][0], edge[-1][1] - HALF_HEIGHT)]
        kind = "skips" if len(edge) > 2 else "next"
        points += [
            {"edge": number_, "order": i, "x": a, "y": b, "kind": kind}
            for i, (a, b) in enumerate(_eased(ways))
        ]
    colour = alt.Color(
        "kind:N", scale=alt.Scale(domain=["next", "skips"], range=[theme.GREY, theme.AMBER]), legend=None
    )
    return (
        alt.Chart(values(points))
        .mark_line(strokeWidth=1.6, interpolate="monotone", orient="vertical", aria=False)
        .encode(
            x=alt.X("x:Q", scale=x, axis=None),
            y=alt.Y("y:Q", scale=y, axis=None),
            detail="edge:N",
            order="order:Q",
            color=colour,
        )
    )


def _eased(ways: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The way points, with one more right behind the start and right before the end: curves end vertically."""
    (x0, y0), (x1, y1) = ways[0], ways[-1]
    ease = 0.04
    return [(x0, y0), (x0, y0 + ease), *ways[1:-1], (x1, y1 - ease), (x1, y1)]


def _heads(places: Layout, x: Any, y: Any) -> alt.Chart:
    """Where edges arrive."""
    ends = [{"x": edge[-1][0], "y": edge[-1][1] - HALF_HEIGHT - 0.05} for edge in places.edges]
    unique = [dict(t) for t in dict.fromkeys(tuple(end.items()) for end in ends)]
    return (
        alt.Chart(values(unique))
        .mark_point(shape="triangle-down", filled=True, size=34, color=theme.GREY, opacity=1, aria=False)
        .encode(x=alt.X("x:Q", scale=x, axis=None), y=alt.Y("y:Q", scale=y, axis=None))
    )


def table(data: Data) -> Table:
    """All layers with what the compiler chose."""
    shown = tuple(
        (
            str(layer["step"]),
            layer["layer"],
            layer["kernel"],
            _shape(layer["shape"]),
            number(layer["macs"]),
            number(layer["weight_bytes"]),
            number(layer["scratch_bytes"]),
            _weighed(layer["chosen"]),
            _weighed(layer["runner_up"]),
        )
        for layer in data.layers["layers"]
    )
    columns = ("step", "layer", "kernel", "output", "MACs", "constants", "scratch", "weighed", "runner-up")
    return Table(columns, shown, text=4)


def _weighed(kernel: dict[str, Any] | None) -> str:
    """A kernel with what it was weighed by; "" where there was none."""
    if kernel is None:
        return ""
    parts = [f"{kernel['cycles']:,} cycles", f"{kernel['flash']:,} B flash"]
    parts += [f"{kernel['sram']:,} B SRAM"] if kernel["sram"] else []
    return f"{kernel['kernel'].removeprefix('tg_')}: {', '.join(parts)}"


def figure(data: Data) -> Figure:
    """The section of the page."""
    places, found = layout(data.graph), rows(data)
    kernels = {row["kernel"] for row in found if row["kind"] == "kernel"}
    free = sum(row["kind"] == "alias" for row in found)
    skips = sum(len(edge) > 2 for edge in places.edges)
    says = f"{len(data.layers['layers'])} steps with {len(kernels)} kinds of kernels"
    says += f"; {free} of them only reinterpret bytes and need no code (dashed)" if free else ""
    says += f"; {skips} connections skip steps (amber)" if skips else ""
    says += ". The stronger a box is tinted, the more of the time it takes." if data.costs() else "."
    low, high = places.span
    drawn = Chart(
        "graph",
        f"graph of the model, {len(found)} nodes",
        spec_of(chart(found, places)),
        width=int(WIDTH * max(1.2, high - low)),
    )
    return Figure("model", "The model and its kernels", says, (drawn,), (table(data),), wide=True)
