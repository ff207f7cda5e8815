"""Kernel selection: a quantized Graph becomes a Program, the list of steps that the firmware executes."""

from __future__ import annotations

from dataclasses import dataclass

from tinygen import ops
from tinygen.boards import Board
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
    """The cheapest kernel that supports the node on this board; the portable one supports everything."""
    candidates = [k for k in ops.get(bound.node.op).kernels if k.supports(bound, board)]
    assert candidates, f"no kernel supports {bound.node}"
    return min(candidates, key=lambda k: k.cost(bound))


def select(graph: Graph, board: Board | None) -> Program:
    """Choose a kernel for every node. board None: portable C for the host."""
    steps = []
    for bound in graph.bound():
        kernel = choose_kernel(bound, board)
        steps.append(Step(bound, kernel, kernel.scratch(bound)))
    return Program(graph, tuple(steps))
