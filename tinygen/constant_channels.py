"""Channels of an int8 graph that no output can see: constant whatever the input, or read with zeros only. They go.

A channel that is constant gives every accumulator that reads it the same number: it goes into the bias. Interval
arithmetic (ops/intervals.py) finds what is constant, channels.py what must go together, slicing.py removes it.
Nothing changes in any bit; nothing of this is known to be so from samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from tinygen import ops
from tinygen.channels import ChannelGroup, Place, groups
from tinygen.decisions import ChannelDecision, Size
from tinygen.graph import Array, BoundNode, Graph, Tensor
from tinygen.ops.base import clamp_bounds
from tinygen.ops.intervals import Interval, Shares, whole
from tinygen.slicing import sliced


def remove_constant_channels(graph: Graph) -> Graph | None:
    """The graph without all channels that can go now; None when there are none."""
    found = _Readers(graph, intervals(graph))
    candidates = groups(graph.evolve(origins={}))
    gone = _leaving_something(graph, (g for g in candidates if found.ignore(g)))
    if not gone:
        return None
    kept = graph.evolve(tensors={**graph.tensors, **found.biases(gone)})
    return _recorded(graph, sliced(kept, gone), gone)


# ---- what is constant


def intervals(graph: Graph) -> dict[str, Interval]:
    """Every activation's values per channel (last axis), for all inputs of the model."""
    known: dict[str, Interval] = {}
    for tensor in graph.input_tensors:
        known[tensor.name] = _anything(tensor)
    for b in graph.bound():
        known[b.output.name] = _bounds(b, known)
    return known


def _anything(tensor: Tensor, activation: str = "none") -> Interval:
    """All that the type and a fused activation let through."""
    return whole(tensor.shape[-1] if tensor.shape else 1, *clamp_bounds(activation, tensor.q))


def _bounds(b: BoundNode, known: Mapping[str, Interval]) -> Interval:
    rule, scalar = ops.get(b.node.op).bounds, not all(t.shape for t in (*b.activations, b.output))
    if rule is None or scalar or any(t.dtype != "int8" for t in (*b.activations, b.output)):
        return _anything(b.output, getattr(b.attrs, "activation", "none"))
    return rule(b, [known.get(t.name) for t in b.inputs])


# ---- what can go


class _Readers:
    """The operators that sum over channels, and what each of their input channels adds to their biases."""

    def __init__(self, graph: Graph, known: Mapping[str, Interval]) -> None:
        self.graph = graph
        self.shares: dict[str, Shares | None] = {}
        for b in graph.bound():
            if any(labels.reads for labels in ops.get(b.node.op).channels(b)):
                self.shares[b.name] = _shares(b, known)

    def ignore(self, group: ChannelGroup) -> bool:
        """True when no output can tell whether the group is there: who sums over it knows what it adds."""
        return group.removable and all(
            self.graph.tensors[part.tensor].dtype == "int8"
            and all(self._knows(reader.name, part.indices) for reader in self.graph.consumers[part.tensor])
            for part in group.activations
        )

    def _knows(self, reader: str, indices: tuple[int, ...]) -> bool:
        if reader not in self.shares:
            return True  # what it makes of these channels is in the group, too
        shares = self.shares[reader]
        return shares is not None and bool(shares.known[list(indices)].all())

    def biases(self, gone: Mapping[Place, set[int]]) -> dict[str, Tensor]:
        """The biases that hold what goes."""
        new: dict[str, Tensor] = {}
        for b in self.graph.bound():
            shares, x = self.shares.get(b.name), b.inputs[0]
            indices = sorted(gone.get((x.name, len(x.shape) - 1), ()))
            if shares is not None and indices and shares.amounts[:, indices].any():
                new[b.inputs[2].name] = _raised(b.inputs[2], shares.amounts[:, indices].sum(axis=1))
        return new


def _shares(b: BoundNode, known: Mapping[str, Interval]) -> Shares | None:
    rule = ops.get(b.node.op).shares
    if rule is None or any(t.dtype != "int8" for t in (*b.activations, b.output)):
        return None
    return rule(b, known[b.inputs[0].name])


def _raised(bias: Tensor, by: Array) -> Tensor:
    """No accumulator leaves int32: it was bounded for all values of the channels that are in the bias now."""
    assert bias.data is not None
    return replace(bias, data=(bias.data.astype(np.int64) + by).astype(np.int32))


def _leaving_something(graph: Graph, candidates: Iterable[ChannelGroup]) -> dict[Place, set[int]]:
    """The indices that go, by place: a group that would leave nothing of a tensor stays."""
    gone: dict[Place, set[int]] = {}
    for group in candidates:
        parts = [
            ((part.tensor, part.axis), gone.get((part.tensor, part.axis), set()) | set(part.indices))
            for part in (*group.activations, *group.constants)
        ]
        if all(len(indices) < graph.tensors[tensor].shape[axis] for (tensor, axis), indices in parts):
            gone.update(parts)
    return gone


def _recorded(before: Graph, after: Graph, gone: Mapping[Place, set[int]]) -> Graph:
    """The graph that knows which of its channels, as they were quantized, are gone."""
    removed = dict(before.removed)
    for (name, axis), indices in gone.items():
        tensor = before.tensors[name]
        if not tensor.is_constant and axis == len(tensor.shape) - 1:
            earlier = removed.get(name, ())
            left = np.delete(np.arange(tensor.shape[axis] + len(earlier)), earlier)
            removed[name] = tuple(sorted({*earlier, *left[sorted(indices)].tolist()}))
    return after.evolve(removed=removed)


# ---- in words


def decisions(before: Graph, after: Graph) -> tuple[ChannelDecision, ...]:
    """What simplify removed from the quantized graph: one decision, or none where it was nothing."""
    layers = {n.name: len(after.removed[n.output]) for n in after.nodes if after.removed.get(n.output)}
    if not layers:
        return ()
    sizes = {name: before.tensors[name].shape[-1] for name in layers}
    return (ChannelDecision(layers, sizes, size_of(before), size_of(after)),)


def size_of(graph: Graph) -> Size:
    """Multiply-accumulates of one inference, and bytes of constants."""
    macs = ops.macs(graph.bound())
    return Size(macs, sum(t.size_bytes for t in graph.tensors.values() if t.is_constant))
