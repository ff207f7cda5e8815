"""A bench's figures on disk: the baseline, JSON made to be read in a diff, and the history, one JSON object a line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tinygen import __version__
from tinygen.bench_matrix import cell_name
from tinygen.errors import BenchError
from tinygen.project import write_file

SCHEMA = 1
"""Version of the baseline's JSON."""
FLAT = 4
"""Depth in the baseline from which a JSON object stands on one line: a layer."""


@dataclass(frozen=True)
class LayerFigures:
    """What one layer has to do with a cell's figures. Per inference, or bytes; None: not known.

    live: bytes of the arena in use while it runs. flash: its arrays and kernels wherever they are; pinned: those in
    writable memory. scale: of its output, None in float32. constants: hash of its arrays.
    """

    instructions: int | None
    cycles: int | None
    live: int
    flash: int
    pinned: int
    scale: float | None
    constants: str


@dataclass(frozen=True)
class Cell:
    """One model on one board: figures of the median warm inference; worst_cycles: of the slowest. Cycles are modelled.

    accuracy: value of `metric` over `samples` samples, six digits. arena, sram, flash, stack: bytes. sources: hashes of
    what went in. layers: by name, without those that cost nothing.
    """

    model: str
    board: str
    clock_hz: int
    metric: str | None
    accuracy: float | None
    samples: int
    instructions: int
    cycles: int | None
    worst_cycles: int | None
    arena: int
    sram: int
    flash: int
    stack: int | None
    tinygen: str
    compiler: str
    sources: Mapping[str, str]
    layers: Mapping[str, LayerFigures]

    @property
    def name(self) -> str:
        """MODEL@BOARD."""
        return cell_name(self.model, self.board)

    @property
    def ms(self) -> float | None:
        """Milliseconds of the median warm inference, modelled."""
        return None if self.cycles is None else 1000.0 * self.cycles / self.clock_hz

    @property
    def worst_ms(self) -> float | None:
        """Milliseconds of the slowest warm inference, modelled."""
        return None if self.worst_cycles is None else 1000.0 * self.worst_cycles / self.clock_hz


COUNTS = ("clock_hz", "samples", "instructions", "arena", "sram", "flash")
UNSURE_COUNTS = ("cycles", "worst_cycles", "stack")


# ---- the baseline


def read_baseline(path: Path) -> dict[str, Cell] | None:
    """Cells by name; None where there is no baseline yet. Raises BenchError when the file is not one."""
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        assert data["schema"] == SCHEMA, "schema"
        return {name: _cell(name, cell) for name, cell in data["cells"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as problem:
        raise BenchError(
            f"'{path}' cannot be read as a baseline of this version ({type(problem).__name__}: {problem})\n"
            "  restore it, or delete it and record it anew: tinygen bench --update"
        ) from None


def _cell(name: str, data: Mapping[str, Any]) -> Cell:
    layers = {layer: LayerFigures(**figures) for layer, figures in data["layers"].items()}
    model, _, board = name.partition("@")
    cell = Cell(**{**data, "model": model, "board": board, "layers": layers})
    for key in (*COUNTS, *UNSURE_COUNTS):
        value = getattr(cell, key)
        assert type(value) is int or (value is None and key in UNSURE_COUNTS), f"'{key}' of {name}"
    assert cell.accuracy is None or isinstance(cell.accuracy, int | float), f"'accuracy' of {name}"
    for layer in layers.values():
        assert all(type(getattr(layer, key)) is int for key in ("live", "flash", "pinned")), (
            f"layers of {name}"
        )
    return cell


def baseline_text(cells: Mapping[str, Cell]) -> str:
    """Cells sorted by name, keys sorted, every layer on a line of its own: same cells, same text."""
    return _text({"schema": SCHEMA, "cells": {name: _data(cell) for name, cell in cells.items()}}, 0) + "\n"


def _data(cell: Cell) -> dict[str, Any]:
    """What the baseline says of a cell besides its name."""
    return {key: value for key, value in asdict(cell).items() if key not in ("model", "board")}


def _text(value: Any, depth: int) -> str:
    """JSON with sorted keys, an object's entries on lines of their own down to the depth FLAT."""
    if not isinstance(value, dict) or depth >= FLAT or not value:
        return json.dumps(value, sort_keys=True)
    pad = "  " * depth
    lines = [f"{pad}  {json.dumps(k)}: {_text(v, depth + 1)}" for k, v in sorted(value.items())]
    return "{\n" + ",\n".join(lines) + f"\n{pad}}}"


def write_baseline(path: Path, cells: Mapping[str, Cell]) -> None:
    """Write it, whole or not at all."""
    write_file(path, baseline_text(cells).encode())


# ---- the history


def append_history(path: Path, cells: Sequence[Cell], commit: str | None) -> None:
    """One more line: what was recorded, when and from what."""
    line = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "tinygen": __version__,
        "compiler": cells[0].compiler,
        "cells": {cell.name: _figures(cell) for cell in sorted(cells, key=lambda c: c.name)},
    }
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as problem:
        raise BenchError(
            f"history '{path}' cannot be read: {problem}\n  restore it, or name another one"
        ) from None
    gap = "" if before.endswith("\n") or not before else "\n"
    write_file(path, f"{before}{gap}{json.dumps(line)}\n".encode())


HISTORY = ("cycles", "instructions", "accuracy", "arena", "sram", "flash", "stack")
assert {f.name for f in fields(Cell)} >= set(HISTORY)


def _figures(cell: Cell) -> dict[str, Any]:
    return {
        **{key: getattr(cell, key) for key in HISTORY},
        "ms": None if cell.ms is None else round(cell.ms, 6),
    }


def commit_of(folder: Path, but: Sequence[Path] = ()) -> str | None:
    """The git commit that `folder` is at, "-dirty" behind it when a file of the repository was changed since.

    but: files that do not count: the baseline and the history themselves. None where there is no repository.
    """
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return None
    excluded = [f":(exclude,top){relative}" for path in but if (relative := _in_repository(folder, path))]
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":(top)", *excluded)
    return head + ("-dirty" if changed else "")


def _in_repository(folder: Path, path: Path) -> str | None:
    """Path below the repository's root; None when it is elsewhere."""
    root = _git(folder, "rev-parse", "--show-toplevel")
    here = path.resolve()
    return str(here.relative_to(root)) if root and here.is_relative_to(root) else None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where there is no git, no repository or no commit."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
