"""Kernels that may overwrite an input: run them so, and see that nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.support.host import HostLibrary
from tests.support.nodes import SANITIZE, random_inputs
from tinygen import evaluate
from tinygen.emission import emit_library
from tinygen.graph import Array, Graph
from tinygen.program import select


@dataclass(frozen=True)
class Overlaid:
    """A memory plan of one node (inputs behind each other, the output on top of one of them)."""

    offsets: dict[str, int]
    arena_bytes: int

    def offset(self, tensor: str) -> int:
        return self.offsets[tensor]

    def scratch_offset(self, step: int) -> int:
        raise AssertionError("in-place kernels with scratch are not tested here")


def overlaid(graph: Graph, overwritten: str) -> Any:
    """The plan in which the output lies on the input `overwritten`."""
    offsets: dict[str, int] = {}
    end = 0
    for tensor in graph.input_tensors:
        offsets[tensor.name] = end
        end += (tensor.size_bytes + 15) // 16 * 16
    offsets[graph.outputs[0]] = offsets[overwritten]
    return Overlaid(offsets, end)


def assert_in_place(graph: Graph, expected: Sequence[int], samples: int = 4) -> None:
    """The graph's one kernel offers exactly `expected` (indices of activations), and each works."""
    (step,) = select(graph, None).steps
    assert step.kernel.in_place(step.bound) == tuple(expected)
    inputs = random_inputs(graph, samples, 5)
    (want,) = evaluate.expected(graph, inputs)
    off = 1e-5 * float(np.abs(want).max()) if graph.precision == "float32" else 0
    for index in expected:
        got = _run(graph, step.bound.activations[index].name, inputs)
        np.testing.assert_allclose(got, want, rtol=0, atol=off)


def _run(graph: Graph, overwritten: str, inputs: Sequence[Array]) -> Array:
    library = emit_library(select(graph, None), overlaid(graph, overwritten), "model")
    (got,) = HostLibrary([library], SANITIZE).run(library, inputs)
    return got.reshape(len(got), *graph.output_tensors[0].shape)
