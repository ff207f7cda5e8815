"""What int8 costs: seven models, float against tinygen's int8 against TFLite's own post-training
quantization.

    python -m benchmarks.accuracy                 # judge on the evaluation sets, write docs/accuracy.md
    python -m benchmarks.accuracy --split train   # while developing: the evaluation sets stay untouched
    python -m benchmarks.accuracy fan cwru --json

Exit status 1 when a model loses more than its bound. Needs ../shared/data (benchmarks/datasets.py).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.datasets import BY_NAME, TASKS, Split, Task
from tinygen import evaluate
from tinygen.calibration import Calibration, calibrate
from tinygen.decisions import QuantizationReport, RangeDecision
from tinygen.frontend.keras import load_keras
from tinygen.fusion import fuse
from tinygen.graph import Array, Graph, QParams
from tinygen.heavy import import_keras
from tinygen.metrics import Metric, drop, judge, predictions
from tinygen.quantization import quantize
from tinygen.samples import Samples, quantize_inputs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"


@dataclass(frozen=True)
class Judged:
    """One way to compute a model. lost: points (of 100) below float.

    For classifiers only: changed: samples whose class differs from float's; worse, better: samples that float
    gets right and this does not, and the other way round.
    """

    metric: Metric
    lost: float
    changed: int | None = None
    worse: int | None = None
    better: int | None = None


@dataclass(frozen=True)
class Row:
    """One model. seconds: calibration and quantization."""

    task: str
    title: str
    bound: float
    float32: Metric
    int8: Judged
    tflite: Judged | None
    seconds: float
    report: QuantizationReport

    @property
    def holds(self) -> bool:
        return self.int8.lost <= self.bound + 1e-9


def measure(task: Task, split: Split, with_tflite: bool) -> Row:
    """Calibrate on train, judge on `split`."""
    graph = fuse(load_keras(task.model_path).graph)
    start = time.perf_counter()
    calibration = calibrate(graph, task.samples("train"))
    report = quantize(graph, calibration)
    seconds = time.perf_counter() - start
    samples = task.samples(split, judging=True)
    floats = evaluate.chunked(lambda x: evaluate.real(graph, x), samples.x)
    float32 = judge(graph, samples, floats, task.metric)
    int8 = _judged(task, graph, samples, floats[0], _reference(report.graph, samples))
    tflite = None
    if with_tflite:
        tflite = _judged(task, graph, samples, floats[0], _tflite(task, calibration, samples))
    return Row(task.name, task.title, task.bound, float32, int8, tflite, seconds, report)


def _reference(graph: Graph, samples: Samples) -> Array:
    """Real outputs of the int8 reference, rounding as devices do."""
    (output,) = evaluate.chunked(lambda q: evaluate.reference(graph, q), quantize_inputs(graph, samples.x))
    return graph.output_tensors[0].q.dequantize(output)


def _judged(task: Task, graph: Graph, samples: Samples, floats: Array, outputs: Array) -> Judged:
    metric = judge(graph, samples, (outputs,), task.metric)
    lost = drop(judge(graph, samples, (floats,), task.metric), metric)
    if task.metric != "accuracy":
        return Judged(metric, lost)
    before, after = predictions(floats), predictions(outputs)
    right_before, right_after = before == samples.y, after == samples.y
    worse, better = int((right_before & ~right_after).sum()), int((~right_before & right_after).sum())
    return Judged(metric, lost, int((before != after).sum()), worse, better)


# ---- TFLite's own quantization


def _tflite(task: Task, calibration: Calibration, samples: Samples) -> Array:
    """Real outputs of TFLite's full int8 conversion, calibrated on the same samples, by its reference
    kernels."""
    from ai_edge_litert.interpreter import Interpreter

    from tinygen.oracle import run_litert

    both = calibration.fit if calibration.judge is calibration.fit else calibration.judge
    content = _convert(task, np.concatenate([calibration.fit[0], both[0]]))
    interpreter = Interpreter(model_content=content)
    q_in, q_out = (
        QParams.per_tensor(*details()[0]["quantization"])
        for details in (interpreter.get_input_details, interpreter.get_output_details)
    )
    (output,) = run_litert(content, [q_in.quantize(samples.x[0])])
    return q_out.dequantize(output)


def _convert(task: Task, representative: Array) -> bytes:
    """The int8 .tflite file of the Keras model."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(import_keras().models.load_model(task.model_path))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[np.newaxis]] for sample in representative)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own
        return bytes(converter.convert())


# ---- the page


def page(rows: Sequence[Row]) -> str:
    """docs/accuracy.md."""
    return "\n".join([HEAD, *(_line(row) for row in rows), "", EXPLANATION, *(_details(row) for row in rows)])


HEAD = """# What int8 costs

Written by `python -m benchmarks.accuracy`; do not edit. Calibrated on the training samples only, with default
options; judged on evaluation samples that no calibration sees. 95 % intervals in brackets: Wilson for
accuracy, DeLong for the AUC of the reconstruction error. *Loss* is in points (of 100), negative where int8 is
better; *changed* counts samples whose class differs from the float model's (became wrong, became right).

| model | float | tinygen int8 | loss | at most | changed | TFLite int8 | loss | changed |
|---|---|---|---|---|---|---|---|---|"""

EXPLANATION = """TFLite int8 is `tf.lite.TFLiteConverter` with full integer quantization and the same
calibration samples, run by LiteRT's reference kernels. tinygen's figures come from the int8 reference with the
rounding of devices, which generated C equals in every element.

## How each model was quantized

*Cost* is what the choices were judged by, on held-out calibration samples and without labels: squared
distance of the probabilities from the float model's where a softmax ends the model, else squared error relative to
the variance of the outputs.
"""


def _line(row: Row) -> str:
    tflite = row.tflite
    changed = (
        f"{row.int8.changed} ({row.int8.worse}, {row.int8.better})" if row.int8.changed is not None else ""
    )
    cells = [
        f"{row.task}: {row.title}",
        str(row.float32),
        str(row.int8.metric),
        f"{row.int8.lost:.2f}" + ("" if row.holds else " **too much**"),
        f"{row.bound:.2f}",
        changed,
        str(tflite.metric) if tflite else "",
        f"{tflite.lost:.2f}" if tflite else "",
        str(tflite.changed) if tflite and tflite.changed is not None else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _details(row: Row) -> str:
    report = row.report
    judging = f"{report.samples:,} samples, {report.judged:,} of them judging; cost {report.cost:.3g}."
    head = f"### {row.task}\n\n{judging}\n"
    rewrites = [f"- {decision}" for decision in report.rewrites]
    table = ["", "| activations | range | by |", "|---|---|---|"]
    lines = [_range_line(decision) for decision in report.ranges]
    return "\n".join([head, *rewrites, *table, *lines, ""])


def _range_line(decision: RangeDecision) -> str:
    names = ", ".join(decision.members)
    return f"| {names} | {decision.range.low:.4g} ... {decision.range.high:.4g} | {decision.calibrator} |"


# ---- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0 when every bound holds."""
    given = _parser().parse_args(arguments)
    tasks = [BY_NAME[name] for name in given.tasks] or list(TASKS)
    rows = []
    with Progress(disable=given.json, transient=True) as progress:
        bar = progress.add_task("accuracy", total=len(tasks))
        for task in tasks:
            progress.update(bar, description=task.name)
            rows.append(measure(task, given.split, not given.no_tflite))
            progress.advance(bar)
            if not given.json:
                progress.console.print(_summary(rows[-1]), highlight=False, soft_wrap=True)
    if given.json:
        print(json.dumps([_as_json(row) for row in rows], indent=2))
    if given.split == "eval" and len(rows) == len(TASKS) and not given.no_tflite:
        PAGE.write_text(page(rows))
    return 0 if all(row.holds for row in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.accuracy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "tasks", nargs="*", choices=[[], *BY_NAME], help="default: all (docs/accuracy.md is written)"
    )
    parser.add_argument("--split", choices=("train", "eval"), default="eval", help="what judges")
    parser.add_argument("--no-tflite", action="store_true", help="leave out TFLite's own quantization")
    parser.add_argument("--json", action="store_true", help="print figures as JSON, no progress bar")
    return parser


def _summary(row: Row) -> str:
    verdict = "ok" if row.holds else "TOO MUCH"
    tflite = f"; TFLite loses {row.tflite.lost:.2f}" if row.tflite else ""
    changed = f", {row.int8.changed} classes changed" if row.int8.changed is not None else ""
    return (
        f"{row.task:12} float {row.float32}  int8 {row.int8.metric}  loses {row.int8.lost:.2f} "
        f"of {row.bound:.2f} {verdict}{changed}{tflite}  ({row.seconds:.0f} s)"
    )


def _as_json(row: Row) -> dict[str, Any]:
    return {
        "task": row.task,
        "bound": row.bound,
        "holds": row.holds,
        "float": asdict(row.float32),
        "int8": asdict(row.int8),
        "tflite": asdict(row.tflite) if row.tflite else None,
        "decisions": [str(decision) for decision in row.report.decisions],
        "seconds": round(row.seconds, 1),
    }


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
