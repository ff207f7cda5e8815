"""What a project holds besides C: the quantized graph and a manifest of what it was made from; and back again.

project.py puts it on disk. Same inputs, options and compiler give the same files and the same run_id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinygen import __version__, building, firmware, pipeline, project, serialization
from tinygen.boards import Board, load_board
from tinygen.decisions import RangeDecision
from tinygen.errors import ModelError
from tinygen.graph import Graph
from tinygen.pipeline import Compiled
from tinygen.project import Project
from tinygen.samples import Options as SampleOptions

GRAPH_FILE = "graph.json"


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
        "board": {"name": board.name, "sha256": text_hash(board.text)},
        "options": asdict(options),
        "samples": asdict(samples),
        "compiler": building.compiler_version(),
    }


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


def make_project(compiled: Compiled, board: Board, manifest: Mapping[str, Any]) -> Project:
    """Library, firmware around it, the quantized graph and the manifest as one project."""
    manifest = {**manifest, "quantization": quantization_of(compiled)}
    files = {**compiled.library.files, GRAPH_FILE: serialization.graph_to_json(compiled.graph)}
    run_id = project.run_id_of(manifest, files)
    files |= firmware.firmware_files([compiled.library], board, run_id, compiled.placement)
    board_text = {"board.toml": board.text}
    return project.with_manifest(manifest, {**files, **board_text}, run_id)


def quantization_of(compiled: Compiled) -> dict[str, Any]:
    """How the int8 graph came about, JSON-ready: the calibrator of every activation, and all decisions in words."""
    ranges = [d for d in compiled.decisions if isinstance(d, RangeDecision)]
    calibrators = {member: d.calibrator for d in ranges for member in d.members}
    return {"calibrators": calibrators, "decisions": [str(d) for d in compiled.decisions]}


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
