"""Kernel selection: a Graph, int8 or float32, becomes a Program, the list of steps that the firmware executes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tinygen.boards import Board
from tinygen.graph import BoundNode, Graph
from tinygen.ops.base import Kernel
from tinygen.selection import (
    DEFAULT,
    Candidate,
    Choice,
    Selector,
    Weigh,
    by_formula,
    candidates,
    others_live,
)


@dataclass(frozen=True)
class Step:
    """One node and the kernel that executes it; scratch_bytes are planned like a tensor that lives in this step.

    ranked: the kernels that could execute it, the chosen one first; () where nothing was weighed.
    """

    bound: BoundNode
    kernel: Kernel
    scratch_bytes: int
    ranked: tuple[Candidate, ...] = ()

    @cached_property
    def in_place(self) -> tuple[int, ...]:
        """As Kernel.in_place."""
        return self.kernel.in_place(self.bound)

    @cached_property
    def joins(self) -> tuple[tuple[int, int], ...]:
        """As Kernel.joins."""
        return self.kernel.joins(self.bound)

    @cached_property
    def view(self) -> int | None:
        """As Kernel.view; 0 for an alias."""
        return 0 if self.kernel.alias else self.kernel.view(self.bound)


@dataclass(frozen=True)
class Program:
    """Steps in execution order."""

    graph: Graph
    steps: tuple[Step, ...]


def choose_kernel(bound: BoundNode, board: Board | None) -> Kernel:
    """The portable kernel with the fewest cycles of those that support the node, whatever its size."""
    return min((k for k in candidates(bound, board) if k.portable), key=lambda k: k.cost(bound))


def select(graph: Graph, board: Board | None, choice: Choice = DEFAULT, weigh: Weigh = by_formula) -> Program:
    """Choose a kernel for every node. board None: portable C for the host. weigh: what kernels take.

    Raises UnsupportedLayerError for an operator that has no float32 kernel, UsageError for a named kernel that cannot
    execute its layer.
    """
    named = dict(choice.named)
    nodes = [
        (b, [k for k in candidates(b, board) if choice.takes(k) or named.get(b.name) == k.name])
        for b in graph.bound()
    ]
    selector = Selector(nodes, choice, weigh, others_live(graph))
    steps = []
    for b, kernels in nodes:
        ranked = selector.ranked(b, kernels)
        kernel = ranked[0].kernel
        steps.append(Step(b, kernel, kernel.scratch(b), ranked))
    return Program(graph, tuple(steps))


def estimated_cycles(program: Program) -> float:
    """Cycles of an inference by the kernels' own formulas."""
    return sum(step.kernel.cost(step.bound) for step in program.steps)
