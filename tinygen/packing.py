"""Packing lifetimes into the smallest arena: time intervals with sizes get addresses.

Greedy first: lifetimes in some order, each at the lowest address that is free while it lives; then hill
climbing over orders. When that does not reach the lower bound (the greatest sum of live bytes), a branch
and bound search tries every packing that can matter: take any packing, push it down as far as it goes, and
walk through its lifetimes by rising offset: each stands on the highest earlier one that it overlaps in
time. So placing lifetimes by rising offset on a skyline finds an optimal packing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tinygen.lifetimes import ALIGNMENT, Lifetime

WORK = 100_000
"""Search effort for one capacity, in visits of a lifetime by a search node (about 2 us each)."""

CAPACITIES = 6
"""Capacities that are tried."""

MOST_SEARCHED = 200
"""Above this many lifetimes the search is left out: it recurses, three calls a lifetime."""

CLIMBS, CLIMB_WORK = 300, 2_000_000
"""Orders tried by hill climbing; fewer for many lifetimes, as each order costs their number squared."""


KNOWN = 256
"""Packings that are remembered: bands are tried for one budget after the other."""


@dataclass(frozen=True)
class Packing:
    """Offsets in the order of the lifetimes. bound: no packing is smaller. optimal: proved that none is."""

    offsets: tuple[int, ...]
    arena: int
    bound: int
    optimal: bool


def pack(items: Sequence[Lifetime], work: int = WORK) -> Packing:
    """The smallest packing found with at most `work` effort per capacity tried."""
    return _packed(tuple(items), work)


@lru_cache(maxsize=KNOWN)
def _packed(items: tuple[Lifetime, ...], work: int) -> Packing:
    bound = max(live_bytes(items), default=0)
    if not items:
        return Packing((), 0, 0, True)
    order = min(_orders(items), key=lambda o: _height(items, _first_fit(items, o)))
    offsets = _climb(items, order, bound)
    best = _height(items, offsets)
    exhausted = False
    if best > bound and len(items) <= MOST_SEARCHED:
        search = _Search(items, work)
        offsets, exhausted = search.improve(offsets, best, bound)
        best = _height(items, offsets)
    return Packing(offsets, best, bound, best == bound or exhausted)


def live_bytes(items: Sequence[Lifetime]) -> list[int]:
    """Sum of the sizes alive at each time."""
    change = [0] * (max((i.last for i in items), default=-1) + 2)
    for item in items:
        change[item.first] += item.size
        change[item.last + 1] -= item.size
    live, sums = 0, []
    for delta in change[:-1]:
        live += delta
        sums.append(live)
    return sums


def _height(items: Sequence[Lifetime], offsets: Sequence[int]) -> int:
    return max((o + i.size for i, o in zip(items, offsets, strict=True)), default=0)


# ---- greedy


def _orders(items: Sequence[Lifetime]) -> list[list[int]]:
    """Orders in which first fit tends to do well; ties keep the order of the program."""
    live = live_bytes(items)
    peak = [max(live[i.first : i.last + 1]) for i in items]
    length = [i.last - i.first + 1 for i in items]
    indices = range(len(items))
    keys = (
        lambda i: (-items[i].size, -length[i]),
        lambda i: (-length[i], -items[i].size),
        lambda i: (-items[i].size * length[i], -length[i]),
        lambda i: (-peak[i], -items[i].size),
        lambda i: (-peak[i], -length[i]),
        lambda i: (items[i].first, -items[i].size),
        lambda i: (-items[i].last, -items[i].size),
    )
    return [sorted(indices, key=key) for key in keys]


def _first_fit(items: Sequence[Lifetime], order: Sequence[int]) -> tuple[int, ...]:
    """Each lifetime of the order at the lowest offset that is free in all of its time."""
    offsets = [0] * len(items)
    placed: list[int] = []
    for index in order:
        item = items[index]
        taken = sorted(
            (offsets[p], offsets[p] + items[p].size)
            for p in placed
            if items[p].first <= item.last and item.first <= items[p].last
        )
        offset = 0
        for low, high in taken:
            if low >= offset + item.size:
                break
            offset = max(offset, high)
        offsets[index] = offset
        placed.append(index)
    return tuple(offsets)


def _climb(items: Sequence[Lifetime], order: Sequence[int], bound: int) -> tuple[int, ...]:
    """Hill climbing: a lifetime at the very top is placed earlier, sometimes two others change places."""
    chance = random.Random(0)
    current, best = list(order), _first_fit(items, order)
    height = _height(items, best)
    for _ in range(min(CLIMBS, CLIMB_WORK // len(items) ** 2)):
        if height == bound:
            break
        changed = current.copy()
        highest = chance.choice([i for i in changed if best[i] + items[i].size == height])
        place = changed.index(highest)
        changed.insert(chance.randrange(place + 1), changed.pop(place))
        if chance.random() < 0.5:
            a, b = chance.randrange(len(changed)), chance.randrange(len(changed))
            changed[a], changed[b] = changed[b], changed[a]
        offsets = _first_fit(items, changed)
        if _height(items, offsets) <= height:
            current, best, height = changed, offsets, _height(items, offsets)
    return best


# ---- branch and bound


class _OutOfWork(Exception):
    """The search used up its effort."""


class _Search:
    """Depth-first search for packings below a capacity. Slots are the times that matter."""

    def __init__(self, items: Sequence[Lifetime], work: int) -> None:
        self.items, self.budget, self.work = items, work, 0
        self.spans, self.slots = _slots(items)
        self.sizes = [i.size for i in items]
        self.offsets = [0] * len(items)
        self.capacity = 0
        self.failed: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()

    def improve(self, offsets: tuple[int, ...], height: int, bound: int) -> tuple[tuple[int, ...], bool]:
        """(the best offsets found, whether nothing better exists), starting from a packing of that height.

        The bound is tried first, since the least slack prunes the most; a capacity that is too hard to decide
        makes way for one half way up to the best height so far.
        """
        possible = capacity = bound  # nothing fits below `possible`
        for _ in range(CAPACITIES):
            if capacity >= height:
                break
            self.work = self.budget
            try:
                found = self._fits(capacity)
            except _OutOfWork:
                capacity += max(ALIGNMENT, (height - capacity) // (2 * ALIGNMENT) * ALIGNMENT)
                continue
            if found:
                offsets = tuple(self.offsets)
                height = _height(self.items, offsets)
            else:
                possible = capacity = capacity + ALIGNMENT
        return offsets, possible >= height

    def _fits(self, capacity: int) -> bool:
        """Search all packings of at most `capacity`; a success leaves self.offsets set."""
        self.capacity = capacity
        self.failed.clear()
        return self._place(list(range(len(self.items))), [0] * self.slots, 0)

    def _place(self, left: list[int], floor: list[int], level: int) -> bool:
        """Place the lifetimes `left` on the skyline `floor`, none below `level`."""
        return all(self._place_connected(part, floor, level) for part in _split(left, self.spans))

    def _place_connected(self, left: list[int], floor: list[int], level: int) -> bool:
        self.work -= len(left)
        if self.work < 0:
            raise _OutOfWork
        bases = {i: max(floor[self.spans[i][0] : self.spans[i][1]]) for i in left}
        state = (tuple(left), tuple(max(level, base) for base in floor[self._extent(left)]))
        if state in self.failed or self._hopeless(left, bases, level):
            return False
        lowest_top = min(bases[i] + self.sizes[i] for i in left)
        # One that could stand wholly below another is placed before it: pushed down, it would be there.
        ready = [i for i in left if level <= bases[i] < lowest_top]
        ready.sort(key=lambda i: (bases[i], -self.sizes[i], self.spans[i][0] - self.spans[i][1], i))
        for index in ready:
            start, stop = self.spans[index]
            self.offsets[index] = bases[index]
            raised = floor.copy()
            raised[start:stop] = [bases[index] + self.sizes[index]] * (stop - start)
            if self._place([i for i in left if i != index], raised, bases[index]):
                return True
        self.failed.add(state)
        return False

    def _extent(self, left: list[int]) -> slice:
        """The slots that the connected lifetimes `left` cover."""
        return slice(min(self.spans[i][0] for i in left), max(self.spans[i][1] for i in left))

    def _hopeless(self, left: list[int], bases: dict[int, int], level: int) -> bool:
        """True when in some slot all that is left cannot fit above the lowest base of what is left."""
        lowest = [self.capacity] * self.slots
        sums = [0] * self.slots
        for i in left:
            base = max(bases[i], level)
            if bases[i] + self.sizes[i] <= level or base + self.sizes[i] > self.capacity:
                return True
            for slot in range(*self.spans[i]):
                sums[slot] += self.sizes[i]
                lowest[slot] = min(lowest[slot], base)
        return any(low + total > self.capacity for low, total in zip(lowest, sums, strict=True))


def _slots(items: Sequence[Lifetime]) -> tuple[list[tuple[int, int]], int]:
    """Spans (start, stop) of the lifetimes in slots: only times at which something starts count."""
    starts = sorted({i.first for i in items})
    slot_of = {time: slot for slot, time in enumerate(starts)}
    spans = []
    for item in items:
        stop = sum(1 for s in starts if s <= item.last)
        spans.append((slot_of[item.first], stop))
    return spans, len(starts)


def _split(left: list[int], spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Parts that share no slot with each other: they are packed independently."""
    parts: list[list[int]] = []
    reach = -1
    for index in sorted(left, key=lambda i: spans[i]):
        start, stop = spans[index]
        if start >= reach:
            parts.append([])
        parts[-1].append(index)
        reach = max(reach, stop)
    return parts
