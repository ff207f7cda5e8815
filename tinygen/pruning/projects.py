"""What a project keeps of the pruning run that its model came from: a copy of the log, for the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tinygen.bundle import path_hash
from tinygen.errors import OutputError
from tinygen.pruning import log
from tinygen.pruning.folders import LOG


def files_beside(model: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """(files for the project, notes) of a model file: the log in its folder, if this model is its result.

    The copy has neither seconds nor the end: the same model always gives the same project.
    """
    path = model.parent / LOG
    if not path.is_file():
        return {}, ()
    try:
        content = log.from_json(path.read_text(), path)
    except (OSError, UnicodeDecodeError, OutputError) as problem:
        first = str(problem).splitlines()[0]
        return {}, (f"the report will say nothing of pruning: {first}",)
    if content.current is None or content.step(content.current).sha256 != path_hash(model):
        return {}, ()
    return {LOG: log.to_json(replace(content, end=None), seconds=False)}, ()
