"""Damaged inputs against the promises: a clear error, exit code 1, 10 s, 2 GB, nothing half-written, nothing lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def damage(count: int, first: int) -> str:
    """In a process of its own: the cases fork, which a test runner full of threads must not."""
    command = [sys.executable, "-m", "tests.damage", "--count", str(count), "--first", str(first)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.tensorflow
def test_damaged_inputs() -> None:
    assert "60 damaged inputs, 0 broken promises" in damage(60, first=0)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_thousand_damaged_inputs() -> None:
    assert "1000 damaged inputs, 0 broken promises" in damage(1000, first=10_000)
