"""Steps of a made-up pruning run: what log, registry, report and command line are tested with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tinygen.budgets import Budgets
from tinygen.metrics import Metric, wilson
from tinygen.pruning.journal import Journal
from tinygen.pruning.log import End, Inputs, Log, Source, appended
from tinygen.pruning.records import Action, Cost, Figures, LayerCost, Removal, Step

ACTIONS: tuple[Action, ...] = ("original", "fold", "prune", "fine-tune", "prune", "fine-tune", "int8")
CHANNELS = (32, 30, 24, 24, 16, 16, 16)
"""Of the layer 'conv' after each step."""

HITS = (180, 180, 168, 177, 150, 171, 170)
"""Of 200 held-out samples."""


def accuracy(hits: int, count: int = 200) -> Metric:
    return Metric("accuracy", hits / count, *wilson(hits, count), count)


def cost(channels: int, cycles: bool = True) -> Cost:
    """A small model's cost with so many channels in its layer."""
    macs = 5000 * channels
    took = 7.5 * macs if cycles else None
    layers = (
        LayerCost("conv", macs - 1000, 7.0 * macs, 900 * channels),
        LayerCost("head", 1000, 0.5 * macs, 300),
    )
    arena = 900 * channels
    return Cost(
        board="nucleo_l4r5zi",
        arena=arena,
        pinned=0,
        sram=arena + 5000,
        flash=20_000 + 300 * channels,
        weights=300 * channels,
        macs=macs,
        cycles=took,
        ms=took and took / 120_000,
        measured=False,
        layers=layers,
    )


def figures(number: int, cycles: bool = True) -> Figures:
    """After the step of this number."""
    int8 = accuracy(HITS[number]) if ACTIONS[number] == "int8" else None
    return Figures(cost(CHANNELS[number], cycles), 0.01 * (180 - HITS[number]), accuracy(HITS[number]), int8)


def step(number: int, model: str = "", sha256: str = "", cycles: bool = True) -> Step:
    """One step; each has its own seconds."""
    before = max(number - 1, 0)
    gone = CHANNELS[before] - CHANNELS[number]
    removed = (Removal("conv", tuple(range(gone)), CHANNELS[number], "mean", "saves most SRAM per loss"),)
    return Step(
        number=number,
        action=ACTIONS[number],
        why=f"why of {number}",
        removed=removed if gone else (),
        before=figures(before, cycles),
        after=figures(number, cycles),
        model=model or f"steps/{number:02d}.keras",
        sha256=sha256 or hashlib.sha256(content(number)).hexdigest(),
        seconds=1.5 + number,
    )


def content(number: int) -> bytes:
    """What stands in for a checkpoint where nobody reads it as a model; long enough to be written in parts."""
    return f"model after step {number} ".encode() * 5000


def inputs(**changes: Any) -> Inputs:
    made = {
        "sources": {
            "model": Source("net.keras", "a" * 64),
            "representative": Source("train.npz", "b" * 64),
            "eval": None,
            "board": Source("nucleo_l4r5zi", "c" * 64),
        },
        "seed": 0,
        "options": {"budget_sram": "20K", "max_drop": 3.0, "max_minutes": 5},
        "tools": {"tinygen": "0.1.0", "keras": "3.15.1"},
    }
    return Inputs(**{**made, **changes})


BUDGETS = Budgets(sram=20_480, ms=8.0)


def run(steps: int = len(ACTIONS), cycles: bool = True, end: bool = True) -> Log:
    """A whole log."""
    made = Log(inputs(), BUDGETS)
    for number in range(steps):
        made = appended(made, step(number, cycles=cycles))
    return Log(made.inputs, made.budgets, made.entries, made.current, ending() if end else None)


def ending(_: Log | None = None) -> End:
    return End("every budget is met", True, accuracy(90, 100), accuracy(88, 100), accuracy(87, 100))


def put(journal: Journal, number: int) -> None:
    """Write a checkpoint and its step."""
    name, sha256 = journal.save(content(number))
    journal.append(step(number % len(ACTIONS), name, sha256) if number < len(ACTIONS) else _later(journal))


def _later(journal: Journal) -> Step:
    """A step beyond the made-up run: the same as the last one."""
    from dataclasses import replace

    number = journal.log.next_number
    name, sha256 = f"steps/{number:02d}.keras", hashlib.sha256(content(number)).hexdigest()
    return replace(step(len(ACTIONS) - 1), number=number, model=name, sha256=sha256)


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
