"""dense and pointwise conv2d on DSP cores (Cortex-M4, M7, M33) from int8 to int8: nothing is widened beforehand.

A word of the input, four bytes, meets a word of each of four channels: all are split into even and odd bytes on the
way. Slower than the lanes of dsp_product.py, but without scratch, with little code, and for every sum that int32 holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops.base import Kernel, dsp, reads_per
from tinygen.ops.requant import Requant, folded_bias, requant_of, wrapped

GROUP = 4
"""Output channels that share a word of the input."""
WORD = 4


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
    channels, depth = b.inputs[1].shape[0], b.inputs[1].shape[-1]
    words, tail = divmod(depth, WORD)
    full, rest = divmod(channels, GROUP)
    return Params(b.output.elements // channels, depth, channels, words, tail, full, rest, requant_of(b))


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
    """Rows of whole channels; the bias is folded modulo 2**32, in which every sum comes out right."""
    return dsp(b, board) and all(t.data is not None for t in b.inputs[1:])


def takes_pointwise(b: BoundNode, board: Board | None) -> bool:
    """A 1 x 1 convolution that looks at every pixel once."""
    if not takes(b, board):
        return False
    a, (_, height, width, _) = b.attrs, b.inputs[1].shape
    plain = (a.stride, a.groups, height, width) == ((1, 1), 1, 1, 1)
    return plain and not a.padding.any


def cost(b: BoundNode) -> float:
    """Words of a group, and what every output costs beside its products."""
    p = params(b)
    groups = p.full + (p.rest > 0)
    words = p.words + (p.tail > 0)
    return p.rows * (words * (5.0 * p.out_c + 9.0 * groups) + 58.0 * p.out_c + 8.0)


def rows(b: BoundNode) -> int:
    """How often weights are read."""
    return params(b).rows


DENSE, CONV2D = (
    Kernel(
        name,
        cost,
        supports,
        constants,
        reads=reads_per(rows),
        params=params,
        template="tg_product_s8_dsp_wide",
        header="tg_dsp.h",
    )
    for name, supports in (("tg_dense_s8_dsp_wide", takes), ("tg_conv2d_s8_dsp_wide", takes_pointwise))
)
