"""fuse: no batch normalization, separate clamp or padding is left where another operator can do its work.

Every rewrite is exact in real arithmetic (computed in float64, stored as float32). PASSES lists them; fuse
applies them until none applies. Two only move a node so that others meet: elementwise nodes go up through
reshapes, paddings down, so that Conv1D + BatchNormalization + ReLU (a conv2d between reshapes) fuse as
Conv2D does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from tinygen import ops
from tinygen.graph import Array, BoundNode, Graph, Node, Shape
from tinygen.ops import activation
from tinygen.ops.base import FUSED
from tinygen.ops.windows import Padding
from tinygen.rewriting import (
    Pass,
    bypassed,
    fixpoint,
    only_reader,
    producer,
    redirect,
    remove_dead_nodes,
    replaced,
    swapped,
    with_attrs,
    with_constants,
    without,
)
from tinygen.simplification import SHAPE_PASSES

MAX_SPREAD = 16.0
"""An affine is folded into the operators behind it only while its factors differ by less between channels:
they quantize the weights of all input channels with one scale, whose resolution a wider spread uses up."""


def fuse(graph: Graph) -> Graph:
    """The float32 graph with the same outputs (up to float rounding) and fewer nodes."""
    return fixpoint(graph, PASSES)


# ---- affine


def fold_affine_backwards(graph: Graph) -> Graph | None:
    """conv -> affine becomes conv: weights * scale, bias * scale + offset."""
    for b in _affines(graph):
        before = producer(graph, b.inputs[0].name)
        if before is None or only_reader(graph, before.output.name) is None or not _is_linear(before):
            continue
        scale, offset = _constants(b)
        weights, bias = _constants(before)
        axis = ops.get(before.node.op).output_axis
        scale_shape = [1] * weights.ndim
        scale_shape[axis or 0] = -1
        constants = {1: weights * scale.reshape(scale_shape), 2: bias * scale + offset}
        return _take_over(with_constants(graph, before.node, constants), before.node, b.node)
    return None


def fold_affine_forwards(graph: Graph) -> Graph | None:
    """affine -> conv becomes conv, where that is exact for all readers (also behind reshapes)."""
    for b in _affines(graph):
        if b.attrs.activation != "none" or b.output.name in graph.outputs or _spread(b) > MAX_SPREAD:
            continue
        readers = _readers_behind_reshapes(graph, b.output.name)
        folded = {r.name: _absorbed(r, b) for r in readers}
        if not readers or any(f is None for f in folded.values()):
            continue
        for r in readers:
            constants = folded[r.name]
            assert constants is not None
            graph = with_constants(graph, r.node, dict(enumerate(constants, start=1)))
        return bypassed(graph, graph.producers[b.output.name])
    return None


def _take_over(graph: Graph, node: Node, follower: Node) -> Graph:
    """`node` now computes what `follower` did, too: also its activation."""
    if follower.attrs.activation != "none":
        graph = with_attrs(graph, node, activation=follower.attrs.activation)
    return without(redirect(graph, follower.output, node.output), follower.name)


def _affines(graph: Graph) -> list[BoundNode]:
    return [graph.bind(n) for n in graph.nodes if n.op == "affine"]


def _is_linear(b: BoundNode) -> bool:
    """An operator with constant weights and bias that clamps nothing yet."""
    return ops.get(b.node.op).output_axis is not None and b.attrs.activation == "none"


def _constants(b: BoundNode) -> tuple[Array, Array]:
    """Weights and bias of a linear node, scale and offset of an affine; float64."""
    weights, bias = b.inputs[1].data, b.inputs[2].data
    assert weights is not None and bias is not None
    return weights.astype(np.float64), bias.astype(np.float64)


def _spread(b: BoundNode) -> float:
    """Largest by smallest factor, infinite when only some are zero."""
    sizes = np.abs(_constants(b)[0])
    largest, smallest = float(sizes.max()), float(sizes.min())
    return 1.0 if largest == smallest else np.inf if smallest == 0 else largest / smallest


def _readers_behind_reshapes(graph: Graph, tensor: str) -> list[BoundNode]:
    """All nodes that read the tensor, seen through reshapes; [] when the graph itself outputs it."""
    found: list[BoundNode] = []
    waiting = [tensor]
    while waiting:
        name = waiting.pop()
        if name in graph.outputs:
            return []
        for node in graph.consumers[name]:
            if node.op == "reshape":
                waiting.append(node.output)
            else:
                found.append(graph.bind(node))
    return found


def _absorbed(reader: BoundNode, affine: BoundNode) -> tuple[Array, Array] | None:
    """New weights and bias of a node that reads the affine (behind reshapes); None where not exact."""
    absorb = ops.get(reader.node.op).absorb_input
    if absorb is None:
        return None
    vectors = [per_channel(v, affine.output.shape, reader.inputs[0].shape) for v in _constants(affine)]
    if vectors[0] is None or vectors[1] is None:
        return None
    return absorb(reader, vectors[0], vectors[1])


def per_channel(vector: Array, shape: Shape, target: Shape) -> Array | None:
    """Numbers per channel of `shape` as numbers per channel (last axis) of the reshaped `target`, or None."""
    rows = np.broadcast_to(vector, shape).reshape(-1, target[-1])
    return rows[0].copy() if (rows == rows[0]).all() else None


def drop_identity_affine(graph: Graph) -> Graph | None:
    """x * 1 + 0."""
    for b in _affines(graph):
        scale, offset = _constants(b)
        if (scale == 1).all() and not offset.any() and b.attrs.activation == "none":
            return bypassed(graph, b.node)
    return None


# ---- activations


def merge_activation(graph: Graph) -> Graph | None:
    """conv -> relu becomes conv with a clamp; a clamp behind a clamp becomes one where it has a name."""
    for node in graph.nodes:
        clamp = activation.fusable_name(node.attrs) if node.op == "activation" else None
        before = producer(graph, node.inputs[0])
        if clamp is None or before is None or only_reader(graph, before.output.name) is None:
            continue
        merged = _merged_clamp(getattr(before.attrs, "activation", None), clamp)
        if merged is not None:
            graph = with_attrs(graph, before.node, activation=merged)
            return without(redirect(graph, node.output, before.output.name), node.name)
    return None


def _merged_clamp(first: str | None, second: str) -> str | None:
    """The name of clamp `first`, then `second`; None when there is none (or the operator cannot clamp)."""
    if first is None:
        return None
    low, high = (float(np.clip(bound, *FUSED[second])) for bound in FUSED[first])
    return next((name for name, bounds in FUSED.items() if bounds == (low, high)), None)


def move_clamp_up(graph: Graph) -> Graph | None:
    """max_pool -> relu becomes relu -> max_pool where an operator further up then merges the relu."""
    for node in graph.nodes:
        clamp = activation.fusable_name(node.attrs) if node.op == "activation" else None
        before = producer(graph, node.inputs[0])
        if clamp is not None and before is not None and _may_rise(graph, before, clamp):
            return swapped(graph, before.node, node, node)
    return None


def _may_rise(graph: Graph, b: BoundNode, clamp: str) -> bool:
    """True when the clamp passes b, and whatever stands above it, up to an operator that can merge it."""
    if not ops.get(b.node.op).passes_clamp or only_reader(graph, b.output.name) is None:
        return False
    above = producer(graph, b.inputs[0].name)
    if above is None or only_reader(graph, above.output.name) is None:
        return False
    mergeable = _merged_clamp(getattr(above.attrs, "activation", None), clamp) is not None
    return mergeable or _may_rise(graph, above, clamp)


def drop_linear(graph: Graph) -> Graph | None:
    """A ReLU that limits nothing (negative_slope 1) is no operator."""
    for node in graph.nodes:
        if node.op == "activation" and node.attrs.function == "linear":
            return bypassed(graph, node)
    return None


# ---- padding


def merge_pad(graph: Graph) -> Graph | None:
    """pad -> conv becomes a conv with more padding, where all readers of the pad take it."""
    for node in graph.nodes:
        padding = _padding(node) if node.op == "pad" else None
        readers = graph.consumers[node.output]
        takers = [r for r in readers if ops.get(r.op).pads_with_zero and r.inputs[0] == node.output]
        if padding is None or not readers or len(takers) < len(readers) or node.output in graph.outputs:
            continue
        for reader in readers:
            graph = _with_more_padding(graph, reader, padding, node.inputs[0])
        return without(graph, node.name)
    return None


def _padding(node: Node) -> Padding | None:
    """The padding of a pad node that leaves channels alone, on (H, W, C); else None."""
    spans = node.attrs.spans
    if len(spans) != 3 or any(spans[2]):
        return None
    return Padding(*spans[0], *spans[1])


def _with_more_padding(graph: Graph, reader: Node, more: Padding, source: str) -> Graph:
    own = reader.attrs.padding
    sums = (getattr(own, f.name) + getattr(more, f.name) for f in fields(Padding))
    attrs = replace(reader.attrs, padding=Padding(*sums))
    return replaced(graph, reader, replace(reader, attrs=attrs, inputs=(source, *reader.inputs[1:])))


def move_pad_down(graph: Graph) -> Graph | None:
    """pad -> reshape that only adds leading axes of size 1 becomes reshape -> pad."""
    for pad in graph.nodes:
        follower = only_reader(graph, pad.output) if pad.op == "pad" else None
        if follower is None or follower.op != "reshape":
            continue
        shape, target = graph.tensors[pad.output].shape, graph.tensors[follower.output].shape
        added = len(target) - len(shape)
        if added <= 0 or target != (1,) * added + shape:
            continue
        source = graph.tensors[pad.inputs[0]].shape
        wider = replace(pad, attrs=replace(pad.attrs, spans=((0, 0),) * added + tuple(pad.attrs.spans)))
        first = replace(follower, attrs=replace(follower.attrs, shape=(1,) * added + source))
        return swapped(graph, wider, follower, first)
    return None


# ---- reshapes


def move_elementwise_up(graph: Graph) -> Graph | None:
    """reshape -> elementwise becomes elementwise -> reshape: towards the operator that may absorb it."""
    for node in graph.nodes:
        before = producer(graph, node.inputs[0])
        if before is None or before.node.op != "reshape" or only_reader(graph, before.output.name) is None:
            continue
        if ops.get(node.op).elementwise:
            return swapped(graph, before.node, node, node)
        if node.op == "affine" and (moved := _affine_before(graph, node, before)) is not None:
            return moved
    return None


def _affine_before(graph: Graph, node: Node, reshape: BoundNode) -> Graph | None:
    """The affine in front of the reshape, where its factors follow the channels there, too."""
    source = reshape.inputs[0].shape
    vectors = [per_channel(v, reshape.output.shape, source) for v in _constants(graph.bind(node))]
    if vectors[0] is None or vectors[1] is None:
        return None
    graph = with_constants(graph, node, {1: vectors[0], 2: vectors[1]})
    current = graph.producers[node.output]
    return swapped(graph, graph.producers[reshape.output.name], current, current)


PASSES: Sequence[Pass] = (
    drop_linear,
    drop_identity_affine,
    fold_affine_backwards,
    move_clamp_up,
    merge_activation,
    merge_pad,
    *SHAPE_PASSES,
    move_elementwise_up,
    move_pad_down,
    fold_affine_forwards,
    remove_dead_nodes,
)
"""In this order: folding forwards takes only what could not be folded backwards, and a clamp goes up before it
merges: the range of a convolution's output is worth more than that of the pooling behind it."""
