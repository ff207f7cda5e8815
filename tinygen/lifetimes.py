"""When each byte of the arena is needed: the steps of a Program become lifetimes of shared buffers.

Time is counted in steps: time t is the execution of step t, time len(steps) is after the run. Graph inputs
are filled before the run, so they live from time 0; graph outputs are read after it, so they live to
len(steps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygen.program import Program, Step

ALIGNMENT = 4
"""Offsets and sizes in the arena are multiples of this many bytes."""

Sharing = Mapping[int, int | None]
"""Step index -> which activation input's bytes its output takes over (None: bytes of its own)."""


@dataclass(frozen=True)
class Lifetime:
    """Bytes that are needed from time `first` to time `last`, both included.

    tensors: the values that live in these bytes one after the other (or, behind an alias kernel, together).
    scratch_step: set when the bytes are the working memory of that step; tensors is then empty.
    size: bytes, a multiple of ALIGNMENT.
    """

    tensors: tuple[str, ...]
    size: int
    first: int
    last: int
    scratch_step: int | None = None


@dataclass
class _Group:
    """A buffer under construction. needed: the last time at which one of its values is read."""

    tensors: list[str]
    bytes: int
    first: int
    needed: int


def aligned(size: int) -> int:
    """size rounded up to a multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def needed_until(program: Program) -> dict[str, int]:
    """Activation -> the last time it is read (absent: never read)."""
    until: dict[str, int] = {}
    for time, step in enumerate(program.steps):
        until.update((t.name, time) for t in step.bound.activations)
    until.update((name, len(program.steps)) for name in program.graph.outputs)
    return until


def lifetimes(program: Program, sharing: Sharing) -> tuple[Lifetime, ...]:
    """Every buffer that the program needs when its in-place steps share bytes as `sharing` says."""
    return _Builder(program, sharing).result()


def live_bytes(items: Sequence[Lifetime], times: int) -> list[int]:
    """Bytes in use at every time from 0 on."""
    changes = [0] * (times + 1)
    for item in items:
        changes[item.first] += item.size
        changes[item.last + 1] -= item.size
    return list(accumulate(changes[:-1]))


def shrinks(program: Program, time: int, activation: int) -> bool:
    """True where the output of a step is smaller than that activation, whose bytes it would keep as a whole."""
    b = program.steps[time].bound
    return b.activations[activation].size_bytes > b.output.size_bytes


def sharing_options(program: Program) -> dict[int, tuple[int, ...]]:
    """Step index -> the activation inputs whose bytes its output may take over, where there is at least one.

    Whether an input may be overwritten does not depend on what other steps chose: two values share bytes only
    if the earlier one is dead, or if they are the same value.
    """
    options: dict[int, tuple[int, ...]] = {}
    builder = _Builder(program, {}, options)
    builder.result()
    return options


class _Builder:
    """Walks the steps once and keeps the group of bytes that each activation lives in."""

    def __init__(self, program: Program, sharing: Sharing, options: dict[int, tuple[int, ...]] | None = None):
        self.program, self.sharing, self.options = program, sharing, options
        self.until = needed_until(program)
        self.group_of: dict[str, _Group] = {}
        self.groups: list[_Group] = []
        self.scratch: list[Lifetime] = []

    def result(self) -> tuple[Lifetime, ...]:
        for tensor in self.program.graph.input_tensors:
            self._own(tensor.name, tensor.size_bytes, 0)
        for time, step in enumerate(self.program.steps):
            self._step(time, step)
        planned = [
            Lifetime(tuple(g.tensors), aligned(g.bytes), g.first, max(g.first, g.needed)) for g in self.groups
        ]
        return (*planned, *self.scratch)

    def _step(self, time: int, step: Step) -> None:
        if step.scratch_bytes:
            self.scratch.append(Lifetime((), aligned(step.scratch_bytes), time, time, time))
        output = step.bound.output
        if step.kernel.alias:
            self._join(output.name, self.group_of[step.bound.activations[0].name], time)
            return
        allowed = self._overwritable(time, step)
        if self.options is not None and allowed:
            self.options[time] = allowed
        chosen = self.sharing.get(time)
        if chosen is None:
            self._own(output.name, output.size_bytes, time)
        else:
            assert chosen in allowed, f"'{step.bound.name}' cannot overwrite its input {chosen}"
            self._join(output.name, self.group_of[step.bound.activations[chosen].name], time)

    def _overwritable(self, time: int, step: Step) -> tuple[int, ...]:
        """Inputs that the kernel may overwrite, at least as large as the output and dead after this step; first those
        that are as large."""
        activations = step.bound.activations
        permitted = step.kernel.in_place(step.bound)
        groups = [self.group_of[t.name] for t in activations]
        found: dict[int, int] = {}
        for index in sorted(permitted, key=lambda i: activations[i].size_bytes):
            group = groups[index]
            readers = {i for i, g in enumerate(groups) if g is group}
            fits = activations[index].size_bytes >= step.bound.output.size_bytes
            if fits and group.needed <= time and readers <= set(permitted):
                found.setdefault(id(group), index)
        return tuple(found.values())

    def _own(self, name: str, size: int, time: int) -> None:
        group = _Group([name], size, time, self.until.get(name, time))
        self.groups.append(group)
        self.group_of[name] = group

    def _join(self, name: str, group: _Group, time: int) -> None:
        group.tensors.append(name)
        group.needed = max(group.needed, self.until.get(name, time))
        self.group_of[name] = group
