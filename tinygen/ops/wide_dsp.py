"""conv2d and dense as a product of rows (row_product.py) of any sum on DSP cores (Cortex-M4, M7, M33).

Nothing is widened beforehand: a word of the input, four bytes, meets a word of each of four channels, and all are split
into even and odd bytes on the way. Slower than the lanes of dsp_product.py, but without scratch, with little code, and
for every sum that int32 holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import row_product
from tinygen.ops.base import Kernel, dsp, reads_per
from tinygen.ops.requant import Requant, folded_bias, requant_of, wrapped
from tinygen.ops.row_product import WORD

GROUP = 4
"""Output channels that share a word of the input."""


@dataclass(frozen=True)
class Params:
    """rows of in_c inputs and out_c outputs. words: whole ones of a row; tail: bytes behind them. full: groups of GROUP
    channels; rest: channels behind them."""

    rows: int
    in_c: int
    out_c: int
    words: int
    tail: int
    full: int
    rest: int
    requant: Requant


def params(b: BoundNode) -> Params:
    """Numbers of one node."""
    r = row_product.rows(b)
    words, tail = divmod(r.in_c, WORD)
    full, rest = divmod(r.out_c, GROUP)
    return Params(r.rows, r.in_c, r.out_c, words, tail, full, rest, requant_of(b))


def constants(b: BoundNode) -> Mapping[str, Array]:
    """weights: group by group, of every channel of the group a word after the other, zeros behind a row's end. bias:
    with the input's zero_point folded in."""
    p, data = params(b), b.inputs[1].data
    assert data is not None
    rows = np.pad(data.reshape(p.out_c, p.in_c), ((0, 0), (0, -p.in_c % WORD))).reshape(p.out_c, -1, WORD)
    groups = [
        rows[first : first + GROUP].transpose(1, 0, 2).reshape(-1) for first in range(0, p.out_c, GROUP)
    ]
    return {
        "weights": np.concatenate(groups),
        "bias": wrapped(folded_bias(b, 0)),
        "multiplier": np.array(p.requant.multiplier, np.int32),
        "shift": np.array(p.requant.shift, np.int8),
    }


def takes(b: BoundNode, board: Board | None) -> bool:
    """Products of rows; the bias is folded modulo 2**32, in which every sum comes out right."""
    return dsp(b, board) and row_product.is_rows(b) and all(t.data is not None for t in b.inputs[1:])


def cost(b: BoundNode) -> float:
    """Words of a group, and what every output costs beside its products."""
    p = params(b)
    groups = p.full + (p.rest > 0)
    words = p.words + (p.tail > 0)
    return p.rows * (words * (5.0 * p.out_c + 9.0 * groups) + 58.0 * p.out_c + 8.0)


DENSE, CONV2D = (
    Kernel(
        f"tg_{op}_s8_dsp_wide",
        cost,
        takes,
        constants,
        reads=reads_per(lambda b: params(b).rows),
        params=params,
        template="tg_product_s8_dsp_wide",
        header="tg_dsp.h",
    )
    for op in ("dense", "conv2d")
)
