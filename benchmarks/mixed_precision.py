"""What 16x8 gains: the real classifiers in float, in int8, and with int16 activations (int8 weights).

    python -m benchmarks.mixed_precision                 # all classifiers; writes docs/mixed_precision.md
    python -m benchmarks.mixed_precision vww --json      # one model, figures as JSON

Calibrated on the training samples, judged once on the evaluation set. Exit status 1 when, in 16x8, a model that loses
most in int8 has more than one sample less right than float. Needs ../shared/data (benchmarks/datasets.py).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.datasets import BY_NAME, TASKS, Task
from tinygen import evaluate, ops
from tinygen.calibration import calibrate
from tinygen.decisions import Options
from tinygen.frontend.keras import load_keras
from tinygen.fusion import fuse
from tinygen.graph import Array, Graph
from tinygen.metrics import predictions
from tinygen.pipeline import Options as PipelineOptions
from tinygen.pipeline import lower
from tinygen.quantization import quantize
from tinygen.samples import Samples, quantize_inputs
from tinygen.scheduling import schedule
from tinygen.simplification import simplify

PAGE = Path(__file__).resolve().parents[1] / "docs" / "mixed_precision.md"
WAYS = ("int8", "int16", "auto")


@dataclass(frozen=True)
class Way:
    """One precision of one model. right: samples; changed: samples whose class is not float's. arena: bytes.

    wide_macs: share of the multiply-accumulates with int16 activations.
    """

    activations: str
    right: int
    changed: int
    wide_macs: float
    arena: int
    cost: float


@dataclass(frozen=True)
class Row:
    """One model. right: samples that float gets right, of `count`."""

    task: str
    count: int
    right: int
    ways: tuple[Way, ...]

    def lost(self, activations: str) -> int:
        """Samples right in float minus samples right in that way."""
        return self.right - next(w.right for w in self.ways if w.activations == activations)


def measure(task: Task, ways: Sequence[str]) -> Row:
    """Every way of one classifier, judged on its evaluation samples."""
    graph = fuse(load_keras(task.model_path).graph)
    calibration = calibrate(graph, task.samples("train"))
    samples = task.samples("eval", judging=True)
    assert samples.y is not None
    floats = predictions(evaluate.chunked(lambda x: evaluate.real(graph, x), samples.x)[0])
    made = []
    for name in ways:
        report = quantize(graph, calibration, Options(activations=name))  # type: ignore[arg-type]
        final = schedule(simplify(report.graph))
        classes = predictions(_outputs(final, samples))
        right, changed = int((classes == samples.y).sum()), int((classes != floats).sum())
        arena = lower(final, None, PipelineOptions()).plan.arena_bytes
        made.append(Way(name, right, changed, _wide_share(final), arena, report.cost))
    return Row(task.name, samples.count, int((floats == samples.y).sum()), tuple(made))


def _outputs(graph: Graph, samples: Samples) -> Array:
    """Real outputs of the integer reference, which generated C equals in every element."""
    (output,) = evaluate.chunked(lambda q: evaluate.reference(graph, q), quantize_inputs(graph, samples.x))
    return graph.output_tensors[0].q.dequantize(output)


def _wide_share(graph: Graph) -> float:
    """Share of multiply-accumulates whose activations are int16."""
    macs = {b.name: ops.get(b.node.op).macs(b) for b in graph.bound()}
    wide = sum(macs[b.name] for b in graph.bound() if b.output.dtype == "int16")
    return float(wide / max(sum(macs.values()), 1))


def page(rows: Sequence[Row]) -> str:
    """docs/mixed_precision.md."""
    said = "\nWorst in int8:\n\n" + "".join(_verdict(row) for row in worst(rows))
    return HEAD + "\n".join(_line(row, way) for row in rows for way in row.ways) + "\n" + said


def worst(rows: Sequence[Row]) -> list[Row]:
    """The models that lose most samples in int8: all that tie."""
    most = max(row.lost("int8") for row in rows)
    return [row for row in rows if row.lost("int8") == most]


def _verdict(row: Row) -> str:
    ways = " and ".join(f"{row.lost(w.activations)} in {w.activations}" for w in row.ways[1:])
    return f"- {row.task} loses {row.lost('int8')} of {row.count} samples in int8, {ways}.\n"


HEAD = """# What int16 activations gain

Written by `python -m benchmarks.mixed_precision`; do not edit. Post-training quantization of the real classifiers,
calibrated on training samples, judged on evaluation samples by the integer reference. *right*: samples of the
evaluation set, *lost*: right in float minus right here, *changed*: another class than float's. *wide*: share of
multiply-accumulates with int16 activations. *cost*: what choices are judged by, on held-out training samples
(docs/accuracy.md). `auto` has no `--max-drop`: it takes the fewest layers that keep 95 % of
what the cost can fall (docs/numerics.md, "16x8").

| model | activations | right | lost | changed | wide | arena | cost |
|---|---|---|---|---|---|---|---|
"""


def _line(row: Row, way: Way) -> str:
    cells = [
        f"{row.task} (float: {row.right} of {row.count})",
        way.activations,
        str(way.right),
        str(row.lost(way.activations)),
        str(way.changed),
        f"{100 * way.wide_macs:.0f} %",
        f"{way.arena:,}",
        f"{way.cost:.3g}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 when the worst models of int8 are within one sample of float in 16x8."""
    parser = argparse.ArgumentParser(prog="benchmarks.mixed_precision")
    parser.add_argument("tasks", nargs="*", choices=[[], *BY_NAME], help="default: all classifiers")
    parser.add_argument("--ways", default=",".join(WAYS), help="of int8, int16, auto")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    given = parser.parse_args(arguments)
    tasks = [BY_NAME[name] for name in given.tasks] or [t for t in TASKS if t.metric == "accuracy"]
    rows = []
    for task in tasks:
        rows.append(measure(task, given.ways.split(",")))
        if not given.json:
            print("\n".join(_line(rows[-1], way) for way in rows[-1].ways), flush=True)
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    if not given.tasks:
        PAGE.write_text(page(rows))
    return 0 if all(row.lost("int16") <= 1 for row in worst(rows)) else 1


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    np.seterr(over="ignore")
    sys.exit(main())
