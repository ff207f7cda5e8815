"""The memory planner: a Program becomes a MemoryPlan, an offset in one arena for each activation and scratch.

Three questions: when is each value needed and which may share bytes (tinygen/lifetimes.py), where do the
bytes go (tinygen/packing.py), and, here, which of several inputs an in-place step takes over. Of inputs as
large as the output that choice cannot change the lower bound, as one buffer of the same size dies either
way; it can only ease the packing. An output that takes over a larger input keeps all of its bytes: that is
done where most bytes are live, and only if that place then needs fewer. What a step joins is made where it
will stand, unless that needs more bytes: the whole then lives from the first of its parts on.
tinygen/plan_check.py verifies every plan and shares no code with these files. All effort is counted in work,
not in seconds: the same program always gets the same plan.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from tinygen.lifetimes import Lifetime, Sharing, lifetimes, live_bytes, sharing_options, shrinks
from tinygen.packing import WORK, Packing, pack

if TYPE_CHECKING:
    from tinygen.program import Program

SHARINGS, SHARED_STEPS = 24, 800
"""Ways of sharing that are tried when the first does not reach the lower bound; steps in all of them together."""


@dataclass(frozen=True)
class Buffer:
    """Bytes [offset, offset + size) of the arena, in use from time `first` to time `last` (both included).

    tensors: the values that live there; several when steps work in place, only reinterpret their input, or join parts
    that stand there already. places: where each begins, in bytes from `offset`; (): all at 0.
    size: bytes, a multiple of 4. Times are step indices; len(steps) is after the run, when outputs are read.
    scratch_step: set for the working memory of that step; tensors is then empty.
    """

    tensors: tuple[str, ...]
    offset: int
    size: int
    first: int
    last: int
    scratch_step: int | None = None
    places: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """The first offset behind the buffer."""
        return self.offset + self.size

    @property
    def starts(self) -> dict[str, int]:
        """Value -> its offset in the arena."""
        places = self.places or (0,) * len(self.tensors)
        return {name: self.offset + place for name, place in zip(self.tensors, places, strict=False)}


@dataclass(frozen=True)
class MemoryPlan:
    """Where every activation and scratch lives in the arena. Offsets are multiples of 4.

    lower_bound: the greatest sum of live bytes over the steps: in this order of steps no arena is smaller.
    optimal: proved that no arena is smaller (for the sharing of bytes that was chosen).
    """

    buffers: tuple[Buffer, ...]
    arena_bytes: int
    lower_bound: int
    optimal: bool

    @property
    def gap(self) -> float:
        """How much larger than the lower bound the arena is: 0.02 is 2 %."""
        return self.arena_bytes / self.lower_bound - 1.0 if self.lower_bound else 0.0

    def live(self, time: int) -> int:
        """Bytes in use at that time; times are step indices."""
        return sum(b.size for b in self.buffers if b.first <= time <= b.last)

    def buffer(self, tensor: str) -> Buffer:
        """The buffer that holds an activation."""
        return self._by_tensor[tensor]

    def offset(self, tensor: str) -> int:
        """Offset in the arena of an activation, by its name."""
        return self._by_tensor[tensor].starts[tensor]

    def scratch_offset(self, step: int) -> int:
        """Offset in the arena of the scratch of a step that has some."""
        return next(b.offset for b in self.buffers if b.scratch_step == step)

    @cached_property
    def _by_tensor(self) -> dict[str, Buffer]:
        return {name: buffer for buffer in self.buffers for name in buffer.tensors}


def plan(program: Program) -> MemoryPlan:
    """The smallest arena found; usually proved to be the smallest possible."""
    best: tuple[tuple[Lifetime, ...], Packing] | None = None
    for tried, sharing in enumerate(_sharings(program)):
        items = lifetimes(program, sharing)
        packing = pack(items, WORK // 10 if tried else WORK)
        if best is None or packing.arena < best[1].arena:
            best = items, packing
        if best[1].arena == best[1].bound:
            break
    assert best is not None
    return _memory_plan(*best)


def needs(program: Program) -> list[int]:
    """Bytes in use at every time with the sharing that is tried first: no arena for it is smaller than the largest."""
    return _live(program, next(_sharings(program)))


def _live(program: Program, sharing: Sharing) -> list[int]:
    return live_bytes(lifetimes(program, sharing), len(program.steps) + 1)


def _sharings(program: Program) -> Iterator[Sharing]:
    """Every step that can work in place on bytes of its output's size does, taking over its first input; then random
    other choices. Each with what is joined without a copy, and with what takes over larger inputs; the second moves
    everything."""
    found = sharing_options(program)
    options = {t: tuple(i for i in inputs if not shrinks(program, t, i)) for t, inputs in found.items()}
    options = {t: inputs for t, inputs in options.items() if inputs}
    larger = {t: inputs[0] for t, inputs in found.items() if t not in options}
    first = Sharing({step: inputs[0] for step, inputs in options.items()})
    moved = _unmoved(program, first, found)
    yield _eased(program, moved, larger)
    if moved is not first:
        yield _eased(program, first, larger)
    chance = random.Random(0)
    free = [step for step, inputs in options.items() if len(inputs) > 1]
    for _ in range(min(SHARINGS, SHARED_STEPS // len(program.steps)) if free else 0):
        over = {step: chance.choice(inputs) for step, inputs in options.items()}
        yield _eased(program, replace(moved, over={**moved.over, **over}), larger)


def _unmoved(program: Program, sharing: Sharing, options: Mapping[int, tuple[int, ...]]) -> Sharing:
    """What is joined, and what is a part of something, stays where it is; but for buffers that are live longer for that
    where most bytes are live, while fewer are without."""
    steps = program.steps
    joins = frozenset(t for t, step in enumerate(steps) if step.joins)
    views = frozenset(t for t, step in enumerate(steps) if step.view is not None and not step.kernel.alias)
    if not joins | views:
        return sharing
    parts = {t.name for time in joins for t in steps[time].bound.activations}
    into = frozenset(t for t in views if steps[t].bound.output.name in parts)
    kept = {t: options[t][0] for t in into if t in options}
    now = replace(sharing, over={**kept, **sharing.over}, joined=joins, viewed=views - into)
    while (better := _relieved(program, now)) is not None:
        now = better
    return now


def _relieved(program: Program, sharing: Sharing) -> Sharing | None:
    """The same without what makes one buffer live longer where most bytes are live, if that needs fewer; else None."""
    items = lifetimes(program, sharing)
    live = live_bytes(items, len(program.steps) + 1)
    peak = max(live)
    time = live.index(peak)
    for item in sorted((i for i in items if i.first <= time <= i.last), key=lambda i: -i.size):
        for tried in _looser(program, sharing, item, time):
            then = _live(program, tried)
            if (max(then), then.count(peak)) < (peak, live.count(peak)):
                return tried
    return None


def _looser(program: Program, sharing: Sharing, item: Lifetime, time: int) -> Iterator[Sharing]:
    """Without the largest later joins of what lives in a buffer; without its views."""
    size = {t: program.steps[t].bound.output.size_bytes for t in sharing.joined | sharing.viewed}
    mine = {t for t in size if program.steps[t].bound.output.name in item.tensors}
    if joins := {t for t in mine & sharing.joined if t > time}:
        largest = max(size[t] for t in joins)
        yield replace(sharing, joined=sharing.joined - {t for t in joins if size[t] == largest})
    if views := mine & sharing.viewed:
        yield replace(sharing, viewed=sharing.viewed - views)


def _eased(program: Program, sharing: Sharing, larger: Mapping[int, int]) -> Sharing:
    """Steps at which most bytes are live take over larger inputs, one by one, while fewer times have so many then."""
    now, refused = _live(program, sharing), set(sharing.over)
    while True:
        peak = max(now, default=0)
        step = next((t for t in larger if t not in refused and now[t] == peak), None)
        if step is None:
            return sharing
        tried = replace(sharing, over={**sharing.over, step: larger[step]})
        then = _live(program, tried)
        if (max(then), then.count(peak)) < (peak, now.count(peak)):
            sharing, now = tried, then
        refused.add(step)


def _memory_plan(items: Sequence[Lifetime], packing: Packing) -> MemoryPlan:
    buffers = tuple(
        Buffer(i.tensors, offset, i.size, i.first, i.last, i.scratch_step, i.places)
        for i, offset in zip(items, packing.offsets, strict=True)
    )
    return MemoryPlan(buffers, packing.arena, packing.bound, packing.optimal)
