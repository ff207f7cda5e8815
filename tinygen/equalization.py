"""Cross-layer equalization: a rewrite of the float graph (exact but for float rounding) that evens out the
channels between two layers.

A layer's output channel i is divided by s_i > 0 and the next layer's weights for it multiplied by s_i: what
stands between (relu, pooling, reshapes) commutes with positive factors per channel. Channels that used little
of the shared int8 range then use more. Idea: Nagel et al., Data-Free Quantization (2019); here with observed
activation ranges, since weights have scales per channel anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tinygen.calibration import Statistics
from tinygen.calibrators import coarse
from tinygen.graph import Array, BoundNode, Graph, Tensor

PRODUCERS = {"conv2d": 0, "depthwise_conv2d": 2, "dense": 0, "affine": 0}
"""Operator -> axis of the output channels in its weights (input 1); its bias is input 2."""

PASSING = frozenset({"max_pool2d", "average_pool2d", "mean", "reshape"})
"""Operators that commute with a positive factor per channel (a reshape: if channels stay last)."""

LIMIT = 16.0
"""Factors lie within 1/16 ... 16: a channel that was quiet during calibration keeps room for more."""


@dataclass(frozen=True)
class Pair:
    """Two layers, node names, and the factors (channels of the first,) between them."""

    first: str
    second: str
    factors: Array


def pairs(graph: Graph) -> tuple[tuple[BoundNode, BoundNode], ...]:
    """Producer and consumer layers between which channels may be scaled."""
    found = []
    for b in graph.bound():
        if b.node.op in PRODUCERS and b.attrs.activation in ("none", "relu") and _owned(graph, b):
            second = _consumer(graph, b)
            if second is not None and _owned(graph, second):
                found.append((b, second))
    return tuple(found)


def _owned(graph: Graph, b: BoundNode) -> bool:
    """True when no other node reads the layer's constants."""
    return all(len(graph.consumers[t.name]) == 1 for t in b.inputs if t.is_constant)


def _consumer(graph: Graph, first: BoundNode) -> BoundNode | None:
    """The only reader of the layer's output, through operators that pass factors on."""
    tensor = first.output
    while True:
        readers = graph.consumers[tensor.name]
        if len(readers) != 1 or tensor.name in graph.outputs:
            return None
        b = graph.bind(readers[0])
        if b.node.op not in PASSING:
            return b if _takes_factors(b, first) else None
        if b.node.op == "reshape" and b.output.shape[-1] % first.output.shape[-1]:
            return None
        tensor = b.output


def _takes_factors(b: BoundNode, first: BoundNode) -> bool:
    """True for a layer whose weights have an axis of input channels."""
    if b.inputs[0].is_constant or len(b.activations) != 1:
        return False
    whole = b.inputs[0].shape[-1] % first.output.shape[-1] == 0
    plain = b.node.op in ("depthwise_conv2d", "dense") or (b.node.op == "conv2d" and b.attrs.groups == 1)
    return whole and plain


def equalize(graph: Graph, statistics: Mapping[str, Statistics]) -> tuple[Graph, tuple[Pair, ...]]:
    """The rewritten float graph and what was scaled; equal to the given graph but for float rounding."""
    tensors = dict(graph.tensors)
    done = []
    for first, second in pairs(graph):
        factors = _factors(first, second, statistics[first.output.name].channels, tensors)
        if np.all(factors > 0.9):
            continue
        for index in (1, 2):
            axis = PRODUCERS[first.node.op] if index == 1 else 0
            _scale(tensors, first.inputs[index], axis, 1 / factors)
        axis, repeated = _input_axis(second, factors)
        _scale(tensors, second.inputs[1], axis, repeated)
        done.append(Pair(first.name, second.name, factors))
    return graph.evolve(tensors=tensors), tuple(done)


def _factors(first: BoundNode, second: BoundNode, activity: Array, tensors: Mapping[str, Tensor]) -> Array:
    """Factors in 1 / LIMIT ... 1, 1 for channels that are always 0.

    activity: greatest |value| per channel. A depthwise layer takes any factor into its weight scales for
    free; a layer that sums over channels shares the burden: the square root balances activations against
    weights.
    """
    weights = tensors[second.inputs[1].name].data
    assert weights is not None
    if second.node.op == "depthwise_conv2d":
        wanted = activity
    else:
        axis, _ = _input_axis(second, activity)
        others = tuple(a for a in range(weights.ndim) if a != axis)
        reach = np.abs(weights).max(axis=others).reshape(-1, len(activity)).max(axis=0)
        wanted = np.sqrt(activity / np.maximum(reach, 1e-12))
    usable = (activity > 0) & (wanted > 0)
    if not usable.any():
        return np.ones(len(activity))
    relative = np.where(usable, wanted / wanted[usable].max(), 1.0)
    return coarse(np.clip(relative, 1 / LIMIT, 1.0), 8)


def _input_axis(b: BoundNode, factors: Array) -> tuple[int, Array]:
    """Axis of the input channels in the layer's weights, and the factors along it."""
    weights = b.inputs[1]
    axis = 1 if b.node.op == "dense" else len(weights.shape) - 1
    size = weights.shape[axis]
    if b.node.op == "depthwise_conv2d":
        return axis, np.repeat(factors, size // len(factors))
    return axis, np.tile(factors, size // len(factors))


def _scale(tensors: dict[str, Tensor], tensor: Tensor, axis: int, factors: Array) -> None:
    """Multiply a constant along one axis."""
    data = tensors[tensor.name].data
    assert data is not None
    shape = [1] * data.ndim
    shape[axis] = len(factors)
    tensors[tensor.name] = replace(
        tensors[tensor.name], data=(data * factors.reshape(shape)).astype(np.float32)
    )
