"""Which activations share a scale: operators that move values without computing tie their inputs to their
output.

`separate` first inserts a `requantize` where such an operator meets inputs whose QParams are bound to
something else (the fixed scale of a softmax, the exact scale of a graph input). `groups` then finds the sets
of tied activations by union-find. `assign` turns one QParams per group into one per activation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinygen import ops
from tinygen.graph import BoundNode, Graph, Node, QParams, Tensor
from tinygen.ops.base import Share

SELECTING = frozenset(
    {"max_pool2d", "reshape", "concat", "pad", "crop", "transpose", "resize_nearest", "maximum", "minimum"}
)
"""Operators whose output holds only values of their inputs, chosen by order: saturating before or after is
equal.

So the range of a tensor that only such operators read may be that of their output.
"""


@dataclass(frozen=True)
class Anchor:
    """What binds the QParams of a group: a value (fixed scales, exact graph inputs) or a rule (derived from
    `node`)."""

    qparams: QParams | None
    node: str = ""


@dataclass(frozen=True)
class Group:
    """Activations that share one QParams, in execution order; the first one's name is the group's."""

    members: tuple[str, ...]
    anchor: Anchor | None

    @property
    def name(self) -> str:
        return self.members[0]

    @property
    def fixed(self) -> QParams | None:
        """The QParams that are given beforehand, if any."""
        return self.anchor.qparams if self.anchor else None


class _Union:
    """Union-find over tensor names; every root carries its anchor."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}
        self.anchor: dict[str, Anchor | None] = {}

    def add(self, tensor: str, anchor: Anchor | None) -> None:
        self.parent[tensor], self.anchor[tensor] = tensor, anchor

    def root(self, tensor: str) -> str:
        while self.parent[tensor] != tensor:
            self.parent[tensor] = self.parent[self.parent[tensor]]
            tensor = self.parent[tensor]
        return tensor

    def anchor_of(self, tensor: str) -> Anchor | None:
        return self.anchor[self.root(tensor)]

    def join(self, tensors: Sequence[str]) -> None:
        """Tie tensors whose anchors are equal."""
        first = self.root(tensors[0])
        for tensor in tensors[1:]:
            assert self.anchor_of(tensor) == self.anchor[first], tensors
            self.parent[self.root(tensor)] = first


def separate(graph: Graph, exact: Mapping[str, QParams]) -> tuple[Graph, dict[str, str]]:
    """The float graph with a requantize in front of every tied input that is bound otherwise.

    exact: QParams of graph inputs that are given. Returns the graph, and the new tensors with the ones they
    copy.
    """
    union, nodes, tensors, copies = _inputs(graph, exact), list[Node](), dict(graph.tensors), dict[str, str]()
    for b in graph.bound():
        node = b.node
        if (
            ops.get(node.op).scaling(b).share is Share.SAME
            and len({union.anchor_of(t.name) for t in b.activations}) > 1
        ):
            for tensor in dict.fromkeys(t.name for t in b.activations if union.anchor_of(t.name)):
                copy = _requantize(node, tensors[tensor], tensors)
                union.add(copy.output, None)
                copies[copy.output] = tensor
                nodes.append(copy)
                renamed = tuple(copy.output if i == tensor else i for i in node.inputs)
                node = Node(node.op, node.name, renamed, node.output, node.attrs)
        nodes.append(node)
        _tie(union, BoundNode(node, tuple(tensors[i] for i in node.inputs), b.output))
    return graph.evolve(nodes=tuple(nodes), tensors=tensors), copies


def widen(graph: Graph) -> Graph:
    """The float graph with averages over the whole map as `mean`, which has a scale of its own.

    An average_pool2d must keep its input's scale, though averages spread much less than what they average.
    """
    nodes = [_as_mean(graph.bind(node)) for node in graph.nodes]
    return graph.evolve(nodes=tuple(nodes))


def _as_mean(b: BoundNode) -> Node:
    """`mean` for an average_pool2d over the whole map; other nodes as they are."""
    from tinygen.ops import mean

    if b.node.op != "average_pool2d" or b.attrs.activation != "none" or b.attrs.padding.any:
        return b.node
    if b.attrs.window != b.inputs[0].shape[:2] or b.output.shape[:2] != (1, 1):
        return b.node
    return Node("mean", b.name, b.node.inputs, b.node.output, mean.Attrs(keepdims=True))


def _requantize(reader: Node, source: Tensor, tensors: dict[str, Tensor]) -> Node:
    """A requantize of `source` for one reader; its tensor is added to `tensors`."""
    from tinygen.ops import requantize

    base = f"{reader.name}/requantize"
    name = next(
        n for n in (f"{base}_{i}" if i else base for i in range(len(tensors) + 1)) if n not in tensors
    )
    tensors[name] = Tensor(name, source.shape)
    return Node("requantize", name, (source.name,), name, requantize.Attrs())


def groups(graph: Graph, exact: Mapping[str, QParams]) -> tuple[Group, ...]:
    """The sets of tied activations of a separated graph, in execution order of their first members."""
    union = _inputs(graph, exact)
    for b in graph.bound():
        _tie(union, b)
    members: dict[str, list[str]] = {}
    for tensor in union.parent:
        members.setdefault(union.root(tensor), []).append(tensor)
    return tuple(Group(tuple(names), union.anchor_of(names[0])) for names in members.values())


def _inputs(graph: Graph, exact: Mapping[str, QParams]) -> _Union:
    union = _Union()
    for name in graph.inputs:
        union.add(name, Anchor(exact[name]) if name in exact else None)
    return union


def _tie(union: _Union, b: BoundNode) -> None:
    """Add the node's output to the union by the operator's rule."""
    rule = ops.get(b.node.op).scaling(b)
    if rule.share is Share.SAME:
        tensors = [t.name for t in b.activations]
        union.add(b.output.name, union.anchor_of(tensors[0]))
        union.join([*tensors, b.output.name])
    elif rule.share is Share.FREE:
        union.add(b.output.name, None)
    else:
        union.add(b.output.name, Anchor(rule.qparams, "" if rule.qparams else b.name))


def exposed(graph: Graph, group: Group) -> tuple[str, ...]:
    """The members whose values matter outside the group: read by more than selecting operators, or graph
    outputs."""
    inside = set(group.members)

    def matters(tensor: str) -> bool:
        readers = graph.consumers[tensor]
        hidden = all(r.op in SELECTING and r.output in inside for r in readers)
        return not readers or not hidden or tensor in graph.outputs

    return tuple(t for t in group.members if matters(t))


def assign(graph: Graph, tied: Sequence[Group], chosen: Mapping[str, QParams]) -> dict[str, QParams]:
    """QParams of every activation. chosen: group name -> QParams, for the groups that have no anchor."""
    result: dict[str, QParams] = {}
    for group in tied:
        qparams = group.fixed or chosen.get(group.name)
        if qparams is not None:
            result.update(dict.fromkeys(group.members, qparams))
    derived = {g.anchor.node: g for g in tied if g.anchor and g.anchor.qparams is None}
    for b in graph.bound():
        if b.name in derived:
            rule = ops.get(b.node.op).scaling(b)
            assert rule.derive is not None
            qparams = rule.derive(tuple(result[t.name] for t in b.activations))
            result.update(dict.fromkeys(derived[b.name].members, qparams))
    return result
