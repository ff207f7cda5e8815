"""docs/pruning.md from the rows of benchmarks/pruning.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.tables import markdown
from tinygen.metrics import Metric

if TYPE_CHECKING:
    from benchmarks.pruning import Baseline, Row

PAGE = Path(__file__).resolve().parents[1] / "docs" / "pruning.md"


def line(row: Row) -> str:
    """One line for the terminal."""
    verdict = "ok" if row.holds else "MISSED"
    return f"{row.case.name:11} {row.case.asked:28} lost {row.lost:.2f} of {row.case.bound:.2f} {verdict}"


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    parts = [
        *_opening(rows),
        *markdown(
            (
                "case",
                "board",
                "asked",
                "MACs",
                "weights",
                "SRAM",
                "cycles",
                "original",
                "int8",
                "lost",
                "bound",
                "minutes",
            ),
            [_reached(row) for row in rows],
        ),
        "",
        *(f"- {row.case.name}: {_verdict(row)}" for row in rows),
        "",
        "## Beside what people do today",
        "",
        "The same budgets and training: the filters of least L1 norm, one ratio for all layers (magnitude pruning),",
        "and a net with as many channels from scratch. Float on the evaluation file, int8 where trained for that.",
        "",
        *markdown(
            ("case", "original", "ours", "magnitude, fine-tuned", "from scratch"),
            [_beside(row) for row in rows],
        ),
        "",
        "## Steps",
        "",
        "Every step with its reasons is in `pruning_log.json` of each run.",
        "",
        *(text for row in rows for text in _steps(row)),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _opening(rows: Sequence[Row]) -> list[str]:
    """How the figures were made, and what the first table's columns mean."""
    trained = ", ".join(row.case.name for row in rows if row.case.qat)
    return [
        "# Pruning: what it saves, what it loses",
        "",
        "`tinygen prune` ([prune.md](prune.md)) on the real models, seed 0, default options;",
        f'{trained} with `--qat`, which was tried after int8 without it had missed the bound (prune.md, "Images").',
        "Candidates are chosen on a fifth of the training file that is held out; a run's evaluation file judges once,",
        "at its end. Recipes changed between runs, so files were looked at more than once. Written by",
        "`python -m benchmarks.pruning --out runs/`; minutes are of that run, whatever else the machine did.",
        "",
        "## Asked and reached",
        "",
        "Lost: points of accuracy, or of 100 of AUC, that the int8 result loses against the float original on the",
        "evaluation file; in samples: how many more answers are wrong. Cycles are modelled, of a warm inference.",
        "Where no cycles are asked and the model does not fit as a whole, blocks are computed in bands of rows:",
        "MACs and cycles are those of what is executed.",
        "",
    ]


def _reached(row: Row) -> tuple[str, ...]:
    first, last = row.log.line[0].after.cost, row.log.line[-1].after.cost
    end = row.log.end
    assert end and end.original and end.int8
    ratio = f" ({first.cycles / last.cycles:.2f}x)" if first.cycles and last.cycles else ""
    return (
        row.case.name,
        row.case.board,
        row.case.asked,
        f"{first.macs:,} -> {last.macs:,} ({last.macs / first.macs - 1:+.0%})",
        f"{first.weights:,} -> {last.weights:,}",
        f"{first.sram:,} -> {last.sram:,}",
        f"{first.cycles or 0:,.0f} -> {last.cycles or 0:,.0f}{ratio}",
        _figure(end.original),
        _figure(end.int8),
        f"{row.lost:.2f}{_samples(row.lost, end.original)}",
        f"{row.case.bound:.2f}{_samples(row.case.bound, end.original)}",
        f"{row.minutes:.1f}",
    )


def _samples(points: float, metric: Metric) -> str:
    """The same in whole samples; an AUC is not a count of samples."""
    if metric.kind != "accuracy":
        return f" ({points / 100:.4f} AUC)"
    return f" ({math.floor(points * metric.count / 100 + 1e-6)} of {metric.count})"


def _verdict(row: Row) -> str:
    exact = ", ".join(f"{name} {outcome}" for name, outcome in row.exact.items())
    built = "builds" if row.builds else "DOES NOT BUILD"
    within = "within its bound" if row.holds else "MISSED"
    return f"{within}; every element against the reference: {exact}; `pio run` {built}"


def _beside(row: Row) -> tuple[str, ...]:
    end = row.log.end
    assert end and end.original and end.int8
    return (
        row.case.name,
        _figure(end.original),
        _figure(end.pruned) if end.pruned else f"{_figure(end.int8)} (int8)",
        _baseline(row.magnitude),
        _baseline(row.scratch),
    )


def _baseline(found: Baseline | None) -> str:
    return "not run" if found is None else f"{_figure(found.figure)} ({found.left:.0%} of the channels)"


def _figure(metric: Metric) -> str:
    return f"{metric.value:.4f}" if metric.kind == "auc" else f"{100 * metric.value:.2f} %"


def _steps(row: Row) -> list[str]:
    rows = [
        (
            str(s.number),
            s.action,
            f"{s.after.cost.macs:,}",
            f"{s.after.cost.sram:,}",
            f"{s.after.loss:.4g}",
            s.why,
        )
        for s in row.log.line
    ]
    return [
        f"### {row.case.name}",
        "",
        *markdown(("step", "action", "MACs", "SRAM", "loss", "why"), rows),
        "",
    ]
