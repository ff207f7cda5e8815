"""Force a kernel by its name on small graphs, and hold its C to the reference on the host and in an emulator.

All graphs go into one image: a build takes longer than a thousand inferences.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from tests.support.host import write_files
from tests.support.nodes import random_inputs
from tinygen import building, evaluate, ops
from tinygen.boards import Board, load_board
from tinygen.emission import Library, emit_library
from tinygen.emulators import find_emulator
from tinygen.firmware import firmware_files
from tinygen.graph import Array, BoundNode, Graph
from tinygen.judge import ModelRun
from tinygen.ops.base import Kernel
from tinygen.plan_check import verify
from tinygen.planning import plan
from tinygen.program import Program, Step
from tinygen.running import run_models

EVERYWHERE = ("host-sanitized", "unicorn")


@dataclass(frozen=True)
class Case:
    """One graph whose nodes execute the kernel `kernel` where they can. inputs: (N, *shape) each."""

    kernel: str
    graph: Graph
    inputs: tuple[Array, ...]


def find_kernel(name: str) -> Kernel:
    """The kernel of that name. Its operator is found by it, too."""
    return next(k for op in ops.BY_NAME.values() for k in op.kernels if k.name == name)


def supported(name: str, b: BoundNode, board: str = "mps2_an386") -> bool:
    """True when the kernel takes the node on this board."""
    kernel = find_kernel(name)
    return kernel in ops.get(b.node.op).kernels and kernel.supports(b, load_board(board))


def forced(graph: Graph, name: str, board: Board) -> Program:
    """Every node executed by that kernel; by another one only where it belongs to another operator."""
    wanted = find_kernel(name)
    steps = []
    for b in graph.bound():
        own = [k for k in ops.get(b.node.op).kernels if k.dtype == b.output.dtype]
        kernel = wanted if wanted in own else own[0]
        assert kernel.supports(b, board), f"{kernel.name} does not take {b.node}"
        steps.append(Step(b, kernel, kernel.scratch(b)))
    return Program(graph, tuple(steps))


def library(case: Case, board: Board, prefix: str) -> Library:
    """The case as a C library."""
    program = forced(case.graph, case.kernel, board)
    memory = plan(program)
    verify(program, memory)
    return emit_library(program, memory, prefix)


def random_case(kernel: str, graph: Graph, samples: int = 3, seed: int = 0) -> Case:
    """The graph with random inputs; the first two samples are all lowest and all highest."""
    inputs = tuple(random_inputs(graph, samples + 2, seed))
    for x in inputs:
        x[0], x[1] = np.iinfo(x.dtype).min, np.iinfo(x.dtype).max
    return Case(kernel, graph, inputs)


def optimized(*flags: str) -> AbstractContextManager[object]:
    """Images for boards are compiled with these flags instead of -O2."""
    kept = [f for f in building.OPTIMIZE if not f.startswith("-O")]
    return mock.patch.object(building, "OPTIMIZE", (*flags, *kept))


def assert_kernels(
    cases: Iterable[Case], board: str | Board = "mps2_an386", emulators: Sequence[str] = EVERYWHERE
) -> None:
    """Every element of every case equals the reference: on the host with UBSan and in the emulator."""
    made, target = tuple(cases), load_board(board) if isinstance(board, str) else board
    assert made, "no cases"
    expected = [tuple(evaluate.reference(c.graph, c.inputs)) for c in made]
    with tempfile.TemporaryDirectory(prefix="tinygen-kernels-") as folder:
        project = Path(folder)
        libraries = [library(c, target, f"m{i}") for i, c in enumerate(made)]
        for path, text in firmware_files(libraries, target, "kernels").items():
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text)
        for each in libraries:
            write_files(each, project)
        for name in emulators:
            emulator = find_emulator(name)
            image = emulator.build(project, target)
            result = run_models(image, target, emulator, [c.inputs for c in made], expected, timeout=120.0)
            assert result.passed, f"{name}: {_first_wrong(made, expected, result.models)} {result.detail}"


def _first_wrong(
    cases: Sequence[Case], expected: Sequence[tuple[Array, ...]], models: Sequence[ModelRun]
) -> str:
    for case, want, run in zip(cases, expected, models, strict=False):
        for w, g in zip(want, run.outputs, strict=True):
            if not np.array_equal(w.reshape(g.shape), g):
                wrong = np.argwhere(w.reshape(g.shape) != g)
                (node,) = case.graph.nodes[:1]
                shapes = [t.shape for t in case.graph.bind(node).inputs]
                return f"{case.kernel} {node.attrs} {shapes}: {len(wrong)} wrong, first {wrong[0].tolist()}"
    return ""
