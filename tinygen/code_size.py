"""What code weighs before a compiler has seen it: sizes measured once, kept in code_sizes.json, looked up by kernel.

A kernel's size is linear in what its C looks like: its tokens (branches that the template left out are missing), how
many of its numbers are 0 and 1 (loops of one turn and additions of nothing vanish), and its instructions of assembler.
The coefficients come from arm-none-eabi-gcc with the flags of building.py; `python -m benchmarks.code_sizes --write`
measures them anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tinygen.boards import Board

Encoding = Literal["thumb1", "thumb2", "helium"]
"""Instruction sets that differ in size: ARMv6-M, ARMv7-M and ARMv8-M, ARMv8.1-M with Helium."""
ENCODINGS: tuple[Encoding, ...] = ("thumb1", "thumb2", "helium")

TABLE = Path(__file__).with_name("code_sizes.json")
ANY = "*"
"""Entry of the table for kernels that it does not know."""
VECTORS = 192
"""Bytes of the vector table."""
STEP_BYTES = 16
"""Bytes of one start-up step: address, mask, value, kind."""
BYTES_PER_CYCLE = 2.6
"""Bytes of code fetched per cycle of the kernels' cost: an instruction has 2 or 4 bytes and takes a cycle or more."""


TWIN = re.compile(r"#if TG_HAS_DSP\n(.*?)#else\n.*?#endif\n", re.S)
"""Assembler, and C for machines that do not have its instructions: they compile that alone."""
INSTRUCTION = re.compile(r'^\s*"[a-z][^"]*\\n"', re.M)


@dataclass(frozen=True)
class Features:
    """What a kernel's C looks like: tokens without comments, how many of them are the numbers 1 and 0, and lines of
    assembler, which are no tokens."""

    tokens: int
    ones: int
    zeros: int
    instructions: int = 0

    @classmethod
    def of(cls, text: str) -> Features:
        """Those of a C function."""
        compiled, instructions = INSTRUCTION.subn("", TWIN.sub(r"\1", text))
        tokens = re.findall(r"\w+|[^\w\s]", re.sub(r"/\*.*?\*/", " ", compiled, flags=re.S))
        return cls(len(tokens), tokens.count("1"), tokens.count("0"), instructions)


def encoding_of(cpu: str) -> Encoding:
    """The instruction set of a core, as far as sizes differ."""
    if cpu in ("cortex-m0", "cortex-m0plus"):
        return "thumb1"
    return "helium" if cpu == "cortex-m55" else "thumb2"


@cache
def table() -> Mapping[str, Any]:
    """code_sizes.json: per encoding kernels -> coefficients, the entry function, the firmware around it."""
    data: Mapping[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return data


def function_bytes(kernel: str, text: str, encoding: Encoding = "thumb2") -> int:
    """Estimated bytes of a kernel's code. kernel: name of its template; text: its C."""
    known = table()[encoding]["kernels"]
    entry, f = known.get(kernel, known[ANY]), Features.of(text)
    *of_c, each = entry["linear"]
    low, high = entry["range"]
    c = sum(a * b for a, b in zip(of_c, (1, f.tokens, f.ones, f.zeros), strict=True))
    return int(min(max(c, low), high) + each * f.instructions + 0.5)


def entry_bytes(calls: int, arguments: int, encoding: Encoding = "thumb2") -> int:
    """Estimated bytes of name_invoke(), name_input() and name_output(). arguments: of all calls together."""
    constant, call, argument = table()[encoding]["entry"]
    return int(constant + call * calls + argument * arguments + 0.5)


def helper_bytes(kernels: Iterable[str], encoding: Encoding = "thumb2") -> int:
    """Bytes of the functions of compiler and C library that these kernels call: signed division on ARMv6-M; in float32
    mathematical functions, and arithmetic on ARMv6-M, which has no FPU."""
    called, helpers, mathematics = set(kernels), *(table()[encoding][k] for k in ("helpers", "mathematics"))
    division = helpers["bytes"] if called & set(helpers["kernels"]) else 0
    arithmetic = mathematics["arithmetic"] if any(k.endswith("_f32") for k in called) else 0
    functions = mathematics["functions"] if called & set(mathematics["kernels"]) else 0
    return int(division + arithmetic + functions)


@dataclass(frozen=True)
class Fixed:
    """What every image of a board carries besides a model. text: code; data: vectors, boot header, texts and steps."""

    text: int
    data: int

    @property
    def bytes(self) -> int:
        """Both."""
        return self.text + self.data


def firmware_bytes(board: Board, header: int = 0) -> Fixed:
    """Estimated bytes of the firmware around a model. header: those of the boot header."""
    entry = table()[encoding_of(board.cpu)]["firmware"]
    data = VECTORS + header + int(entry["rodata"]) + STEP_BYTES * len(board.startup.steps)
    return Fixed(int(entry["text"]), data)


def executed_bytes(cycles: float) -> int:
    """Estimated bytes of code fetched in so many cycles."""
    return int(BYTES_PER_CYCLE * cycles)
