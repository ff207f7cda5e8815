"""The library's public functions: what the command line does, from Python. The functions raise TinygenError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygen import bundle, metrics, pipeline, project, scoring
from tinygen.boards import Board, load_board
from tinygen.ctext import check_prefix, suggest_prefix
from tinygen.emission import Arena
from tinygen.emulators import find_emulator
from tinygen.errors import RunError, UsageError
from tinygen.frontend import Loaded
from tinygen.frontend import load as load_model
from tinygen.graph import Graph, Shape
from tinygen.judge import RunResult
from tinygen.metrics import Metric
from tinygen.pipeline import Compiled, Report, silent
from tinygen.placement import read_wishes
from tinygen.planning import MemoryPlan, plan
from tinygen.program import Program, select
from tinygen.project import Project
from tinygen.running import run as run_firmware
from tinygen.samples import Options as SampleOptions
from tinygen.samples import Samples, load_samples, quantize_inputs
from tinygen.scheduling import schedule
from tinygen.simplification import simplify

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


@dataclass(frozen=True)
class Inspected:
    """What `inspect` shows. calibrators: activation -> calibrator's name, empty for a .tflite file."""

    program: Program
    plan: MemoryPlan
    calibrators: Mapping[str, str]
    decisions: tuple[str, ...]


# ---- what a user calls


def load(model: str | Path, input_shape: Sequence[Any] = ()) -> Loaded:
    """Read a .keras, .h5 or int8 .tflite file. input_shape: one shape, or (name, shape) pairs."""
    return load_model(model, _input_shapes(input_shape))


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
    pin: str = "auto",
    pin_code: str = "auto",
    budget_sram: int | None = None,
    force: bool = False,
    report: Report = silent,
) -> Build:
    """Compile a model for a board; written to `out` when given, whole or not at all.

    pin: "auto", "all", "none" or the path of a .toml file with layers (docs/pinning.md); pin_code: the same for code.

    representative: calibration samples (needed for float models). eval: labelled samples; with max_drop (points for
    accuracy and AUC, percent for mean squared error) a greater loss from float to int8 raises DataError.
    """
    prefix = check_prefix(name or suggest_prefix(Path(model).stem))
    wishes = read_wishes(pin, pin_code, budget_sram)
    options = pipeline.Options(prefix, calibration, arena, tuple(labels), wishes)
    target = load_board(board)
    loaded = load(model, input_shape)
    calibrating = _representative(loaded.graph, model, representative, samples)
    judged = _labelled(loaded.graph, eval, samples, metric, max_drop)
    compiled = pipeline.compile_graph(loaded.graph, calibrating, target, options, report)
    before, after = scoring.score(compiled, judged, metric, report) if judged else (None, None)
    scoring.check_drop(before, after, max_drop)
    manifest = bundle.manifest_of(Path(model), representative, target, options, samples)
    made = bundle.make_project(compiled, target, manifest)
    if out is not None:
        project.write_project(made, Path(out), force)
    return Build(compiled, made, target, loaded.notes, before, after)


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
    graph, board, manifest = bundle.load_project(folder)
    backend = find_emulator(emulator)
    if reason := backend.unavailable(board):
        raise RunError(f"{emulator} cannot run this project: {reason}")
    options = samples if samples is not None else SampleOptions(**manifest["samples"])
    data = load_samples(inputs, graph, options).head(count)
    integers = quantize_inputs(graph, data.x)
    expected = scoring.reference_outputs(graph, integers, report, "reference")
    image = backend.build(Path(folder), board)
    result = run_firmware(
        image, board, backend, integers, expected, timeout, lambda done, total: report("run", done, total)
    )
    return Ran(result, scoring.score_device(graph, data, result, metric), data.count)


def inspect(source: str | Path) -> Inspected:
    """Layers and memory plan of a project or of an int8 .tflite file."""
    if Path(source).is_dir():
        graph, board, manifest = bundle.load_project(source)
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


def export(source: str | Path, tflite: str | Path) -> bytes:
    """Write the quantized graph of a project as an int8 .tflite file; returns its bytes."""
    from tinygen.tflite.export import export_tflite

    graph, _, _ = bundle.load_project(source)
    data = export_tflite(graph)
    project.write_file(Path(tflite), data)
    return data


# ---- what a user gave, made ready


def _input_shapes(shapes: Sequence[Any]) -> Shape | Mapping[str, Shape] | None:
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


def _labelled(
    graph: Graph,
    path: str | Path | None,
    options: SampleOptions,
    metric: metrics.Kind | None,
    max_drop: float | None,
) -> Samples | None:
    """The samples to judge by, their labels checked before the long work."""
    if not path:
        if max_drop is not None:
            raise UsageError("--max-drop needs --eval: labelled samples to judge by")
        return None
    judged = load_samples(path, graph, options)
    metrics.check_labels(graph, judged, metric)
    return judged
