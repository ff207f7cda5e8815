"""Quantization-aware training: the int8 model learns to answer as the float model does. No labels are needed.

The float graph that int8 stands for is run with weights, biases and activations rounded as the int8 graph rounds them.
Gradients pass the rounding straight through. The numbers of the epoch that is best on held-out samples make the int8
graph, with exactly the scales that were trained.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tinygen import spec
from tinygen.calibration import calibrate
from tinygen.decisions import QuantizationReport
from tinygen.errors import DataError, ModelError, UsageError, did_you_mean
from tinygen.frontend.keras import load_keras_model
from tinygen.fusion import fuse
from tinygen.graph import Graph, QParams
from tinygen.heavy import import_keras
from tinygen.pipeline import Report as StageReport
from tinygen.pipeline import silent
from tinygen.pruning.epochs import Ended, Epoch, Progress, take
from tinygen.pruning.judging import split
from tinygen.quantization import quantize, to_int8
from tinygen.quantized_training.ranges import WAYS, Ranges, Way
from tinygen.quantized_training.state import Loop, State
from tinygen.samples import Samples
from tinygen.scales import groups


@dataclass(frozen=True)
class Options:
    """How the int8 model learns.

    epochs: None takes as many as make `steps` steps of `batch` samples. rate: the largest learning rate of Adam,
    relative to each channel's weights; range_rate: that of learned scales, in octaves. ranges: what the scales of
    activations do. temperature: softens classifiers' answers. patience: epochs without a better one until it stops.
    minutes: None, or when it stops with the best so far. calibration: of the scales it starts from.
    """

    epochs: int | None = None
    steps: int = 1500
    batch: int = 64
    rate: float = 5e-4
    range_rate: float = 5e-4
    warmup: float = 0.1
    ranges: Way = "learned"
    temperature: float = 2.0
    augment: Sequence[str] | Literal["auto"] = "auto"
    patience: int | None = None
    minutes: float | None = None
    seed: int = 1
    calibration: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch", "rate", "range_rate", "temperature", "patience", "minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} of the training is {value}\n  it must be greater than 0")
        if self.ranges not in WAYS:
            near = did_you_mean(self.ranges, WAYS)
            raise UsageError(f"ranges '{self.ranges}' are unknown{near}\n  there are {', '.join(WAYS)}")

    def epochs_for(self, count: int) -> int:
        """Epochs over `count` samples."""
        return self.epochs or max(1, math.ceil(self.steps / math.ceil(count / self.batch)))


DEFAULT = Options()


@dataclass(frozen=True)
class Trained:
    """graph: int8. real: the float graph that it stands for, with the trained numbers. qparams: of every activation.

    start: post-training quantization, where the training started. history[best]: the epoch that is kept, 0 is `start`.
    model: the Keras model with the trained numbers, where the training was given one; None and `unfit` says why
    otherwise. seconds: of all. stopped: why it ended early, or "".
    """

    graph: Graph
    real: Graph
    qparams: Mapping[str, QParams]
    start: QuantizationReport
    fused: Graph
    history: tuple[Epoch, ...]
    best: int
    seconds: float
    stopped: str = ""
    model: Any = field(default=None, repr=False)
    unfit: str = ""


def train(
    model: Graph | Any,
    samples: Samples,
    options: Options = DEFAULT,
    report: Callable[[Progress], None] = lambda progress: None,
    teacher: Graph | Any = None,
    stages: StageReport = silent,
) -> Trained:
    """The int8 graph of a float model, trained on the representative samples to answer as the teacher does.

    model, teacher: Keras models, or float graphs as the front end loads them; teacher None: the float model itself.
    Never worse than post-training quantization on what is held out: it competes, as epoch 0. Deterministic for a seed,
    unless `minutes` end it. Raises ModelError, DataError, UsageError.
    """
    begun = time.perf_counter()
    loaded = graph_of(model)
    teaching = loaded if teacher is None else graph_of(teacher)
    _check(loaded, teaching, samples)
    fitting, held_out = split(samples, seed=options.seed)
    fused = spec.check(fuse(loaded), quantized=False)
    start = _quantized(fused, samples, options, stages)
    import_keras().utils.set_random_seed(options.seed)
    teacher_graph = fused if teacher is None else fuse(teaching)
    loop = Loop(_ranges(start, samples), teacher_graph, fitting.x, held_out.x, options)
    first = loop.judged(), loop.state()
    planned = options.epochs_for(loop.count)
    ended = take(first, loop.epoch, loop.judged, loop.state, planned, options, report, begun)
    made = _made(ended, start, fused)
    return _with_model(made, model, loaded, samples, begun)


def graph_of(model: Graph | Any) -> Graph:
    """The float graph of a Keras model, a graph as it is."""
    return model if isinstance(model, Graph) else load_keras_model(model)


def _check(graph: Graph, teacher: Graph, samples: Samples) -> None:
    """Refuse int8 graphs, teachers of another shape, and samples that do not fit."""
    for one in (graph, teacher):
        if one.precision != "float32":
            raise ModelError(
                f"'{one.name}' is int8 already: quantization-aware training needs the float model it was made from"
            )
    for what in ("input", "output"):
        ours, theirs = ([t.shape for t in getattr(g, f"{what}_tensors")] for g in (graph, teacher))
        if ours != theirs:
            raise ModelError(
                f"teacher '{teacher.name}' has {what}s of shape {theirs}, '{graph.name}' has {ours}\n"
                "  give the float model that it was made from"
            )
    shapes = [t.shape for t in graph.input_tensors]
    if [a.shape[1:] for a in samples.x] != shapes:
        raise DataError(f"samples of shape {[a.shape for a in samples.x]} do not fit inputs {shapes}")


def _quantized(fused: Graph, samples: Samples, options: Options, stages: StageReport) -> QuantizationReport:
    calibration = calibrate(fused, samples, progress=lambda done, total: stages("calibrate", done, total))
    return quantize(fused, calibration, options.calibration, lambda d, t: stages("quantize", d, t))


def _ranges(start: QuantizationReport, samples: Samples) -> Ranges:
    assert start.corrected is not None
    grids = samples.grids or (None,) * len(samples.x)
    pairs = zip(start.corrected.inputs, grids, strict=True)
    tied = groups(start.corrected, {name: grid.qparams for name, grid in pairs if grid is not None})
    qparams = {member: r.qparams for r in start.ranges for member in r.members}
    return Ranges(start.corrected, tied, qparams)


def _made(ended: Ended[State], start: QuantizationReport, fused: Graph) -> Trained:
    """The int8 graph of a state. Epoch 0 is post-training quantization, bit by bit."""
    state = ended.kept
    graph = spec.check(to_int8(state.graph, state.qparams), quantized=True)
    return Trained(
        graph, state.graph, state.qparams, start, fused, ended.history, ended.best, 0.0, ended.stopped
    )


def _with_model(made: Trained, model: Any, loaded: Graph, samples: Samples, begun: float) -> Trained:
    """The same with a Keras model of the trained numbers, where one was given and can hold them."""
    from dataclasses import replace

    from tinygen.quantized_training.plain import rebuilt

    if isinstance(model, Graph):
        plain, unfit = None, "no Keras model was given"
    else:
        try:
            plain, unfit = rebuilt(model, loaded, made.real, samples), ""
        except ModelError as error:
            plain, unfit = None, str(error)
    return replace(made, model=plain, unfit=unfit, seconds=time.perf_counter() - begun)
