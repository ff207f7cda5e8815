"""Mixed precision: some layers compute in 16x8 (int16 activations, int8 weights), all others in int8.

A layer is wide when its activations, in and out, are int16. `widened` puts requantizations at the borders: what a wide
layer reads of a narrow one becomes int16 without loss, what others read of a wide one becomes the int8 that it was
before. Inputs and outputs of the model stay int8. `tinygen/precision_choice.py` says which layers are worth it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tinygen import ops
from tinygen.calibration import Statistics
from tinygen.graph import BoundNode, Graph, Node, QParams, Tensor
from tinygen.ops.base import Share
from tinygen.scales import Group, groups

HEADROOM = 2.0
"""An int16 range is so much wider than what calibration saw: one bit of 16, and nothing new is cut off."""

EXACT_STEPS = 128
"""int16 steps in one int8 step where a layer widens what it reads: 255 of those fit, and nothing is rounded."""


@dataclass(frozen=True)
class Widened:
    """A float graph with requantizations at the borders, and the QParams of every activation.

    copies: output of an inserted requantize -> what it copies.
    """

    graph: Graph
    qparams: Mapping[str, QParams]
    copies: Mapping[str, str]
    tied: tuple[Group, ...]


def able(b: BoundNode) -> bool:
    """True for a node that has an int16 form."""
    return ops.get(b.node.op).has("int16", b)


def neighbourhood(graph: Graph, tensors: Iterable[str]) -> frozenset[str]:
    """Names of the nodes that must be wide for these activations to be int16: who writes and who reads them.

    Empty where the writer has no int16 form (or is the model's input).
    """
    names = tuple(tensors)
    writers = [graph.producers.get(name) for name in names]
    if any(w is None or not able(graph.bind(w)) for w in writers):
        return frozenset()
    readers = [node for name in names for node in graph.consumers[name]]
    return frozenset(n.name for n in (*writers, *readers) if n is not None and able(graph.bind(n)))


def widened(
    graph: Graph,
    qparams: Mapping[str, QParams],
    wide: frozenset[str],
    exact: Mapping[str, QParams],
    observed: Callable[[Iterable[str]], Statistics],
) -> Widened:
    """The float graph in which the nodes named in `wide` are wide.

    qparams: of every activation in int8. exact: of graph inputs that are given. observed: activations -> statistics of
    them together.
    """
    builder = _Borders(graph, wide)
    split = builder.split()
    tied = groups(split, exact)
    given = {**qparams, **{new: qparams[old] for new, old in builder.copies.items()}}
    result: dict[str, QParams] = {}
    for group in tied:
        if group.name in builder.wide_tensors:
            q = _wide_qparams(split, group, builder.copies, qparams, observed)
        else:
            q = given[group.name]
        result.update(dict.fromkeys(group.members, q))
    return Widened(split, result, builder.copies, tied)


@dataclass
class _Borders:
    """Walks the nodes and inserts a requantize wherever int8 and int16 meet, one per tensor and direction."""

    graph: Graph
    wide: frozenset[str]
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    wide_tensors: set[str] = field(default_factory=set)

    def split(self) -> Graph:
        """The graph with its borders."""
        self.tensors.update(self.graph.tensors)
        for b in self.graph.bound():
            is_wide = b.name in self.wide
            renamed = {t.name: self.version(t.name, is_wide) for t in b.activations}
            inputs = tuple(renamed.get(name, name) for name in b.node.inputs)
            self.nodes.append(Node(b.node.op, b.name, inputs, b.node.output, b.attrs))
            if is_wide:
                self.wide_tensors.add(b.node.output)
        outputs = tuple(self.version(name, False) for name in self.graph.outputs)
        return self.graph.evolve(nodes=tuple(self.nodes), tensors=self.tensors, outputs=outputs)

    def version(self, tensor: str, is_wide: bool) -> str:
        """The activation itself, or its copy in the other type."""
        from tinygen.ops import requantize

        if (tensor in self.wide_tensors) == is_wide:
            return tensor
        name = f"{tensor}/{'int16' if is_wide else 'int8'}"
        if name not in self.copies:
            assert name not in self.tensors, f"two tensors '{name}'"
            self.copies[name] = tensor
            self.tensors[name] = Tensor(name, self.tensors[tensor].shape)
            self.nodes.append(Node("requantize", name, (tensor,), name, requantize.Attrs()))
            if is_wide:
                self.wide_tensors.add(name)
        return name


def _wide_qparams(
    graph: Graph,
    group: Group,
    copies: Mapping[str, str],
    qparams: Mapping[str, QParams],
    observed: Callable[[Iterable[str]], Statistics],
) -> QParams:
    """Fixed by an operator; exact for a copy of int8; else symmetric over what was seen, with HEADROOM."""
    writers = [graph.bind(graph.producers[name]) for name in group.members]
    rules = [ops.get(b.node.op).scaling(b) for b in writers]
    fixed = {rule.wide for rule in rules if rule.share is Share.FIXED}
    if fixed:
        (q,) = fixed
        assert q is not None, group
        return q
    sources = [b for b, rule in zip(writers, rules, strict=True) if rule.share is not Share.SAME]
    if len(sources) == 1 and sources[0].output.name in copies:
        return QParams.int16(qparams[copies[sources[0].output.name]].scale[0] / EXACT_STEPS)
    seen = observed(copies.get(name, name) for name in group.members)
    return QParams.int16(max(HEADROOM * max(abs(seen.low), abs(seen.high)) / 32767, 2.0**-100))
