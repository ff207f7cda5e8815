"""dense on DSP cores (Cortex-M4, M7, M33): the input widened to int16 once, then eight channels at a time."""

from __future__ import annotations

from dataclasses import dataclass

from tinygen.boards import Board
from tinygen.graph import BoundNode
from tinygen.ops import dsp_product
from tinygen.ops.base import Kernel, dsp, reads_per
from tinygen.ops.dsp_product import REACHED, Tile

LANES = 4


@dataclass(frozen=True)
class Params:
    """rows of in_c inputs each; column: int16 of a widened row, even."""

    rows: int
    in_c: int
    out_c: int
    column: int
    one: Tile


def params(b: BoundNode) -> Params:
    """Numbers of one node."""
    out_c, in_c = b.inputs[1].shape
    column = in_c + in_c % 2
    one = dsp_product.tile(b, 1, column // 2, 2 * column, lanes=LANES)
    return Params(b.output.elements // out_c, in_c, out_c, column, one)


def takes(b: BoundNode, board: Board | None) -> bool:
    """Exact, and within reach of the tile's offsets."""
    return dsp(b, board) and b.inputs[1].shape[0] < REACHED and dsp_product.exact(b)


def cost(b: BoundNode) -> float:
    """The product, 2.5 cycles per input, a call per row."""
    p = params(b)
    return p.rows * (dsp_product.cycles(p.one) + 2.5 * p.column + 60)


KERNEL = Kernel(
    "tg_dense_s8_dsp",
    cost,
    takes,
    lambda b: dsp_product.constants(b, LANES),
    lambda b: 2 * params(b).column,
    reads=reads_per(lambda b: params(b).rows),
    params=params,
    header="tg_dsp.h",
)
