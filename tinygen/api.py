"""The library's public functions: what the command line does, from Python. The functions raise TinygenError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygen import bundle, constant_channels, homes, metrics, pipeline, scoring, sharing
from tinygen import ci as continuous
from tinygen.benching import bench as bench
from tinygen.boards import Board, all_boards, common, load_board
from tinygen.ctext import check_prefix, suggest_prefix
from tinygen.decisions import Activations
from tinygen.device_profile import DeviceLayer, layers_of
from tinygen.emission import Arena
from tinygen.emulators import find_emulator, with_port
from tinygen.errors import RunError, UsageError
from tinygen.fit import Fit, Fitter, Sized
from tinygen.flash import limited
from tinygen.frontend import Loaded
from tinygen.frontend import load as load_model
from tinygen.given import check_precision, input_shapes, labelled
from tinygen.given import representative as representative_samples
from tinygen.judge import RunResult
from tinygen.metrics import Metric
from tinygen.pipeline import Compiled, Precision, Report, silent
from tinygen.placement import Placement
from tinygen.planning import MemoryPlan, plan
from tinygen.profile_api import check_budget_ms, check_time
from tinygen.profile_api import profile as profile
from tinygen.program import Program, select
from tinygen.project import Project, write_file, write_project
from tinygen.pruning import reach
from tinygen.pruning.projects import files_beside
from tinygen.pruning.reach import Text
from tinygen.report_api import report as report
from tinygen.running import run as run_firmware
from tinygen.samples import Options as SampleOptions
from tinygen.samples import load_samples, quantize_inputs
from tinygen.selection import Choice, Optimize, check_optimize
from tinygen.wishes import able_boards, check_weights, read_wishes

AS_STORED = SampleOptions()


@dataclass(frozen=True)
class Build:
    """A compiled project. float_metric, int8_metric: set when an evaluation set was given (float: Keras models).

    compiled, board: of the first board; placements: board -> where its image has everything. home: of homes.HOMES.
    """

    compiled: Compiled
    project: Project
    home: str
    board: Board
    placements: Mapping[str, Placement]
    notes: tuple[str, ...]
    float_metric: Metric | None
    int8_metric: Metric | None


@dataclass(frozen=True)
class Fits:
    """What `fit` found: the model's sizes and every board's answer, in the order asked."""

    model: Sized
    boards: tuple[Fit, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Ran:
    """What running the firmware gave. metric: of the device's outputs, when the inputs carry labels.

    layers: what each took, for a project that was compiled with timestamps and where they were counted.
    """

    result: RunResult
    metric: Metric | None
    samples: int
    layers: tuple[DeviceLayer, ...] = ()


@dataclass(frozen=True)
class Inspected:
    """What `inspect` shows. calibrators: activation -> calibrator's name; weights: board -> region where arrays have
    their home; both empty for a .tflite file."""

    program: Program
    plan: MemoryPlan
    calibrators: Mapping[str, str]
    decisions: tuple[str, ...]
    weights: Mapping[str, str]


# ---- what a user calls


def load(model: str | Path, input_shape: Sequence[Any] = ()) -> Loaded:
    """Read a .keras, .h5 or int8 .tflite file. input_shape: one shape, or (name, shape) pairs."""
    return load_model(model, input_shapes(input_shape))


def compile(
    model: str | Path,
    *,
    representative: str | Path | None = None,
    board: str | Path | Sequence[str | Path] = "mps2_an386",
    board_path: Sequence[str | Path] = (),
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
    weights: str | None = None,
    budget_sram: int | None = None,
    budget_flash: int | None = None,
    budget_ms: float | None = None,
    project: str = "platformio",
    app: str = "plain",
    ci: str | None = None,
    profile_on_device: bool = False,
    precision: Precision = "int8",
    activations: Activations = "int8",
    int16: Sequence[str] = (),
    optimize: Optimize = "balanced",
    force: bool = False,
    report: Report = silent,
) -> Build:
    """Compile a model for one or several boards; written to `out` when given, whole or not at all.

    project: what surrounds the C: "platformio", "cmake", "arduino", "zephyr" or "bare" (docs/projects.md). app: the
    example application, "plain" or "event". ci: "github" adds a workflow and tests in Renode. profile_on_device: the
    library takes a timestamp behind every layer, `run` gives ticks per layer (docs/projects.md).

    board_path: folders with board descriptions of the user's own. budget_sram, budget_flash: bytes that the firmware
    may take; budget_ms: milliseconds that an inference may take on each board, modelled (docs/cycles.md): the image is
    built and profiled, and BudgetError says what costs most and what would help.

    pin: "auto", "all", "none" or the path of a .toml file with layers (docs/pinning.md); pin_code: the same for code.
    weights: the read-only region where constant arrays have their home, None for that of the code.

    representative: calibration samples (needed for float models). eval: labelled samples; with max_drop (points for
    accuracy and AUC, percent for mean squared error) a greater loss from float to int8 raises DataError.

    precision: "int8", or "float32" for the float model itself (docs/numerics.md, "float32"): representative samples
    are then only those that the project stores. activations: "int8", "int16" wherever an operator has that form, or
    "auto": where it lowers the cost, until max_drop holds on held-out representative samples; int16: layers
    whose outputs are int16 in any case (docs/numerics.md, "16x8"). Inputs and outputs of the model stay int8.

    optimize: which kernels are chosen: "portable", "size", "balanced" or "speed"
    (docs/performance.md). Boards of unlike cores get
    the kernels that all of them can execute.
    """
    prefix = check_prefix(name or suggest_prefix(Path(model).stem))
    wishes = read_wishes(pin, pin_code, budget_sram, budget_flash, weights)
    options = pipeline.Options(
        prefix,
        calibration,
        arena,
        tuple(labels),
        wishes,
        project,
        app,
        ci,
        profile_on_device,
        precision,
        activations,
        tuple(int16),
        max_drop if activations == "auto" else None,
        optimize,
    )
    folders = [Path(folder) for folder in board_path]
    names = [board] if isinstance(board, str | Path) else board
    check_optimize(optimize)
    given = [limited(load_board(b, folders), budget_flash) for b in names]
    targets = common(given)
    check_weights(weights, targets)
    homes.check(project, app, arena, targets)
    continuous.check(ci, project, targets)
    time = check_budget_ms(budget_ms, project, targets)
    loaded = load(model, input_shape)
    check_precision(options, loaded.graph, model, max_drop)
    calibrating = representative_samples(loaded.graph, model, representative, samples, precision)
    judged = labelled(loaded.graph, eval, samples, metric, max_drop)
    compiled = pipeline.compile_for(loaded.graph, calibrating, targets, options, report)
    first = compiled[0]
    before, after = scoring.score(first, judged, metric, report) if judged else (None, None)
    scoring.check_drop(before, after, max_drop)
    manifest = bundle.manifest_of(Path(model), representative, targets, options, samples)
    kept, noted = files_beside(Path(model))
    shared = sharing.notes(first.graph, given, options.choice)
    made = bundle.make_project(compiled, targets, manifest, calibrating, options, (before, after), kept)
    if time is not None:
        check_time(made, [b.name for b in targets], time, report)
    told = write_project(made, Path(out), force) if out is not None else ()
    placements = {b.name: c.placement for b, c in zip(targets, compiled, strict=True) if c.placement}
    return Build(
        first, made, project, targets[0], placements, (*loaded.notes, *shared, *noted, *told), before, after
    )


def fit(
    model: str | Path,
    *,
    board: str | Path | Sequence[str | Path] = "all",
    board_path: Sequence[str | Path] = (),
    budget_sram: Text = None,
    budget_flash: Text = None,
    budget_weights: Text = None,
    budget_macs: Text = None,
    budget_ms: Text = None,
    weights: str | None = None,
    input_shape: Sequence[Any] = (),
    precision: Precision = "int8",
    optimize: Optimize = "balanced",
) -> Fits:
    """What the model needs of boards ("all": every one that is known), and whether it fits them; nothing is generated.

    weights: the region that is their home; "all" then means every board that has it.
    Budgets: a number, "80K", or "60%" of what the model takes. Where a float model does not fit, its answer says what
    pruning could reach (pruning/reach.py). A Keras model needs no representative samples and no training:
    docs/boards.md, "Does it fit?".
    """
    folders = [Path(folder) for folder in board_path]
    names = [board] if isinstance(board, str | Path) else list(board)
    targets = (
        able_boards(all_boards(folders), weights)
        if "all" in names
        else [load_board(b, folders) for b in names]
    )
    check_weights(weights, targets)
    check_optimize(optimize)
    loaded = load(model, input_shape)
    check_precision(pipeline.Options(precision=precision), loaded.graph, model, None)
    fitter = Fitter(loaded.graph, precision=precision, choice=Choice(optimize))
    texts = {
        "sram": budget_sram,
        "flash": budget_flash,
        "weights": budget_weights,
        "macs": budget_macs,
        "ms": budget_ms,
    }
    answers = reach.answers(fitter, loaded.graph, targets, texts, weights)
    return Fits(fitter.sized(targets[0]), answers, loaded.notes)


def run(
    folder: str | Path,
    *,
    inputs: str | Path,
    emulator: str = "qemu",
    port: str | None = None,
    baud: int | None = None,
    board: str | None = None,
    count: int | None = None,
    samples: SampleOptions | None = None,
    metric: metrics.Kind | None = None,
    timeout: float = 120.0,
    report: Report = silent,
) -> Ran:
    """Build the project's firmware, run samples on it in an emulator, and compare with the int8 reference, or, for a
    float32 project, with the float model.

    board: one of the project's; None takes the first. samples: how the file's numbers become real inputs; None takes
    what `compile` was told. timeout: seconds without a new line from the firmware. port, baud: of the board itself,
    for the emulator "serial".
    """
    graph, target, manifest = bundle.load_project(folder, board)
    homes.check_runs(folder, manifest)
    backend = with_port(find_emulator(emulator), port, baud)
    if reason := backend.unavailable(target):
        raise RunError(f"{emulator} cannot run this project: {reason}")
    options = samples if samples is not None else SampleOptions(**manifest["samples"])
    data = load_samples(inputs, graph, options).head(count)
    integers = quantize_inputs(graph, data.x)
    expected = scoring.reference_outputs(graph, integers, report, "reference")
    image = backend.build(Path(folder), target)
    result = run_firmware(
        image, target, backend, integers, expected, timeout, lambda done, total: report("run", done, total)
    )
    layers = layers_of(result.models[0], select(graph, target, bundle.read_options(manifest).choice), target)
    return Ran(result, scoring.score_device(graph, data, result, metric), data.count, layers)


def inspect(source: str | Path) -> Inspected:
    """Layers and memory plan of a project or of an int8 .tflite file."""
    if Path(source).is_dir():
        graph, board, manifest = bundle.load_project(source)
        program = select(graph, board, bundle.read_options(manifest).choice)
        made = manifest["quantization"]
        homes_of = bundle.weights_homes(Path(source), manifest)
        return Inspected(program, plan(program), made["calibrators"], tuple(made["decisions"]), homes_of)
    graph = load(source).graph
    if not pipeline.is_quantized(graph):
        raise UsageError(
            f"'{source}' is a float model: it has no int8 layers and no memory plan yet\n"
            "  compile it first and inspect the project: tinygen inspect fw/"
        )
    final = pipeline.final(graph)
    program, made = select(final, None), constant_channels.decisions(graph, final)
    return Inspected(program, plan(program), {}, tuple(map(str, made)), {})


def export(source: str | Path, tflite: str | Path) -> bytes:
    """Write the quantized graph of a project as an int8 .tflite file; returns its bytes."""
    from tinygen.tflite.export import export_tflite

    graph, _, _ = bundle.load_project(source)
    if graph.precision == "float32":
        raise UsageError(
            f"'{source}' is a float32 project: it holds no int8 graph to export\n"
            "  compile the model with --precision int8 into another folder, and export that"
        )
    data = export_tflite(graph)
    write_file(Path(tflite), data)
    return data
