"""The page: figures and head in one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jinja2
import vl_convert

from tinygen import __version__, locate
from tinygen.report import (
    arena,
    comparison,
    head,
    history,
    ladder,
    layer_time,
    memory,
    model_graph,
    pruned,
    room,
    rounding,
    theme,
    traffic,
)
from tinygen.report.data import Data
from tinygen.report.figure import Figure

BUILDERS = (
    layer_time.figure,
    room.figure,
    memory.figure,
    arena.figure,
    model_graph.figure,
    traffic.figure,
    rounding.figure,
    pruned.figure,
    ladder.figure,
    comparison.figure,
    history.figure,
)
"""The sections of the page, in order."""

SNIPPET = "window.tinygenEmbed = vegaEmbed;"
"""What the page calls of the bundled library."""


def figures(data: Data) -> tuple[Figure, ...]:
    """All sections."""
    return tuple(build(data) for build in BUILDERS)


def render(data: Data) -> str:
    """The page's text. Equal data give equal text."""
    sections = figures(data)
    specs = {chart.key: chart.spec for figure in sections for chart in figure.charts}
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=data.title,
            board=data.board,
            manifest=data.manifest,
            version=__version__,
            profile=data.profile,
            cards=head.cards(data),
            figures=sections,
            charts=script_json({"config": theme.CONFIG, "specs": specs}),
            library=script_safe(vl_convert.javascript_bundle(SNIPPET)),
        )
    )


def script_json(value: Mapping[str, Any]) -> str:
    """JSON that may stand in a <script> whatever names it holds: no <, > or & is left."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII only: no U+2028 either
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def script_safe(code: str) -> str:
    """JavaScript that cannot end the <script> that it stands in."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _environment() -> jinja2.Environment:
    """Templates of the report; every value is escaped unless the template says that it is safe."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(locate.folder("templates") / "report"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
