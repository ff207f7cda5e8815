"""`tinygen.tune`: the kernels of a project chosen by count, and the project made anew with them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinygen import building, bundle, ops
from tinygen.boards import Board
from tinygen.cycles.cores import TIMINGS
from tinygen.errors import UsageError
from tinygen.firmware import HARNESS
from tinygen.flash import limited
from tinygen.graph import Array, Graph
from tinygen.pio.testing import read_samples
from tinygen.pipeline import Compiled, Options, Report, silent
from tinygen.program import Program, select
from tinygen.project import MANIFEST, Project, write_project
from tinygen.samples import Options as SampleOptions
from tinygen.selection import Optimize
from tinygen.tuning.cache import Cache, default_folder
from tinygen.tuning.choosing import Counted, count_all, fitting
from tinygen.tuning.counting import Count

MADE_ANEW = ("run_id", "files", "options", "compiler")
"""What of a manifest is not carried over into the tuned project's."""


@dataclass(frozen=True)
class TunedLayer:
    """One layer. before, after: kernels; counts: of every kernel that can execute it, {} where it was not counted."""

    name: str
    op: str
    macs: int
    before: str
    after: str
    counts: Mapping[str, Count]

    def cycles(self, kernel: str) -> int:
        """Modelled cycles with that kernel; 0 where it was not counted."""
        return self.counts[kernel].cycles if kernel in self.counts else 0


@dataclass(frozen=True)
class Tuned:
    """What tuning gave. aim: what kernels were chosen for, less than `options.optimize` where that did not fit.

    counted: kernels that were built and followed now; cached: those that were known. arena: bytes, (before, after).
    """

    layers: tuple[TunedLayer, ...]
    board: Board
    aim: Optimize
    options: Options
    counted: int
    cached: int
    arena: tuple[int, int]
    project: Project
    notes: tuple[str, ...]

    def cycles(self, after: bool) -> int:
        """Modelled cycles of all layers together."""
        return sum(layer.cycles(layer.after if after else layer.before) for layer in self.layers)


def tune(
    source: str | Path,
    *,
    board: str | None = None,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    samples: SampleOptions | None = None,
    force: bool = False,
    report: Report = silent,
    **compiling: Any,
) -> Tuned:
    """Build and count every kernel that could execute a layer, and keep the best of each (docs/performance.md).

    source: a project, which is made anew with them, or a model, which is compiled for `board` first; compiling: what
    `tinygen.compile` takes besides. board: of the project's, on whose core kernels are counted; None takes the first.
    out: the folder of the tuned project; None: that of the project, for a model none is written. cache: the folder of
    counts that are known already, None takes the user's.

    Raises UsageError, BoardError when nothing fits, and what compile, build and run raise.
    """
    known = Cache(Path(cache) if cache is not None else default_folder())
    if Path(source).is_dir():
        if given := [name for name, value in compiling.items() if value]:
            option = "--" + given[0].replace("_", "-")
            raise UsageError(f"{option} is for models: '{source}' is compiled already\n  leave {option} out")
        return _tune(Path(source), board, Path(out or source), known, force, report)
    from tinygen import api

    with tempfile.TemporaryDirectory(prefix="tinygen-tune-") as folder:
        project = Path(folder) / "project"
        told = {name: value for name, value in compiling.items() if value}
        options = samples if samples is not None else SampleOptions()
        api.compile(source, board=board or "mps2_an386", out=project, samples=options, report=report, **told)
        return _tune(project, None, Path(out) if out is not None else None, known, force, report)


def _tune(
    folder: Path, board: str | None, out: Path | None, cache: Cache, force: bool, report: Report
) -> Tuned:
    graph, target, manifest = bundle.load_project(folder, board)
    options = bundle.read_options(manifest)
    if target.cpu not in TIMINGS:
        raise UsageError(
            f"no cycles are modelled for {target.cpu}: kernels of '{target.name}' cannot be told apart by count\n"
            "  they are chosen by their formulas: tinygen compile"
        )
    before = replace(options, kernels=())
    boards = [limited(b, options.wishes.budget_flash) for b in bundle.boards_of(folder, manifest)]
    counted = count_all(graph, target, cache, report)
    compiled, chosen, aim = fitting(graph, boards, options, counted.counts)
    made = remade(folder, graph, manifest, compiled, boards, chosen)
    notes = write_project(made, out, force) if out is not None else ()
    old = select(graph, target, before.choice)
    return Tuned(
        _layers(old, compiled[0].program, counted),
        target,
        aim,
        chosen,
        counted.made,
        counted.known,
        (_arena(old), compiled[0].plan.arena_bytes),
        made,
        notes,
    )


def _arena(program: Program) -> int:
    from tinygen.planning import plan

    return plan(program).arena_bytes


def _layers(before: Program, after: Program, counted: Counted) -> tuple[TunedLayer, ...]:
    """Layers that execute code."""
    return tuple(
        TunedLayer(
            old.bound.name,
            old.bound.node.op,
            ops.get(old.bound.node.op).macs(old.bound),
            old.kernel.name,
            new.kernel.name,
            counted.counts.get(old.bound.name, {}),
        )
        for old, new in zip(before.steps, after.steps, strict=True)
        if not old.kernel.alias
    )


def remade(
    folder: Path,
    graph: Graph,
    manifest: Mapping[str, Any],
    compiled: list[Compiled],
    boards: list[Board],
    options: Options,
) -> Project:
    """The project of a folder with other kernels: what was measured when it was made, and its samples, stay."""
    kept = {key: value for key, value in manifest.items() if key not in MADE_ANEW}
    fresh = {"options": bundle.options_data(options), "compiler": building.compiler_version()}
    made = bundle.make_project(
        compiled, boards, {**kept, **fresh}, None, options, stored=_stored(folder, graph)
    )
    beside = {
        path: (folder / path).read_bytes()
        for path in manifest["files"]
        if "/" not in path and path not in made.files and path != MANIFEST
    }
    return bundle.with_binary(made, beside)


def _stored(folder: Path, graph: Graph) -> tuple[tuple[Array, ...], tuple[Array, ...]] | None:
    """The samples of the project with their shapes; None where it has none."""
    if not (folder / HARNESS / "samples.json").is_file():
        return None
    inputs, outputs = read_samples(folder)
    return (
        tuple(x.reshape(-1, *t.shape) for x, t in zip(inputs, graph.input_tensors, strict=True)),
        tuple(y.reshape(-1, *t.shape) for y, t in zip(outputs, graph.output_tensors, strict=True)),
    )
