"""Removing indices along axes of tensors from a whole graph: shapes, constants, scales, attributes as they are then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tinygen import ops
from tinygen.channels import Place
from tinygen.errors import ModelError
from tinygen.graph import BoundNode, Graph, Node, QParams, Shape, Tensor


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
    return replace(tensor, shape=shape, data=data, qparams=_left(tensor.qparams, len(shape), axes))


def _left(q: QParams | None, rank: int, axes: Mapping[int, Sequence[int]]) -> QParams | None:
    """Scales per index lose those that go."""
    if q is None or q.axis is None or q.axis % rank not in axes:
        return q
    gone = axes[q.axis % rank]
    scale, zero_point = (tuple(np.delete(np.array(v), gone).tolist()) for v in (q.scale, q.zero_point))
    return replace(q, scale=scale, zero_point=zero_point)


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
