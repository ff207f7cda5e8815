"""tinygen prune on real models: what is left, what it loses, beside what people do today. Writes docs/pruning.md.

    python -m benchmarks.pruning --out runs/            all cases, about 1.5 hours on 2 cores
    python -m benchmarks.pruning --out runs/ fan cwru   some; finished runs in runs/ are taken as they are

Exit status 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tinygen
from benchmarks import pruning_baselines as baselines
from benchmarks.datasets import BY_NAME, Task, folder
from benchmarks.real_models import REAL_MODELS
from tinygen import metrics
from tinygen.boards import load_board
from tinygen.frontend.keras import load_keras_model
from tinygen.heavy import import_keras
from tinygen.judge import Outcome
from tinygen.metrics import Metric
from tinygen.pio.bootstrap import bootstrap
from tinygen.prune_api import prune, taught
from tinygen.pruning import distillation, judging, recipe
from tinygen.pruning.costs import Costs, over
from tinygen.pruning.journal import has_run, read
from tinygen.pruning.log import Log
from tinygen.pruning.outcome import Pruned
from tinygen.pruning.setting import answers
from tinygen.pruning.shrinking import shrunk
from tinygen.samples import Options
from tinygen.serialization import read_dataclass
from tinygen.wishes import read_wishes

L4R5 = "nucleo_l4r5zi"
FASTER = f"{100 / 1.8:.1f}%"
"""1.8 times fewer modelled cycles."""
QEMU_SAMPLES = 10


@dataclass(frozen=True)
class Case:
    """One row. bound: points (of 100) that int8 may lose against the float original on the evaluation set.

    scratch: a narrower net is trained from scratch, too, where that is affordable. qat: with --qat
    (docs/prune.md says why).
    """

    name: str
    task: str
    asked: str
    bound: float
    budgets: Mapping[str, str | int]
    board: str = L4R5
    pin: str = "auto"
    scratch: bool = False
    qat: bool = False


CASES: tuple[Case, ...] = (  # of budgets that imply each other the stricter one is given
    Case("kws", "kws", "MACs -40 %, cycles / 1.8", 1.5, {"macs": "60%", "cycles": FASTER}, scratch=True),
    Case("cwru", "cwru", "MACs -60 %, cycles / 1.8", 1.0, {"macs": "40%"}, scratch=True),
    Case("fan", "fan", "MACs -40 %", 1.5, {"macs": "60%"}, scratch=True),
    Case("ic", "ic", "all in SRAM, 48 KB left", 3.0, {"sram": 80 * 1024}, "nucleo_f446re", "all", qat=True),
    Case("ad", "ad", "weights halved, cycles / 1.8", 1.0, {"weights": "50%", "cycles": FASTER}, scratch=True),
    Case("vww", "vww", "at most 2.6 M MACs", 100 * 4 / 176, {"macs": 2_600_000}),
)
BY_CASE = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Baseline:
    """Another way to the same budgets. left: share of channels; figure: float, on the evaluation set."""

    left: float
    figure: Metric
    macs: int


@dataclass(frozen=True)
class Row:
    """What a case came to. exact: outcomes per emulator; builds: `pio run` of the project succeeds."""

    case: Case
    log: Log
    minutes: float
    exact: Mapping[str, str]
    builds: bool
    magnitude: Baseline | None = None
    scratch: Baseline | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def lost(self) -> float:
        """Points."""
        end = self.log.end
        assert end and end.original and end.int8
        return metrics.drop(end.original, end.int8)

    @property
    def holds(self) -> bool:
        end = self.log.end
        met = end is not None and not over(self.log.line[-1].after.cost, self.log.budgets)
        return (
            met
            and self.lost <= self.case.bound + 1e-9
            and self.builds
            and set(self.exact.values()) == {"PASSED"}
        )


def options_of(task: Task) -> Options:
    """How the command line is told to prepare the task's samples."""
    return next(model.options for model in REAL_MODELS if model.file == task.model)


# ---- one case


def measure(case: Case, out: Path, with_baselines: bool, report: Any) -> Row:
    """Prune (or take a finished run), then everything around it."""
    task, place = BY_NAME[case.task], out / case.name
    made = finished(place) or pruned(case, task, place, report)
    scratch = None
    magnitude = kept(
        out / f"{case.name}-magnitude.json", lambda: baseline(case, task, made.log, False), with_baselines
    )
    if case.scratch:
        file = out / f"{case.name}-scratch.json"
        scratch = kept(file, lambda: baseline(case, task, made.log, True), with_baselines)
    exact = outcomes(task, made, out / f"{case.name}-qemu")
    return Row(
        case,
        made.log,
        made.log.seconds / 60,
        exact,
        builds(made.project, out / "pio-core"),
        magnitude,
        scratch,
        made.notes,
    )


def finished(place: Path) -> Pruned | None:
    """An earlier run that came to its end."""
    return Pruned(place, log) if has_run(place) and (log := read(place)).end is not None else None


def pruned(case: Case, task: Task, place: Path, report: Any) -> Pruned:
    given: dict[str, Any] = {f"budget_{name}": amount for name, amount in case.budgets.items()}
    return prune(
        task.model_path,
        representative=task.data_path("train"),
        eval=task.data_path("eval"),
        out=place,
        board=case.board,
        pin=case.pin,
        qat=case.qat,
        samples=options_of(task),
        resume=True,
        report=report,
        **given,
    )


def outcomes(task: Task, made: Pruned, place: Path) -> dict[str, str]:
    """Every element against the reference: in Unicorn on the board itself, in QEMU on the board that it has."""
    options = options_of(task)
    train, judged = task.data_path("train"), task.data_path("eval")
    tinygen.compile(
        made.model, representative=train, board="mps2_an386", samples=options, out=place, force=True
    )
    runs = {"Unicorn": (made.project, "unicorn"), "QEMU": (place, "qemu")}
    found: dict[str, str] = {}
    for name, (project, emulator) in runs.items():
        ran = tinygen.run(project, inputs=judged, emulator=emulator, count=QEMU_SAMPLES, samples=options)
        found[name] = Outcome(ran.result.outcome).name
    return found


def builds(project: Path, core: Path) -> bool:
    """`pio run` gives firmware, with what `tinygen pio bootstrap` makes of this machine: no network."""
    bootstrap(project, core)
    command = [sys.executable, "-m", "platformio", "run", "-d", str(project)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


# ---- baselines


def kept(file: Path, make: Callable[[], Baseline], allowed: bool) -> Baseline | None:
    """What an earlier run left in the file, or, where that is allowed, made now and left there."""
    if not file.is_file() and not allowed:
        return None
    if not file.is_file():
        file.write_text(json.dumps(asdict(make())) + "\n")
    found: Baseline = read_dataclass(Baseline, json.loads(file.read_text()))
    return found


def baseline(case: Case, task: Task, log: Log, scratch: bool) -> Baseline:
    """Magnitude pruning with one ratio for all layers, or a net of those sizes from scratch; trained as ours is."""
    model = import_keras().saving.load_model(
        task.model_path, compile=False
    )  # open_keras draws no weights anew
    graph = load_keras_model(model)
    costs = Costs(load_board(case.board), read_wishes(case.pin), log.budgets)
    costs.calibrate(graph)

    def within(gone: Sequence[Any]) -> bool:
        return not over(costs.estimate(shrunk(graph, gone)), log.budgets)

    ratio = baselines.ratio_for(graph, within)
    options = replace(recipe.recipe_for(model), refit=False)
    fit, held_out = judging.split(task.samples("train"))
    fit = taught(options, task.samples("train"), fit, judged=True)
    if scratch:
        trained = baselines.from_scratch(model, graph, ratio, fit, held_out, options).model
    else:
        smaller = baselines.pruned_uniformly(model, graph, ratio)
        trained = distillation.train(smaller, model, fit.x, held_out.x, options).model
    judged, narrow = task.samples("eval"), load_keras_model(trained)
    figure = metrics.judge(narrow, judged, answers(trained, judged.x), task.metric)
    return Baseline(1 - ratio, figure, costs.estimate(narrow).macs)


# ---- command


def main(argv: Sequence[str] | None = None) -> int:
    from benchmarks.pruning_page import PAGE, line, page

    given = _parser().parse_args(argv)
    rows = []
    for name in given.cases or BY_CASE:
        start = time.perf_counter()
        rows.append(measure(BY_CASE[name], given.out, not given.no_baselines, _quiet))
        print(f"{line(rows[-1])}  ({time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps([_as_json(row) for row in rows], indent=2))
    if len(rows) == len(CASES):
        PAGE.write_text(page(rows))
    return 0 if all(row.holds for row in rows) else 1


def _quiet(stage: str, done: int, total: int) -> None:
    """Steps are told by their lines."""


def _as_json(row: Row) -> dict[str, Any]:
    end = row.log.end
    return {
        "case": asdict(row.case),
        "lost": row.lost,
        "holds": row.holds,
        "minutes": row.minutes,
        "exact": dict(row.exact),
        "builds": row.builds,
        "end": asdict(end) if end else None,
        "cost": asdict(row.log.line[-1].after.cost),
        "magnitude": asdict(row.magnitude) if row.magnitude else None,
        "scratch": asdict(row.scratch) if row.scratch else None,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.pruning", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "cases", nargs="*", choices=[[], *BY_CASE], help="default: all (docs/pruning.md is written)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the runs; finished ones are reused"
    )
    parser.add_argument("--no-baselines", action="store_true", help="only those that earlier runs left")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    assert folder().is_dir(), f"{folder()} does not exist"
    sys.exit(main())
