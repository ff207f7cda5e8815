"""Tables of benchmarks as Markdown, and pages that both people and benchmarks write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [
        f"| {' | '.join(titles)} |",
        "|---" * len(titles) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def around(page: Path, name: str) -> tuple[str, str]:
    """What stands up to `<!-- made: NAME -->` and from `<!-- end: NAME -->`, both included. ValueError without them."""
    start, end = f"<!-- made: {name} -->\n", f"<!-- end: {name} -->"
    before, found, rest = page.read_text().partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no section '{name}'")
    return before + found, closed + after


def replace_section(page: Path, name: str, lines: Sequence[str]) -> None:
    """Put the lines between `<!-- made: NAME -->` and `<!-- end: NAME -->`. ValueError when the page has no such."""
    before, after = around(page, name)
    page.write_text(before + "\n".join(lines) + "\n" + after)
