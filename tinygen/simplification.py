"""simplify: exact rewrites of the quantized graph. Nothing that an output can see changes, in any bit.

Also home of the rewrites of shapes, which are exact in float and in int8 alike and which fuse uses, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinygen import ops
from tinygen.constant_channels import remove_constant_channels
from tinygen.graph import BoundNode, Graph
from tinygen.rewriting import Pass, bypassed, fixpoint, producer, remove_dead_nodes, replaced


def simplify(graph: Graph, proven: bool = True) -> Graph:
    """The int8 graph with the same outputs for every input, fewer nodes and fewer channels.

    proven: False keeps constant channels: in a graph whose ranges are made up (fit.py) they prove nothing of the model.
    """
    return fixpoint(graph, PASSES if proven else TIDYING)


# ---- shapes


def merge_reshapes(graph: Graph) -> Graph | None:
    """reshape -> reshape becomes one, reading the first one's input."""
    for node in graph.nodes:
        before = producer(graph, node.inputs[0]) if node.op == "reshape" else None
        if before is not None and before.node.op == "reshape":
            return replaced(graph, node, replace(node, inputs=before.node.inputs))
    return None


def merge_transposes(graph: Graph) -> Graph | None:
    """transpose -> transpose becomes one."""
    for node in graph.nodes:
        before = producer(graph, node.inputs[0]) if node.op == "transpose" else None
        if before is not None and before.node.op == "transpose":
            perm = tuple(before.attrs.perm[axis] for axis in node.attrs.perm)
            attrs = replace(node.attrs, perm=perm)
            return replaced(graph, node, replace(node, attrs=attrs, inputs=before.node.inputs))
    return None


def transposes_to_reshapes(graph: Graph) -> Graph | None:
    """A transpose that keeps the order of all axes longer than 1 moves nothing: it is a reshape."""
    from tinygen.ops import reshape

    for node in graph.nodes:
        if node.op != "transpose":
            continue
        shape = graph.tensors[node.inputs[0]].shape
        moved = [axis for axis in node.attrs.perm if shape[axis] > 1]
        if moved == sorted(moved):
            attrs = reshape.Attrs(graph.tensors[node.output].shape)
            return replaced(graph, node, replace(node, op="reshape", attrs=attrs))
    return None


def drop_idle(graph: Graph) -> Graph | None:
    """Reshape to the same shape, pad and crop of nothing, concatenation of one tensor."""
    for b in graph.bound():
        if b.node.op in _SHAPE_OPS and len(b.inputs) == 1 and _keeps(b):
            return bypassed(graph, b.node)
    return None


_SHAPE_OPS = ("reshape", "pad", "crop", "concat", "resize_nearest")


def _keeps(b: BoundNode) -> bool:
    """These operators copy every element to its place when the shape stays."""
    return b.inputs[0].shape == b.output.shape and b.inputs[0].qparams == b.output.qparams


SHAPE_PASSES: Sequence[Pass] = (merge_reshapes, merge_transposes, transposes_to_reshapes, drop_idle)


# ---- int8


def drop_idle_requantize(graph: Graph) -> Graph | None:
    """A requantization that maps every int8 value to itself."""
    for b in graph.bound():
        if b.node.op == "requantize" and _maps_to_itself(b):
            return bypassed(graph, b.node)
    return None


def _maps_to_itself(b: BoundNode) -> bool:
    """Asked of the reference itself, for all 256 values; the scales must agree for whoever reads them."""
    from tinygen.fixedpoint import Rounding

    if b.inputs[0].qparams != b.output.qparams:
        return False
    values = np.arange(-128, 128).astype(np.int8)
    one = BoundNode(b.node, (replace(b.inputs[0], shape=(256,)),), replace(b.output, shape=(256,)))
    result = ops.get("requantize").reference(one, [values[np.newaxis]], Rounding.DOUBLE)
    return bool(np.array_equal(result[0], values))


TIDYING: Sequence[Pass] = (*SHAPE_PASSES, drop_idle_requantize, remove_dead_nodes)
PASSES: Sequence[Pass] = (*TIDYING, remove_constant_channels)
