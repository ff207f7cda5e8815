"""add, sub and mul on DSP cores (Cortex-M4, M7, M33): four elements a turn, two instructions
and a shift for every rounding.

docs/kernels.md, "Elementwise", has the proof: all numbers stay below 2**30, shifts to the right are at least 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinygen.boards import Board
from tinygen.graph import BoundNode
from tinygen.ops import binary
from tinygen.ops.base import Kernel, dsp
from tinygen.ops.binary import Broadcast
from tinygen.ops.dsp_elements import Clamped, Words, rounding

LEFT = 20
"""Bits that both inputs of an add gain (add.LEFT_SHIFT)."""
HALF = 2**30
"""Multiplier of one half."""
MOST_RIGHT = 22
"""Greatest last shift: (1 + 2 * zero_point) << 21 and a high product below 2**29 together fit int32."""


@dataclass(frozen=True)
class Term:
    """One input of an add: q * 2**left - zero, and if not `is_shift` times the multiplier, rounded, shifted
    to the right."""

    is_shift: bool
    left: int
    zero: int
    multiplier: int
    right: int

    @property
    def rounding(self) -> int:
        return 1 << (self.right - 1)


def term(zero_point: int, multiplier: int, shift: int) -> Term:
    """Of an input with this rescaling to the common scale. One half is a shift by one bit less."""
    if (multiplier, shift) == (HALF, 0):
        return Term(True, LEFT - 1, zero_point << (LEFT - 1), 0, 1)
    return Term(False, LEFT + 1, zero_point << (LEFT + 1), multiplier, max(-shift, 1))


@dataclass(frozen=True)
class Finish(Words, Clamped):
    """From the doubled sum or product to the output. flat: both inputs run with the output, in `words` of four elements
    and a `rest`."""

    name: str
    loops: Broadcast
    multiplier: int
    right: int
    rounding: int
    activation_min: int
    activation_max: int

    @property
    def flat(self) -> bool:
        return len(self.loops.sizes) == 1 and self.loops.index1 == self.loops.index2 == "i0"

    @property
    def count(self) -> int:
        """Of a flat one."""
        return self.loops.sizes[0]


@dataclass(frozen=True)
class Sum(Finish):
    """Numbers of add and sub."""

    first: Term
    second: Term

    @property
    def sign(self) -> str:
        return "-" if self.name == "sub" else "+"


@dataclass(frozen=True)
class Product(Finish):
    """Numbers of mul."""

    zero_point1: int
    zero_point2: int


def sum_numbers(name: str, p: Any) -> Sum:
    """Numbers of an add or sub from those of the portable kernel (add.Params)."""
    return Sum(
        name,
        p.loops,
        p.output_multiplier,
        -p.output_shift,
        rounding(p.output_zero_point, -p.output_shift),
        p.activation_min,
        p.activation_max,
        term(p.zero_point1, p.multiplier1, p.shift1),
        term(p.zero_point2, p.multiplier2, p.shift2),
    )


def product_numbers(name: str, p: Any) -> Product:
    """Numbers of a mul from those of the portable kernel (mul.Params)."""
    return Product(
        name,
        p.loops,
        p.multiplier,
        -p.shift,
        rounding(p.output_zero_point, -p.shift),
        p.activation_min,
        p.activation_max,
        p.zero_point1,
        p.zero_point2,
    )


def cost(flat: float, loops: float) -> Callable[[BoundNode], float]:
    """Cycles per element: of words, of loops over what broadcasts."""

    def cycles(b: BoundNode) -> float:
        alike = all(t.shape == b.output.shape for t in b.inputs)
        return 20.0 + b.output.elements * (flat if alike else loops)

    return cycles


def _kernel(
    op: str, template: str, cycles: Callable[[BoundNode], float], numbers: Callable[[BoundNode], Finish]
) -> Kernel:
    def takes(b: BoundNode, board: Board | None) -> bool:
        """The last shift is to the right."""
        return dsp(b, board) and 1 <= numbers(b).right <= MOST_RIGHT

    return Kernel(
        f"tg_{op}_s8_dsp",
        cycles,
        takes,
        binary.constants,
        in_place=binary.in_place,
        params=numbers,
        template=template,
        header="tg_dsp.h",
    )


def sum_kernel(op: str, params: Callable[[BoundNode], Any]) -> Kernel:
    """Of add or sub. params: those of the portable kernel."""
    return _kernel(op, "tg_add_s8_dsp", cost(18.0, 22.0), lambda b: sum_numbers(op, params(b)))


def product_kernel(params: Callable[[BoundNode], Any]) -> Kernel:
    """Of mul. params: those of the portable kernel."""
    return _kernel("mul", "tg_mul_s8_dsp", cost(13.2, 18.0), lambda b: product_numbers("mul", params(b)))
