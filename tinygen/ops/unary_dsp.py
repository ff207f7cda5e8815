"""activation and requantize on DSP cores (Cortex-M4, M7, M33): four elements a turn.

docs/kernels.md, "Elementwise".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops.base import Kernel, dsp
from tinygen.ops.dsp_elements import Clamped, Words, rounding

MOST_RIGHT, MOST_LEFT = 22, 21
"""Shifts for which |input - zero_point| <= 255, doubled and shifted to the left, and the last sum stay in int32."""


@dataclass(frozen=True)
class Flat(Words):
    """So many elements: words of four and a rest."""

    size: int

    @property
    def count(self) -> int:
        return self.size


@dataclass(frozen=True)
class Rescaled(Flat, Clamped):
    """Numbers of requantize: q * factor - zero, times the multiplier, shifted to the right by `right` (0: not)."""

    factor: int
    zero: int
    multiplier: int
    right: int
    rounding: int
    activation_min: int
    activation_max: int


def rescaled(p: Any) -> Rescaled:
    """Numbers of one node from those of the portable kernel (requantize.Params)."""
    right, factor = max(-p.shift, 0), 2 << max(p.shift, 0)
    added, bounds = rounding(p.output_zero_point, right), (p.activation_min, p.activation_max)
    return Rescaled(p.size, factor, p.input_zero_point * factor, p.multiplier, right, added, *bounds)


def requantize_kernel(
    params: Callable[[BoundNode], Any], in_place: Callable[[BoundNode], tuple[int, ...]]
) -> Kernel:
    """Of requantize from int8 to int8. params: those of the portable kernel."""

    def takes(b: BoundNode, board: Board | None) -> bool:
        """int8 to int8, shifts for which nothing overflows."""
        bytes_ = b.inputs[0].itemsize == b.output.itemsize == 1
        return dsp(b, board) and bytes_ and -MOST_RIGHT <= params(b).shift <= MOST_LEFT

    return Kernel(
        "tg_requantize_s8_dsp",
        lambda b: 20.0 + 9.5 * b.output.elements,
        takes,
        in_place=in_place,
        params=lambda b: rescaled(params(b)),
        header="tg_dsp.h",
    )


def activation_kernel(constants: Callable[[BoundNode], Mapping[str, Array]]) -> Kernel:
    """Of activation by a table."""
    return Kernel(
        "tg_activation_s8_dsp",
        lambda b: 20.0 + 5.5 * b.output.elements,
        dsp,
        constants,
        in_place=lambda b: (0,),
        params=lambda b: Flat(b.output.elements),
        header="tg_dsp.h",
    )
