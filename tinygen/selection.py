"""Which kernel executes a node: what each that could would take, in cycles, flash and SRAM, and what those weigh.

Cycles are those of the kernels' own formulas, sizes of code those of code_size.py, always in Thumb-2: boards that share
a project must choose alike, and only the order of the candidates matters.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from tinygen import ops
from tinygen.boards import Board
from tinygen.code_size import function_bytes
from tinygen.errors import UnsupportedLayerError, UsageError, did_you_mean
from tinygen.graph import BoundNode, Graph
from tinygen.ops.base import Kernel
from tinygen.rendering import body_of

Optimize = Literal["portable", "size", "balanced", "speed"]


@dataclass(frozen=True)
class Rates:
    """What a candidate pays, in points. percent: for each percent of the model's cycles, were every node executed by
    its fastest kernel. flash, sram: for each byte."""

    percent: float
    flash: float
    sram: float


RATES: Mapping[Optimize, Rates] = MappingProxyType(
    {
        "portable": Rates(1.0, 0.0, 0.0),
        "size": Rates(0.0, 1.0, 4.0),
        "balanced": Rates(1024.0, 1.0, 4.0),
        "speed": Rates(1.0, 0.0, 0.0),
    }
)
"""balanced: one percent of the cycles is worth 1 KB of flash. A byte of SRAM is worth four of flash: that is about how
microcontrollers have them."""


@dataclass(frozen=True)
class Choice:
    """What a user says about kernels. named: (layer, kernel) pairs that are taken as they are (tuning.py)."""

    optimize: Optimize = "balanced"
    named: tuple[tuple[str, str], ...] = ()

    def takes(self, kernel: Kernel) -> bool:
        """Whether the aim lets it be a candidate."""
        return self.optimize != "portable" or kernel.portable


DEFAULT = Choice()


@dataclass(frozen=True)
class Candidate:
    """One kernel for one node. cycles: of its formula, or counted. flash: constants, and code that no layer
    before it has already.

    sram: bytes live while it runs, scratch included, above those that some node needs in any case. points: what
    decides, less is better; a named kernel comes first whatever it has.
    """

    kernel: Kernel
    cycles: float
    flash: int
    sram: int
    points: float


def check_optimize(name: str) -> None:
    """Raise UsageError for an aim that is not known."""
    if name not in RATES:
        raise UsageError(
            f"there is no --optimize '{name}'{did_you_mean(name, RATES)}\n  known: {', '.join(RATES)}"
        )


def candidates(b: BoundNode, board: Board | None) -> list[Kernel]:
    """Kernels of the node's type that support it on this board; the portable one supports everything.

    Raises UnsupportedLayerError for an operator that has no kernel of that type.
    """
    kernels = [k for k in ops.get(b.node.op).kernels if k.dtype == b.output.dtype]
    if not kernels:
        why = f"the operator has no {b.output.dtype} kernel"
        raise UnsupportedLayerError(b.name, b.node.op, why, "compile it with --precision int8")
    able = [k for k in kernels if k.supports(b, board)]
    assert able, f"no kernel supports {b.node}"
    return able


def live_bytes(kernel: Kernel, b: BoundNode) -> int:
    """Bytes of the node's own tensors and scratch while the kernel runs."""
    if kernel.alias:
        return b.output.size_bytes
    within = {b.activations[index].name for index, _ in kernel.joins(b)}
    read = {t.name: t.size_bytes for t in b.activations if t.name not in within}
    return kernel.scratch(b) + sum(read.values()) + (0 if kernel.in_place(b) else b.output.size_bytes)


@dataclass(frozen=True)
class Figures:
    """What a kernel takes for a node: cycles of one inference, bytes of code."""

    cycles: float
    code: int


Weigh = Callable[[Kernel, BoundNode, str], Figures]
"""(kernel, node, its C) -> figures. Kernels that are aliases are not asked."""


def by_formula(kernel: Kernel, b: BoundNode, body: str) -> Figures:
    """Figures of a kernel that nobody has built."""
    return Figures(kernel.cost(b), function_bytes(kernel.name, body))


NOTHING = Figures(0.0, 0)


def others_live(graph: Graph) -> dict[str, int]:
    """Node's name -> bytes of tensors that live while it runs and that it neither reads nor writes: shortcuts."""
    nodes = graph.nodes
    last = {name: i for i, node in enumerate(nodes) for name in node.inputs}
    last |= dict.fromkeys(graph.outputs, len(nodes))
    born = dict.fromkeys(graph.inputs, -1) | {node.output: i for i, node in enumerate(nodes)}
    found = {}
    for i, node in enumerate(nodes):
        own = (*node.inputs, node.output)
        living = [n for n, at in born.items() if at < i < last.get(n, -1) and n not in own]
        found[node.name] = sum(graph.tensors[n].size_bytes for n in living)
    return found


def alike(b: BoundNode) -> Hashable:
    """Equal for nodes that differ in names alone, as the bands of a layer do: what is true of one is of the other."""
    names = [t.name for t in b.inputs]
    inputs = ((t.shape, t.dtype, t.qparams, None if t.data is None else id(t.data)) for t in b.inputs)
    places = tuple(names.index(name) for name in names)
    return b.node.op, b.attrs, places, tuple(inputs), b.output.shape, b.output.dtype, b.output.qparams


class Selector:
    """Ranks the kernels of a model's nodes, in order: code that an earlier node has costs a later one nothing."""

    def __init__(
        self,
        nodes: Sequence[tuple[BoundNode, Sequence[Kernel]]],
        choice: Choice,
        weigh: Weigh = by_formula,
        others: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """others: of others_live()."""
        self._others = others
        self._rates, self._named, self._taken = RATES[choice.optimize], dict(choice.named), set[str]()
        first: dict[Any, str] = {}
        self._twin = {b.name: first.setdefault(alike(b), b.name) for b, _ in nodes}
        asked = [
            (b, k) for b, kernels in nodes for k in kernels if not k.alias and self._twin[b.name] == b.name
        ]
        self._bodies = {(b.name, k.name): body_of(k, b) for b, k in asked}
        self._figures = {(b.name, k.name): weigh(k, b, self._bodies[b.name, k.name]) for b, k in asked}
        self._constants = {
            (b.name, k.name): sum(values.nbytes for values in k.constants(b).values()) for b, k in asked
        }
        self._own = {(b.name, k.name): live_bytes(k, b) for b, k in asked}
        self._fastest = sum(min(self._of(b, k).cycles for k in kernels) for b, kernels in nodes)
        self._floor = max((min(self._live(b, k) for k in kernels) for b, kernels in nodes), default=0)
        if unknown := next((n for n in self._named if n not in {b.name for b, _ in nodes}), None):
            raise UsageError(
                f"a kernel was chosen for layer '{unknown}', which this model does not have\n"
                "  it was tuned for another model: tune it again with 'tinygen tune'"
            )

    def _of(self, b: BoundNode, kernel: Kernel) -> Figures:
        return self._figures.get(self._key(b, kernel), NOTHING)

    def _key(self, b: BoundNode, kernel: Kernel) -> tuple[str, str]:
        return self._twin[b.name], kernel.name

    def _live(self, b: BoundNode, kernel: Kernel) -> int:
        own = self._own.get(self._key(b, kernel))
        return (live_bytes(kernel, b) if own is None else own) + self._others.get(b.name, 0)

    def ranked(self, b: BoundNode, kernels: Sequence[Kernel]) -> tuple[Candidate, ...]:
        """The candidates, best first; the first one's code is there from now on."""
        found = [self._weighed(b, k) for k in kernels]
        found.sort(key=lambda c: (c.points, c.cycles))
        if b.name in self._named:
            found = self._with_named(found, b)
        self._taken.add(self._bodies.get(self._key(b, found[0].kernel), ""))
        return tuple(found)

    def _weighed(self, b: BoundNode, kernel: Kernel) -> Candidate:
        figures, rates = self._of(b, kernel), self._rates
        code = 0 if self._bodies.get(self._key(b, kernel)) in self._taken else figures.code
        flash = code + self._constants.get(self._key(b, kernel), 0)
        sram = max(0, self._live(b, kernel) - self._floor)
        percent = 100 * figures.cycles / self._fastest if self._fastest else 0.0
        points = rates.percent * percent + rates.flash * flash + rates.sram * sram
        return Candidate(kernel, figures.cycles, flash, sram, points)

    def _with_named(self, found: list[Candidate], b: BoundNode) -> list[Candidate]:
        """The named kernel first. Raises UsageError when it is none of them."""
        name = self._named[b.name]
        first = [c for c in found if c.kernel.name == name]
        if not first:
            able = ", ".join(c.kernel.name for c in found)
            raise UsageError(
                f"layer '{b.name}' was tuned to kernel '{name}', which cannot execute it here: {able} can\n"
                "  this is another version of tinygen, or another core: tune it again with 'tinygen tune'"
            )
        return first + [c for c in found if c.kernel.name != name]
