"""The gates of a bench: pure comparison of cells with their baseline and with the user's limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from tinygen import bench_blame as blame
from tinygen.bench_baseline import Cell
from tinygen.bench_matrix import Bench, Gate, Gates, Limits

Value = int | float
Kind = Literal["gate", "budget", "cell"]


@dataclass(frozen=True)
class Change:
    """A figure that is worse or better than it may be. before: the baseline's or the limit; text: one line, all told.

    kind: "gate" against the baseline, "budget" against the user's limits, "cell" where a whole baseline is missing or
    too many; figure is "" then.
    """

    kind: Kind
    cell: str
    figure: str
    before: Value | None
    after: Value | None
    text: str


@dataclass(frozen=True)
class Verdict:
    """causes: why --check fails. improvements: figures better than the baseline by more than their gate."""

    causes: tuple[Change, ...] = ()
    improvements: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Figure:
    """One figure of a cell, twice. worse_by: in the gate's unit, less than 0 is better; by: the change in words."""

    key: str
    gate: Gate
    before: Value
    after: Value
    worse_by: Fraction
    text: str
    by: str
    reason: str


def judge(
    bench: Bench,
    cells: Sequence[Cell],
    baseline: Mapping[str, Cell] | None,
    whole: bool,
) -> Verdict:
    """All cells against baseline and limits. whole: of all cells, so that no others may have a baseline."""
    command = f"tinygen bench {bench.path} --update"
    causes: list[Change] = []
    better: list[Change] = []
    models = {m.name: m for m in bench.models}
    for cell in cells:
        old = (baseline or {}).get(cell.name)
        if old is not None:
            causes += regressions(cell, old, bench.gates)
            better += improvements(cell, old, bench.gates)
        elif baseline is not None:
            causes.append(
                _whole_cell(cell.name, f"has no baseline: record it with '{command} --only {cell.name}'")
            )
        causes += exceeded(cell, models[cell.model].limits)
    if baseline is None:
        where = f"there is no baseline '{bench.baseline}'"
        causes.insert(
            0, Change("cell", "", "", None, None, f"{where}: record it with '{command}' and commit it")
        )
    if whole:
        causes += _stale(bench, baseline or {}, command)
    return Verdict(tuple(causes), tuple(better), tuple(_notes(cells, baseline or {}, causes)))


def regressions(now: Cell, before: Cell, gates: Gates) -> list[Change]:
    """Figures that are worse than the baseline by more than their gate, and those that are gone."""
    worse = [
        _change(now, f, f", gate {f.gate}{' %' * (f.key == 'mse')}")
        for f in _figures(now, before, gates)
        if not f.gate.allows(Fraction(str(f.before)), f.worse_by)
    ]
    return [*_lost(now, before), *worse]


def improvements(now: Cell, before: Cell, gates: Gates) -> list[Change]:
    """Figures that are better than the baseline by more than their gate."""
    return [
        _change(now, f, "")
        for f in _figures(now, before, gates)
        if not f.gate.allows(Fraction(str(f.before)), -f.worse_by)
    ]


def _change(now: Cell, figure: _Figure, gate: str) -> Change:
    reason = f": {figure.reason}" if figure.reason else ""
    text = f"{title(now)}: {figure.text} ({figure.by}{gate}){reason}"
    return Change("gate", now.name, figure.key, figure.before, figure.after, text)


def title(cell: Cell) -> str:
    """`kws on pico`."""
    return f"{cell.model} on {cell.board}"


# ---- figures


def _figures(now: Cell, before: Cell, gates: Gates) -> Iterator[_Figure]:
    """What both cells have, in the order of the table."""
    if now.metric == before.metric and now.accuracy is not None and before.accuracy is not None:
        yield _accuracy(now, before, gates.accuracy)
    work: blame.Work = "instructions" if now.cycles is None or before.cycles is None else "cycles"
    yield _count(work, now, before, gates.cycles, blame.of_work(now, before, work))
    yield _count("arena", now, before, gates.arena, blame.of_arena(now, before))
    yield _count("sram", now, before, gates.sram, blame.of_sram(now, before))
    yield _count("flash", now, before, gates.flash, blame.of_flash(now, before))
    if now.stack is not None and before.stack is not None:
        yield _count("stack", now, before, gates.stack, "")


def _count(key: str, now: Cell, before: Cell, gate: Gate, reason: str) -> _Figure:
    old, new = getattr(before, key), getattr(now, key)
    unit = "" if key in ("cycles", "instructions") else " bytes"
    text = f"{key} {old:,} -> {new:,}{unit}"
    by = percent_text(old, new) if gate.relative else f"{new - old:+,}"
    return _Figure(key, gate, old, new, Fraction(new - old), text, by, reason)


def _accuracy(now: Cell, before: Cell, gate: Gate) -> _Figure:
    """accuracy and AUC: points lost; mse: percent more."""
    assert now.accuracy is not None and before.accuracy is not None and now.metric is not None
    old, new = Fraction(str(before.accuracy)), Fraction(str(now.accuracy))
    text = f"{now.metric} {metric_text(before)} -> {metric_text(now)}"
    if now.metric == "mse":
        worse = 100 * (new - old) / old if old else Fraction(1 if new > old else 0) * 10**9
        by = percent_text(before.accuracy, now.accuracy)
    else:
        worse = 100 * (old - new)
        by = f"{-float(worse):+.2f} points"
    reason = blame.of_accuracy(now, before)
    return _Figure(now.metric, gate, before.accuracy, now.accuracy, worse, text, by, reason)


def metric_text(cell: Cell) -> str:
    """A cell's accuracy as people write it; a dash where there is none."""
    if cell.accuracy is None:
        return "-"
    return f"{100 * cell.accuracy:.2f} %" if cell.metric == "accuracy" else f"{cell.accuracy:.4g}"


def percent_text(old: Value, new: Value) -> str:
    """`+2.05 %`; the difference itself where two digits would show nothing."""
    percent = 100.0 * (new - old) / old if old else 0.0
    return f"{percent:+,.2f} %" if abs(percent) >= 0.005 else f"{new - old:+,.4g}"


def _lost(now: Cell, before: Cell) -> Iterator[Change]:
    """Figures that the baseline has and the cell has not, or not in the same unit."""
    if before.accuracy is not None and now.metric != before.metric:
        what = f"is judged by {now.metric or 'nothing'} now, its baseline by {before.metric}"
        yield Change(
            "gate", now.name, str(before.metric), before.accuracy, now.accuracy, f"{title(now)}: {what}"
        )
    for key, why in (("cycles", "only instructions are counted"), ("stack", "it is not measured")):
        if getattr(before, key) is not None and getattr(now, key) is None:
            text = f"{title(now)}: {key} {getattr(before, key):,} in the baseline, now {why}"
            yield Change("gate", now.name, key, getattr(before, key), None, text)


# ---- limits


def exceeded(now: Cell, limits: Limits) -> list[Change]:
    """Limits that the cell does not keep, whatever its baseline."""
    found = list(_time(now, limits.ms)) + list(_least_accuracy(now, limits.accuracy))
    for key, taken, allowed, reason in (
        ("arena", now.arena, limits.arena, blame.fullest(now)),
        ("sram", now.sram, limits.sram, blame.in_sram(now, limits.sram)),
        ("flash", now.flash, limits.flash, blame.in_flash(now)),
        ("stack", now.stack, limits.stack, ""),
    ):
        if allowed is not None and (taken is None or taken > allowed):
            figure = f"{key} {taken:,} bytes" if taken is not None else f"{key} is not measured"
            text = f"{title(now)}: {figure}, budget_{key} {allowed:,}{f': {reason}' if reason else ''}"
            found.append(Change("budget", now.name, key, allowed, taken, text))
    return found


def _time(now: Cell, allowed: float | None) -> Iterator[Change]:
    if allowed is None or (now.worst_ms is not None and now.worst_ms <= allowed):
        return
    if now.worst_ms is None:
        text = f"budget_ms {allowed:g} cannot be checked: no cycles are modelled for this board's core"
    else:
        most = blame.largest(now, "cycles")
        text = (
            f"{now.worst_ms:,.4g} ms in the slowest warm inference, budget_ms {allowed:g}: most cycles {most}"
        )
    yield Change("budget", now.name, "ms", allowed, now.worst_ms, f"{title(now)}: {text}")


def _least_accuracy(now: Cell, least: float | None) -> Iterator[Change]:
    if least is None or now.accuracy is None:
        return
    if now.metric == "mse":
        text = f"min_accuracy {least:g} cannot be checked: the model is judged by mse"
    elif Fraction(str(now.accuracy)) * 100 < Fraction(str(least)):
        text = f"{now.metric} {metric_text(now)} of {now.samples:,} samples, min_accuracy {least:g}"
    else:
        return
    yield Change("budget", now.name, str(now.metric), least, now.accuracy, f"{title(now)}: {text}")


# ---- the whole


def _whole_cell(name: str, what: str) -> Change:
    model, _, board = name.partition("@")
    return Change("cell", name, "", None, None, f"{model} on {board}: {what}")


def _stale(bench: Bench, baseline: Mapping[str, Cell], command: str) -> list[Change]:
    """Baselines of cells that the bench has no more."""
    known = {f"{m.name}@{b.name}" for m, b in bench.cells}
    what = f"is in the baseline but not in '{bench.path}': drop it with '{command}'"
    return [_whole_cell(name, what) for name in sorted(baseline) if name not in known]


def _notes(cells: Sequence[Cell], baseline: Mapping[str, Cell], causes: Sequence[Change]) -> Iterator[str]:
    """Tools that differ; what went into a cell that got worse and is not as it was."""
    pairs = [(cell, baseline[cell.name]) for cell in cells if cell.name in baseline]
    tools = [(b.compiler, c.compiler) for c, b in pairs]
    tools += [(f"tinygen {b.tinygen}", f"tinygen {c.tinygen}") for c, b in pairs]
    for old, new in sorted({tool for tool in tools if tool[0] != tool[1]}):
        yield f"the baseline was made with {old}, this is {new}: figures may differ"
    failing = {c.cell for c in causes if c.kind == "gate"}
    for cell, before in pairs:
        if cell.name in failing:
            changed = blame.sources_changed(cell, before)
            told = f"changed since the baseline: {', '.join(changed)}" if changed else UNCHANGED
            yield f"{title(cell)}: {told}"


UNCHANGED = (
    "model, samples, options and board are those of the baseline: what changed is tinygen or its tools"
)
