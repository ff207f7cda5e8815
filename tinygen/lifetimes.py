"""When each byte of the arena is needed: the steps of a Program become lifetimes of shared buffers.

Time is counted in steps: time t is the execution of step t, time len(steps) is after the run. Graph inputs
are filled before the run, so they live from time 0; graph outputs are read after it, so they live to
len(steps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygen.graph import Tensor
    from tinygen.program import Program, Step

ALIGNMENT = 4
"""Offsets and sizes in the arena are multiples of this many bytes."""


@dataclass(frozen=True)
class Sharing:
    """Which values share bytes, where kernels leave a choice.

    over: step index -> which activation input's bytes its output takes over, if it may (absent: bytes of its own).
    joined: steps whose inputs stand in the output's bytes from the start, as far as kernel and lifetimes allow; others
    are copied. viewed: steps whose output is a part of their input where it stands.
    """

    over: Mapping[int, int] = field(default_factory=dict)
    joined: frozenset[int] = frozenset()
    viewed: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Lifetime:
    """Bytes that are needed from time `first` to time `last`, both included.

    tensors: the values that live in these bytes one after the other (or, behind an alias kernel, together). places:
    where each begins, in bytes from the first one: not 0 for parts that stand in what they are joined to.
    scratch_step: set when the bytes are the working memory of that step; tensors is then empty.
    size: bytes, a multiple of ALIGNMENT.
    """

    tensors: tuple[str, ...]
    size: int
    first: int
    last: int
    scratch_step: int | None = None
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Value:
    """Bytes place ... end - 1 of a group hold it from time `first` to time `last`, both included."""

    place: int
    end: int
    first: int
    last: int

    def moved(self, by: int) -> _Value:
        return _Value(self.place + by, self.end + by, self.first, self.last) if by else self

    def meets(self, other: _Value) -> bool:
        """True where both would need a byte at one time."""
        return max(self.place, other.place) < min(self.end, other.end) and (
            max(self.first, other.first) <= min(self.last, other.last)
        )


@dataclass(eq=False)
class _Group:
    """A buffer under construction. needed: the last time at which one of its values is read."""

    values: dict[str, _Value]
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
    builder = _Builder(program, Sharing(), options)
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
            self._own(tensor, 0)
        for time, step in enumerate(self.program.steps):
            self._step(time, step)
        planned = [
            Lifetime(
                tuple(g.values),
                aligned(g.bytes),
                g.first,
                max(g.first, g.needed),
                places=tuple(v.place for v in g.values.values()),
            )
            for g in self.groups
        ]
        return (*planned, *self.scratch)

    def _step(self, time: int, step: Step) -> None:
        if step.scratch_bytes:
            self.scratch.append(Lifetime((), aligned(step.scratch_bytes), time, time, time))
        output = step.bound.output
        if step.kernel.alias or time in self.sharing.viewed:
            assert step.view is not None
            self._share(output, step.bound.activations[0].name, time, step.view)
            return
        if time in self.sharing.joined:
            self._joined(time, step)
            return
        allowed = self._overwritable(time, step)
        if self.options is not None and allowed:
            self.options[time] = allowed
        chosen = self._chosen(step, allowed, self.sharing.over.get(time))
        if chosen is None:
            self._own(output, time)
        else:
            self._share(output, step.bound.activations[chosen].name, time)

    def _chosen(self, step: Step, allowed: Sequence[int], wished: int | None) -> int | None:
        """The input to take over: another one of the output's size where the wished one is kept by what shares its
        bytes."""
        if wished is None or wished in allowed:
            return wished
        b = step.bound
        return next((i for i in allowed if b.activations[i].size_bytes == b.output.size_bytes), None)

    def _overwritable(self, time: int, step: Step) -> tuple[int, ...]:
        """Inputs that the kernel may overwrite, at least as large as the output and dead after this step; first those
        that are as large."""
        activations = step.bound.activations
        permitted = step.in_place
        groups = [self.group_of[t.name] for t in activations]
        found: dict[int, int] = {}
        for index in sorted(permitted, key=lambda i: activations[i].size_bytes):
            group = groups[index]
            readers = {i for i, g in enumerate(groups) if g is group}
            fits = activations[index].size_bytes >= step.bound.output.size_bytes
            if fits and group.needed <= time and readers <= set(permitted):
                found.setdefault(id(group), index)
        return tuple(found.values())

    def _joined(self, time: int, step: Step) -> None:
        """Bytes of its own for the output, and in them the inputs that can stand there."""
        output, activations = step.bound.output, step.bound.activations
        whole = self._own(output, time)
        for index, place in step.joins:
            name = activations[index].name
            group = self.group_of[name]
            alone = [self.group_of[t.name] is group for t in activations].count(True) == 1
            by = place - group.values[name].place
            if alone and group.needed <= time and _has_room(whole, group, by, output.name):
                self._move(group, whole, by)
        whole.values[output.name] = whole.values.pop(output.name)  # values stand in the order of their making

    def _move(self, group: _Group, whole: _Group, by: int) -> None:
        """A group becomes part of another one, so many bytes behind where that begins."""
        self.groups.remove(group)
        whole.first = min(whole.first, group.first)
        for name, value in group.values.items():
            whole.values[name] = value.moved(by)
            self.group_of[name] = whole

    def _own(self, tensor: Tensor, time: int) -> _Group:
        until = self.until.get(tensor.name, time)
        group = _Group(
            {tensor.name: _Value(0, tensor.size_bytes, time, until)}, tensor.size_bytes, time, until
        )
        self.groups.append(group)
        self.group_of[tensor.name] = group
        return group

    def _share(self, tensor: Tensor, other: str, time: int, part: int = 0) -> None:
        """A value begins so many bytes behind where another one does."""
        group = self.group_of[other]
        until, place = self.until.get(tensor.name, time), group.values[other].place + part
        group.values[tensor.name] = _Value(place, place + tensor.size_bytes, time, until)
        group.needed = max(group.needed, until)
        self.group_of[tensor.name] = group


def _has_room(whole: _Group, group: _Group, by: int, joined: str) -> bool:
    """True where a group fits into another one and no value that is there meets one of its own. What is joined itself
    leaves its parts as they are."""
    if by < 0 or by % ALIGNMENT or by + group.bytes > whole.bytes:
        return False
    there = [value for name, value in whole.values.items() if name != joined]
    return not there or not any(v.moved(by).meets(w) for v in group.values.values() for w in there)
