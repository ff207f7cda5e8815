"""Where channel groups are read, and in which layer they begin: what scores, masks and folding share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tinygen.channels import ChannelGroup
from tinygen.graph import Array, BoundNode, Graph


@dataclass(frozen=True)
class Reader:
    """A node that sums over channels. axis: of its weights (inputs[1]) that channels are read along.

    owner: (weights.shape[axis],) the index of the group that each of them belongs to; -1: of none that is removable.
    channels: the same for the channels of inputs[0].
    """

    b: BoundNode
    axis: int
    owner: Array
    channels: Array

    @property
    def weights(self) -> Array:
        """float64, the reading axis first."""
        data = self.b.inputs[1].data
        assert data is not None
        return np.moveaxis(data.astype(np.float64), self.axis, 0)


def readers(graph: Graph, groups: Sequence[ChannelGroup]) -> tuple[Reader, ...]:
    """All nodes with weights that read removable groups, in execution order."""
    owners: dict[str, tuple[int, Array]] = {}
    channels = {name: np.full(t.shape[-1:], -1, np.int64) for name, t in graph.tensors.items() if t.shape}
    for number, group in enumerate(groups):
        for part in (*group.constants, *group.activations) if group.removable else ():
            if part.reads:
                size = graph.tensors[part.tensor].shape[part.axis]
                axis, owner = owners.setdefault(part.tensor, (part.axis, np.full(size, -1, np.int64)))
                assert axis == part.axis
                owner[list(part.indices)] = number
            elif part in group.activations:
                channels[part.tensor][list(part.indices)] = number
    bound = (b for b in graph.bound() if len(b.inputs) > 1 and b.inputs[1].name in owners)
    return tuple(Reader(b, *owners[b.inputs[1].name], channels[b.inputs[0].name]) for b in bound)


def family(graph: Graph, group: ChannelGroup) -> str:
    """The layer, as the user knows it, whose filters make a group's channels first; those of a residual stage
    share it."""
    made = [part.tensor for part in group.constants if not part.reads]
    paths = {tensor: origin[:-1] for origin, tensors in graph.origins.items() for tensor in tensors}
    return next(("/".join(paths[t]) for t in made if paths.get(t)), group.activations[0].tensor)


def families(graph: Graph, groups: Sequence[ChannelGroup]) -> dict[str, tuple[int, ...]]:
    """Family -> the indices of its removable groups, in execution order."""
    found: dict[str, list[int]] = {}
    for number, name in _named(graph, groups):
        found.setdefault(name, []).append(number)
    return {name: tuple(numbers) for name, numbers in found.items()}


def _named(graph: Graph, groups: Sequence[ChannelGroup]) -> Iterator[tuple[int, str]]:
    for number, group in enumerate(groups):
        if group.removable:
            yield number, family(graph, group)
