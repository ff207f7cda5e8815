"""The same share of channels kept everywhere: the yardstick for what pruning can reach, and models to measure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tinygen.channels import ChannelGroup, Place

Family = tuple[ChannelGroup, ...]


@dataclass(frozen=True)
class Families:
    """Removable groups that lie in the same tensors: each family can be made narrower on its own."""

    families: tuple[Family, ...]

    @classmethod
    def of(cls, groups: Iterable[ChannelGroup]) -> Families:
        """All families of channels.groups(graph), in their order."""
        found: dict[frozenset[Place], list[ChannelGroup]] = defaultdict(list)
        for group in groups:
            if group.removable:
                found[frozenset((s.tensor, s.axis) for s in (*group.activations, *group.constants))].append(
                    group
                )
        return cls(tuple(map(tuple, found.values())))

    @property
    def largest(self) -> int:
        """Groups of the largest family."""
        return max(map(len, self.families), default=0)

    def without(self, kept: float, odd: bool = False) -> list[ChannelGroup]:
        """What goes when this share of every family stays, one group at least; odd: an odd number of groups."""
        return [group for family in self.families for group in family[_left(len(family), kept, odd) :]]


def _left(count: int, kept: float, odd: bool) -> int:
    left = min(count, max(1, round(kept * count)))
    return left - 1 if odd and left % 2 == 0 else left
