"""`tinygen.bench`: every model on every board of a bench, measured, against the baseline beside it (docs/bench.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tinygen import bench_gates
from tinygen.bench_baseline import Cell, append_history, commit_of, read_baseline, write_baseline
from tinygen.bench_cells import measure, prepare
from tinygen.bench_file import DEFAULT_FILE, read_bench
from tinygen.bench_matrix import Bench, BenchModel, cell_name, choose
from tinygen.boards import Board
from tinygen.errors import TinygenError
from tinygen.pipeline import Report, silent


@dataclass(frozen=True)
class Failed:
    """A cell without figures, and why."""

    model: str
    board: str
    message: str

    @property
    def name(self) -> str:
        """MODEL@BOARD."""
        return cell_name(self.model, self.board)


@dataclass(frozen=True)
class Benched:
    """What a bench gave. before: the baseline that it was compared with, None where there was none.

    verdict: of that comparison. updated: the baseline was recorded anew.
    """

    bench: Bench
    cells: tuple[Cell, ...]
    failed: tuple[Failed, ...]
    before: Mapping[str, Cell] | None
    verdict: bench_gates.Verdict
    updated: bool

    @property
    def passed(self) -> bool:
        """Every cell has figures, within gates and limits."""
        return not self.failed and not self.verdict.causes


def bench(
    path: str | Path = DEFAULT_FILE,
    *,
    only: Sequence[str] = (),
    update: bool = False,
    report: Report = silent,
) -> Benched:
    """Measure the cells of a bench and compare them with its baseline.

    only: MODEL, MODEL@BOARD or @BOARD, all for none. update: record the baseline (of these cells) and the history,
    unless a cell failed. Raises BenchError and UsageError for what is wrong with the bench itself; a model that cannot
    be compiled, or does not fit a board, makes its own cells fail and not the others.
    """
    made = read_bench(Path(path))
    chosen = choose(made, only)
    before = read_baseline(made.baseline)
    answers = tuple(_measured(chosen, report))
    cells = tuple(a for a in answers if isinstance(a, Cell))
    failed = tuple(a for a in answers if isinstance(a, Failed))
    verdict = bench_gates.judge(made, cells, before, whole=not only)
    if update and not failed:
        record(made, cells, before or {} if only else {})
    return Benched(made, cells, failed, before, verdict, update and not failed)


def record(made: Bench, cells: Sequence[Cell], kept: Mapping[str, Cell]) -> None:
    """Write the baseline, cells on top of those that are kept, and append to the history."""
    ours = (made.baseline, *((made.history,) if made.history else ()))
    commit = commit_of(made.path.parent, but=ours)
    write_baseline(made.baseline, {**kept, **{cell.name: cell for cell in cells}})
    if made.history:
        append_history(made.history, cells, commit)


def _measured(chosen: Sequence[tuple[BenchModel, Board]], report: Report) -> Iterator[Cell | Failed]:
    """Cells in order; each model is quantized and judged once."""
    done = 0
    for _, group in groupby(chosen, key=lambda pair: pair[0].name):
        pairs = list(group)
        for answer in _of_model(pairs[0][0], [board for _, board in pairs], report):
            done += 1
            report("cells", done, len(chosen))
            yield answer


def _of_model(model: BenchModel, boards: Sequence[Board], report: Report) -> Iterator[Cell | Failed]:
    def stage(name: str, done: int, total: int) -> None:
        report(f"{model.name}: {name}", done, total)

    try:
        prepared = prepare(model, stage)
    except TinygenError as problem:
        yield from (Failed(model.name, board.name, str(problem)) for board in boards)
        return
    for board in boards:
        try:
            yield measure(prepared, board, stage)
        except TinygenError as problem:
            yield Failed(model.name, board.name, str(problem))
