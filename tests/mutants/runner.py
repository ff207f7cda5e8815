"""Planted defects: each is put into a copy of the sources, and the test named beside it must fail there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("tinygen", "templates", "boards", "tests", "docs", "benchmarks", "pyproject.toml", "README.md")
PYTEST_FAILED = 1
"""pytest's exit code for 'tests ran and some failed': any other non-zero code is a broken experiment."""

NO_END = -1
"""Exit code that stands for a test that ran into TIMEOUT."""

TIMEOUT = 300
"""Seconds for one call of pytest."""

QUICK = ("-p", "tests.mutants.quick", "--hypothesis-profile", "mutants")
"""Options of pytest: a counterexample is enough, it need not be a small one."""


@dataclass(frozen=True)
class Defect:
    """`old` stands exactly once in `file` and becomes `new`; `test` (a pytest id) must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


@dataclass(frozen=True)
class Result:
    """What became of a defect: killed by its test, alive, or not run as it should be."""

    defect: Defect
    outcome: str
    seconds: float
    output: str


def occurrences(defect: Defect) -> int:
    """How often `old` stands in the file: must be 1."""
    return (ROOT / defect.file).read_text().count(defect.old)


def copy_sources(target: Path) -> None:
    """What the tests need, in a folder of its own."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, target / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
            )
        elif source.exists():
            shutil.copy2(source, target / name)
    shared = ROOT.parent / "shared"
    if shared.is_dir() and not (target.parent / "shared").exists():
        (target.parent / "shared").symlink_to(shared)


def run_tests(folder: Path, *tests: str) -> tuple[int, str]:
    """(exit code, output) of these tests against the sources in `folder`; ends at the first that fails."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *QUICK, *tests]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT * len(tests)
        )
    except subprocess.TimeoutExpired:
        return NO_END, f"no end within {TIMEOUT * len(tests)} s"
    return done.returncode, done.stdout + done.stderr


def failing(folder: Path, tests: Sequence[str]) -> list[str]:
    """Those of the tests that do not pass: all together first, since starting pytest is what takes long."""
    if not tests or run_tests(folder, *tests)[0] == 0:
        return []
    return [test for test in tests if run_tests(folder, test)[0] != 0]


def plant(defect: Defect, folder: Path) -> None:
    """Put the defect into the copy."""
    path = folder / defect.file
    text = path.read_text()
    assert text.count(defect.old) == 1, f"{defect.name}: '{defect.old}' stands {text.count(defect.old)} times"
    path.write_text(text.replace(defect.old, defect.new))


def try_defect(defect: Defect, folder: Path) -> Result:
    """Plant it, run its test, take it back."""
    healthy = (folder / defect.file).read_text()
    start = time.monotonic()
    plant(defect, folder)
    try:
        code, output = run_tests(folder, defect.test)
    finally:
        (folder / defect.file).write_text(healthy)
    outcome = {PYTEST_FAILED: "killed", 0: "ALIVE"}.get(code, f"BROKEN (pytest exit {code})")
    return Result(defect, outcome, time.monotonic() - start, output)
