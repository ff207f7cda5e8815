"""Many random models linked into one image, run on the host and on an emulated board."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.fuzz.checks import Case, Failure
from tinygen.boards import Board, load_board
from tinygen.emulators import find_emulator
from tinygen.firmware import firmware_files
from tinygen.judge import RunResult
from tinygen.running import run_models

TARGETS = (
    ("mps2_an386", "unicorn"),
    ("mps2_an385", "qemu"),
    ("mps2_an500", "unicorn"),
    ("mps2_an505", "qemu"),
    ("mps2_an386", "qemu"),
    ("mps3_an547", "qemu"),
    ("microbit", "unicorn"),
    ("mps2_an500", "qemu"),
)
"""Board and emulator of one image after the other."""
LARGE = 1 << 22
"""Bytes of every memory of the board in Unicorn: all models of a batch fit."""
HOSTS = ("host-sanitized", "host", "host")
"""How the host's images are built one after the other: sanitizing takes the compiler twice as long."""
RUN_ID = "fuzz"


@dataclass(frozen=True)
class Verdict:
    """What running one image gave. failures: models whose outputs are not the reference's."""

    board: str
    emulator: str
    failures: tuple[Failure, ...]


def target(number: int) -> tuple[Board, str]:
    """Board and emulator of the image of that number."""
    name, emulator = TARGETS[number % len(TARGETS)]
    board = load_board(name)
    if emulator == "unicorn":
        board = replace(board, regions=tuple(replace(r, length=LARGE) for r in board.regions))
    return board, emulator


def run_image(cases: Sequence[Case], number: int) -> tuple[Verdict, ...]:
    """Build all models of `cases` into one image; run it on the host and on the target of that number."""
    board, emulator_name = target(number)
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="tinygen-fuzz-") as folder:
        project = Path(folder)
        _write(project, cases, firmware_files([c.library for c in cases], board, RUN_ID))
        for name in (HOSTS[number % len(HOSTS)], emulator_name):
            emulator = find_emulator(name)
            firmware = emulator.build(project, board)
            inputs, expected = [c.inputs for c in cases], [c.expected for c in cases]
            result = run_models(firmware, board, emulator, inputs, expected, timeout=120.0)
            verdicts.append(Verdict(board.name, name, _failures(cases, result, f"{name} {board.name}")))
    return tuple(verdicts)


def _write(project: Path, cases: Sequence[Case], firmware: dict[str, str]) -> None:
    files = dict(firmware)
    for case in cases:
        files |= case.library.files
    for path, text in files.items():
        target = project / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def _failures(cases: Sequence[Case], result: RunResult, stage: str) -> tuple[Failure, ...]:
    """One failure per wrong model; for a run that did not come to its end, one for the model where it stopped."""
    if result.passed:
        return ()
    wrong = []
    for case, run in zip(cases, result.models, strict=False):
        pairs = zip(case.expected, run.outputs, strict=True)
        whole = len(run.instructions) == len(case.inputs[0])
        if not whole or any(not np.array_equal(w.reshape(g.shape), g) for w, g in pairs):
            wrong.append(Failure(case.seed, stage, result.detail))
            if not whole:
                break
    return tuple(wrong) or (Failure(cases[0].seed, stage, result.detail),)
