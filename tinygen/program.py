"""Kernel selection: a Graph, int8 or float32, becomes a Program, the list of steps that the firmware executes."""

from __future__ import annotations

from dataclasses import dataclass

from tinygen import ops
from tinygen.boards import Board
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import BoundNode, Graph
from tinygen.ops.base import Kernel


@dataclass(frozen=True)
class Step:
    """One node and the kernel that executes it; scratch_bytes are planned like a tensor that lives in this step."""

    bound: BoundNode
    kernel: Kernel
    scratch_bytes: int


@dataclass(frozen=True)
class Program:
    """Steps in execution order."""

    graph: Graph
    steps: tuple[Step, ...]


def choose_kernel(bound: BoundNode, board: Board | None) -> Kernel:
    """The cheapest kernel of the node's type that supports it on this board; the portable one supports everything.

    Raises UnsupportedLayerError for an operator that has no float32 kernel.
    """
    kernels = [k for k in ops.get(bound.node.op).kernels if k.dtype == bound.output.dtype]
    if not kernels:
        why = f"the operator has no {bound.output.dtype} kernel"
        raise UnsupportedLayerError(bound.name, bound.node.op, why, "compile it with --precision int8")
    candidates = [k for k in kernels if k.supports(bound, board)]
    assert candidates, f"no kernel supports {bound.node}"
    return min(candidates, key=lambda k: k.cost(bound))


def select(graph: Graph, board: Board | None) -> Program:
    """Choose a kernel for every node. board None: portable C for the host."""
    steps = []
    for bound in graph.bound():
        kernel = choose_kernel(bound, board)
        steps.append(Step(bound, kernel, kernel.scratch(bound)))
    return Program(graph, tuple(steps))
