"""The output folder of a pruning run: checkpoints, log and registry, such that kill -9 loses at most the running step.

    pruning_log.json   the log (log.py), replaced as a whole after each step
    steps/NN.keras     the model after step NN, on the disk before the log names it
    pruned.keras       the result
    registry.json      what there is to choose from (registry.py)
    command.json       the command's options with whole paths, for --resume and --rollback

One process at a time holds the folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tinygen.budgets import Budgets
from tinygen.errors import OutputError, UsageError
from tinygen.project import write_file
from tinygen.pruning import checkpoints, folders, log, registry
from tinygen.pruning import command as command_file
from tinygen.pruning.inputs import differences
from tinygen.pruning.log import End, Inputs, Log
from tinygen.pruning.records import Step

SHOWN = 3
"""Lines of differences in a message."""

Finish = Callable[[Log], End]
"""Makes the project of pruned.keras anew, and judges it; gets the log as it will be, but for its end."""

Told = Callable[[Step, Budgets], None]
"""Hears of every step when it is in the log."""


def _nobody(step: Step, budgets: Budgets) -> None:
    """Nobody listens."""


class Journal:
    """An output folder that this process holds: a context manager. `log` is what pruning_log.json holds."""

    def __init__(self, folder: Path, held: int, content: Log, told: Told) -> None:
        self.folder, self.log = folder, content
        self._held, self._told = held, told

    def save(self, model: Any) -> tuple[str, str]:
        """Write a keras.Model as checkpoint of the step to come: (file inside the folder, SHA-256) for its record."""
        name, data = f"{folders.STEPS}/{self.log.next_number:02d}.keras", checkpoints.to_bytes(model)
        write_file(self.folder / name, data, durable=True)
        return name, hashlib.sha256(data).hexdigest()

    def append(self, step: Step) -> None:
        """One more step. When this returns, it survives kill -9 and a power failure."""
        content = log.appended(self.log, step)
        self._put(content)
        self._told(step, content.budgets)

    def back_to(self, number: int, why: str) -> Step:
        """Go on from an earlier step; the later ones stay in the log, marked as rolled back."""
        self._put(log.moved(self.log, number, why))
        return self.log.step(number)

    def finish(self, finish: Finish) -> End:
        """Make the current step the result: pruned.keras, then the project (by `finish`), log and registry.

        When `finish` raises, everything is as before.
        """
        return self._conclude(self.log, finish)

    def _conclude(self, content: Log, finish: Finish) -> End:
        """The log names the new result first: a project that is compiled beside it takes a copy (projects.py)."""
        assert content.current is not None, "no step to make a result of"
        data = checkpoint_bytes(self.folder, content.step(content.current))
        before, result = self.log, self.folder / folders.RESULT
        former = result.read_bytes() if result.is_file() else None
        try:
            self._put(replace(content, end=None))
            write_file(result, data, durable=True)
            end = finish(self.log)
        except BaseException:
            self._put(before)
            result.unlink(missing_ok=True) if former is None else write_file(result, former, durable=True)
            raise
        self._put(replace(content, end=end))
        return end

    def rollback(self, number: int, finish: Finish) -> End:
        """Make an earlier step (or one that was rolled back) the result again. Raises UsageError, OutputError."""
        numbers = [entry.step.number for entry in self.log.entries]
        if number not in numbers:
            there = f"its steps are 0 .. {numbers[-1]}" if numbers else "its log has no step"
            raise UsageError(f"--rollback {number}: '{self.folder}' has no such step\n  {there}")
        return self._conclude(log.moved(self.log, number, "the user asked for it"), finish)

    def _put(self, content: Log) -> None:
        """Log first: the registry can be made from it."""
        write_file(self.folder / folders.LOG, log.to_json(content).encode(), durable=True)
        self.log = content
        if content.entries:
            write_file(self.folder / folders.REGISTRY, registry.to_json(registry.of(content)).encode())

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._held)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Resumed:
    """Where to go on. step, model: the last good one and its checkpoint; None: from the beginning.

    notes: what the user should know, for instance of a damaged checkpoint.
    """

    journal: Journal
    step: Step | None
    model: Path | None
    notes: tuple[str, ...] = ()


# ---- beginning


def start(
    folder: str | Path,
    inputs: Inputs,
    budgets: Budgets,
    command: Mapping[str, Any],
    force: bool = False,
    told: Told = _nobody,
) -> Journal:
    """A new run in a new or empty folder; force: in one that holds a former run, which goes.

    command: prune's arguments by name. Raises OutputError: the folder is not ours, holds a
    run, or cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    folders.check_free(folder, force)
    held = folders.hold(folder)
    try:
        for name in folders.OURS:
            folders.remove(folder / name)
        folders.sweep(folder)
        write_file(folder / folders.COMMAND, command_file.to_json(command).encode(), durable=True)
        journal = Journal(folder, held, Log(inputs, budgets), told)
        journal._put(journal.log)
    except BaseException:
        os.close(held)
        raise
    return journal


def open_run(folder: str | Path, told: Told = _nobody) -> Journal:
    """The run in a folder, as its log has it. Raises OutputError when there is none, or another process holds it."""
    folder = Path(os.path.abspath(folder))
    content = read(folder)
    held = folders.hold(folder)
    folders.sweep(folder)
    return Journal(folder, held, content, told)


def resume(folder: str | Path, inputs: Inputs, told: Told = _nobody) -> Resumed:
    """Go on with an interrupted run. Raises UsageError where options, model, data or tools are not as they were.

    A step whose checkpoint is gone or damaged is given up, with those after it.
    """
    journal = open_run(folder, told)
    try:
        _check_same(journal, inputs)
        return _resumed(journal)
    except BaseException:
        journal.close()
        raise


def _check_same(journal: Journal, inputs: Inputs) -> None:
    found = list(differences(inputs, journal.log.inputs))
    if len(found) > SHOWN:
        found[SHOWN - 1 :] = [f"and {len(found) - SHOWN + 1} more"]
    if found:
        shown = "\n  ".join(found)
        raise UsageError(
            f"'{journal.folder}' cannot be resumed: its steps were made from something else\n  {shown}\n"
            "  resume with what it began with, or prune into another folder"
        )


def _resumed(journal: Journal) -> Resumed:
    """The last step of the line whose checkpoint is whole; the log goes back to it."""
    notes: list[str] = []
    for step in reversed(journal.log.line):
        if is_whole(journal.folder, step):
            if notes:
                journal.back_to(step.number, f"{step.number + 1} and later: damaged checkpoints")
            else:
                journal._put(journal.log)  # the registry may be that of the step before
            return Resumed(journal, step, journal.folder / step.model, tuple(notes))
        notes.append(f"step {step.number} is given up: '{step.model}' is missing or damaged")
    journal._put(Log(journal.log.inputs, journal.log.budgets))
    return Resumed(journal, None, None, tuple(notes))


# ---- the folder


def read(folder: str | Path) -> Log:
    """The log in an output folder of prune. Raises OutputError when there is none, or it is damaged."""
    path = Path(folder) / folders.LOG
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise OutputError(
            f"'{folder}' holds no pruning run: it has no {folders.LOG}\n"
            "  begin one: tinygen prune MODEL --board BOARD --representative FILE --budget-sram 64K --out FOLDER"
        ) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise OutputError(f"'{path}' cannot be read: {problem}") from None
    return log.from_json(text, path)


def has_run(folder: str | Path) -> bool:
    """True where there is something to resume."""
    return (Path(folder) / folders.LOG).is_file()


def is_whole(folder: Path, step: Step) -> bool:
    """The checkpoint is there and as the log has it."""
    path = folder / step.model
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == step.sha256


def checkpoint_bytes(folder: Path, step: Step) -> bytes:
    """The model after a step. Raises OutputError when it is not as the log has it."""
    if not is_whole(folder, step):
        raise OutputError(
            f"'{folder / step.model}' is missing or damaged: it is not what step {step.number} wrote\n"
            "  take another step, or prune again"
        )
    return (folder / step.model).read_bytes()
