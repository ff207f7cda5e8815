"""What a project holds besides C: its final graph and a manifest of what it was made from; and back again.

project.py puts it on disk. Same inputs, options and compiler give the same files and the same run_id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tinygen import (
    __version__,
    building,
    ci,
    evaluate,
    firmware,
    ops,
    pipeline,
    project,
    quantization_error,
    serialization,
)
from tinygen.boards import Board, common, load_board
from tinygen.ctext import C_TYPES
from tinygen.decisions import Int16Decision, RangeDecision
from tinygen.emission import class_count
from tinygen.errors import BoardError, ModelError, did_you_mean
from tinygen.graph import Array, Graph, Tensor
from tinygen.homes import Contents, files_of
from tinygen.metrics import Metric
from tinygen.pipeline import Compiled
from tinygen.placement_check import read_table
from tinygen.project import Project
from tinygen.samples import Options as SampleOptions
from tinygen.samples import Samples, quantize_inputs
from tinygen.wishes import Wishes

GRAPH_FILE = "graph.json"
SAMPLES = 4
SAMPLE_BYTES = 128 * 1024
"""What a project stores for `pio test`: at most so many samples, and input bytes (but one at least)."""

CYCLES_PER_MAC = {"int8": 40, "float32": 250}
SENSOR_CYCLES, MOST_CYCLES = 2_000_000, 1 << 24
"""The stand-in for a sensor fills a sample in so many cycles of the core: more than the kernels take (in float32
without an FPU about 190 a multiply-accumulate), at least two million, for the console; SysTick counts 24 bits."""


def manifest_of(
    model: Path | None,
    representative: str | Path | None,
    boards: Sequence[Board],
    options: pipeline.Options,
    samples: SampleOptions,
) -> dict[str, Any]:
    """What determines the generated text: hashes of everything that went in, every option, the compiler.

    model: None for a graph that came from no file.
    """
    return {
        "generator": "tinygen",
        "version": __version__,
        "model": {"file": model.name, "sha256": path_hash(model)} if model else None,
        "representative": {"file": Path(representative).name, "sha256": path_hash(Path(representative))}
        if representative
        else None,
        "boards": [{"name": board.name, "sha256": text_hash(board.text)} for board in boards],
        "options": options_data(options),
        "samples": asdict(samples),
        "compiler": building.compiler_version(),
    }


def options_data(options: pipeline.Options) -> dict[str, Any]:
    """Every option, JSON-ready. Options that came later only where they are used: run_ids outlive new options."""
    data = asdict(options)
    if options.wishes.weights is None:
        del data["wishes"]["weights"]
    if not options.profile_on_device:
        del data["profile_on_device"]
    if options.precision == "int8":
        del data["precision"]
    for name in ("activations", "int16", "max_drop", "optimize", "kernels"):
        if data[name] == getattr(pipeline.Options, name):
            del data[name]
    return data


def read_options(manifest: Mapping[str, Any]) -> pipeline.Options:
    """The options of a project, from its manifest."""
    data = dict(manifest["options"])
    return pipeline.Options(
        **{
            **data,
            "labels": tuple(data["labels"]),
            "int16": tuple(data.get("int16", ())),
            "kernels": tuple((str(layer), str(kernel)) for layer, kernel in data.get("kernels", ())),
            "wishes": Wishes(**data["wishes"]),
        }
    )


def text_hash(text: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def path_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    for part in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else (path,):
        if path.is_dir():
            digest.update(f"{part.relative_to(path)}\0".encode())
        digest.update(part.read_bytes())
    return digest.hexdigest()


def make_project(
    compiled: Sequence[Compiled],
    boards: Sequence[Board],
    manifest: Mapping[str, Any],
    samples: Samples | None,
    options: pipeline.Options,
    scores: tuple[Metric | None, Metric | None] = (None, None),
    beside: Mapping[str, str] | None = None,
    stored: tuple[tuple[Array, ...], tuple[Array, ...]] | None = None,
) -> Project:
    """The library in its home (homes.py), the quantized graph, the manifest.

    compiled: one per board, in their order. samples: the representative ones, None takes random numbers for
    `pio test`; stored: (inputs, outputs) for it as C has them. scores: (float, int8) on the evaluation set, noted
    in the manifest; what that says of quantization already stays. beside: files that are kept with
    it and no part of the image (pruning/projects.py). Raises BoardError when the boards would need different
    libraries; with --ci (ci.py), which builds and measures images, what building raises.
    """
    check_one_library(compiled, boards)
    first = compiled[0]
    library = first.library
    manifest = {"quantization": quantization_of(first), **manifest}
    text = serialization.graph_to_json(first.graph)
    run_id = project.run_id_of(manifest, {**library.files, GRAPH_FILE: text})
    manifest = {**manifest, **scores_of(*scores)}  # measured, not part of what the image is made from
    inputs, outputs = stored or stored_samples(first.graph, samples)
    contents = Contents(
        library=library,
        boards=boards,
        placements=[made.placement for made in compiled if made.placement is not None],
        application=application_of(first, options),
        inputs=inputs,
        outputs=outputs,
        run_id=run_id,
        app=options.app,
    )
    files, users = files_of(options.home, contents)
    tests: Mapping[str, bytes] = {}
    if options.ci is not None:
        tests = ci.files(files, contents)
        files["README.md"] += ci.readme(contents)
    kept = {GRAPH_FILE: text, **error_file(first, samples), **(beside or {})}
    return project.with_manifest(manifest, {**files, **kept}, run_id, users, tests)


def with_binary(made: Project, binary: Mapping[str, bytes]) -> Project:
    """The project with more files that are no text and no part of the image."""
    manifest = json.loads(made.files[project.MANIFEST])
    kept = {key: value for key, value in manifest.items() if key not in ("run_id", "files")}
    files = {path: text for path, text in made.files.items() if path != project.MANIFEST}
    return project.with_manifest(kept, files, made.run_id, made.users, {**made.binary, **binary})


def scores_of(before: Metric | None, after: Metric | None) -> dict[str, Any]:
    """What the manifest says of an evaluation: {} without one."""
    scores = {name: asdict(m) for name, m in (("float", before), ("int8", after)) if m is not None}
    return {"scores": scores} if scores else {}


def error_file(compiled: Compiled, samples: Samples | None) -> dict[str, str]:
    """quantization.json: what int8 costs on the representative samples; {} without samples, and in float32."""
    if samples is None or compiled.graph.precision != "int8":
        return {}
    error = quantization_error.measure(compiled.real, compiled.graph, samples.x)
    return {quantization_error.FILE: quantization_error.to_json(error)}


def check_one_library(compiled: Sequence[Compiled], boards: Sequence[Board]) -> None:
    """Raise BoardError when a board's C differs from the first board's: they share lib/."""
    names = [b.name for b in boards]
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise BoardError(f"board '{twice}' is given twice\n  give every --board once")
    for made, board in zip(compiled, boards, strict=True):
        if made.library.files != compiled[0].library.files:
            raise BoardError(
                f"'{board.name}' needs another library than '{boards[0].name}': they cannot share a project\n"
                "  compile each into a folder of its own"
            )


def application_of(compiled: Compiled, options: pipeline.Options) -> dict[str, Any]:
    """What the example application must know of the model."""
    graph, name = compiled.graph, compiled.library.name
    return {
        "name": name,
        "NAME": name.upper(),
        "input_count": len(graph.inputs),
        "output_count": len(graph.outputs),
        "class_count": class_count(graph, options.labels),
        "has_labels": bool(options.labels),
        "own_arena": options.arena == "library",
        "precision": graph.precision,
        "T": C_TYPES[graph.precision],
        "template": "main_event.c" if options.app == "event" else "main.c",
        **sensor_of(compiled),
    }


def sensor_of(compiled: Compiled) -> dict[str, int]:
    """How often the event-driven example's sensor brings how many elements: the model is fast enough for it."""
    elements = sum(t.elements for t in compiled.graph.input_tensors)
    macs = ops.macs(s.bound for s in compiled.program.steps)
    cycles = max(SENSOR_CYCLES, CYCLES_PER_MAC[compiled.graph.precision] * macs)
    bursts = min(elements, max(8, -(-cycles // MOST_CYCLES)))
    return {"burst": -(-elements // bursts), "tick_cycles": min(MOST_CYCLES, cycles // bursts)}


def stored_samples(graph: Graph, samples: Samples | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """A few samples (N, *shape) as C takes them, spread over the representative ones, and the outputs it must give."""
    per_sample = sum(t.size_bytes for t in graph.input_tensors)
    count = max(1, min(SAMPLES, SAMPLE_BYTES // per_sample))
    if samples is None:
        inputs = random_inputs(graph, count)
    else:
        chosen = np.unique(np.linspace(0, samples.count - 1, min(count, samples.count)).astype(int))
        inputs = quantize_inputs(graph, tuple(x[chosen] for x in samples.x))
    return tuple(inputs), tuple(evaluate.expected(graph, inputs))


def random_inputs(graph: Graph, count: int) -> tuple[Array, ...]:
    """Made-up samples (count, *shape), always the same ones."""
    rng = np.random.default_rng(0)
    return tuple(_random(rng, count, t) for t in graph.input_tensors)


def _random(rng: np.random.Generator, count: int, tensor: Tensor) -> Array:
    """Samples of an input: all int8 values alike, or real numbers in [-1, 1)."""
    if tensor.dtype == "float32":
        return rng.uniform(-1, 1, (count, *tensor.shape)).astype(np.float32)
    return rng.integers(-128, 128, (count, *tensor.shape)).astype(np.int8)


def quantization_of(compiled: Compiled) -> dict[str, Any]:
    """How the int8 graph came about, JSON-ready: the calibrator of every activation, and all decisions in words."""
    ranges = [d for d in compiled.decisions if isinstance(d, RangeDecision)]
    calibrators = {member: d.calibrator for d in ranges for member in d.members}
    made = {"calibrators": calibrators, "decisions": [str(d) for d in compiled.decisions]}
    wide = [d for d in compiled.decisions if isinstance(d, Int16Decision)]
    return {**made, **({"int16": list(wide[0].layers)} if wide else {})}


def load_project(folder: str | Path, board: str | None = None) -> tuple[Graph, Board, dict[str, Any]]:
    """(final graph, board, manifest) of a generated project. board: one of its boards; None takes the first.

    Its instructions are those that all boards of the project have: kernels were chosen for them.
    """
    folder = Path(folder)
    manifest = project.read_manifest(folder)
    path = folder / GRAPH_FILE
    try:
        text = path.read_text()
        names = [str(b["name"]) for b in manifest["boards"]]
    except (OSError, KeyError, TypeError) as problem:
        raise ModelError(
            f"'{folder}' cannot be read as a project of this version ({problem})\n  generate it again"
        ) from None
    if board is not None and board not in names:
        raise BoardError(
            f"'{folder}' has no board '{board}'{did_you_mean(board, names)}\n  it is for {', '.join(names)}"
        )
    chosen = boards_of(folder, manifest)[names.index(board or names[0])]
    return serialization.graph_from_json(text, str(path)), chosen, manifest


def boards_of(folder: Path, manifest: Mapping[str, Any]) -> tuple[Board, ...]:
    """All boards of a project, in its order, with the instructions that all of them have. Raises BoardError."""
    names = (str(b["name"]) for b in manifest["boards"])
    return common([load_board(folder / firmware.board_folder(name) / "board.toml") for name in names])


def weights_homes(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Board of the project -> the region where arrays have their home. Raises BoardError, OutputError."""
    homes = {}
    for name in (str(b["name"]) for b in manifest["boards"]):
        place = folder / firmware.board_folder(name)
        homes[name] = read_table(place).weights or load_board(place / "board.toml").code.name
    return homes
