"""Emit one model as a C99 library: specialised kernel functions, constant data, a small public API.

The library knows nothing of boards: the firmware around it (startup, linker script, harness) is firmware.py's.
Same program and plan give byte-identical text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tinygen import ops
from tinygen.access import Traffic
from tinygen.code_size import Encoding, entry_bytes, executed_bytes, function_bytes, helper_bytes
from tinygen.ctext import C_TYPES, Symbols, check_prefix, environment
from tinygen.errors import UsageError
from tinygen.graph import Array, DType, Graph, Tensor
from tinygen.placement import Movable
from tinygen.planning import MemoryPlan
from tinygen.program import Program, Step
from tinygen.rendering import NAME, body_of
from tinygen.selection import alike

Arena = Literal["caller", "library"]
HELPERS: Mapping[str, str] = {"int8": "tg_fixedpoint.h", "int16": "tg_int16.h", "float32": "tg_float.h"}
"""Type of activations -> what its kernels include."""

LIMITS: Mapping[str, Mapping[str, str]] = {
    "int8": {"low": "-1000.0f", "high": "1000.0f", "min": "INT8_MIN", "max": "INT8_MAX"},
    "int16": {"low": "-40000.0f", "high": "40000.0f", "min": "INT16_MIN", "max": "INT16_MAX"},
}
"""Type of inputs -> quotients beyond which they saturate, and its limits, as C."""

PROFILE_RUNS = 4
"""Inferences whose timestamps a library keeps that was compiled to take some; a power of two."""
WORD = 4


@dataclass(frozen=True)
class Library:
    """The C library of one model. files: path below the project folder -> text. Bytes; code_bytes: estimated.

    pair_bytes: of two arenas that overlap, for filling one's inputs while the other is computed.
    profile_steps: layers with timestamps, 0 for a library without; variable_bytes: of its own variables.
    functions: symbol of every kernel's function -> its C, with the functions that it alone calls.
    precision: type of its inputs and outputs; a float32 library may need the mathematical functions of C's (-lm).
    """

    name: str
    files: Mapping[str, str]
    header: str
    arena_bytes: int
    pair_bytes: int
    input_sizes: tuple[int, ...]
    output_sizes: tuple[int, ...]
    constant_bytes: int
    code_bytes: int
    movables: tuple[Movable, ...]
    arena_traffic: Traffic
    profile_steps: int = 0
    variable_bytes: int = 0
    precision: DType = "int8"
    functions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConstantArray:
    """A constant C array; equal contents are emitted once. layer, role: of its first use."""

    symbol: str
    c_type: str
    values: Array
    layer: str
    role: str

    @property
    def comment(self) -> str:
        """What it is, for the reader of the C."""
        return f"{self.layer}: {self.role}, {' x '.join(map(str, self.values.shape))}"


@dataclass(frozen=True)
class KernelFunction:
    """A kernel as C. kernel: name of its template; layer: the first that it executes."""

    symbol: str
    kernel: str
    text: str
    layer: str


@dataclass(frozen=True)
class Call:
    """One step as C: the function and its arguments. Alias steps have no function, only a comment."""

    comment: str
    function: str | None
    arguments: tuple[str, ...]


def identity(values: Array) -> tuple[str, bytes]:
    """Equal for arrays of which the library holds one."""
    return values.dtype.name, values.tobytes()


class _Emitter:
    """Collects constant arrays and kernel functions of one model, each distinct one once, and what is read of them."""

    def __init__(self, prefix: str, encoding: Encoding, precision: DType) -> None:
        self.symbols, self.encoding, self.precision = Symbols(prefix), encoding, precision
        self.arrays: dict[tuple[str, bytes], ConstantArray] = {}
        self.functions: dict[str, KernelFunction] = {}  # body with a placeholder -> function
        self.read: Counter[str] = Counter()  # symbol -> bytes read in one inference
        self.made: dict[Hashable, tuple[str, Mapping[str, Array]]] = {}  # of steps that differ in names alone

    def array(self, step: Step, role: str, values: Array) -> str:
        """Symbol of the array that holds these values."""
        b, key = step.bound, identity(values)
        if key not in self.arrays:
            symbol = self.symbols.make(b.name, role)
            self.arrays[key] = ConstantArray(symbol, C_TYPES[values.dtype.name], values, b.name, role)
        array = self.arrays[key]
        self.read[array.symbol] += step.kernel.reads(b, role, values, ops.get(b.node.op).macs(b))
        return array.symbol

    def parts(self, step: Step) -> tuple[str, Mapping[str, Array]]:
        """(C of the step's function, constants that it reads)."""
        key = step.kernel.name, alike(step.bound)
        if key not in self.made:
            self.made[key] = body_of(step.kernel, step.bound), step.kernel.constants(step.bound)
        return self.made[key]

    def function(self, step: Step) -> str:
        """Name of the C function that executes the step; steps whose C is equal share one function."""
        kernel, b = step.kernel, step.bound
        body, _ = self.parts(step)
        if body not in self.functions:
            name = self.symbols.make(kernel.name.removeprefix("tg_"), str(len(self.functions)))
            self.functions[body] = KernelFunction(name, kernel.name, body.replace(NAME, name), b.name)
        function = self.functions[body]
        self.read[function.symbol] += executed_bytes(kernel.cost(b))
        return function.symbol

    def movables(self) -> tuple[Movable, ...]:
        """What placement may pin: every array and every kernel."""
        arrays = tuple(
            Movable(
                a.symbol, a.layer, a.role, Traffic(a.values.nbytes, self.read[a.symbol], a.values.itemsize)
            )
            for a in self.arrays.values()
        )
        functions = tuple(
            Movable(
                f.symbol,
                f.layer,
                "code",
                Traffic(self.size_of(f), self.read[f.symbol], 4, "instructions"),
            )
            for f in self.functions.values()
        )
        return (*arrays, *functions)

    def size_of(self, function: KernelFunction) -> int:
        """Estimated bytes of a kernel's code."""
        return function_bytes(function.kernel, function.text, self.encoding)

    def code_bytes(self, calls: Sequence[Call]) -> int:
        """Estimated bytes of all code: the kernels, the functions of the API, and what of the compiler's they call."""
        made = [call for call in calls if call.function]
        kernels = {f.kernel for f in self.functions.values()}
        entry = entry_bytes(len(made), sum(len(call.arguments) for call in made), self.encoding)
        sizes = sum(self.size_of(f) for f in self.functions.values())
        return sizes + entry + helper_bytes(kernels, self.encoding)

    def place(self, dtype: DType, offset: int) -> str:
        """C of the arena's element of that type at so many bytes; `base` points to elements of the model's inputs."""
        if dtype == self.precision:
            return f"base + {offset // np.dtype(dtype).itemsize}"
        base = f"base + {offset // np.dtype(self.precision).itemsize}"
        return f"({C_TYPES[dtype]} *)(void *)({base})"

    def call(self, index: int, step: Step, plan: MemoryPlan) -> Call:
        """The step as a C call."""
        b = step.bound
        shapes = ", ".join(_shape(t) for t in b.activations)
        comment = f"{index} {b.name}: {b.node.op} {shapes} -> {_shape(b.output)}"
        if step.kernel.alias:
            return Call(f"{comment} (same bytes)", None, ())
        inputs = [self.place(t.dtype, plan.offset(t.name)) for t in b.activations]
        constants = [self.array(step, role, v) for role, v in self.parts(step)[1].items()]
        scratch = [self.place(b.output.dtype, plan.scratch_offset(index))] if step.scratch_bytes else []
        arguments = (*inputs, *constants, self.place(b.output.dtype, plan.offset(b.output.name)), *scratch)
        return Call(comment, self.function(step), arguments)


def arena_traffic(program: Program, plan: MemoryPlan) -> Traffic:
    """What one inference reads and writes in the arena: an input per multiply-accumulate, every output once."""
    touched, largest = 0, program.graph.input_tensors[0].itemsize
    for step in program.steps:
        b = step.bound
        if not step.kernel.alias:
            read = max(ops.get(b.node.op).macs(b), sum(t.elements for t in b.activations))
            size = b.output.itemsize
            touched += (read + b.output.elements) * size
            largest = max(largest, size)
    return Traffic(plan.arena_bytes, touched, largest)


def pair_offset(graph: Graph, plan: MemoryPlan) -> int:
    """Bytes between two arenas of which each one's inputs lie outside the other; a multiple of 8.

    The second arena starts behind the first one's inputs, and its own inputs lie behind the first arena: 1.5 to 2
    arenas in all, by where the plan has the inputs.
    """
    inputs = [(plan.offset(t.name), t.size_bytes) for t in graph.input_tensors]
    behind_inputs = max(offset + size for offset, size in inputs)
    behind_arena = plan.arena_bytes - min(offset for offset, _ in inputs)
    return -(-max(behind_inputs, behind_arena) // 8) * 8


def profile_names(program: Program) -> tuple[str, ...]:
    """Layers that get timestamps: those that execute code. Raises UsageError when there is none."""
    names = tuple(step.bound.name for step in program.steps if not step.kernel.alias)
    if not names:
        raise UsageError(
            f"--profile-on-device: no layer of '{program.graph.name}' executes code: there is nothing to time\n"
            "  leave the option out"
        )
    return names


def profile_bytes(steps: int) -> int:
    """Bytes of SRAM that timestamps of so many layers take: the ring, its counter, the clock's address."""
    return WORD * (PROFILE_RUNS * (steps + 1) + 2) if steps else 0


def helpers_of(program: Program) -> tuple[str, ...]:
    """The headers that the kernels include: what int16 needs stands on top of what int8 needs, variants' come last."""
    types = {t.dtype for t in program.graph.tensors.values() if not t.is_constant}
    basic = [HELPERS[t] for t in HELPERS if t in types or (t == "int8" and "int16" in types)]
    return tuple(dict.fromkeys((*basic, *(s.kernel.header for s in program.steps if s.kernel.header))))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def class_count(graph: Graph, labels: Sequence[str]) -> int | None:
    """Classes of output 0: as many as labels, or as a softmax has; None where the model is no classifier."""
    output = graph.output_tensors[0]
    if labels and len(labels) != output.elements:
        raise UsageError(
            f"--labels names {len(labels)} classes, output '{output.name}' has {output.elements} elements\n"
            "  give one name per element, one a line"
        )
    producer = graph.writer(output.name)
    is_classifier = bool(labels) or (
        producer is not None and producer.op == "softmax" and len(output.shape) == 1
    )
    return output.elements if is_classifier else None


def emit_library(
    program: Program,
    plan: MemoryPlan,
    name: str,
    arena: Arena = "caller",
    labels: Sequence[str] = (),
    encoding: Encoding = "thumb2",
    profile: bool = False,
) -> Library:
    """The library's files below lib/<name>/. name: C prefix (check_prefix). labels: class names of output 0.

    encoding: that of the core; the text does not depend on it, the estimated sizes do. profile: takes a timestamp
    behind every layer.
    """
    emitter = _Emitter(check_prefix(name), encoding, program.graph.precision)
    calls = [emitter.call(i, step, plan) for i, step in enumerate(program.steps)]
    graph, names = program.graph, profile_names(program) if profile else ()
    size, helpers = graph.input_tensors[0].itemsize, helpers_of(program)
    context: dict[str, Any] = {
        "name": name,
        "NAME": name.upper(),
        "graph": graph,
        "T": C_TYPES[graph.precision],
        "precision": graph.precision,
        "limits": LIMITS.get(graph.precision),
        "helpers": helpers,
        "inputs": [(t, plan.offset(t.name) // size) for t in graph.input_tensors],
        "outputs": [(t, plan.offset(t.name) // size) for t in graph.output_tensors],
        "arena_bytes": plan.arena_bytes,
        "pair_offset": pair_offset(graph, plan),
        "own_arena": arena == "library",
        "labels": list(labels),
        "class_count": class_count(graph, labels),
        "arrays": list(emitter.arrays.values()),
        "functions": [f.text for f in emitter.functions.values()],
        "calls": calls,
        "profile_names": names,
        "profile_runs": PROFILE_RUNS,
        "uses_memory_functions": any("mem" in f.text for f in emitter.functions.values()),
    }
    folder = f"lib/{name}"
    files = {
        f"{folder}/{name}{suffix}": environment().get_template(f"library/model{suffix}.j2").render(context)
        for suffix in (".h", ".c", "_weights.h", "_weights.c")
    }
    for helper in helpers:
        files[f"{folder}/{helper}"] = environment().get_template(f"kernels/{helper}").render()
    return Library(
        name=name,
        files=files,
        header=f"{name}.h",
        arena_bytes=plan.arena_bytes,
        pair_bytes=plan.arena_bytes + pair_offset(graph, plan),
        input_sizes=tuple(t.size_bytes for t in graph.input_tensors),
        output_sizes=tuple(t.size_bytes for t in graph.output_tensors),
        constant_bytes=sum(a.values.nbytes for a in emitter.arrays.values()),
        code_bytes=emitter.code_bytes(calls),
        movables=emitter.movables(),
        arena_traffic=arena_traffic(program, plan),
        profile_steps=len(names),
        variable_bytes=profile_bytes(len(names)),
        precision=graph.precision,
        functions={f.symbol: f.text for f in emitter.functions.values()},
    )
