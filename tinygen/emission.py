"""Emit one model as a C99 library: specialised kernel functions, constant data, a small public API.

The library knows nothing of boards: the firmware around it (startup, linker script, harness) is firmware.py's.
Same program and plan give byte-identical text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import jinja2
import numpy as np

from tinygen import locate, ops
from tinygen.errors import UsageError
from tinygen.graph import Array, Graph, Tensor
from tinygen.planning import MemoryPlan
from tinygen.program import Program, Step

C_TYPES: Mapping[str, str] = {"int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "uint8": "uint8_t"}
C_KEYWORDS = frozenset(
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
        "main",
        "int8_t",
        "int16_t",
        "int32_t",
        "int64_t",
        "uint8_t",
        "uint16_t",
        "uint32_t",
        "uint64_t",
        "size_t",
        "tg",
    ]
)

C_HEADERS = frozenset(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg stdbool stddef "
    "stdint stdio stdlib string tgmath time wchar wctype".split()
)
"""Headers of the C library: a model's own <name>.h must not stand in front of them on an include path."""

Arena = Literal["caller", "library"]


@dataclass(frozen=True)
class Library:
    """The C library of one model. files: path below the project folder -> text. Sizes in bytes."""

    name: str
    files: Mapping[str, str]
    header: str
    arena_bytes: int
    input_sizes: tuple[int, ...]
    output_sizes: tuple[int, ...]
    constant_bytes: int


@dataclass(frozen=True)
class ConstantArray:
    """A constant C array; equal contents are emitted once."""

    symbol: str
    c_type: str
    values: Array
    comment: str


@dataclass(frozen=True)
class Call:
    """One step as C: the function and its arguments. Alias steps have no function, only a comment."""

    comment: str
    function: str | None
    arguments: tuple[str, ...]


def check_prefix(name: str) -> str:
    """Return `name` if it can prefix C identifiers, else raise UsageError."""
    if not _is_prefix(name):
        raise UsageError(
            f"--name '{name}' cannot prefix C identifiers: 1 to 32 of a-z, 0-9 and _, starting with a letter, "
            f"no C keyword or header, not starting with tg_\n  try --name {suggest_prefix(name)}"
        )
    return name


def _is_prefix(name: str) -> bool:
    reserved = name in C_KEYWORDS or name in C_HEADERS or name.startswith("tg_")
    return bool(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name)) and not reserved


def suggest_prefix(text: str) -> str:
    """A valid C prefix made from any text, e.g. a file's stem."""
    base = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]+", "_", text.lower())).strip("_")[:32].rstrip("_")
    return base if _is_prefix(base) else f"model_{base}"[:32].rstrip("_")


@cache
def environment() -> jinja2.Environment:
    """The one template environment: strict, so that a missing value is an error and not an empty string."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(locate.folder("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["c_int"] = c_int
    env.filters["c_array"] = c_array
    env.filters["c_float"] = c_float
    env.filters["c_comment"] = c_comment
    env.filters["c_string"] = c_string
    return env


def c_int(value: int) -> str:
    """An int32 literal: INT32_MIN has none of its own in C."""
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)


def c_float(value: float) -> str:
    """A float literal that reads back as exactly this float32."""
    text = repr(float(np.format_float_positional(np.float32(value), unique=True)))
    return f"{text}f"


def c_comment(text: str) -> str:
    """Text from the model that cannot end a C comment or break a line."""
    return re.sub(r"[^\x20-\x7e]", "?", text).replace("\\", "/").replace("*/", "* /").replace("/*", "/ *")


def c_string(text: str) -> str:
    """A C string literal of any text (UTF-8, everything unusual as octal escapes)."""
    plain = set(range(0x20, 0x7F)) - {ord('"'), ord("\\"), ord("?")}
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def c_array(values: Array, per_line: int = 16) -> str:
    """Comma-separated literals, `per_line` on each line."""
    flat = [c_int(v) for v in values.reshape(-1).tolist()]
    lines = (", ".join(flat[i : i + per_line]) for i in range(0, len(flat), per_line))
    return ",\n".join(f"    {line}" for line in lines)


class Symbols:
    """C identifiers below the model's prefix, unique and derived from the layer's name."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._taken: set[str] = set()

    def make(self, *parts: str) -> str:
        """prefix_part_part, with characters that C does not know replaced, numbered if taken."""
        base = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9]+", "_", "_".join(parts))).strip("_").lower()[:80]
        name, count = f"{self._prefix}_{base}", 1
        while name in self._taken:
            name, count = f"{self._prefix}_{base}_{count}", count + 1
        self._taken.add(name)
        return name


class _Emitter:
    """Collects constant arrays and kernel functions of one model, each distinct one once."""

    def __init__(self, prefix: str) -> None:
        self.symbols = Symbols(prefix)
        self.arrays: list[ConstantArray] = []
        self.functions: dict[str, tuple[str, str]] = {}  # body with a placeholder -> (name, text)
        self._by_content: dict[tuple[str, bytes], str] = {}

    def array(self, step: Step, role: str, values: Array) -> str:
        """Symbol of the array that holds these values."""
        key = (values.dtype.name, values.tobytes())
        if key not in self._by_content:
            symbol = self.symbols.make(step.bound.name, role)
            comment = f"{step.bound.name}: {role}, {' x '.join(map(str, values.shape))}"
            self.arrays.append(ConstantArray(symbol, C_TYPES[values.dtype.name], values, comment))
            self._by_content[key] = symbol
        return self._by_content[key]

    def function(self, step: Step) -> str:
        """Name of the C function that executes the step; steps whose C is equal share one function."""
        kernel = step.kernel.name
        template = environment().get_template(f"kernels/{kernel}.c.j2")
        body = template.render(fn="@FN@", p=ops.get(step.bound.node.op).params(step.bound))
        if body not in self.functions:
            name = self.symbols.make(kernel.removeprefix("tg_"), str(len(self.functions)))
            self.functions[body] = (name, body.replace("@FN@", name))
        return self.functions[body][0]

    def call(self, index: int, step: Step, plan: MemoryPlan) -> Call:
        """The step as a C call."""
        b = step.bound
        shapes = ", ".join(_shape(t) for t in b.activations)
        comment = f"{index} {b.name}: {b.node.op} {shapes} -> {_shape(b.output)}"
        if step.kernel.alias:
            return Call(f"{comment} (same bytes)", None, ())
        inputs = [f"base + {plan.offset(t.name)}" for t in b.activations]
        constants = [self.array(step, role, v) for role, v in step.kernel.constants(b).items()]
        scratch = [f"base + {plan.scratch_offset(index)}"] if step.scratch_bytes else []
        arguments = (*inputs, *constants, f"base + {plan.offset(b.output.name)}", *scratch)
        return Call(comment, self.function(step), arguments)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _class_count(graph: Graph, labels: Sequence[str]) -> int | None:
    """Classes of output 0: as many as labels, or as a softmax has; None where the model is no classifier."""
    output = graph.output_tensors[0]
    if labels and len(labels) != output.elements:
        raise UsageError(
            f"--labels names {len(labels)} classes, output '{output.name}' has {output.elements} elements\n"
            "  give one name per element, one a line"
        )
    producer = graph.producers.get(output.name)
    is_classifier = bool(labels) or (
        producer is not None and producer.op == "softmax" and len(output.shape) == 1
    )
    return output.elements if is_classifier else None


def emit_library(
    program: Program, plan: MemoryPlan, name: str, arena: Arena = "caller", labels: Sequence[str] = ()
) -> Library:
    """The library's files below lib/<name>/. name: C prefix (check_prefix). labels: class names of output 0."""
    emitter = _Emitter(check_prefix(name))
    calls = [emitter.call(i, step, plan) for i, step in enumerate(program.steps)]
    graph = program.graph
    context: dict[str, Any] = {
        "name": name,
        "NAME": name.upper(),
        "graph": graph,
        "inputs": [(t, plan.offset(t.name)) for t in graph.input_tensors],
        "outputs": [(t, plan.offset(t.name)) for t in graph.output_tensors],
        "arena_bytes": plan.arena_bytes,
        "own_arena": arena == "library",
        "labels": list(labels),
        "class_count": _class_count(graph, labels),
        "arrays": emitter.arrays,
        "functions": [text for _, text in emitter.functions.values()],
        "calls": calls,
        "uses_memory_functions": any("mem" in text for _, text in emitter.functions.values()),
    }
    folder = f"lib/{name}"
    files = {
        f"{folder}/{name}{suffix}": environment().get_template(f"library/model{suffix}.j2").render(context)
        for suffix in (".h", ".c", "_weights.h", "_weights.c")
    }
    files[f"{folder}/tg_fixedpoint.h"] = environment().get_template("kernels/tg_fixedpoint.h").render()
    return Library(
        name=name,
        files=files,
        header=f"{name}.h",
        arena_bytes=plan.arena_bytes,
        input_sizes=tuple(t.elements for t in graph.input_tensors),
        output_sizes=tuple(t.elements for t in graph.output_tensors),
        constant_bytes=sum(a.values.nbytes for a in emitter.arrays),
    )


def text_hash(files: Mapping[str, str]) -> str:
    """Hash over paths and texts, independent of their order."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0{len(files[path])}\0".encode())
        digest.update(files[path].encode())
    return digest.hexdigest()
