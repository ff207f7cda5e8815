"""Channel groups: which channels of a float graph can only be removed together, and what shrinks with them.

Taken from the graph as it was loaded, before fuse: batch normalizations are still there. Every operator says what it
couples (`channels`, ops/coupling.py); here the answers of all nodes are joined, with those of shared layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tinygen import ops
from tinygen.graph import Array, BoundNode, Graph, Tensor
from tinygen.ops.coupling import OUTPUT

Place = tuple[str, int]
"""A tensor and one of its axes (from 0)."""
_FROZEN = -1
"""Label of channels of which an operator says nothing."""
_NO_PAIRS = np.empty((2, 0), np.int64)


@dataclass(frozen=True)
class Slice:
    """Indices along one axis of a tensor, ascending. reads: zeros there make the reader ignore the channels."""

    tensor: str
    axis: int
    indices: tuple[int, ...]
    reads: bool = False


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that must go together. activations: on their last axes. constants: what shrinks with them.

    frozen: why the group cannot be removed; "" where it can.
    """

    activations: tuple[Slice, ...]
    constants: tuple[Slice, ...]
    frozen: str = ""

    @property
    def removable(self) -> bool:
        return not self.frozen

    @property
    def name(self) -> str:
        """Its first channel, as messages name it: 'tensor'[index]."""
        first = self.activations[0]
        return f"'{first.tensor}'[{first.indices[0]}]"


def groups(graph: Graph) -> tuple[ChannelGroup, ...]:
    """Every channel of every activation of a float graph, in exactly one group, ordered by first channels."""
    couplings = [c for b in graph.bound() for c in _couplings(b)]
    elements = _Elements(_sizes(graph, couplings))
    edges = [elements.coupled(node) for node in _by_node(couplings)]
    edges += [elements.alike(names) for names in graph.origins.values()]
    members = elements.components(np.concatenate([_NO_PAIRS, *edges], axis=1))
    reads = {c.place for c in couplings if c.reads}
    frozen = _frozen(graph, couplings, elements)
    found = (
        _group(graph, elements.slices(m, reads), [frozen.get(int(e), "") for e in m], elements)
        for m in members
    )
    return tuple(group for group in found if group.activations)


@dataclass(frozen=True)
class _Coupling:
    """The labels of one place of one node."""

    node: str
    place: Place
    labels: Array
    reads: bool


def _couplings(b: BoundNode) -> Iterator[_Coupling]:
    """What the operator says of a node; activations of which it says nothing are frozen."""
    activations = (*((i, t) for i, t in enumerate(b.inputs) if not t.is_constant), (OUTPUT, b.output))
    has_channels = all(t.shape for _, t in activations)
    listed = ops.get(b.node.op).channels(b) if has_channels else ()
    for entry in listed:
        tensor = b.output if entry.place == OUTPUT else b.inputs[entry.place]
        yield _Coupling(b.name, _place(tensor, entry.axis), np.array(entry.labels), entry.reads)
    for i, tensor in activations:
        if tensor.shape and i not in {entry.place for entry in listed}:
            yield _Coupling(b.name, _place(tensor, -1), np.full(tensor.shape[-1], _FROZEN), False)


def _place(tensor: Tensor, axis: int) -> Place:
    return tensor.name, axis % len(tensor.shape)


def _by_node(couplings: list[_Coupling]) -> Iterator[list[_Coupling]]:
    for _, node in itertools.groupby(couplings, key=lambda c: c.node):
        yield list(node)


def _sizes(graph: Graph, couplings: list[_Coupling]) -> dict[Place, int]:
    """Channels of all activations, then the axes of constants that belong to channels."""
    activations = [t for t in graph.tensors.values() if t.shape and not t.is_constant]
    sizes = {_place(t, -1): t.shape[-1] for t in activations}
    return sizes | {c.place: len(c.labels) for c in couplings if c.place not in sizes}


@dataclass(frozen=True)
class _Elements:
    """All indices of all places, numbered one place behind the other."""

    sizes: Mapping[Place, int]

    @cached_property
    def starts(self) -> dict[Place, int]:
        ends = np.cumsum([0, *self.sizes.values()])
        return {place: int(start) for place, start in zip(self.sizes, ends, strict=False)}

    def of(self, place: Place) -> Array:
        """The numbers of a place's elements."""
        return self.starts[place] + np.arange(self.sizes[place])

    def coupled(self, node: list[_Coupling]) -> Array:
        """Pairs (2, n) of elements of one node that have equal labels."""
        elements = np.concatenate([self.of(c.place) for c in node])
        labels = np.concatenate([c.labels for c in node])
        elements, labels = elements[labels != _FROZEN], labels[labels != _FROZEN]
        _, first, label = np.unique(labels, return_index=True, return_inverse=True)
        return np.stack([elements[first[label]], elements])

    def alike(self, names: tuple[str, ...]) -> Array:
        """Pairs of the same index of tensors that one layer of a Keras model made."""
        pairs = [_NO_PAIRS]
        for (tensor, axis), size in self.sizes.items() if len(names) > 1 else ():
            if tensor == names[0]:
                others = [(name, axis) for name in names[1:] if self.sizes.get((name, axis)) == size]
                pairs += [np.stack([self.of((tensor, axis)), self.of(other)]) for other in others]
        return np.concatenate(pairs, axis=1)

    def components(self, edges: Array) -> list[Array]:
        """The elements of each connected component, ascending; in the order of their first elements."""
        count = sum(self.sizes.values())
        matrix = coo_array((np.ones(edges.shape[1]), (edges[0], edges[1])), shape=(count, count))
        _, component = connected_components(matrix, directed=False)
        order = np.argsort(component, kind="stable")
        borders = np.flatnonzero(np.diff(component[order])) + 1
        return sorted(np.split(order, borders), key=lambda members: int(members[0]))

    def slices(self, members: Array, reads: set[Place]) -> list[Slice]:
        """A component's elements by place."""
        starts = np.array(list(self.starts.values()))
        place = np.searchsorted(starts, members, side="right") - 1
        names = list(self.sizes)
        found = []
        for i in np.unique(place):
            indices = tuple((members[place == i] - starts[i]).tolist())
            tensor, axis = names[i]
            found.append(Slice(tensor, axis, indices, (tensor, axis) in reads))
        return found


def _group(graph: Graph, slices: list[Slice], frozen: list[str], elements: _Elements) -> ChannelGroup:
    whole = (s.tensor for s in slices if len(s.indices) == elements.sizes[s.tensor, s.axis])
    reasons = [*filter(None, frozen), *(f"nothing would be left of '{tensor}'" for tensor in whole)]
    constants = [graph.tensors[s.tensor].is_constant for s in slices]
    return ChannelGroup(
        tuple(s for s, constant in zip(slices, constants, strict=True) if not constant),
        tuple(s for s, constant in zip(slices, constants, strict=True) if constant),
        next(iter(reasons), ""),
    )


def _frozen(graph: Graph, couplings: Iterable[_Coupling], elements: _Elements) -> dict[int, str]:
    """Element -> why it must stay."""
    reasons: dict[int, str] = {}
    for coupling in couplings:
        stay = elements.of(coupling.place)[coupling.labels == _FROZEN]
        reasons |= dict.fromkeys(
            stay.tolist(), f"'{coupling.node}' needs all channels of '{coupling.place[0]}'"
        )
    for kind, names in (("an input", graph.inputs), ("an output", graph.outputs)):
        for tensor in (graph.tensors[name] for name in names):
            own = elements.of(_place(tensor, -1)).tolist() if tensor.shape else []
            reasons |= dict.fromkeys(own, f"'{tensor.name}' is {kind} of the model")
    return reasons
