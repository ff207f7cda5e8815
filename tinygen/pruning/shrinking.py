"""Removing channel groups from a float graph itself: what loading the smaller Keras model gives, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from tinygen import ops
from tinygen.channels import ChannelGroup, Place
from tinygen.errors import ModelError
from tinygen.graph import BoundNode, Graph, Node, Shape, Tensor


def removed(graph: Graph, groups: Iterable[ChannelGroup]) -> dict[Place, set[int]]:
    """The indices that go, by place. Raises ModelError when one of them must stay, or all would go."""
    gone: dict[Place, set[int]] = {}
    for group in groups:
        if group.frozen:
            raise ModelError(f"channel {group.name} cannot be removed: {group.frozen}")
        for part in (*group.activations, *group.constants):
            gone.setdefault((part.tensor, part.axis), set()).update(part.indices)
    for (tensor, axis), indices in gone.items():
        size = graph.tensors[tensor].shape[axis]
        if len(indices) == size:
            raise ModelError(
                f"nothing would be left of '{tensor}': all of its {size} channels were to go\n"
                "  keep at least one of them"
            )
    return gone


def shrunk(graph: Graph, groups: Iterable[ChannelGroup]) -> Graph:
    """The graph without these groups of channels.groups(graph): shapes, constants and attributes as they are then.

    Raises ModelError where a group must stay, nothing would be left of a tensor, or an operator does not give the
    shape that the groups leave.
    """
    gone = removed(graph, groups)
    return sliced(graph, gone) if gone else graph


def sliced(graph: Graph, gone: Mapping[Place, set[int]]) -> Graph:
    """The graph without these indices; every node is checked."""
    tensors = {name: _sliced(tensor, gone) for name, tensor in graph.tensors.items()}
    nodes = tuple(_narrowed(b, tensors) for b in graph.bound())
    return graph.evolve(nodes=nodes, tensors=tensors)


def _sliced(tensor: Tensor, gone: Mapping[Place, set[int]]) -> Tensor:
    axes = {
        axis: sorted(gone[tensor.name, axis])
        for axis in range(len(tensor.shape))
        if (tensor.name, axis) in gone
    }
    if not axes:
        return tensor
    shape = tuple(size - len(axes.get(axis, ())) for axis, size in enumerate(tensor.shape))
    data = tensor.data
    for axis, indices in axes.items() if data is not None else ():
        data = np.delete(np.asarray(data), indices, axis=axis)
    return replace(tensor, shape=shape, data=data)


def _narrowed(b: BoundNode, tensors: Mapping[str, Tensor]) -> Node:
    """The node with the attributes that fit its new tensors. Raises ModelError where there are none."""
    inputs, output = tuple(tensors[t.name] for t in b.inputs), tensors[b.output.name]
    operator = ops.get(b.node.op)
    node = replace(b.node, attrs=operator.narrowed(b, output.shape))
    made = _inferred(node, tuple(t.shape for t in inputs))
    if made != output.shape:
        raise ModelError(
            f"'{b.name}' ({b.node.op}) would give the shape {made}, not {output.shape}\n"
            "  leave its channels as they are"
        )
    operator.check(BoundNode(node, inputs, output))
    return node


def _inferred(node: Node, shapes: tuple[Shape, ...]) -> Shape | None:
    """What the operator makes of these shapes; None when it cannot take them."""
    try:
        return ops.get(node.op).infer(node.attrs, shapes)
    except ValueError:
        return None
