"""Instruction counts that were recorded: they fall by recording them, and never rise silently."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tinygen.building import compiler_version

FOLDER = Path(__file__).resolve().parents[1] / "baselines"
VARIABLE = "TINYGEN_UPDATE_BASELINES"
DOWN, UP = "1", "up"
"""What the variable may be: fewer instructions are recorded, or any number."""


def hold(path: Path, name: str, count: int) -> None:
    """The count is what was recorded with this compiler; docs/testing.md says how it is recorded anew."""
    compiler, wish = compiler_version(), os.environ.get(VARIABLE, "")
    if not wish and not (path.exists() and compiler in json.loads(path.read_text())):
        pytest.skip(f"no instruction counts recorded for {compiler}: {VARIABLE}={DOWN} records them")
    if problem := check(path, compiler, name, count, wish):
        pytest.fail(problem)


def check(path: Path, compiler: str, name: str, count: int, wish: str) -> str:
    """Hold a count to the file, and record it if that is wished. What is wrong, "" for nothing.

    wish: value of the environment variable, "" where it is not set.
    """
    assert wish in ("", DOWN, UP), (
        f"{VARIABLE} is {DOWN} (fewer instructions are recorded) or {UP} (more, too)"
    )
    recorded = json.loads(path.read_text()) if path.exists() else {}
    known = recorded.get(compiler, {})
    problem = _verdict(known.get(name), count, wish)
    if wish and not problem:
        recorded[compiler] = dict(sorted({**known, name: count}.items()))
        path.write_text(json.dumps(recorded, indent=2) + "\n")
    return problem and f"{name}: {problem}"


def _verdict(recorded: int | None, count: int, wish: str) -> str:
    if recorded is None:
        return "" if wish else f"no count is recorded: {VARIABLE}={DOWN} records it"
    if count > recorded and wish != UP:
        more = f"{count:,} instructions, {count - recorded:,} more than the {recorded:,} on record"
        return f"{more}: where that is meant, {VARIABLE}={UP} records it"
    if count < recorded and not wish:
        return f"{count:,} instructions, {recorded - count:,} fewer than on record: {VARIABLE}={DOWN} records them"
    return ""
