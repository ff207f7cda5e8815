"""What people do today: magnitude pruning at one ratio for all layers; a narrower net trained from scratch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinygen.channels import ChannelGroup, Place, groups
from tinygen.graph import Graph
from tinygen.pruning.surgery import remove


def magnitude(graph: Graph, group: ChannelGroup) -> float:
    """L1 norm of the weights that compute a group's channels (Li et al. 2017)."""
    producing = (s for s in group.constants if not s.reads and len(graph.tensors[s.tensor].shape) > 1)
    total = 0.0
    for part in producing:
        data = graph.tensors[part.tensor].data
        assert data is not None
        total += float(np.abs(np.take(data, part.indices, axis=part.axis)).sum())
    return total


def layers(graph: Graph) -> Mapping[tuple[Place, ...], list[ChannelGroup]]:
    """Removable groups by the places that their channels have: those of one layer, or of layers that are coupled."""
    found: dict[tuple[Place, ...], list[ChannelGroup]] = defaultdict(list)
    for group in groups(graph):
        if group.removable:
            found[tuple((s.tensor, s.axis) for s in group.activations)].append(group)
    return found


def uniform(graph: Graph, ratio: float) -> Iterator[ChannelGroup]:
    """The groups of least magnitude, the same share (0 .. 1) of every layer; one stays at least."""
    for members in layers(graph).values():
        count = min(round(len(members) * ratio), len(members) - 1)
        yield from sorted(members, key=lambda group: magnitude(graph, group))[:count]


def pruned_uniformly(model: Any, graph: Graph, ratio: float) -> Any:
    """A smaller model: magnitude pruning with one ratio for all layers, not fine-tuned."""
    return remove(model, graph, list(uniform(graph, ratio)))
