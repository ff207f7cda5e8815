"""One cell of a bench: a model is made ready once (quantized, judged), then built and followed on every board."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from tinygen import __version__, building, bundle, metrics, pipeline, profiling, running, scoring
from tinygen.bench_baseline import Cell, LayerFigures
from tinygen.bench_matrix import BenchModel
from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.ctext import suggest_prefix
from tinygen.emulators import find_emulator
from tinygen.emulators.traced import Traced
from tinygen.errors import BoardError, DataError, RunError
from tinygen.frontend import load
from tinygen.graph import Array, Graph
from tinygen.metrics import Metric
from tinygen.pipeline import Compiled, Report
from tinygen.placement import read_wishes
from tinygen.planning import MemoryPlan
from tinygen.profile_api import INPUTS
from tinygen.program import Step
from tinygen.project import write_project
from tinygen.samples import Samples, load_samples, quantize_inputs

COUNTED_WITH = "qemu"
"""The emulator that counts instructions where no cycles can be modelled."""
TIMEOUT = 120.0
"""Seconds without a line from the firmware."""
HASH_DIGITS = 16


@dataclass(frozen=True)
class Prepared:
    """A model, compiled but for its boards. inputs, expected: int8, of the inferences that are followed."""

    model: BenchModel
    options: pipeline.Options
    first: Compiled
    calibrating: Samples | None
    metric: Metric | None
    inputs: tuple[Array, ...]
    expected: tuple[Array, ...]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Work:
    """The median warm inference, and the slowest. layers: name -> (instructions, cycles), empty where not known."""

    instructions: int
    cycles: int | None
    worst_cycles: int | None
    stack: int | None
    layers: Mapping[str, tuple[int, int | None]]


# ---- once per model


def prepare(model: BenchModel, report: Report) -> Prepared:
    """Quantize the model, and judge the int8 reference on its labelled samples. Raises TinygenError."""
    graph = load(model.file, model.input_shape).graph
    judged = _judged(graph, model)
    given = load_samples(model.representative, graph, model.samples) if model.representative else None
    wishes = read_wishes(model.pin, model.pin_code, model.limits.sram)
    options = pipeline.Options(suggest_prefix(model.file.stem), model.calibration, wishes=wishes)
    calibrating = None if pipeline.is_quantized(graph) else given
    first = pipeline.compile_graph(graph, calibrating, None, options, report)
    metric = None if judged is None else _metric(first.graph, judged, model.metric, report)
    inputs = _inputs(first.graph, judged or given)
    expected = scoring.reference_outputs(first.graph, inputs, report, "reference")
    return Prepared(model, options, first, calibrating, metric, inputs, expected, _sources(model))


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
    outputs = scoring.reference_outputs(graph, quantize_inputs(graph, judged.x), report, "int8")
    return metrics.judge(graph, judged, scoring.dequantized(graph, outputs), kind)


def _inputs(graph: Graph, samples: Samples | None) -> tuple[Array, ...]:
    """The first int8 samples; random ones where there are none. INPUTS of them: the first is run cold."""
    if samples is not None:
        turns = np.arange(INPUTS) % samples.count
        return tuple(quantize_inputs(graph, tuple(x[turns] for x in samples.x)))
    rng = np.random.default_rng(0)
    return tuple(rng.integers(-128, 128, (INPUTS, *t.shape)).astype(np.int8) for t in graph.input_tensors)


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
        image = _image(prepared, compiled, board, Path(folder) / "project")
        work = _work(prepared, compiled, board, image, report)
    return Cell(
        model=model.name,
        board=board.name,
        clock_hz=board.clock_hz,
        metric=metric.kind if metric else None,
        accuracy=_six_digits(metric.value) if metric else None,
        samples=metric.count if metric else 0,
        instructions=work.instructions,
        cycles=work.cycles,
        worst_cycles=work.worst_cycles,
        arena=compiled.plan.arena_bytes,
        sram=image.ram_bytes,
        flash=image.code_bytes,
        stack=work.stack,
        tinygen=__version__,
        compiler=image.compiler,
        sources={**prepared.sources, "board": bundle.text_hash(board.text)[:HASH_DIGITS]},
        layers=_layers(compiled, image, board, work),
    )


def _six_digits(value: float) -> float:
    """Digits that every machine agrees about."""
    return float(f"{value:.6g}")


def _lowered(prepared: Prepared, board: Board) -> Compiled:
    """C and places for the board. Where budget_sram cannot be kept, without it: then the figure tells by how much."""
    first, options = prepared.first, prepared.options
    try:
        return pipeline.lower(first.graph, board, options, first.fused, first.decisions)
    except BoardError:
        if options.wishes.budget_sram is None:
            raise
    free = replace(options, wishes=replace(options.wishes, budget_sram=None))
    return pipeline.lower(first.graph, board, free, first.fused, first.decisions)


def _image(prepared: Prepared, compiled: Compiled, board: Board, folder: Path) -> Firmware:
    """The project that `tinygen compile` would write, built."""
    model, options = prepared.model, prepared.options
    manifest = bundle.manifest_of(model.file, model.representative, [board], options, model.samples)
    write_project(bundle.make_project([compiled], [board], manifest, prepared.calibrating, options), folder)
    return building.build(folder, board)


def _work(prepared: Prepared, compiled: Compiled, board: Board, image: Firmware, report: Report) -> Work:
    """Followed access by access where the core can be, else counted."""
    if Traced().unavailable(board):
        return _counted(prepared, board, image)

    def progress(done: int, total: int) -> None:
        report(f"profile {board.name}", done, total)

    movables = compiled.library.movables
    p = profiling.profile(
        compiled.program, image, board, movables, prepared.inputs, prepared.expected, TIMEOUT, progress
    )
    layers = {layer.name: (layer.cost.instructions, layer.cost.cycles) for layer in p.layers}
    return Work(p.median.instructions, p.median.cycles, p.worst.cycles, p.stack_bytes, layers)


def _counted(prepared: Prepared, board: Board, image: Firmware) -> Work:
    """Instructions by the firmware's own timestamps."""
    emulator = find_emulator(COUNTED_WITH)
    if reason := emulator.unavailable(board):
        raise RunError(f"instructions cannot be counted on '{board.name}': {reason}")
    result = running.run(image, board, emulator, prepared.inputs, prepared.expected, TIMEOUT)
    counts = [count for count in result.instructions[1:] if count is not None]
    if not result.passed or not counts:
        raise RunError(f"the run on '{board.name}' did not pass: {result.outcome.name}\n  {result.detail}")
    return Work(sorted(counts)[(len(counts) - 1) // 2], None, None, result.stack_bytes, {})


# ---- layers


def _layers(compiled: Compiled, image: Firmware, board: Board, work: Work) -> dict[str, LayerFigures]:
    steps = [(i, s) for i, s in enumerate(compiled.program.steps) if not s.kernel.alias]
    flash, pinned = _bytes(compiled, image, board)
    found = {}
    for index, step in steps:
        name = step.bound.name
        instructions, cycles = work.layers.get(name, (None, None))
        found[name] = LayerFigures(
            instructions=instructions,
            cycles=cycles,
            live=_live(compiled.plan, index),
            flash=flash.get(name, 0),
            pinned=pinned.get(name, 0),
            scale=_six_digits(step.bound.output.q.scale[0]),
            constants=_digest(step),
        )
    return found


def _live(plan: MemoryPlan, step: int) -> int:
    """Bytes of the arena in use while a step runs."""
    return sum(b.size for b in plan.buffers if b.first <= step <= b.last)


def _bytes(compiled: Compiled, image: Firmware, board: Board) -> tuple[dict[str, int], dict[str, int]]:
    """Layer -> bytes of its arrays and kernels, and of those that are pinned. What several share is the first one's."""
    total: dict[str, int] = {}
    pinned: dict[str, int] = {}
    for movable in compiled.library.movables:
        symbol = image.symbols.get(movable.symbol)
        if symbol is None:
            continue
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
