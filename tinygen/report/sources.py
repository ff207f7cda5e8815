"""Where a report's data come from: the project, its profile, and the files that the user gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from tinygen import bundle, inspection, profile_api, profile_json, quantization_error
from tinygen.budgets import NO_BUDGETS, Budgets
from tinygen.errors import DataError, ModelError, UsageError
from tinygen.pipeline import Report, silent
from tinygen.planning import plan
from tinygen.program import select
from tinygen.pruning.folders import LOG
from tinygen.pruning.log import Log, from_json
from tinygen.report.data import Data, Json

LADDER_FILE = "ladder.json"
Profiled = str | Path | Literal["run", "none"]
"""A saved profile; "run": profile now; "none": do without."""


def collect(
    folder: Path,
    board: str | None = None,
    profile: Profiled = "run",
    compare: Path | None = None,
    ladder: Path | None = None,
    history: Path | None = None,
    budgets: Budgets = NO_BUDGETS,
    report: Report = silent,
) -> Data:
    """Everything about a project. Raises DataError for files that cannot be read, and what profile raises."""
    graph, target, manifest = bundle.load_project(folder, board)
    program = select(graph, target, bundle.read_options(manifest).choice)
    layers = inspection.to_json(program, plan(program), manifest["quantization"]["calibrators"])
    seen = _profile(folder, target.name, profile, manifest["run_id"], report)
    ladder = ladder or (folder / LADDER_FILE if (folder / LADDER_FILE).is_file() else None)
    return Data(
        title=str(manifest["options"]["name"]),
        board=target,
        graph=graph,
        layers=layers,
        manifest=manifest,
        profile=seen,
        error=read_error(folder),
        budgets=budgets,
        before=_before(compare, seen, target.name, report),
        ladder=read_ladder(ladder) if ladder else None,
        history=read_history(history) if history else None,
        pruning=read_pruning(folder),
    )


def _profile(folder: Path, board: str, wish: Profiled, run_id: str, report: Report) -> Json | None:
    if wish == "none":
        return None
    if wish == "run":
        return profile_json.to_json(profile_api.profile(folder, board=board, report=report))
    data = profile_json.read(Path(wish), "--profile")
    if data["run_id"] != run_id or data["board"] != board:
        raise UsageError(
            f"--profile '{wish}' is of another build: run_id {data['run_id']} on {data['board']}, the project has "
            f"{run_id} on {board}\n  make it again: tinygen profile {folder} --json, or leave --profile out"
        )
    return data


def _before(path: Path | None, profile: Json | None, board: str, report: Report) -> Json | None:
    """The profile to compare with: of a project (on the same board where it has that), or a saved one."""
    if path is None:
        return None
    if profile is None:
        raise UsageError("--compare needs a profile of this project: leave --no-profile out")
    if not path.is_dir():
        return profile_json.read(path, "--compare")
    _, _, manifest = bundle.load_project(path)
    known = [str(b["name"]) for b in manifest["boards"]]
    made = profile_api.profile(path, board=board if board in known else None, report=report)
    return profile_json.to_json(made)


def read_error(folder: Path) -> quantization_error.QuantizationError | None:
    """quantization.json of a project, None where it has none."""
    path = folder / quantization_error.FILE
    if not path.is_file():
        return None
    try:
        return quantization_error.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ModelError(
            f"'{path}' is not what this tinygen wrote ({type(problem).__name__}: {problem})\n"
            "  generate the project again with 'tinygen compile'"
        ) from None


def read_pruning(folder: Path) -> Log | None:
    """The log of the run that the project's model came from; None where it was not pruned. Raises OutputError."""
    path = folder / LOG
    if not path.is_file():
        return None
    return from_json(
        path.read_text(errors="replace"), path, "generate the project again with 'tinygen compile'"
    )


def read_ladder(path: Path) -> list[Json]:
    """Ladders: [{"model", "board", "steps": [{"name", "where", "cycles", "ms"}, ...]}, ...]; cycles null: not made."""

    def check(data: Any) -> None:
        assert isinstance(data, list)
        for one in data:
            assert isinstance(one["model"], str) and isinstance(one["board"], str)
            for step in one["steps"]:
                assert isinstance(step["name"], str) and isinstance(step["where"], str)
                assert step["cycles"] is None or (step["cycles"] >= 0 and step["ms"] >= 0)

    ladders: list[Json] = _read(path, "--ladder", check, "python -m benchmarks.ladder --json FILE")
    return ladders


def read_history(path: Path) -> list[Json]:
    """A history of `tinygen bench`: a line each {"date", "commit" or null, "cells": {name: {"cycles", ...}}}."""

    def check(data: Any) -> None:
        assert isinstance(data, list)
        for entry in data:
            assert isinstance(entry["cells"], dict) and entry["date"] and "commit" in entry
            assert all(isinstance(cell, dict) for cell in entry["cells"].values())

    history: list[Json] = _read(path, "--history", check, "tinygen bench --update", _lines)
    return history


def _lines(text: str) -> list[Any]:
    """One JSON value a line."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _read(
    path: Path,
    option: str,
    check: Callable[[Any], None],
    maker: str,
    parse: Callable[[str], Any] = json.loads,
) -> Any:
    """What `parse` makes of a file, if it passes `check`. Raises DataError: the option, and who makes such files."""
    try:
        data = parse(path.read_text())
        check(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as problem:
        why = f"{type(problem).__name__}: {problem}".rstrip(": ")
        raise DataError(
            f"{option} '{path}' cannot be read ({why})\n  such files are made by: {maker}"
        ) from None
    return data
