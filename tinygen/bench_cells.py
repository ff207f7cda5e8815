"""One cell of a bench: a model is made ready once (quantized, judged), then built and followed on every board."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from tinygen import __version__, building, bundle, metrics, pipeline, scoring
from tinygen.bench_baseline import Cell, LayerFigures
from tinygen.bench_matrix import BenchModel
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.ctext import suggest_prefix
from tinygen.errors import BoardError, DataError
from tinygen.frontend import load
from tinygen.given import check_precision
from tinygen.graph import Array, Graph
from tinygen.metrics import Metric
from tinygen.pipeline import Compiled, Report
from tinygen.planning import MemoryPlan
from tinygen.profile_api import INPUTS, follow
from tinygen.profiling import ALIAS, Profile
from tinygen.program import Step
from tinygen.project import write_project
from tinygen.samples import Samples, load_samples, quantize_inputs
from tinygen.wishes import read_wishes

HASH_DIGITS = 16


@dataclass(frozen=True)
class Prepared:
    """A model, compiled but for its boards. inputs: as C takes them, of the inferences that are followed."""

    model: BenchModel
    options: pipeline.Options
    first: Compiled
    calibrating: Samples | None
    metric: Metric | None
    inputs: tuple[Array, ...]
    sources: Mapping[str, str]


# ---- once per model


def prepare(model: BenchModel, report: Report) -> Prepared:
    """Quantize the model, and judge its reference on the labelled samples. Raises TinygenError."""
    graph = load(model.file, model.input_shape).graph
    options = _options(model)
    check_precision(options, graph, model.file, None)
    judged = _judged(graph, model)
    given = load_samples(model.representative, graph, model.samples) if model.representative else None
    calibrating = None if pipeline.is_quantized(graph) else given
    first = pipeline.compile_graph(graph, calibrating, None, options, report)
    metric = None if judged is None else _metric(first.graph, judged, model.metric, report)
    inputs = _inputs(first.graph, judged or given)
    return Prepared(model, options, first, calibrating, metric, inputs, _sources(model))


def _options(model: BenchModel) -> pipeline.Options:
    """As `tinygen compile` makes them of the same words; the flash budget is checked on the image, not here."""
    return pipeline.Options(
        name=suggest_prefix(model.file.stem),
        calibration=model.calibration,
        wishes=read_wishes(model.pin, model.pin_code, model.limits.sram, None, model.weights),
        precision=model.precision,
        optimize=model.optimize,
    )


def _judged(graph: Graph, model: BenchModel) -> Samples | None:
    """The labelled samples, checked before the long work."""
    if model.eval is None:
        return None
    judged = load_samples(model.eval, graph, model.samples)
    if model.eval_count is not None:
        judged = spread(judged, model.eval_count)
    metrics.check_labels(graph, judged, model.metric)
    return judged


def spread(samples: Samples, count: int) -> Samples:
    """So many samples, evenly spread: files are often sorted by label. Raises DataError for samples in groups."""
    if count >= samples.count:
        return samples
    if samples.groups is not None or (samples.y is not None and len(samples.y) != samples.count):
        raise DataError(
            "eval_count would tear recordings apart: these samples are windows of them\n  leave eval_count out"
        )
    chosen = np.linspace(0, samples.count - 1, count).round().astype(int)
    labels = None if samples.y is None else samples.y[chosen]
    return Samples(tuple(x[chosen] for x in samples.x), labels, None, samples.grids)


def _metric(graph: Graph, judged: Samples, kind: metrics.Kind | None, report: Report) -> Metric:
    outputs = scoring.reference_outputs(graph, quantize_inputs(graph, judged.x), report, graph.precision)
    return metrics.judge(graph, judged, scoring.dequantized(graph, outputs), kind)


def _inputs(graph: Graph, samples: Samples | None) -> tuple[Array, ...]:
    """The first samples as C takes them; made-up ones where there are none. INPUTS of them: the first is run cold."""
    if samples is not None:
        turns = np.arange(INPUTS) % samples.count
        return tuple(quantize_inputs(graph, tuple(x[turns] for x in samples.x)))
    return bundle.random_inputs(graph, INPUTS)


def _sources(model: BenchModel) -> dict[str, str]:
    """What the figures were made from besides the board: name -> hash."""
    hook = (model.samples.preprocess or "").rpartition(":")[0]
    paths = {
        "model": model.file,
        "representative samples": model.representative,
        "eval samples": model.eval,
        "preprocess": Path(hook) if hook.endswith(".py") else None,
        "pin": Path(model.pin) if model.pin.endswith(".toml") else None,
    }
    hashes = {name: bundle.path_hash(path) for name, path in paths.items() if path is not None}
    hashes["options"] = bundle.text_hash(model.told)
    return {name: digest[:HASH_DIGITS] for name, digest in hashes.items()}


# ---- once per board


def measure(prepared: Prepared, board: Board, report: Report) -> Cell:
    """Build the model for the board, run it, and collect its figures. Raises TinygenError."""
    compiled = _lowered(prepared, board)
    model, metric = prepared.model, prepared.metric
    with tempfile.TemporaryDirectory(prefix="tinygen-bench-") as folder:
        p, image = _profile(prepared, compiled, board, Path(folder) / "project", report)
    return Cell(
        model=model.name,
        board=board.name,
        clock_hz=board.clock_hz,
        metric=metric.kind if metric else None,
        accuracy=_six_digits(metric.value) if metric else None,
        samples=metric.count if metric else 0,
        instructions=p.median.instructions,
        cycles=p.median.cycles,
        worst_cycles=p.worst.cycles,
        arena=p.arena_bytes,
        sram=p.sram_bytes,
        flash=p.flash_bytes,
        stack=p.stack_bytes,
        tinygen=__version__,
        compiler=image.compiler,
        sources={**prepared.sources, "board": bundle.text_hash(board.text)[:HASH_DIGITS]},
        layers=_layers(compiled, image, p),
    )


def _six_digits(value: float) -> float:
    """Digits that every machine agrees about."""
    return float(f"{value:.6g}")


def _lowered(prepared: Prepared, board: Board) -> Compiled:
    """C and places for the board. Where budget_sram cannot be kept, without it: then the figure tells by how much."""
    first, options = prepared.first, prepared.options
    try:
        return pipeline.lower_final(first.graph, [board], options, first.fused, first.decisions)[0]
    except BoardError:
        if options.wishes.budget_sram is None:
            raise
    free = replace(options, wishes=replace(options.wishes, budget_sram=None))
    return pipeline.lower_final(first.graph, [board], free, first.fused, first.decisions)[0]


def _profile(
    prepared: Prepared, compiled: Compiled, board: Board, folder: Path, report: Report
) -> tuple[Profile, Firmware]:
    """Of the project that `tinygen compile` would write, and its image."""
    model, options = prepared.model, prepared.options
    manifest = bundle.manifest_of(model.file, model.representative, [board], options, model.samples)
    made = bundle.make_project([compiled], [board], manifest, prepared.calibrating, options)
    write_project(made, folder)
    loaded = bundle.load_project(folder)
    return follow(folder, loaded, prepared.inputs, report=report), building.build(folder, board)


# ---- layers


def _layers(compiled: Compiled, image: Firmware, p: Profile) -> dict[str, LayerFigures]:
    """Every layer that costs something, by name."""
    flash, pinned = _bytes(compiled, image, p.board)
    found = {}
    for layer in p.layers:
        if layer.kernel == ALIAS:
            continue
        step = compiled.program.steps[layer.step]
        found[layer.name] = LayerFigures(
            instructions=layer.cost.instructions,
            cycles=layer.cost.cycles,
            live=_live(compiled.plan, layer.step),
            flash=flash.get(layer.name, 0),
            pinned=pinned.get(layer.name, 0),
            scale=_scale(step),
            constants=_digest(step),
        )
    return found


def _scale(step: Step) -> float | None:
    """Of the step's output; None in float32."""
    qparams = step.bound.output.qparams
    return None if qparams is None else _six_digits(qparams.scale[0])


def _live(plan: MemoryPlan, step: int) -> int:
    """Bytes of the arena in use while a step runs."""
    return sum(b.size for b in plan.buffers if b.first <= step <= b.last)


def _bytes(compiled: Compiled, image: Firmware, board: Board) -> tuple[dict[str, int], dict[str, int]]:
    """Layer -> bytes of its arrays and kernels, and of those that are pinned. What several share is the first one's."""
    total: dict[str, int] = {}
    pinned: dict[str, int] = {}
    for movable in compiled.library.movables:
        for symbol in (s for name, s in image.symbols.items() if movable.owns(name)):
            total[movable.layer] = total.get(movable.layer, 0) + symbol.size
            if any(r.origin <= symbol.address < r.end for r in board.writable):
                pinned[movable.layer] = pinned.get(movable.layer, 0) + symbol.size
    return total, pinned


def _digest(step: Step) -> str:
    """Hash of a layer's constant arrays; "" where it has none."""
    constants, digest = step.kernel.constants(step.bound), sha256()
    for role, values in constants.items():
        digest.update(f"{role}{values.dtype}{values.shape}".encode() + values.tobytes())
    return digest.hexdigest()[:HASH_DIGITS] if constants else ""
