"""Runs any number of random models in batches, remembers what was done, tells what was covered.

Seeds 0, 1, 2, ... in batches; every batch becomes one image. The state on disk holds the batches done, so that
an interrupted run goes on where it stopped. A failure is printed with its seed as soon as it is found.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.fuzz.checks import Case, Failure, Refused, check
from tests.fuzz.images import run_image, target
from tinygen import ops
from tinygen.errors import TinygenError
from tinygen.frontend import safety

BATCH = 30
RENEWED = 15
"""Batches that one process runs before another takes its place."""
WANTED, WANTED_OVER = 50, 2000
"""Every operator and attribute should be met this often over so many models."""
NOT_DRAWN = frozenset({"InputLayer", "Functional", "Sequential", "SpatialDropout3D", "ReLU6"})
"""Structure of models, and classes that need rank 4 or that this Keras does not have."""


@dataclass
class Batch:
    """What one batch gave. coverage: note -> count over the models that passed until C."""

    number: int
    models: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    coverage: dict[str, int] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)


@dataclass
class State:
    """Batches done so far, by number."""

    batches: dict[int, Batch] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> State:
        """The state in that file; empty when there is none."""
        if not path.exists():
            return cls()
        return cls({b["number"]: Batch(**b) for b in json.loads(path.read_text())})

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps([asdict(b) for _, b in sorted(self.batches.items())]))
        part.replace(path)

    @property
    def models(self) -> int:
        return sum(b.models for b in self.batches.values())

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [f for _, b in sorted(self.batches.items()) for f in b.failures]

    @property
    def refused(self) -> list[str]:
        return [r for _, b in sorted(self.batches.items()) for r in b.refused]

    @property
    def coverage(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for batch in self.batches.values():
            total.update(batch.coverage)
        return total

    @property
    def targets(self) -> Counter[str]:
        return Counter(t for b in self.batches.values() for t in b.targets)


def run_batch(number: int, seeds: Sequence[int]) -> Batch:
    """Check the models of these seeds and run them as one image."""
    batch = Batch(number)
    coverage: Counter[str] = Counter()
    cases = list(_checked(seeds, batch))
    for case in cases:
        coverage += case.coverage
    if cases:
        _run(cases, batch)
    batch.coverage = dict(coverage)
    _forget_models()
    return batch


def _checked(seeds: Sequence[int], batch: Batch) -> Iterator[Case]:
    board, _ = target(batch.number)
    for seed in seeds:
        batch.models += 1
        try:
            yield check(seed, board)
        except Failure as failure:
            batch.failures.append(_record(failure))
        except Refused as refused:
            batch.refused.append(str(refused))


def _run(cases: Sequence[Case], batch: Batch) -> None:
    try:
        verdicts = run_image(cases, batch.number)
    except TinygenError as error:
        what = f"{cases[0].seed} ... {cases[-1].seed}"
        batch.failures.append({"seed": cases[0].seed, "stage": f"image of seeds {what}", "what": str(error)})
        return
    for verdict in verdicts:
        batch.targets.append(f"{verdict.emulator} {verdict.board}")
        batch.failures += [_record(f) for f in verdict.failures]


def _record(failure: Failure) -> dict[str, Any]:
    return {"seed": failure.seed, "stage": failure.stage, "what": failure.what}


def _forget_models() -> None:
    """Keras remembers every layer that was ever made."""
    from tinygen.heavy import import_keras

    import_keras().utils.clear_session()


def run(
    count: int, folder: Path | None, jobs: int = 1, report: Callable[[Batch, State], None] | None = None
) -> State:
    """Check the models of seeds 0 ... count - 1, going on from the state in `folder` if there is one."""
    path = folder / "state.json" if folder else None
    state = State.load(path) if path else State()
    todo = [
        (n, range(n * BATCH, min((n + 1) * BATCH, count)))
        for n in range(-(-count // BATCH))
        if n not in state.batches or state.batches[n].models < min(BATCH, count - n * BATCH)
    ]
    for batch in _batches(todo, jobs):
        state.batches[batch.number] = batch
        if path:
            state.save(path)
        if report:
            report(batch, state)
    return state


def _batches(todo: Sequence[tuple[int, range]], jobs: int) -> Iterator[Batch]:
    """In this process, or in several, renewed now and then as Keras grows: TensorFlow must not be forked."""
    if jobs == 1:
        yield from (run_batch(*task) for task in todo)
        return
    for first in range(0, len(todo), RENEWED * jobs):
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            tasks = [pool.submit(run_batch, *task) for task in todo[first : first + RENEWED * jobs]]
            for done in as_completed(tasks):
                yield done.result()


# ---- what was covered


def rare(state: State) -> dict[str, int]:
    """What was met less often than WANTED (in proportion to the models run), kernels never; those not met at all: 0."""
    seen = state.coverage
    kernels = (f"kernel {k.name}" for op in ops.OPS for k in op.kernels if k.dtype == "int8" and not k.alias)
    operators = (f"int8 {op.name}" for op in ops.OPS)
    for name in (*operators, *kernels, *(safety.supported_layers() - NOT_DRAWN)):
        seen.setdefault(name, 0)
    wanted = WANTED * state.models / WANTED_OVER
    return {
        name: count
        for name, count in sorted(seen.items())
        if count < (min(1, wanted) if name.startswith("kernel ") else wanted)
        and not name.startswith("exported=")
    }


def table(state: State) -> str:
    """Coverage as text: how often each layer class, operator and attribute was met; '!' marks the rare ones."""
    few = rare(state)
    seen = {**dict.fromkeys(few, 0), **state.coverage}
    lines = [f"{count:8,} {'!' if name in few else ' '} {name}" for name, count in sorted(seen.items())]
    lines += [f"{count:8,}   images on {name}" for name, count in sorted(state.targets.items())]
    return "\n".join(lines)


def summary(state: State) -> str:
    """One line."""
    return (
        f"{state.models:,} models, {len(state.failures)} failures, {len(state.refused)} refused, "
        f"{len(rare(state))} of {len(state.coverage)} layers, operators and attributes met too seldom"
    )
