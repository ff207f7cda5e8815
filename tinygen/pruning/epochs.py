"""Epochs until the last one, patience's or time's end: fine-tuning and quantization-aware training take them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

Kept = TypeVar("Kept")
Given = TypeVar("Given")
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Epoch:
    """Losses after an epoch (from 1; 0 is before training, its `train` NaN): distance from the original's answers.

    held_out: NaN where the epoch did not compete.
    """

    number: int
    train: float
    held_out: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """epoch of epochs is done; best: the least held-out loss so far."""

    epoch: int
    epochs: int
    best: float
    seconds_left: float


class Limits(Protocol):
    """What ends a training early: epochs without a better one; minutes of all. None: nothing."""

    @property
    def patience(self) -> int | None: ...
    @property
    def minutes(self) -> float | None: ...


@dataclass(frozen=True)
class Ended(Generic[Kept]):
    """kept: the numbers of history[best]. stopped: why it ended early, or ""."""

    history: tuple[Epoch, ...]
    best: int
    kept: Kept
    stopped: str


def take(
    first: tuple[float, Kept],
    epoch: Callable[[int, int], float],
    judge: Callable[[], float],
    numbers: Callable[[], Kept],
    planned: int,
    limits: Limits,
    report: Callable[[Progress], None],
    begun: float,
    settled: float = 0.0,
) -> Ended[Kept]:
    """The epoch that is best on held-out samples. first: loss and numbers of the start, which competes.

    epoch: takes the next one, given how many are done and how many there will be, and gives its loss; judge: loss on
    held-out samples now; numbers: those of now. begun: what time.perf_counter said when the minutes began. settled:
    share (0 .. 1) of all epochs before which none competes or is judged.
    """
    history = [Epoch(0, math.nan, first[0], 0.0)]
    best, kept, stopped, epochs = 0, first[1], "", planned
    while history[-1].number < epochs and not stopped:
        start = time.perf_counter()
        loss = epoch(history[-1].number, epochs)
        last = Epoch(history[-1].number + 1, loss, math.nan, time.perf_counter() - start)
        epochs = _affordable(epochs, last, limits.minutes, begun)
        if last.number >= settled * epochs:
            last = replace(last, held_out=judge(), seconds=time.perf_counter() - start)
            epochs = _affordable(epochs, last, limits.minutes, begun)
        history.append(last)
        if last.held_out < history[best].held_out:
            best, kept = last.number, numbers()
        report(Progress(last.number, epochs, history[best].held_out, (epochs - last.number) * last.seconds))
        stopped = _stops(last.number, best, epochs, planned, limits)
    return Ended(tuple(history), best, kept, stopped)


def _affordable(epochs: int, last: Epoch, minutes: float | None, begun: float) -> int:
    """Of so many epochs those that time allows altogether. The first one says little: it compiles."""
    if minutes is None:
        return epochs
    left = minutes * 60 - (time.perf_counter() - begun)
    if last.number == 1 and left > 0:
        return epochs
    return min(epochs, last.number + max(0, int(left / last.seconds)))


def _stops(done: int, best: int, epochs: int, planned: int, limits: Limits) -> str:
    """Why there is no further epoch though more were planned; "" where it goes on, or all are done."""
    if done >= epochs:
        return (
            f"{limits.minutes:.3g} minutes are over after {done} of {planned} epochs"
            if epochs < planned
            else ""
        )
    if limits.patience is not None and done - best >= limits.patience:
        return f"no better epoch since {best}"
    return ""


def ahead(make: Callable[[Given], Batch], each: Sequence[Given]) -> Iterator[Batch]:
    """make(one) of each, in order; the next is made in a thread of its own while the caller uses one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, each[0])
        for one in each[1:]:
            ready, coming = coming, pool.submit(make, one)
            yield ready.result()
        yield coming.result()
