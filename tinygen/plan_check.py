"""The verifier of memory plans: runs the program byte by byte on paper. Shares no code with the planner.

Every byte of the arena remembers which value was last written to it. Each step may only read bytes that
still hold the value it expects, may only overwrite an input where its kernel says so, and keeps its output
and scratch apart from everything it reads. Lifetimes that the plan states are compared with what happens,
never relied on.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tinygen.graph import Tensor
    from tinygen.planning import Buffer, MemoryPlan
    from tinygen.program import Program, Step


class PlanError(AssertionError):
    """The memory plan is wrong: a bug of tinygen, not of the user's model."""

    def __init__(self, what: str) -> None:
        super().__init__(f"tinygen's memory plan is wrong (please report this): {what}")


def verify(program: Program, plan: MemoryPlan) -> None:
    """Raise PlanError, naming values and step, unless the program computes correctly in the plan's arena."""
    _check_buffers(program, plan)
    arena = _Arena(program, plan)
    for tensor in program.graph.input_tensors:
        arena.fill(tensor)
    for tensor in program.graph.input_tensors:
        arena.expect(tensor, "before the run, after all inputs were filled")
    for time, step in enumerate(program.steps):
        arena.execute(time, step)
    for tensor in program.graph.output_tensors:
        arena.expect(tensor, "after the run")


# ---- the buffers alone


def _check_buffers(program: Program, plan: MemoryPlan) -> None:
    """Every value has one buffer: large enough, aligned, inside the arena, apart from its contemporaries."""
    for buffer in plan.buffers:
        _check_place(buffer, plan)
    _check_complete(program, plan)
    for index, one in enumerate(plan.buffers):
        for other in plan.buffers[:index]:
            together = max(one.first, other.first) <= min(one.last, other.last)
            if together and _overlap(_bytes(one), _bytes(other)):
                raise PlanError(f"{_name(one)} and {_name(other)} overlap in time and in place")
    if plan.lower_bound > plan.arena_bytes:
        raise PlanError(f"arena {plan.arena_bytes} is below its lower bound {plan.lower_bound}")


def _check_place(buffer: Buffer, plan: MemoryPlan) -> None:
    if buffer.offset % 4:
        raise PlanError(f"{_name(buffer)} is at offset {buffer.offset}, not a multiple of 4")
    if buffer.offset < 0 or buffer.offset + buffer.size > plan.arena_bytes:
        end = buffer.offset + buffer.size
        raise PlanError(
            f"{_name(buffer)} at {buffer.offset}..{end} is not inside the arena of {plan.arena_bytes}"
        )


def _check_complete(program: Program, plan: MemoryPlan) -> None:
    """Each activation and each scratch appears once, in a buffer of at least its size."""
    wanted = {t.name: t.size_bytes for t in program.graph.input_tensors}
    wanted.update((s.bound.output.name, s.bound.output.size_bytes) for s in program.steps)
    scratch = {i: s.scratch_bytes for i, s in enumerate(program.steps) if s.scratch_bytes}
    planned = [(name, b.end - b.starts[name]) for b in plan.buffers for name in b.tensors]
    planned_scratch = [(b.scratch_step, b.size) for b in plan.buffers if b.scratch_step is not None]
    _compare("value", wanted, planned)
    _compare("scratch of step", scratch, planned_scratch)


def _compare(kind: str, wanted: Mapping[Any, int], planned: Sequence[tuple[Hashable, int]]) -> None:
    names = [key for key, _ in planned]
    for key in dict.fromkeys((*wanted, *names)):
        if key not in wanted or names.count(key) != 1:
            raise PlanError(f"{kind} '{key}' has {names.count(key)} buffers, needs {int(key in wanted)}")
    for key, size in planned:
        if size < wanted[key]:
            raise PlanError(f"{kind} '{key}' needs {wanted[key]} bytes, its buffer has {size}")


def _name(buffer: Buffer) -> str:
    if buffer.scratch_step is not None:
        return f"scratch of step {buffer.scratch_step}"
    return "'" + "' + '".join(buffer.tensors) + "'"


# ---- the run


class _Arena:
    """Which value each byte holds: 0 for none, else the number of a value. Aliases are one value."""

    def __init__(self, program: Program, plan: MemoryPlan) -> None:
        self.plan = plan
        self.bytes = np.zeros(plan.arena_bytes, np.int64)
        self.numbers: dict[str, int] = {}
        self.names = {0: "nothing, or scratch"}
        self.buffers = {name: buffer for buffer in plan.buffers for name in buffer.tensors}
        self.starts = {name: start for b in plan.buffers for name, start in b.starts.items()}
        self.scratch = {b.scratch_step: b for b in plan.buffers if b.scratch_step is not None}

    def fill(self, tensor: Tensor) -> None:
        """Write a new value."""
        number = len(self.names)
        self.numbers[tensor.name], self.names[number] = number, f"'{tensor.name}'"
        self.bytes[self._span(tensor)] = number

    def expect(self, tensor: Tensor, when: str) -> None:
        """The bytes of the tensor must hold its value."""
        found = self.bytes[self._span(tensor)]
        wrong = found != self.numbers[tensor.name]
        if wrong.any():
            holds = self.names[int(found[wrong][0])]
            raise PlanError(f"{when}: the bytes of '{tensor.name}' hold {holds}")

    def execute(self, time: int, step: Step) -> None:
        """One step: inputs are intact, outputs and scratch go where nothing that is read lies."""
        self._check_times(time, step)
        for tensor in step.bound.activations:
            self.expect(tensor, f"in step {time} '{step.bound.name}'")
        output = step.bound.output
        if step.kernel.alias:
            self._alias(step)
            return
        if self._viewed(step):
            self.numbers[output.name] = self.numbers[step.bound.activations[0].name]
            return
        self._check_writes(time, step)
        if time in self.scratch:
            self.bytes[_bytes(self.scratch[time])] = 0
        self.fill(output)

    def _alias(self, step: Step) -> None:
        """The output is the input under another name: same bytes, same value."""
        source, output = step.bound.activations[0], step.bound.output
        if self._span(source) != self._span(output):
            raise PlanError(
                f"'{output.name}' must be the bytes of '{source.name}', which '{step.bound.name}' aliases"
            )
        self.numbers[output.name] = self.numbers[source.name]

    def _viewed(self, step: Step) -> bool:
        """True where the output is the very bytes of its input that the kernel would copy."""
        part = step.kernel.view(step.bound)
        if part is None:
            return False
        read, output = self._span(step.bound.activations[0]), self._span(step.bound.output)
        return bool(output.start == read.start + part and output.stop <= read.stop)

    def _check_writes(self, time: int, step: Step) -> None:
        output = self._span(step.bound.output)
        where = f"in step {time} '{step.bound.name}'"
        touched, joined = [], dict(step.kernel.joins(step.bound))
        for index, tensor in enumerate(step.bound.activations):
            read = self._span(tensor)
            if index in joined and read.start == output.start + joined[index]:
                continue  # it is left alone
            if _overlap(read, output):
                touched.append(index)
                if read.start != output.start or read.stop < output.stop:
                    raise PlanError(f"{where}: the output partly overwrites input '{tensor.name}'")
        if not set(touched) <= set(step.kernel.in_place(step.bound)):
            names = [step.bound.activations[i].name for i in touched]
            raise PlanError(
                f"{where}: the output overwrites {names}, which {step.kernel.name} does not allow"
            )
        if time in self.scratch:
            self._check_scratch(time, step, where)

    def _check_scratch(self, time: int, step: Step, where: str) -> None:
        scratch = _bytes(self.scratch[time])
        for tensor in (*step.bound.activations, step.bound.output):
            if _overlap(scratch, self._span(tensor)):
                raise PlanError(f"{where}: scratch overlaps '{tensor.name}'")

    def _check_times(self, time: int, step: Step) -> None:
        """The lifetimes that the plan states (and `tinygen inspect` draws) cover what happens."""
        for tensor in (*step.bound.activations, step.bound.output):
            buffer = self.buffers[tensor.name]
            if not buffer.first <= time <= buffer.last:
                raise PlanError(
                    f"'{tensor.name}' is used in step {time}, outside {buffer.first}..{buffer.last}"
                )

    def _span(self, tensor: Tensor) -> slice:
        start = self.starts[tensor.name]
        return slice(start, start + tensor.size_bytes)


def _bytes(buffer: Buffer) -> slice:
    return slice(buffer.offset, buffer.offset + buffer.size)


def _overlap(one: slice, other: slice) -> bool:
    return bool(max(one.start, other.start) < min(one.stop, other.stop))
