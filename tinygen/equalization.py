"""Cross-layer equalization: the same function with channels of even sizes, so that each uses its tensor's whole int8.

Channel i of an activation is divided by s_i > 0: in the weights and biases of the layers that write it; the weights
of the layers that read it are multiplied by s_i. What stands between (relu, pooling, reshapes, residual additions)
commutes with positive factors per channel and ties all its activations to the same factors. Idea: Nagel et al.,
Data-Free Quantization (2019); here with observed activation ranges, and across residual additions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tinygen import ops
from tinygen.calibration import Statistics
from tinygen.calibrators import coarse
from tinygen.graph import Array, BoundNode, Graph, Tensor

LIMIT = 16.0
"""Factors lie within 1/16 ... 1: a channel that was quiet during calibration keeps room for more."""


@dataclass(frozen=True)
class Tie:
    """Activations that must have the same factors, with the layers that write and read them.

    channels: the period of the factors: the smallest number of channels of the activations.
    """

    members: tuple[str, ...]
    writers: tuple[BoundNode, ...]
    readers: tuple[BoundNode, ...]
    channels: int

    def __str__(self) -> str:
        names = (", ".join(b.name for b in layers) for layers in (self.writers, self.readers))
        return " -> ".join(names)


def ties(graph: Graph) -> tuple[Tie, ...]:
    """Sets of activations whose channels may be scaled."""
    parent = {name: name for name, t in graph.tensors.items() if not t.is_constant}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for b in graph.bound():
        if _is_tying(b):
            for tensor in b.activations:
                parent[root(tensor.name)] = root(b.output.name)
    sets: dict[str, list[str]] = {}
    for name in parent:
        sets.setdefault(root(name), []).append(name)
    found = (_tie(graph, tuple(names)) for names in sets.values())
    return tuple(tie for tie in found if tie is not None)


def _is_tying(b: BoundNode) -> bool:
    """True for nodes whose output must have the factors of their inputs."""
    return _homogeneous(b) and ops.get(b.node.op).passes_factors(b)


def _homogeneous(b: BoundNode) -> bool:
    """True when a positive factor may stand before or behind the fused activation: it has no bound but 0."""
    return getattr(b.attrs, "activation", "none") in ("none", "relu")


def _tie(graph: Graph, members: tuple[str, ...]) -> Tie | None:
    """The tie of these activations, or None when something else writes, reads or sees one of them."""
    if any(m in graph.inputs or m in graph.outputs or not graph.tensors[m].shape for m in members):
        return None
    nodes = [graph.bind(graph.producers[m]) for m in members]
    writers = tuple(b for b in nodes if not _is_tying(b))
    all_readers = {n.name: graph.bind(n) for m in members for n in graph.consumers[m]}
    readers = tuple(b for b in all_readers.values() if not _is_tying(b))
    sizes = [graph.tensors[m].shape[-1] for m in members]
    fits = all(size % min(sizes) == 0 for size in sizes)
    if (
        fits
        and readers
        and all(_writes(graph, b) for b in writers)
        and all(_reads(graph, b) for b in readers)
    ):
        return Tie(members, writers, readers, min(sizes))
    return None


def _owned(graph: Graph, b: BoundNode) -> bool:
    """True when the first input is the only activation and no other node reads the layer's constants."""
    constants = b.inputs[1:]
    return not b.inputs[0].is_constant and all(
        t.is_constant and len(graph.consumers[t.name]) == 1 for t in constants
    )


def _writes(graph: Graph, b: BoundNode) -> bool:
    op = ops.get(b.node.op)
    return op.output_axis is not None and op.input_axis is not None and _homogeneous(b) and _owned(graph, b)


def _reads(graph: Graph, b: BoundNode) -> bool:
    return _input_axis(b) is not None and _owned(graph, b)


def _input_axis(b: BoundNode) -> int | None:
    axis = ops.get(b.node.op).input_axis
    return None if axis is None else axis(b)


# ---- factors


def equalize(
    graph: Graph, statistics: Mapping[str, Statistics], strength: float = 1.0
) -> tuple[Graph, tuple[Tie, ...]]:
    """The rewritten float graph (equal but for float rounding), and the ties whose channels were scaled.

    strength: 0 ... 1, the exponent of the factors.
    """
    tensors = dict(graph.tensors)
    done = []
    for tie in ties(graph):
        factors = coarse(_factors(tie, statistics, tensors) ** strength, 8)
        if np.all(factors > 0.9):
            continue
        for b in tie.writers:
            of_outputs = np.tile(1 / factors, b.output.shape[-1] // tie.channels)
            _scale(tensors, b.inputs[1], ops.get(b.node.op).output_axis, of_outputs)
            _scale(tensors, b.inputs[2], 0, of_outputs)
        for b in tie.readers:
            of_inputs = np.tile(factors, b.inputs[0].shape[-1] // tie.channels)
            _scale(tensors, b.inputs[1], _input_axis(b), of_inputs)
        done.append(tie)
    return graph.evolve(tensors=tensors), tuple(done)


def _factors(tie: Tie, statistics: Mapping[str, Statistics], tensors: Mapping[str, Tensor]) -> Array:
    """Factors (channels,) in 1 / LIMIT ... 1; 1 for channels that are always 0.

    Readers that sum over channels share the burden: the square root balances their weights against activations.
    """
    activity = _together([_folded(statistics[m].channels, tie.channels) for m in tie.members])
    summing = [b for b in tie.readers if not ops.get(b.node.op).input_factors_free]
    wanted = activity
    if summing:
        reach = _together([_folded(_reach(b, tensors), tie.channels) for b in summing])
        wanted = np.sqrt(activity / np.maximum(reach, 1e-9))
    usable = (activity > 0) & (wanted > 0)
    if not usable.any():
        return np.ones(tie.channels)
    relative = np.where(usable, wanted / wanted[usable].max(), 1.0)
    return np.clip(relative, 1 / LIMIT, 1.0)


def _together(sizes: list[Array]) -> Array:
    """Sizes per channel, each array relative to its own greatest: the greatest over the arrays."""
    relative = [size / max(float(size.max()), 1e-30) for size in sizes]
    return np.asarray(np.maximum.reduce(relative))


def _folded(sizes: Array, channels: int) -> Array:
    """Greatest size of every channel, over all repetitions of the channels."""
    return np.asarray(sizes.reshape(-1, channels).max(axis=0))


def _reach(b: BoundNode, tensors: Mapping[str, Tensor]) -> Array:
    """Greatest |weight| per input channel."""
    weights = tensors[b.inputs[1].name].data
    assert weights is not None
    axis = _input_axis(b)
    return np.asarray(np.abs(weights).max(axis=tuple(a for a in range(weights.ndim) if a != axis)))


def _scale(tensors: dict[str, Tensor], tensor: Tensor, axis: int | None, factors: Array) -> None:
    """Multiply a constant along one axis; with a depth multiplier each factor is for several in a row."""
    data = tensors[tensor.name].data
    assert data is not None and axis is not None
    shape = [1] * data.ndim
    shape[axis] = data.shape[axis]
    along = np.repeat(factors, data.shape[axis] // len(factors)).reshape(shape)
    tensors[tensor.name] = replace(tensors[tensor.name], data=(data * along).astype(np.float32))
