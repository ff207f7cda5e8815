"""The library's public functions: what the command line does, from Python. The functions raise TinygenError."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinygen import __version__, building, evaluate, firmware, metrics, pipeline, project, serialization
from tinygen.boards import Board, load_board
from tinygen.ctext import check_prefix, suggest_prefix
from tinygen.decisions import RangeDecision
from tinygen.emission import Arena
from tinygen.emulators import find_emulator
from tinygen.errors import DataError, ModelError, RunError, UsageError
from tinygen.frontend import Loaded
from tinygen.frontend import load as load_model
from tinygen.graph import Array, Graph, Shape
from tinygen.judge import RunResult
from tinygen.metrics import Metric
from tinygen.pipeline import Compiled, Report, silent
from tinygen.planning import MemoryPlan, plan
from tinygen.program import Program, select
from tinygen.project import Project
from tinygen.running import run as run_firmware
from tinygen.samples import Options as SampleOptions
from tinygen.samples import Samples, load_samples, quantize_inputs
from tinygen.scheduling import schedule
from tinygen.simplification import simplify

GRAPH_FILE = "graph.json"
AS_STORED = SampleOptions()


@dataclass(frozen=True)
class Build:
    """A compiled project. float_metric, int8_metric: set when an evaluation set was given (float: Keras models)."""

    compiled: Compiled
    project: Project
    board: Board
    notes: tuple[str, ...]
    float_metric: Metric | None
    int8_metric: Metric | None


@dataclass(frozen=True)
class Ran:
    """What running the firmware gave. metric: of the device's outputs, when the inputs carry labels."""

    result: RunResult
    metric: Metric | None
    samples: int


def load(model: str | Path, input_shape: Sequence[Any] = ()) -> Loaded:
    """Read a .keras, .h5 or int8 .tflite file. input_shape: one shape, or (name, shape) pairs."""
    return load_model(model, input_shapes(input_shape))


def input_shapes(shapes: Sequence[Any]) -> Shape | Mapping[str, Shape] | None:
    """What the front end takes: None, one shape, or input name -> shape."""
    if not shapes:
        return None
    if all(isinstance(s, int) for s in shapes):
        return tuple(shapes)
    named = {name: shape for name, shape in shapes if name}
    if named and len(named) == len(shapes):
        return named
    if len(shapes) == 1:
        shape: Shape = shapes[0][1]
        return shape
    raise UsageError("several --input-shape need names: --input-shape image=96,96,3 --input-shape meta=4")


def compile(
    model: str | Path,
    *,
    representative: str | Path | None = None,
    board: str | Path = "mps2_an386",
    out: str | Path | None = None,
    eval: str | Path | None = None,
    metric: metrics.Kind | None = None,
    max_drop: float | None = None,
    name: str | None = None,
    input_shape: Sequence[Any] = (),
    samples: SampleOptions = AS_STORED,
    calibration: str = "auto",
    arena: Arena = "caller",
    labels: Sequence[str] = (),
    force: bool = False,
    report: Report = silent,
) -> Build:
    """Compile a model for a board; written to `out` when given, whole or not at all.

    representative: calibration samples (needed for float models). eval: labelled samples; with max_drop (points for
    accuracy and AUC, percent for mean squared error) a greater loss from float to int8 raises DataError.
    """
    options = pipeline.Options(
        check_prefix(name or suggest_prefix(Path(model).stem)), calibration, arena, tuple(labels)
    )
    target = load_board(board)
    loaded = load(model, input_shape)
    calibrating = _representative(loaded.graph, model, representative, samples)
    judged = load_samples(eval, loaded.graph, samples) if eval else None
    if judged:
        metrics.check_labels(loaded.graph, judged, metric)
    elif max_drop is not None:
        raise UsageError("--max-drop needs --eval: labelled samples to judge by")
    compiled = pipeline.compile_graph(loaded.graph, calibrating, target, options, report)
    before, after = _judge(compiled, judged, metric, report)
    _check_drop(before, after, max_drop)
    manifest = manifest_of(Path(model), representative, target, options, samples)
    made = make_project(compiled, target, manifest)
    if out is not None:
        project.write_project(made, Path(out), force)
    return Build(compiled, made, target, loaded.notes, before, after)


def _representative(
    graph: Graph, model: str | Path, path: str | Path | None, options: SampleOptions
) -> Samples | None:
    """The calibration samples of a float model."""
    if pipeline.is_quantized(graph):
        return None
    if path is None:
        raise UsageError(
            f"'{model}' is a float model: --representative is missing\n"
            "  give a file with samples of the model's input, to measure the ranges for int8 (.npy, .npz or a folder)"
        )
    return load_samples(path, graph, options)


def _judge(
    compiled: Compiled, judged: Samples | None, kind: metrics.Kind | None, report: Report
) -> tuple[Metric | None, Metric | None]:
    """(float metric, int8 metric) over the evaluation set."""
    if judged is None:
        return None, None
    graph = compiled.graph
    kind = kind or metrics.kind_of(graph, judged)
    before = None
    if compiled.fused is not None:
        fused = compiled.fused
        outputs = evaluate.chunked(
            lambda x: evaluate.real(fused, x), judged.x, report=_stage(report, "float")
        )
        before = metrics.judge(fused, judged, outputs, kind)
    inputs = quantize_inputs(graph, judged.x)
    integers = evaluate.chunked(lambda x: evaluate.reference(graph, x), inputs, report=_stage(report, "int8"))
    return before, metrics.judge(graph, judged, dequantized(graph, integers), kind)


def _stage(report: Report, stage: str) -> Any:
    return lambda done, total: report(f"evaluate {stage}", done, total)


def dequantized(graph: Graph, outputs: Sequence[Array]) -> tuple[Array, ...]:
    """Real values of int8 outputs (N, *shape)."""
    return tuple(
        t.q.dequantize(o.reshape(len(o), *t.shape))
        for t, o in zip(graph.output_tensors, outputs, strict=True)
    )


def _check_drop(before: Metric | None, after: Metric | None, max_drop: float | None) -> None:
    if max_drop is None or before is None or after is None:
        return
    lost = metrics.drop(before, after)
    if lost > max_drop:
        unit = "%" if after.kind == "mse" else "points"
        raise DataError(
            f"int8 loses {lost:.2f} {unit} of {after.kind}, --max-drop allows {max_drop:g}: nothing was written\n"
            f"  float {before}, int8 {after}\n"
            "  give more and more typical --representative samples, or try another --calibration"
        )


def manifest_of(
    model: Path,
    representative: str | Path | None,
    board: Board,
    options: pipeline.Options,
    samples: SampleOptions,
) -> dict[str, Any]:
    """What determines the generated text: hashes of everything that went in, every option, the compiler."""
    return {
        "generator": "tinygen",
        "version": __version__,
        "model": {"file": model.name, "sha256": path_hash(model)},
        "representative": {"file": Path(representative).name, "sha256": path_hash(Path(representative))}
        if representative
        else None,
        "board": {"name": board.name, "sha256": path_hash(board.path)},
        "options": asdict(options),
        "samples": asdict(samples),
        "compiler": building.compiler_version(),
    }


def path_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    for part in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else (path,):
        if path.is_dir():
            digest.update(f"{part.relative_to(path)}\0".encode())
        digest.update(part.read_bytes())
    return digest.hexdigest()


def make_project(compiled: Compiled, board: Board, manifest: Mapping[str, Any]) -> Project:
    """Library, firmware around it, the quantized graph and the manifest as one project."""
    manifest = {**manifest, "quantization": quantization_of(compiled)}
    files = {**compiled.library.files, GRAPH_FILE: serialization.graph_to_json(compiled.graph)}
    run_id = project.run_id_of(manifest, files)
    files |= firmware.firmware_files([compiled.library], board, run_id)
    board_text = {"board.toml": board.path.read_text()}
    return project.with_manifest(manifest, {**files, **board_text}, run_id)


def quantization_of(compiled: Compiled) -> dict[str, Any]:
    """How the int8 graph came about, JSON-ready: the calibrator of every activation, and all decisions in words."""
    ranges = [d for d in compiled.decisions if isinstance(d, RangeDecision)]
    calibrators = {member: d.calibrator for d in ranges for member in d.members}
    return {"calibrators": calibrators, "decisions": [str(d) for d in compiled.decisions]}


@dataclass(frozen=True)
class Inspected:
    """What `inspect` shows. calibrators: activation -> calibrator's name, empty for a .tflite file."""

    program: Program
    plan: MemoryPlan
    calibrators: Mapping[str, str]
    decisions: tuple[str, ...]


def inspect(source: str | Path) -> Inspected:
    """Layers and memory plan of a project or of an int8 .tflite file."""
    if Path(source).is_dir():
        graph, board, manifest = load_project(source)
        program, made = select(graph, board), manifest["quantization"]
        return Inspected(program, plan(program), made["calibrators"], tuple(made["decisions"]))
    graph = load(source).graph
    if not pipeline.is_quantized(graph):
        raise UsageError(
            f"'{source}' is a float model: it has no int8 layers and no memory plan yet\n"
            "  compile it first and inspect the project: tinygen inspect fw/"
        )
    program = select(schedule(simplify(graph)), None)
    return Inspected(program, plan(program), {}, ())


def load_project(folder: str | Path) -> tuple[Graph, Board, dict[str, Any]]:
    """(quantized graph, board, manifest) of a generated project."""
    folder = Path(folder)
    manifest = project.read_manifest(folder)
    path = folder / GRAPH_FILE
    try:
        text = path.read_text()
    except OSError as problem:
        raise ModelError(
            f"'{path}' cannot be read: {problem.strerror}\n  generate the project again"
        ) from None
    return serialization.graph_from_json(text, str(path)), load_board(folder / "board.toml"), manifest


def run(
    folder: str | Path,
    *,
    inputs: str | Path,
    emulator: str = "qemu",
    count: int | None = None,
    samples: SampleOptions | None = None,
    metric: metrics.Kind | None = None,
    timeout: float = 120.0,
    report: Report = silent,
) -> Ran:
    """Build the project's firmware, run samples on it in an emulator, and compare with the int8 reference.

    samples: how the file's numbers become real inputs; None takes what `compile` was told. timeout: seconds
    without a new line from the firmware.
    """
    graph, board, manifest = load_project(folder)
    backend = find_emulator(emulator)
    if reason := backend.unavailable(board):
        raise RunError(f"{emulator} cannot run this project: {reason}")
    options = samples if samples is not None else SampleOptions(**manifest["samples"])
    data = load_samples(inputs, graph, options).head(count)
    integers = quantize_inputs(graph, data.x)
    expected = evaluate.chunked(
        lambda x: evaluate.reference(graph, x), integers, report=_stage(report, "reference")
    )
    image = backend.build(Path(folder), board)
    result = run_firmware(
        image, board, backend, integers, expected, timeout, lambda done, total: report("run", done, total)
    )
    return Ran(result, _device_metric(graph, data, result, metric), data.count)


def _device_metric(
    graph: Graph, data: Samples, result: RunResult, kind: metrics.Kind | None
) -> Metric | None:
    """The metric of what the device gave, when all samples came back and carry labels.

    A few samples may not suffice for their metric (an AUC needs both classes): then there is none, unless `kind`
    asks for it.
    """
    if data.y is None or not result.outputs or len(result.outputs[0]) != data.count:
        return None
    try:
        return metrics.judge(graph, data, dequantized(graph, result.outputs), kind)
    except DataError:
        if kind is not None:
            raise
        return None


def export(source: str | Path, tflite: str | Path) -> bytes:
    """Write the quantized graph of a project as an int8 .tflite file; returns its bytes."""
    from tinygen.tflite.export import export_tflite

    graph, _, _ = load_project(source)
    data = export_tflite(graph)
    project.write_file(Path(tflite), data)
    return data
