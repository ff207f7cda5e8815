"""What went from a model, as the log tells it: layer by layer, and which of it was quiet all the time."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tinygen.channels import ChannelGroup
from tinygen.graph import Graph
from tinygen.pruning.readers import families, readers
from tinygen.pruning.records import Removal
from tinygen.pruning.statistics import Statistics

NEAR_ZERO = 0.01
"""Share of the tensor's largest |value| that a quiet channel never exceeds, whatever the condition."""
LISTED = 8
"""Runs of channels that are listed one by one."""


@dataclass(frozen=True)
class Quiet:
    """groups: indices of those near zero in every operating condition; conditions: how many were looked at."""

    groups: frozenset[int]
    conditions: int


def quiet(graph: Graph, groups: Sequence[ChannelGroup], found: Statistics) -> Quiet:
    """Removable groups that what reads them never sees beyond NEAR_ZERO."""
    read = {reader.b.inputs[0].name for reader in readers(graph, groups)}
    count = max((len(s.peak) for s in found.values()), default=1)
    near = [
        i for i, group in enumerate(groups) if group.removable and _largest(group, read, found) <= NEAR_ZERO
    ]
    return Quiet(frozenset(near), count)


def _largest(group: ChannelGroup, read: Collection[str], found: Statistics) -> float:
    """Max |value| of the group's channels where they are read, relative to the tensor, in the worst condition."""
    parts = [part for part in group.activations if part.tensor in read] or group.activations[-1:]
    return max(float(found[part.tensor].quiet[list(part.indices)].max()) for part in parts)


def removals(
    graph: Graph,
    groups: Sequence[ChannelGroup],
    gone: Collection[int],
    folded: Literal["exact", "refitted"],
    whys: Mapping[str, str] | str,
    silent: Quiet,
) -> tuple[Removal, ...]:
    """One removal per family that loses groups (indices `gone`). whys: why they went, by family or for all."""
    found = []
    for family, members in families(graph, groups).items():
        own = [i for i in members if i in gone]
        if own:
            why = whys if isinstance(whys, str) else whys[family]
            near = _channels(groups, [i for i in own if i in silent.groups])
            channels = _channels(groups, own)
            said = (why, *_said(near, channels, silent.conditions))
            found.append(Removal(family, channels, len(members) - len(own), folded, "; ".join(said)))
    return tuple(found)


def _channels(groups: Sequence[ChannelGroup], chosen: Sequence[int]) -> tuple[int, ...]:
    """Channels by their index in the first tensor of their group."""
    return tuple(sorted(index for i in chosen for index in groups[i].activations[0].indices))


def _said(near: Sequence[int], channels: Sequence[int], conditions: int) -> Iterator[str]:
    """Which of the channels are quiet, in words; nothing where none is."""
    if near:
        where = "in all samples" if conditions == 1 else f"in each of {conditions} operating conditions"
        which = "all" if len(near) == len(channels) else f"{len(near)} of {len(channels)} ({_runs(near)})"
        yield f"near zero {where}: {which}"


def _runs(numbers: Sequence[int]) -> str:
    """'0-3, 7, 9' of ascending numbers."""
    runs = [
        [n for _, n in run]
        for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ]
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join(texts[:LISTED]) + (", ..." if len(texts) > LISTED else "")
