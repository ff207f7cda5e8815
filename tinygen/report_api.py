"""`tinygen.report`: from a project to one HTML file."""

from __future__ import annotations

from pathlib import Path

from tinygen.budgets import Budgets
from tinygen.pipeline import Report, silent
from tinygen.project import write_file


def report(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    board: str | None = None,
    profile: str | Path = "run",
    compare: str | Path | None = None,
    ladder: str | Path | None = None,
    history: str | Path | None = None,
    budgets: Budgets | None = None,
    progress: Report = silent,
) -> str:
    """One HTML file about a project: its text, written to `out` when given. docs/report.md describes the files.

    profile: "run" profiles now, "none" does without, else a saved profile of this project. compare: another project or
    a saved profile. Raises what profile raises, and DataError for files that cannot be read.
    """
    from tinygen.report import page, sources  # late: they load the plotting library

    former, rungs, past = (Path(p) if p is not None else None for p in (compare, ladder, history))
    data = sources.collect(Path(folder), board, profile, former, rungs, past, budgets or Budgets(), progress)
    text = page.render(data)
    if out is not None:
        write_file(Path(out), text.encode())
    return text
