"""A bench: a matrix of models and boards with gates and limits (bench_file.py reads it from the user's TOML)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tinygen import metrics
from tinygen.boards import Board
from tinygen.errors import UsageError, did_you_mean
from tinygen.graph import Shape
from tinygen.pipeline import Precision
from tinygen.samples import Options as SampleOptions
from tinygen.selection import Optimize


@dataclass(frozen=True)
class Gate:
    """How much worse than its baseline a figure may get. relative: amount is percent of the baseline."""

    amount: Fraction
    relative: bool = False

    def allows(self, before: Fraction, worse_by: Fraction) -> bool:
        """True up to the amount, the amount itself included; exact."""
        limit = self.amount * abs(before) / 100 if self.relative else self.amount
        return worse_by <= limit

    def __str__(self) -> str:
        return f"{float(self.amount):g} %" if self.relative else f"{float(self.amount):,g}"


@dataclass(frozen=True)
class Gates:
    """One gate per figure. cycles: of instructions where no cycles are modelled.

    accuracy: points (of 100) of accuracy and AUC, percent of a mean squared error. arena and the others: bytes.
    """

    cycles: Gate = Gate(Fraction(1), True)
    accuracy: Gate = Gate(Fraction(1, 2))
    arena: Gate = Gate(Fraction(0))
    flash: Gate = Gate(Fraction(1), True)
    sram: Gate = Gate(Fraction(1), True)
    stack: Gate = Gate(Fraction(64))


@dataclass(frozen=True)
class Limits:
    """What a model may take on each of its boards, whatever the baseline. None: anything.

    ms: of the slowest warm inference, modelled. sram, flash, arena, stack: bytes. accuracy: percent, at least.
    """

    ms: float | None = None
    sram: int | None = None
    flash: int | None = None
    arena: int | None = None
    stack: int | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class BenchModel:
    """One [[model]]. Paths are found from the TOML's folder. eval_count: judged samples, None for all of them.

    told: the TOML's own words for what decides the figures, paths apart: to tell whether they changed.
    """

    name: str
    file: Path
    representative: Path | None
    eval: Path | None
    eval_count: int | None
    metric: metrics.Kind | None
    samples: SampleOptions
    input_shape: Shape | Mapping[str, Shape] | None
    calibration: str
    precision: Precision
    optimize: Optimize
    pin: str
    pin_code: str
    weights: str | None
    limits: Limits
    boards: tuple[Board, ...]
    told: str


@dataclass(frozen=True)
class Bench:
    """A matrix of models and boards, where its baseline and its history are, and its gates."""

    path: Path
    baseline: Path
    history: Path | None
    gates: Gates
    models: tuple[BenchModel, ...]

    @property
    def cells(self) -> tuple[tuple[BenchModel, Board], ...]:
        """Every model on every board of its own, in the file's order."""
        return tuple((model, board) for model in self.models for board in model.boards)


def cell_name(model: str, board: str) -> str:
    """What a cell is called in the baseline, the history and --only."""
    return f"{model}@{board}"


def choose(bench: Bench, only: Sequence[str]) -> tuple[tuple[BenchModel, Board], ...]:
    """The cells that MODEL, MODEL@BOARD or @BOARD name; all for an empty list. Raises UsageError for unknown ones."""
    if not only:
        return bench.cells
    models = [m.name for m in bench.models]
    boards = list(dict.fromkeys(b.name for _, b in bench.cells))
    chosen = set()
    for text in only:
        model, _, board = text.partition("@")
        for name, known, what in ((model, models, "model"), (board, boards, "board")):
            if name and name not in known:
                near = did_you_mean(name, known)
                raise UsageError(
                    f"--only {text}: there is no {what} '{name}'{near}\n  known: {', '.join(known)}"
                )
        found = {(m.name, b.name) for m, b in bench.cells if model in ("", m.name) and board in ("", b.name)}
        if not found:
            raise UsageError(f"--only {text}: '{model}' is not measured on '{board}' in '{bench.path}'")
        chosen |= found
    return tuple((m, b) for m, b in bench.cells if (m.name, b.name) in chosen)
