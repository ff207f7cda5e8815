"""Removing channel groups from a float graph itself: what loading the smaller Keras model gives, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from tinygen.channels import ChannelGroup, Place
from tinygen.errors import ModelError
from tinygen.graph import Graph
from tinygen.slicing import sliced


def removed(graph: Graph, groups: Iterable[ChannelGroup]) -> dict[Place, set[int]]:
    """The indices that go, by place. Raises ModelError when one of them must stay, or all would go."""
    gone: dict[Place, set[int]] = {}
    for group in groups:
        if group.frozen:
            raise ModelError(f"channel {group.name} cannot be removed: {group.frozen}")
        for part in (*group.activations, *group.constants):
            gone.setdefault((part.tensor, part.axis), set()).update(part.indices)
    for (tensor, axis), indices in gone.items():
        size = graph.tensors[tensor].shape[axis]
        if len(indices) == size:
            raise ModelError(
                f"nothing would be left of '{tensor}': all of its {size} channels were to go\n"
                "  keep at least one of them"
            )
    return gone


def shrunk(graph: Graph, groups: Iterable[ChannelGroup]) -> Graph:
    """The graph without these groups of channels.groups(graph): shapes, constants and attributes as they are then.

    Raises ModelError where a group must stay, nothing would be left of a tensor, or an operator does not give the
    shape that the groups leave.
    """
    gone = removed(graph, groups)
    return sliced(graph, gone) if gone else graph
