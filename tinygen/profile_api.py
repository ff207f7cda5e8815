"""`tinygen.profile`: from a project, or from a model and a board, to a Profile."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinygen import building, bundle, counted, homes, pipeline, profiling, scoring
from tinygen.advice import check
from tinygen.boards import Board
from tinygen.budgets import Budgets
from tinygen.code_size import encoding_of
from tinygen.cycles.cores import TIMINGS
from tinygen.emission import emit_library
from tinygen.errors import UsageError
from tinygen.firmware import HARNESS
from tinygen.graph import Array, Graph
from tinygen.pio.testing import read_samples
from tinygen.pipeline import Report, silent
from tinygen.planning import plan
from tinygen.profiling import Profile, Run
from tinygen.program import select
from tinygen.project import Project, write_project
from tinygen.samples import Options as SampleOptions
from tinygen.samples import load_samples, quantize_inputs

INPUTS = 3
"""Samples that are profiled unless the user says otherwise: a cold inference and two warm ones."""


def profile(
    source: str | Path,
    *,
    board: str | None = None,
    inputs: str | Path | None = None,
    count: int | None = None,
    samples: SampleOptions | None = None,
    timeout: float = 120.0,
    report: Report = silent,
    **compiling: Any,
) -> Profile:
    """Where every instruction and modelled cycle of an inference goes.

    source: a project's folder, or a model, which is compiled for `board` into a temporary folder; compiling: what
    `tinygen.compile` takes besides. board: one of the project's, None takes the first. inputs: samples to run, None
    takes those that the project stores; count: so many of them, None takes 3. Every output element is compared with the
    reference. Raises UsageError for options that the source does not take, and what compile, build and run raise.
    """
    if Path(source).is_dir():
        if given := [name for name, value in compiling.items() if value is not None]:
            option = "--" + given[0].replace("_", "-")
            raise UsageError(f"{option} is for models: '{source}' is compiled already\n  leave {option} out")
        return profile_project(Path(source), board, inputs, count, samples, timeout, report)
    from tinygen import api

    with tempfile.TemporaryDirectory(prefix="tinygen-profile-") as folder:
        project = Path(folder) / "project"
        given_options = {name: value for name, value in compiling.items() if value is not None}
        options = samples if samples is not None else SampleOptions()
        board = board or "mps2_an386"
        api.compile(source, board=board, out=project, samples=options, report=report, **given_options)
        return profile_project(project, None, inputs, count, samples, timeout, report)


def profile_project(
    folder: Path,
    board: str | None = None,
    inputs: str | Path | None = None,
    count: int | None = None,
    samples: SampleOptions | None = None,
    timeout: float = 120.0,
    report: Report = silent,
) -> Profile:
    """As `profile`, of a project on disk."""
    loaded = bundle.load_project(folder, board)
    graph, _, manifest = loaded
    homes.check_runs(folder, manifest)
    options = samples if samples is not None else SampleOptions(**manifest["samples"])
    return follow(folder, loaded, inputs_of(folder, graph, inputs, count, options), timeout, report)


def follow(
    folder: Path,
    loaded: tuple[Graph, Board, Mapping[str, Any]],
    inputs: Sequence[Array],
    timeout: float = 120.0,
    report: Report = silent,
) -> Profile:
    """Build a project for a board and profile it on samples (N, *shape) as C takes them. loaded: of load_project."""
    graph, target, manifest = loaded
    expected = scoring.reference_outputs(graph, inputs, report, "reference")
    chosen = bundle.read_options(manifest)
    program = select(graph, target, chosen.choice)
    image = building.build(folder, target)
    run = Run(inputs, expected, timeout, lambda done, total: report("profile", done, total))
    if target.cpu not in TIMINGS:
        stamped = with_timestamps(graph, target, manifest)
        return counted.profile(program, image, stamped, target, run)
    library = emit_library(
        program, plan(program), chosen.name, chosen.arena, chosen.labels, encoding_of(target.cpu)
    )
    return profiling.profile(program, image, target, library.movables, run)


def with_timestamps(graph: Graph, board: Board, manifest: Mapping[str, Any]) -> Project:
    """The same project with a timestamp behind every layer: where a core cannot be followed, it counts for itself."""
    options = replace(bundle.read_options(manifest), profile_on_device=True, ci=None)
    compiled = pipeline.lower(graph, board, options)
    return bundle.make_project([compiled], [board], {"timestamps of": manifest["run_id"]}, None, options)


def check_budget_ms(milliseconds: float | None, home: str, boards: Sequence[Board]) -> Budgets | None:
    """The budget to hold images to, None for none. Raises UsageError where no time can be modelled."""
    if milliseconds is None:
        return None
    if not homes.HOMES[home].runs:
        able = " or ".join(name for name, h in homes.HOMES.items() if h.runs)
        raise UsageError(
            f"--budget-ms needs firmware that can be run, --project {home} is a library\n"
            f"  leave --budget-ms out, or use --project {able}"
        )
    if unknown := [b for b in boards if b.cpu not in TIMINGS]:
        raise UsageError(
            f"--budget-ms {milliseconds:g} cannot be checked on '{unknown[0].name}': no cycles are modelled for "
            f"{unknown[0].cpu}\n  leave it out there; 'tinygen bench' can gate on instructions"
        )
    return Budgets(ms=milliseconds)


def check_time(made: Project, boards: Sequence[str], budgets: Budgets, report: Report) -> None:
    """Build and profile a project that is not written yet. Raises BudgetError when a budget is not met on a board."""
    with tempfile.TemporaryDirectory(prefix="tinygen-budget-") as folder:
        project = Path(folder) / "project"
        write_project(made, project)
        for board in boards:
            check(profile_project(project, board, report=report), budgets)


def inputs_of(
    folder: Path, graph: Graph, inputs: str | Path | None, count: int | None, options: SampleOptions
) -> tuple[Array, ...]:
    """Samples (N, *shape) as C takes them: of a file, of the project's own, or made up where it stores none."""
    wanted = count or INPUTS
    if inputs is not None:
        return tuple(quantize_inputs(graph, load_samples(inputs, graph, options).head(wanted).x))
    if (folder / HARNESS / "samples.json").is_file():
        stored, _ = read_samples(folder)
        turns = np.arange(wanted) % len(stored[0])
        return tuple(x[turns].reshape(-1, *t.shape) for x, t in zip(stored, graph.input_tensors, strict=True))
    return bundle.random_inputs(graph, wanted)
