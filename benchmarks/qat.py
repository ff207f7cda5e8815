"""Quantization-aware training against post-training quantization, on evaluation samples that neither sees.

    python -m benchmarks.qat                    # all models, writes docs/qat.md
    python -m benchmarks.qat fan cwru --steps 300 --minutes 5

The float model teaches; no labels are used. Needs ../shared/data (benchmarks/datasets.py).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.datasets import BY_NAME, Task
from tinygen import evaluate
from tinygen.frontend.keras import open_keras
from tinygen.graph import Array, Graph
from tinygen.metrics import Metric, drop, judge, predictions
from tinygen.quantized_training.training import Options, Trained, train
from tinygen.samples import Samples, quantize_inputs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "qat.md"
MOST = 20_000
"""Training samples that are used, evenly spread."""


@dataclass(frozen=True)
class Row:
    """One model: metrics on the evaluation set; changed: (by post-training quantization, after training) samples
    whose class differs from the float model's, None without classes."""

    task: Task
    trained: Trained
    float32: Metric
    ptq: Metric
    qat: Metric
    changed: tuple[int, int] | None

    @property
    def verdict(self) -> str:
        gained = drop(self.ptq, self.qat)
        if self.trained.best == 0:
            return "no: training gained nothing on held-out samples"
        return "yes" if gained < 0 else "equal" if gained == 0 else "no"


def measure(task: Task, options: Options) -> Row:
    """Train on train, judge on eval."""
    model, _ = open_keras(task.model_path)
    whole = task.samples("train")
    chosen = np.unique(np.linspace(0, whole.count - 1, min(whole.count, MOST)).astype(np.int64))
    groups = None if whole.groups is None else np.unique(whole.groups[chosen], return_inverse=True)[1]
    given = Samples(tuple(a[chosen] for a in whole.x), None, groups, whole.grids)
    trained = train(
        model, given, options, lambda p: print(f"{task.name} {p.epoch}/{p.epochs} {p.best:.3g}", flush=True)
    )
    samples = task.samples("eval", judging=True)
    fused = trained.fused
    (floats,) = evaluate.chunked(lambda x: evaluate.real(fused, x), samples.x)
    ptq, qat = (_reference(graph, samples) for graph in (trained.start.graph, trained.graph))
    changed = None
    if task.metric == "accuracy":
        classes = [predictions(o.reshape(len(o), -1)) for o in (floats, ptq, qat)]
        changed = int((classes[0] != classes[1]).sum()), int((classes[0] != classes[2]).sum())
    metrics = [judge(fused, samples, (o,), task.metric) for o in (floats, ptq, qat)]
    return Row(task, trained, metrics[0], metrics[1], metrics[2], changed)


def _reference(graph: Graph, samples: Samples) -> Array:
    (output,) = evaluate.chunked(lambda q: evaluate.reference(graph, q), quantize_inputs(graph, samples.x))
    return graph.output_tensors[0].q.dequantize(output)


HEAD = """# Quantization-aware training

`tinygen qat MODEL --representative FILE --out DIR` trains the int8 model to answer as the float model does. No labels
are needed. It starts from post-training quantization and is never worse than that on held-out representative samples:
when no epoch is better, the result is post-training quantization.

Forward, the network computes what the int8 reference computes, in every element: weights, biases and rounding are made
by the functions that make the int8 graph (`tests/qat/test_training.py` holds seven real models to it). Backward,
rounding counts as the identity. The scales of activations are learned (`--ranges learned`), follow the values
(`moving`) or stay (`fixed`); weights are scaled per channel by their largest. The trained scales go unchanged into the
int8 graph. The project holds `qat_int8.tflite` and, where the model can hold what was learned, `qat.keras`: an ordinary
Keras model with batch normalization folded. Compiling `qat.keras` again would calibrate again; the project and the
.tflite file have the trained scales.

## Does it help?

Written by `python -m benchmarks.qat {arguments}`. Loss: mean distance from the float model's answers on held-out
training samples (nats, or squares relative to the variance). Metrics: on the evaluation samples, 95 % intervals in
brackets. *Changed*: samples whose class differs from the float model's. *Better*: on the evaluation samples.

| model | float | int8, post-training | int8, trained | changed | held-out loss | epochs (best) | minutes | better? |
|---|---|---|---|---|---|---|---|---|
"""


def page(rows: Sequence[Row], arguments: str) -> str:
    """docs/qat.md."""
    return HEAD.replace("{arguments}", arguments) + "".join(map(line, rows))


def line(row: Row) -> str:
    """One line of the table."""
    history, best = row.trained.history, row.trained.best
    changed = "" if row.changed is None else f"{row.changed[0]} -> {row.changed[1]}"
    losses = f"{history[0].held_out:.3g} -> {history[best].held_out:.3g}"
    cells = [
        f"{row.task.name}: {row.task.title}", row.float32, row.ptq, row.qat, changed, losses,
        f"{len(history) - 1} ({best})", f"{row.trained.seconds / 60:.1f}", row.verdict,
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.qat", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", nargs="*", choices=[[], *BY_NAME], help="default: all")
    parser.add_argument("--steps", type=int, default=Options.steps)
    parser.add_argument("--minutes", type=float, help="at most, for each model")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    options = Options(steps=given.steps, minutes=given.minutes, seed=given.seed)
    rows = []
    for name in given.tasks or BY_NAME:
        rows.append(measure(BY_NAME[name], options))
        print(line(rows[-1]), flush=True)
        PAGE.write_text(page(rows, " ".join(sys.argv[1:] if arguments is None else arguments)))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
