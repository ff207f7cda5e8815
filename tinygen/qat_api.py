"""`tinygen.qat`: from a float Keras model to an int8 project whose weights and scales were trained for int8."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinygen import bundle, homes, metrics, pipeline, scoring
from tinygen.boards import Board, load_board
from tinygen.ctext import check_prefix, suggest_prefix
from tinygen.decisions import Decision, RangeDecision, RewriteDecision
from tinygen.errors import ModelError
from tinygen.frontend import first_bytes
from tinygen.frontend.keras import open_keras
from tinygen.given import input_shapes, labelled
from tinygen.given import representative as representative_samples
from tinygen.metrics import Metric
from tinygen.pipeline import Compiled, Report, silent
from tinygen.project import Project, write_project
from tinygen.pruning.epochs import Progress
from tinygen.quantized_training.training import DEFAULT, Options, Trained, train
from tinygen.samples import Options as SampleOptions
from tinygen.samples import Samples
from tinygen.selection import Optimize, check_optimize
from tinygen.tflite.export import export_tflite

AS_STORED = SampleOptions()
TFLITE, KERAS = "qat_int8.tflite", "qat.keras"
"""What the project holds beside its firmware: the int8 graph as TFLite, and the trained float model."""


@dataclass(frozen=True)
class Qat:
    """What training gave. floats, untrained, int8: of the float model, of post-training quantization and of the result
    on the evaluation set; None without one."""

    trained: Trained
    compiled: Compiled
    project: Project
    board: Board
    floats: Metric | None
    untrained: Metric | None
    int8: Metric | None
    notes: tuple[str, ...]


def qat(
    model: str | Path,
    *,
    representative: str | Path,
    board: str | Path = "mps2_an386",
    board_path: Sequence[str | Path] = (),
    out: str | Path | None = None,
    eval: str | Path | None = None,
    metric: metrics.Kind | None = None,
    max_drop: float | None = None,
    teacher: str | Path | None = None,
    name: str | None = None,
    input_shape: Sequence[Any] = (),
    samples: SampleOptions = AS_STORED,
    labels: Sequence[str] = (),
    project: str = "platformio",
    optimize: Optimize = "balanced",
    training: Options = DEFAULT,
    force: bool = False,
    report: Report = silent,
) -> Qat:
    """Train a Keras model for int8 on the representative samples, without labels, and make its project.

    Written to `out`, whole or not at all: the project, qat_int8.tflite and, where it can hold what was learned,
    qat.keras. teacher: the model whose answers are learned, None: the model itself. The result is never worse than
    post-training quantization on held-out representative samples. eval: judges at the end, once; with max_drop a
    greater loss from float to int8 raises DataError. optimize: as `tinygen.compile` takes it. Raises TinygenError.
    """
    check_optimize(optimize)
    target = load_board(board, [Path(folder) for folder in board_path])
    prefix = check_prefix(name or suggest_prefix(Path(model).stem))
    options = pipeline.Options(
        prefix, training.calibration, labels=tuple(labels), home=project, optimize=optimize
    )
    homes.check(project, options.app, options.arena, [target])
    keras_model, loaded = _opened(model, input_shape)
    given = representative_samples(loaded.graph, model, representative, samples, "int8")
    assert given is not None
    judged = labelled(loaded.graph, eval, samples, metric, max_drop)
    teaching = _opened(teacher, input_shape)[0] if teacher is not None else None
    trained = train(keras_model, given, training, _told(report), teaching, report)
    compiled = _compiled(trained, target, options)
    floats, untrained, int8 = _scores(trained, compiled, judged, metric, report)
    scoring.check_drop(floats, int8, max_drop)
    manifest = {
        **bundle.manifest_of(Path(model), representative, [target], options, samples),
        "qat": {**asdict(training), "teacher": bundle.path_hash(Path(teacher)) if teacher else None},
    }
    made = bundle.make_project([compiled], [target], manifest, given, options, (floats, int8))
    made = bundle.with_binary(made, _files(trained))
    told = write_project(made, Path(out), force) if out is not None else ()
    notes = (*loaded.notes, *_notes(trained), *told)
    return Qat(trained, compiled, made, target, floats, untrained, int8, notes)


def _opened(path: str | Path, input_shape: Sequence[Any]) -> tuple[Any, Any]:
    """(Keras model, its graph and notes). Raises ModelError for a .tflite file and for none."""
    if Path(path).suffix == ".tflite":
        raise ModelError(
            f"'{path}' is int8 already: quantization-aware training needs the float model it was made from\n"
            "  give the .keras or .h5 file"
        )
    first_bytes(Path(path))
    return open_keras(path, input_shapes(input_shape))


def _told(report: Report) -> Callable[[Progress], None]:
    return lambda progress: report("train", progress.epoch, progress.epochs)


def _compiled(trained: Trained, board: Board, options: pipeline.Options) -> Compiled:
    """From the trained int8 graph to C; its scales stay as they are."""
    (lowered,) = pipeline.lower_int8(trained.graph, [board], options, trained.fused, _decisions(trained))
    return replace(lowered, real=trained.real)


def _decisions(trained: Trained) -> tuple[Decision, ...]:
    """Those of post-training quantization, and what training made of the ranges."""
    first, last = trained.history[0], trained.history[trained.best]
    why = f"epoch {trained.best} of {len(trained.history) - 1} is best on held-out samples"
    losses = f"{why}: distance {first.held_out:.3g} -> {last.held_out:.3g}"
    rewrite = RewriteDecision("quantization-aware training", trained.best > 0, losses)
    return (*trained.start.rewrites, rewrite, *(_range(r, trained.qparams) for r in trained.start.ranges))


def _range(decision: RangeDecision, qparams: Mapping[str, Any]) -> RangeDecision:
    now = qparams[decision.group]
    return (
        decision
        if now == decision.qparams
        else replace(decision, calibrator="trained", qparams=now, costs={})
    )


def _scores(
    trained: Trained, compiled: Compiled, judged: Samples | None, kind: metrics.Kind | None, report: Report
) -> tuple[Metric | None, Metric | None, Metric | None]:
    if judged is None:
        return None, None, None
    floats, int8 = scoring.score(compiled, judged, kind, report)
    untrained = scoring.score(replace(compiled, graph=trained.start.graph), judged, kind, report)[1]
    return floats, untrained, int8


def _files(trained: Trained) -> dict[str, bytes]:
    """The int8 .tflite file and, where there is one, the Keras file."""
    files = {TFLITE: export_tflite(trained.graph)}
    if trained.model is not None:
        with tempfile.TemporaryDirectory(prefix="tinygen-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's own
            path = Path(folder) / KERAS
            trained.model.save(path)
            files[KERAS] = path.read_bytes()
    return files


def _notes(trained: Trained) -> tuple[str, ...]:
    notes = [trained.stopped] if trained.stopped else []
    if trained.best == 0:
        notes.append("training gained nothing on held-out samples: the result is post-training quantization")
    if trained.model is None:
        notes.append(f"there is no {KERAS}: {' '.join(trained.unfit.split())}")
    return tuple(notes)
