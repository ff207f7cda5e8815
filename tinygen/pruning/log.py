"""pruning_log.json: what was asked, every step that was taken, which of them is the result. Data <-> text.

Equal inputs and seed give equal text but for its last line, which has the seconds. journal.py keeps it on disk.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinygen.budgets import Budgets
from tinygen.errors import OutputError
from tinygen.metrics import Metric
from tinygen.pruning.folders import LOG
from tinygen.pruning.records import Step
from tinygen.serialization import read_dataclass

SCHEMA = 1
MODEL = re.compile(r"steps/\d{2,}\.keras|pruned\.keras")


@dataclass(frozen=True)
class Source:
    """Something that went in, by its name without folders and the SHA-256 of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Inputs:
    """What decides every step. sources: "model", "representative", ... -> file; options: all others, JSON-ready;
    tools: program -> version."""

    sources: Mapping[str, Source | None]
    seed: int
    options: Mapping[str, Any]
    tools: Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """A step, and the one that it went on from (None for the first)."""

    follows: int | None
    step: Step


@dataclass(frozen=True)
class End:
    """How it ended. why: a sentence; reached: every budget is met.

    original, pruned, int8: on the evaluation set, None where there is none: the float original, the result in float
    and as int8.
    """

    why: str
    reached: bool
    original: Metric | None = None
    pruned: Metric | None = None
    int8: Metric | None = None


@dataclass(frozen=True)
class Rollback:
    """A way back. came_from, to: numbers of steps; to may be one that was rolled back before."""

    came_from: int
    to: int
    why: str


@dataclass(frozen=True)
class Log:
    """entries: all steps ever taken, their numbers rising; current: the last of those that lead to the result.

    budgets: resolved, in the units of records.RESOURCES. end: None while the search runs, or was interrupted.
    """

    inputs: Inputs
    budgets: Budgets
    entries: tuple[Entry, ...] = ()
    current: int | None = None
    end: End | None = None
    rollbacks: tuple[Rollback, ...] = ()

    @property
    def line(self) -> tuple[Step, ...]:
        """The steps from the original to the current one: those that were not rolled back, in order."""
        by_number = {entry.step.number: entry for entry in self.entries}
        found: list[Step] = []
        number = self.current
        while number is not None:
            found.append(by_number[number].step)
            number = by_number[number].follows
        return tuple(reversed(found))

    @property
    def rolled_back(self) -> tuple[Step, ...]:
        """Steps that do not lead to the result; their checkpoints are kept."""
        kept = {step.number for step in self.line}
        return tuple(entry.step for entry in self.entries if entry.step.number not in kept)

    @property
    def next_number(self) -> int:
        """Of the step to come: no number is used twice."""
        return self.entries[-1].step.number + 1 if self.entries else 0

    @property
    def seconds(self) -> float:
        """What all steps took, those that were rolled back, too."""
        return sum(entry.step.seconds for entry in self.entries)

    def step(self, number: int) -> Step:
        """One step, rolled back or not. Raises KeyError."""
        return {entry.step.number: entry.step for entry in self.entries}[number]


def appended(log: Log, step: Step) -> Log:
    """The log with one more step behind the current one."""
    assert step.number == log.next_number, f"step {step.number} where {log.next_number} comes next"
    assert MODEL.fullmatch(step.model), f"'{step.model}' is no checkpoint's name"
    return replace(log, entries=(*log.entries, Entry(log.current, step)), current=step.number, end=None)


def moved(log: Log, number: int, why: str) -> Log:
    """The log with another of its steps as the current one; the others stay in it, marked as rolled back."""
    assert log.current is not None and log.step(number).number == number
    if number == log.current:
        return log
    return replace(
        log, current=number, end=None, rollbacks=(*log.rollbacks, Rollback(log.current, number, why))
    )


# ---- text


def to_json(log: Log, seconds: bool = True) -> str:
    """Deterministic text, one step a line. seconds False: without the last line, as a project keeps it."""
    kept = {step.number for step in log.line}
    head = {
        "schema": SCHEMA,
        "inputs": dataclasses.asdict(log.inputs),
        "budgets": dict(log.budgets.given()),
    }
    tail = {
        "current": log.current,
        "end": dataclasses.asdict(log.end) if log.end else None,
        "rollbacks": [dataclasses.asdict(r) for r in log.rollbacks],
    }
    steps = ",\n".join(f"    {_text(_entry(entry, entry.step.number in kept))}" for entry in log.entries)
    steps = f"[\n{steps}\n  ]" if steps else "[]"
    parts = [f'  "{key}": {_text(value)}' for key, value in head.items()]
    parts += [f'  "steps": {steps}', *(f'  "{key}": {_text(value)}' for key, value in tail.items())]
    if seconds:
        parts.append(f'  "seconds": {_text([entry.step.seconds for entry in log.entries])}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _entry(entry: Entry, kept: bool) -> dict[str, Any]:
    step = dataclasses.asdict(entry.step)
    del step["seconds"]
    return {"follows": entry.follows, "rolled_back": not kept, **step}


ADVICE = "prune into another folder, or start anew here with --force"


def from_json(text: str, source: str | Path = LOG, advice: str = ADVICE) -> Log:
    """The log of to_json; without the line of seconds all are 0.

    Raises OutputError naming `source`: what is wrong, and `advice`.
    """
    try:
        data = json.loads(text)
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}, this tinygen writes {SCHEMA}")
        return _checked(_log(data), data)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as problem:
        raise OutputError(
            f"'{source}' is not a log that this tinygen wrote ({type(problem).__name__}: {problem})\n"
            f"  {advice}"
        ) from None


def _log(data: Mapping[str, Any]) -> Log:
    sources = {
        key: read_dataclass(Source, value) if value else None
        for key, value in data["inputs"]["sources"].items()
    }
    return Log(
        inputs=replace(read_dataclass(Inputs, data["inputs"]), sources=sources),
        budgets=Budgets(**data["budgets"]),
        entries=_entries(data),
        current=data["current"],
        end=read_dataclass(End, data["end"]) if data["end"] else None,
        rollbacks=tuple(read_dataclass(Rollback, r) for r in data["rollbacks"]),
    )


def _entries(data: Mapping[str, Any]) -> tuple[Entry, ...]:
    seconds = data.get("seconds", [0.0] * len(data["steps"]))
    made = []
    for fields, took in zip(data["steps"], seconds, strict=True):
        step = {key: value for key, value in fields.items() if key not in ("follows", "rolled_back")}
        made.append(Entry(fields["follows"], read_dataclass(Step, {**step, "seconds": took})))
    return tuple(made)


def _checked(log: Log, data: Mapping[str, Any]) -> Log:
    """The log, if it is one that appending and rolling back can make. Raises ValueError."""
    seen: list[int] = []
    for entry in log.entries:
        number = entry.step.number
        _demand(number == len(seen), f"step {number} where {len(seen)} comes next")
        _demand(
            entry.follows in seen if seen else entry.follows is None, f"step {number} follows {entry.follows}"
        )
        _demand(
            MODEL.fullmatch(entry.step.model) is not None,
            f"step {number} names the model {entry.step.model!r}",
        )
        _demand(re.fullmatch(r"[0-9a-f]{64}", entry.step.sha256) is not None, f"step {number} has no SHA-256")
        seen.append(number)
    _demand(log.current in seen if seen else log.current is None, f"the current step is {log.current}")
    kept = {step.number for step in log.line}
    wrong = [f["number"] for f in data["steps"] if f["rolled_back"] != (f["number"] not in kept)]
    _demand(not wrong, f"step {wrong[:1]} is marked wrongly as rolled back")
    return log


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
