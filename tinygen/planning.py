"""The memory planner: a Program becomes a MemoryPlan, an offset in one arena for each activation and scratch.

Three questions: when is each value needed and which may share bytes (tinygen/lifetimes.py), where do the
bytes go (tinygen/packing.py), and, here, which of several inputs an in-place step takes over. Of inputs as
large as the output that choice cannot change the lower bound, as one buffer of the same size dies either
way; it can only ease the packing. An output that takes over a larger input keeps all of its bytes: that is
done where most bytes are live, and only if that place then needs fewer. tinygen/plan_check.py verifies every
plan and shares no code with these files. All effort is counted in work, not in seconds: the same program
always gets the same plan.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tinygen.lifetimes import Lifetime, Sharing, lifetimes, live_bytes, sharing_options, shrinks
from tinygen.packing import Packing, pack

if TYPE_CHECKING:
    from tinygen.program import Program

SHARINGS = 24
"""Ways of sharing that are tried when the first does not reach the lower bound."""


@dataclass(frozen=True)
class Buffer:
    """Bytes [offset, offset + size) of the arena, in use from time `first` to time `last` (both included).

    tensors: the values that live there; several when steps work in place or only reinterpret their input.
    size: bytes, a multiple of 4. Times are step indices; len(steps) is after the run, when outputs are read.
    scratch_step: set for the working memory of that step; tensors is then empty.
    """

    tensors: tuple[str, ...]
    offset: int
    size: int
    first: int
    last: int
    scratch_step: int | None = None

    @property
    def end(self) -> int:
        """The first offset behind the buffer."""
        return self.offset + self.size


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
        return self._by_tensor[tensor].offset

    def scratch_offset(self, step: int) -> int:
        """Offset in the arena of the scratch of a step that has some."""
        return next(b.offset for b in self.buffers if b.scratch_step == step)

    @cached_property
    def _by_tensor(self) -> dict[str, Buffer]:
        return {name: buffer for buffer in self.buffers for name in buffer.tensors}


def plan(program: Program) -> MemoryPlan:
    """The smallest arena found; usually proved to be the smallest possible."""
    best: tuple[tuple[Lifetime, ...], Packing] | None = None
    for sharing in _sharings(program):
        items = lifetimes(program, sharing)
        packing = pack(items)
        if best is None or packing.arena < best[1].arena:
            best = items, packing
        if best[1].arena == best[1].bound:
            break
    assert best is not None
    return _memory_plan(*best)


def _sharings(program: Program) -> Iterator[Sharing]:
    """Every step that can work in place on bytes of its output's size does, taking over its first input; then random
    other choices. Each with what takes over larger inputs."""
    found = sharing_options(program)
    options = {t: tuple(i for i in inputs if not shrinks(program, t, i)) for t, inputs in found.items()}
    options = {t: inputs for t, inputs in options.items() if inputs}
    larger = {t: inputs[0] for t, inputs in found.items() if t not in options}
    yield _eased(program, {step: inputs[0] for step, inputs in options.items()}, larger)
    chance = random.Random(0)
    free = [step for step, inputs in options.items() if len(inputs) > 1]
    for _ in range(SHARINGS if free else 0):
        yield _eased(program, {step: chance.choice(inputs) for step, inputs in options.items()}, larger)


def _eased(program: Program, sharing: Sharing, larger: Mapping[int, int]) -> Sharing:
    """Steps at which most bytes are live take over larger inputs, one by one, while fewer times have so many then."""

    def live(shared: Sharing) -> list[int]:
        return live_bytes(lifetimes(program, shared), len(program.steps) + 1)

    now, refused = live(sharing), set(sharing)
    while True:
        peak = max(now, default=0)
        step = next((t for t in larger if t not in refused and now[t] == peak), None)
        if step is None:
            return sharing
        tried = {**sharing, step: larger[step]}
        then = live(tried)
        if (max(then), then.count(peak)) < (peak, now.count(peak)):
            sharing, now = tried, then
        refused.add(step)


def _memory_plan(items: Sequence[Lifetime], packing: Packing) -> MemoryPlan:
    buffers = tuple(
        Buffer(i.tensors, offset, i.size, i.first, i.last, i.scratch_step)
        for i, offset in zip(items, packing.offsets, strict=True)
    )
    return MemoryPlan(buffers, packing.arena, packing.bound, packing.optimal)
