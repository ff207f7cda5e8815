"""The one judge: log of a run and expected outputs in, verdict out. Pure; the same for every emulator.

The firmware prints what it computed; whether that is right is decided here, on the host: int8 outputs must be equal,
float32 outputs as near as docs/numerics.md, "float32", says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np

from tinygen.faults import Functions, describe
from tinygen.firmware import FirmwareModel
from tinygen.graph import Array
from tinygen.runlog import Key, RunLog, SampleLog, parse
from tinygen.tolerances import FLOAT_TOLERANCE, wrong_elements


class Outcome(Enum):
    """How a run ended."""

    PASSED = "passed"
    WRONG_OUTPUT = "wrong output"
    FAULTED = "faulted"
    TIMED_OUT = "timed out"
    INCOMPLETE = "incomplete"
    STALE = "stale"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class ModelRun:
    """What one model gave: outputs, each (N, size) in its precision; instructions per sample, None if not counted.

    seconds: per sample, by the timer of a real board; None where time is not real.
    layer_ticks: of the board's timer, per sample and layer that executes code; a sample's is None where its lines are
    damaged or nothing counts, all is None for an image without timestamps. ratio: instructions per tick, if known.
    """

    name: str
    outputs: tuple[Array, ...]
    instructions: tuple[int | None, ...]
    seconds: tuple[float | None, ...]
    layer_ticks: tuple[tuple[int, ...] | None, ...] | None = None
    ratio: Fraction | None = None


@dataclass(frozen=True)
class RunResult:
    """Verdict of a run. detail: a sentence for the user.

    models: the samples whose outputs arrived whole, in order.
    stack_bytes: greatest use seen, None where it is not measured.
    """

    outcome: Outcome
    detail: str
    models: tuple[ModelRun, ...]
    stack_bytes: int | None
    log: str

    @property
    def passed(self) -> bool:
        """Every output element is as expected."""
        return self.outcome is Outcome.PASSED

    @property
    def outputs(self) -> tuple[Array, ...]:
        """Outputs of the first (usually only) model."""
        return self.models[0].outputs

    @property
    def instructions(self) -> tuple[int | None, ...]:
        """Instructions per sample of the first (usually only) model."""
        return self.models[0].instructions

    @property
    def seconds(self) -> tuple[float | None, ...]:
        """Seconds per sample of the first (usually only) model."""
        return self.models[0].seconds

    @property
    def layer_ticks(self) -> tuple[tuple[int, ...] | None, ...] | None:
        """Ticks per sample and layer of the first (usually only) model."""
        return self.models[0].layer_ticks


@dataclass(frozen=True)
class Wanted:
    """One sample that a run must give. expected: flat arrays, one per output; None takes any values.

    tolerances: one per output, how far an element may be off; () for outputs that must be equal.
    """

    model: int
    sample: int
    expected: tuple[Array, ...] | None
    tolerances: tuple[float, ...] = ()

    @property
    def key(self) -> Key:
        """(model, sample)."""
        return self.model, self.sample


def judge(
    text: str,
    run_id: str,
    models: Sequence[FirmwareModel],
    wanted: Sequence[Wanted],
    functions: Functions | None = None,
) -> RunResult:
    """Judge a log; whatever it holds, nothing raises. functions: name -> (address, size), to place faults."""
    log = parse(text)
    outcome, detail = _verdict(log, run_id, models, wanted, functions or {})
    stack = log.stack[0] if log.stack and log.stack[1] else None
    return RunResult(outcome, detail, _collect(log, models, wanted), stack, text)


def _verdict(
    log: RunLog, run_id: str, models: Sequence[FirmwareModel], wanted: Sequence[Wanted], functions: Functions
) -> tuple[Outcome, str]:
    """The first of these that applies, in this order."""
    if log.unavailable is not None:
        return Outcome.UNAVAILABLE, log.unavailable
    if stale := _stale(log, run_id):
        return Outcome.STALE, stale
    if fault := _fault(log, models, functions):
        return Outcome.FAULTED, fault
    if log.timeout is not None:
        return Outcome.TIMED_OUT, _timed_out(log, wanted)
    if gap := _gap(log, run_id, models, wanted):
        return Outcome.INCOMPLETE, gap
    if wrong := _mismatch(log, models, wanted):
        return Outcome.WRONG_OUTPUT, wrong
    exact = all(m.precision == "int8" for m in models)
    return Outcome.PASSED, passed_detail(len(wanted), exact)


def passed_detail(samples: int, exact: bool) -> str:
    """What was found of a run that passed. exact: all models are int8."""
    found = (
        "as expected" if exact else f"within {FLOAT_TOLERANCE:.0e} of the float model".replace("e-0", "e-")
    )
    return f"{samples:,} samples, every output element {found}"


def _stale(log: RunLog, run_id: str) -> str | None:
    """A banner with another run_id. A beginning of the right one is a log cut off, not another image."""
    for seen in (*log.run_ids, *log.ready):
        if seen != run_id and not run_id.startswith(seen):
            return (
                f"the image is stale: it was built as run {seen}, the project is run {run_id}; "
                f"{log.advice or 'build it again'}"
            )
    return None


def _fault(log: RunLog, models: Sequence[FirmwareModel], functions: Functions) -> str | None:
    done = _done(log)
    after = f"after {done} sample{'' if done == 1 else 's'}"
    if log.fault is not None:
        return f"the firmware faulted {after}: {describe(log.fault, functions)}"
    if log.ready and not log.run_ids:
        return f"the firmware faulted {after}: {describe({'kind': 'no-inputs'}, functions)}"
    if log.stack is not None and log.stack[1] and log.stack[0] >= log.stack[1]:
        return f"the firmware used all of its {log.stack[1]:,} bytes of stack, and perhaps more"
    for (model, sample), entry in log.samples.items():
        if entry.status:
            return f"sample {sample}: {_name(models, model)}_invoke returned status {entry.status}"
    return None


def _timed_out(log: RunLog, wanted: Sequence[Wanted]) -> str:
    return f"nothing was printed for {log.timeout} seconds, after {_done(log)} of {len(wanted):,} samples"


def _done(log: RunLog) -> int:
    return sum(entry.status is not None for entry in log.samples.values())


def _gap(log: RunLog, run_id: str, models: Sequence[FirmwareModel], wanted: Sequence[Wanted]) -> str | None:
    """What is missing from the log, or there twice; None when it is whole."""
    missing = next((w for w in wanted if not _whole(log, models, w)), None)
    if len(log.run_ids) > 1 or (log.run_ids and log.ready and log.end is None):
        problem = "the firmware started more than once"
    elif log.run_ids != [run_id]:
        problem = "the firmware did not start"
    elif log.repeated:
        problem = f"the log repeats itself: '{log.repeated[0][:60]}'"
    elif missing is not None:
        problem = (
            f"outputs of sample {missing.sample} of '{_name(models, missing.model)}' are missing or cut off"
        )
    elif log.end != len(wanted):
        problem = "the log is cut off before its END line" if log.end is None else _other_count(log, wanted)
    else:
        return None
    return problem + _circumstances(log)


def _other_count(log: RunLog, wanted: Sequence[Wanted]) -> str:
    return f"the firmware ran {log.end} samples instead of {len(wanted):,}"


def _circumstances(log: RunLog) -> str:
    """What else the log holds that may explain it."""
    parts = []
    if log.exit is not None:
        parts.append(f"the emulator ended by itself: {log.exit}")
    if log.noise:
        parts.append(f"the console gave '{log.noise[0][:60]}'")
    return "".join(f"; {part}" for part in parts)


def _whole(log: RunLog, models: Sequence[FirmwareModel], wanted: Wanted) -> bool:
    entry = log.samples.get(wanted.key)
    if entry is None or entry.status is None:
        return False
    return all(entry.output(i, size) is not None for i, size in enumerate(models[wanted.model].output_sizes))


def _mismatch(log: RunLog, models: Sequence[FirmwareModel], wanted: Sequence[Wanted]) -> str | None:
    """The first wrong element and how many there are."""
    wrong, first = 0, ""
    total = 0
    for want in wanted:
        for i, expected in enumerate(want.expected or ()):
            got = _array(log.samples[want.key], i, expected.nbytes, expected.dtype.name)
            bad = wrong_elements(got, expected.reshape(-1), want.tolerances[i] if want.tolerances else None)
            wrong, total = wrong + bad.size, total + expected.size
            if bad.size and not first:
                first = (
                    f"sample {want.sample}, output {i} of '{_name(models, want.model)}', element {bad[0]}: "
                    f"got {got[bad[0]]}, expected {expected.reshape(-1)[bad[0]]}"
                )
    return f"{first} ({wrong:,} of {total:,} elements differ)" if wrong else None


def _collect(log: RunLog, models: Sequence[FirmwareModel], wanted: Sequence[Wanted]) -> tuple[ModelRun, ...]:
    """Per model the samples that arrived whole, up to the first that did not."""
    entries: dict[int, list[SampleLog]] = {i: [] for i in range(len(models))}
    for want in wanted:
        if not _whole(log, models, want):
            break
        entries[want.model].append(log.samples[want.key])
    return tuple(_model_run(log, model, entries[i]) for i, model in enumerate(models))


def _model_run(log: RunLog, model: FirmwareModel, entries: Sequence[SampleLog]) -> ModelRun:
    dtype = np.dtype(model.precision)
    outputs = tuple(
        np.array([_array(entry, i, size, dtype.name) for entry in entries], dtype).reshape(
            len(entries), size // dtype.itemsize
        )
        for i, size in enumerate(model.output_sizes)
    )
    instructions = tuple(_instructions(log, entry) for entry in entries)
    seconds = tuple(_seconds(log, entry) for entry in entries)
    layers = tuple(_layer_ticks(model, entry) for entry in entries) if model.profile_steps else None
    return ModelRun(model.name, outputs, instructions, seconds, layers, log.ratio)


def _layer_ticks(model: FirmwareModel, entry: SampleLog) -> tuple[int, ...] | None:
    """Ticks of every layer; None where some are missing or nothing counted. They decide no verdict."""
    return entry.layer_ticks(model.profile_steps) if entry.ticks else None


def _instructions(log: RunLog, entry: SampleLog) -> int | None:
    """Ticks between the two marks as instructions; None where nothing counted."""
    return round(entry.ticks * log.ratio) if log.ratio and entry.ticks else None


def _seconds(log: RunLog, entry: SampleLog) -> float | None:
    """Ticks between the two marks as seconds; None where the log does not say what a tick is."""
    return entry.ticks / log.clock if log.clock else None


def _array(entry: SampleLog, index: int, size: int, dtype: str) -> Array:
    """An output of `size` bytes, as the little-endian core stores it."""
    return np.frombuffer(entry.output(index, size) or b"", np.dtype(dtype).newbyteorder("<")).astype(dtype)


def _name(models: Sequence[FirmwareModel], model: int) -> str:
    return models[model].name if model < len(models) else f"model {model}"


def merged(results: Sequence[RunResult]) -> RunResult:
    """Results of consecutive chunks as one: the first that did not pass decides."""
    worst: RunResult = next((r for r in results if not r.passed), results[-1])
    models = tuple(_merged_model([r.models[i] for r in results]) for i in range(len(worst.models)))
    stacks = [r.stack_bytes for r in results if r.stack_bytes is not None]
    count = sum(len(m.instructions) for m in models)
    exact = all(output.dtype == np.int8 for m in models for output in m.outputs)
    detail = passed_detail(count, exact) if worst.passed else worst.detail
    return RunResult(
        worst.outcome, detail, models, max(stacks, default=None), "".join(r.log for r in results)
    )


def _merged_model(runs: Sequence[ModelRun]) -> ModelRun:
    outputs = tuple(np.concatenate(parts) for parts in zip(*(r.outputs for r in runs), strict=True))
    instructions = tuple(n for r in runs for n in r.instructions)
    seconds = tuple(s for r in runs for s in r.seconds)
    layers = None if runs[0].layer_ticks is None else tuple(t for r in runs for t in r.layer_ticks or ())
    return ModelRun(runs[0].name, outputs, instructions, seconds, layers, runs[0].ratio)
