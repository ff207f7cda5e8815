"""What people do today: magnitude pruning at one ratio for all layers; a narrower net trained from scratch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tinygen.channels import ChannelGroup, Place, groups
from tinygen.graph import Graph
from tinygen.heavy import import_keras
from tinygen.pruning.distillation import Options, Trained, train
from tinygen.pruning.surgery import remove
from tinygen.samples import Samples

ChannelGroups = tuple[ChannelGroup, ...]


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


def narrower(model: Any, graph: Graph, ratio: float, seed: int = 1) -> Any:
    """A net with as many channels as pruned_uniformly leaves, and weights drawn anew: to be trained from scratch."""
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(pruned_uniformly(model, graph, ratio))


def ratio_for(graph: Graph, within: Callable[[ChannelGroups], bool], step: float = 0.01) -> float:
    """The least ratio whose uniform pruning is within a budget; 1 where none is. within: of the groups that go."""
    ratios = (step * i for i in range(round(1 / step)))
    return next((ratio for ratio in ratios if within(tuple(uniform(graph, ratio)))), 1.0)


def from_scratch(
    model: Any, graph: Graph, ratio: float, fit: Samples, held_out: Samples, options: Options
) -> Trained:
    """The narrower net, taught by labels (an autoencoder: by its inputs) and by the original half each."""
    labels = None if fit.y is None or held_out.y is None else (fit.y, held_out.y)
    reconstructs = model.outputs[0].shape == model.inputs[0].shape
    return train(
        narrower(model, graph, ratio, options.seed),
        model,
        fit.x,
        held_out.x,
        replace(options, task=0.5, statistics="batch"),  # it has none to keep
        labels=None if reconstructs else labels,
    )
