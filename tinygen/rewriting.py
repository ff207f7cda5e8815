"""Small steps of graph rewriting for fusion and simplification. Each returns a new, consistent graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.graph import Array, BoundNode, Graph, Node, Tensor

Pass = Callable[[Graph], Graph | None]
"""One rewrite: the changed graph, or None when there is nothing (more) to change."""


def fixpoint(graph: Graph, passes: Sequence[Pass]) -> Graph:
    """Apply each pass as often as it applies, in order, until a whole round changes nothing."""
    before = None
    while graph is not before:
        before = graph
        for rewrite in passes:
            graph = _exhausted(graph, rewrite)
    return graph


def _exhausted(graph: Graph, rewrite: Pass) -> Graph:
    while (changed := rewrite(graph)) is not None:
        graph = changed
    return graph


def only_reader(graph: Graph, tensor: str) -> Node | None:
    """The one node that reads the tensor, once, when the tensor is no output of the graph; else None."""
    readers = graph.consumers[tensor]
    if tensor in graph.outputs or len(readers) != 1 or readers[0].inputs.count(tensor) != 1:
        return None
    return readers[0]


def producer(graph: Graph, tensor: str) -> BoundNode | None:
    """The node that writes the tensor; None for graph inputs and constants."""
    node = graph.producers.get(tensor)
    return graph.bind(node) if node else None


def redirect(graph: Graph, old: str, new: str) -> Graph:
    """Whoever reads `old` (also as the graph's output) reads `new`, a tensor with the same contents."""

    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new if n == old else n for n in names)

    nodes = tuple(replace(n, inputs=renamed(n.inputs)) if old in n.inputs else n for n in graph.nodes)
    return graph.evolve(nodes=nodes, outputs=renamed(graph.outputs))


def without(graph: Graph, *names: str) -> Graph:
    """The graph without the nodes of these names, whose outputs nobody reads any more."""
    return graph.evolve(nodes=tuple(n for n in graph.nodes if n.name not in names)).pruned()


def bypassed(graph: Graph, node: Node) -> Graph:
    """The graph without a node whose output equals its first input."""
    return without(redirect(graph, node.output, node.inputs[0]), node.name)


def replaced(graph: Graph, node: Node, new: Node) -> Graph:
    """The graph with `new` where `node` stood; the output's shape is inferred anew, the qparams stay."""
    nodes = tuple(new if n.name == node.name else n for n in graph.nodes)
    shape = ops.get(new.op).infer(new.attrs, tuple(graph.tensors[i].shape for i in new.inputs))
    output = replace(graph.tensors[node.output], name=new.output, shape=shape)
    return graph.evolve(nodes=nodes, tensors={**graph.tensors, new.output: output})


def with_attrs(graph: Graph, node: Node, **changes: Any) -> Graph:
    """The graph with some attributes of a node changed."""
    return replaced(graph, node, replace(node, attrs=replace(node.attrs, **changes)))


def with_constants(graph: Graph, node: Node, values: Mapping[int, Array]) -> Graph:
    """The graph with new float32 constants for some inputs of a node, under names of their own."""
    inputs, tensors = list(node.inputs), dict(graph.tensors)
    for index, value in values.items():
        name = inputs[index]
        if len(graph.consumers[name]) > 1 or node.inputs.count(name) > 1:
            name = unused_name(graph, f"{node.name}/input_{index}")
        data = np.array(value, np.float32)
        tensors[name] = Tensor(name, data.shape, data=data)
        inputs[index] = name
    nodes = tuple(replace(n, inputs=tuple(inputs)) if n.name == node.name else n for n in graph.nodes)
    return graph.evolve(nodes=nodes, tensors=tensors).pruned()


def swapped(graph: Graph, first: Node, second: Node, moved: Node) -> Graph:
    """first -> second becomes moved -> first: `moved` is `second` adapted to the input of `first`.

    `second` must be the only reader of `first`. Names stay with the operations; readers of `second` then read
    `first`.
    """
    moved = replace(moved, inputs=(first.inputs[0], *moved.inputs[1:]))
    after = replace(first, inputs=(moved.output,))
    start = tuple(
        moved if n.name == first.name else after if n.name == second.name else n for n in graph.nodes
    )
    final = graph.tensors[second.output]
    shape = ops.get(moved.op).infer(moved.attrs, tuple(graph.tensors[i].shape for i in moved.inputs))
    tensors = {
        **graph.tensors,
        moved.output: replace(final, name=moved.output, shape=shape),
        after.output: replace(final, name=after.output),
    }
    return _reread(graph.evolve(nodes=start, tensors=tensors), second.output, after)


def _reread(graph: Graph, old: str, after: Node) -> Graph:
    """Readers of `old` read the output of `after`, except `after` itself."""
    moved = redirect(graph, old, after.output)
    return moved.evolve(nodes=tuple(after if n.name == after.name else n for n in moved.nodes))


def unused_name(graph: Graph, wish: str) -> str:
    """`wish`, or `wish` with a number behind it that no tensor bears."""
    name, count = wish, 1
    while name in graph.tensors:
        name, count = f"{wish}_{count}", count + 1
    return name


def remove_dead_nodes(graph: Graph) -> Graph | None:
    """Nodes whose output nobody reads are removed."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
    dead = [n.name for n in graph.nodes if n.output not in needed]
    return without(graph, *dead) if dead else None
