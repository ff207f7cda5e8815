"""conv2d and dense as a product of rows: every output pixel reads bytes of its own that lie side by side. Kernels for
rows that the tiles of dsp_product.py suit badly, because nothing is read twice or too little is summed up.

dot: few output channels on DSP cores: rows are widened in registers, word by word. pairs: at most two inputs on DSP
cores: one SMLAD an output. table: one input on any core: what every value of it gives, looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import dsp_product
from tinygen.ops.base import Kernel, dsp, reads_per
from tinygen.ops.dsp_elements import clamps
from tinygen.ops.dsp_product import Operands
from tinygen.ops.requant import requant_of, wrapped

WORD = 4
"""Activations of a word."""
MOST_UNROLLED = 2
"""Words of a row in one turn of the inner loop: with more of them registers go to the stack."""
MOST_ROWS = 4
"""Rows that `pairs` multiplies at a time."""
MOST_TABLE = 65536
"""Bytes of a table."""


@dataclass(frozen=True)
class Rows:
    """rows of in_c inputs, out_c outputs each. low, high: of the clamp."""

    rows: int
    in_c: int
    out_c: int
    low: int
    high: int

    @property
    def clamps(self) -> bool:
        """Narrower than int8."""
        return clamps(self.low, self.high)


def is_rows(b: BoundNode) -> bool:
    """Dense layers; convolutions by one pixel, or by the whole image, that skip and pad nothing."""
    if b.node.op == "dense":
        return True
    attrs, (height, width) = b.attrs, b.inputs[1].shape[1:3]
    whole = (height, width) == b.inputs[0].shape[:2] and attrs.dilation == (1, 1)
    single = (height, width) == (1, 1) and attrs.stride == (1, 1)
    return bool(attrs.groups == 1 and not attrs.padding.any and (whole or single))


def rows(b: BoundNode) -> Rows:
    """Numbers of one node."""
    weights, requant = b.inputs[1], requant_of(b)
    out_c = weights.shape[0]
    count, in_c = b.output.elements // out_c, weights.elements // out_c
    return Rows(count, in_c, out_c, requant.activation_min, requant.activation_max)


def joined(b: BoundNode, board: Board | None) -> bool:
    """A product of rows on a core with DSP instructions, whose quick requantization is proved with one rounding."""
    if not (dsp(b, board) and is_rows(b) and dsp_product.exact(b)):
        return False
    return dsp_product.operands(b).joined


def heads(o: Operands) -> Array:
    """(channels, 4): doubled bias, multiplier, right, rounding."""
    return np.stack([2 * o.bias, o.multiplier, o.right, o.rounding], axis=1)


def words(low: Array, high: Array) -> Array:
    """Doubled weights as pairs of int16."""
    return np.asarray(((2 * low) & 0xFFFF) | ((2 * high) << 16))


# ---- few outputs


@dataclass(frozen=True)
class Dot(Rows):
    """at_once: rows that share a word of weights. turns * unrolled + left whole words of a row; a last one, where the
    row has other bytes, ends with the row and has zeros for what the words before it have."""

    at_once: int
    turns: int
    unrolled: int
    left: int

    @property
    def last(self) -> bool:
        return self.in_c % WORD != 0

    @property
    def words(self) -> int:
        return -(-self.in_c // WORD)

    @property
    def channel_words(self) -> int:
        """Of the stream."""
        return 4 + 2 * self.words


def dot(b: BoundNode) -> Dot:
    """Numbers of one node."""
    r = rows(b)
    whole = r.in_c // WORD
    unrolled = min(whole, MOST_UNROLLED)
    return Dot(
        **vars(r), at_once=min(r.rows, 2), turns=whole // unrolled, unrolled=unrolled, left=whole % unrolled
    )


def takes_dot(b: BoundNode, board: Board | None) -> bool:
    """Rows of at least a word."""
    return joined(b, board) and rows(b).in_c >= WORD


def dot_constants(b: BoundNode) -> Mapping[str, Array]:
    """Per channel the head, then two words for every word of a row: bytes 0 and 2, bytes 1 and 3."""
    o, d = dsp_product.operands(b), dot(b)
    weights = np.zeros((d.out_c, d.words * WORD), np.int64)
    weights[:, : d.in_c] = o.weights
    if d.last:
        weights[:, -WORD:] = np.roll(weights[:, -WORD:], WORD - d.in_c % WORD, axis=1)
    four = weights.reshape(d.out_c, -1, WORD)
    pairs = np.stack([words(four[..., 0], four[..., 2]), words(four[..., 1], four[..., 3])], axis=2)
    return {"weights": wrapped(np.concatenate([heads(o), pairs.reshape(d.out_c, -1)], axis=1))}


def dot_cost(b: BoundNode) -> float:
    """Words of two rows, or of one, and outputs."""
    d = dot(b)
    both, loop = divmod(d.rows, 2), 4.0 / d.unrolled if d.turns > 1 else 0.0
    two = d.words * (13.0 + loop) + 36.0
    one = d.words * (8.0 + loop) + 22.0
    return d.out_c * (both[0] * two + both[1] * one) + 10.0 * sum(both) + 30.0


# ---- two inputs


@dataclass(frozen=True)
class Pairs(Rows):
    """at_once: rows that share what is loaded per channel; unrolled: channels of one turn."""

    at_once: int
    unrolled: int


def pairs(b: BoundNode) -> Pairs:
    """Numbers of one node."""
    r = rows(b)
    at_once = min(r.rows, MOST_ROWS)
    return Pairs(**vars(r), at_once=at_once, unrolled=min(r.out_c, 2 if at_once < MOST_ROWS else 1))


def takes_pairs(b: BoundNode, board: Board | None) -> bool:
    """One or two inputs."""
    return joined(b, board) and rows(b).in_c <= 2


def pair_constants(b: BoundNode) -> Mapping[str, Array]:
    """Per channel the pair of weights, then the head."""
    o = dsp_product.operands(b)
    both = np.pad(o.weights, ((0, 0), (0, 2 - o.weights.shape[1])))
    return {"weights": wrapped(np.concatenate([words(both[:, :1], both[:, 1:]), heads(o)], axis=1))}


def pair_cost(b: BoundNode) -> float:
    """Channels of some rows, then of those left over."""
    p = pairs(b)
    together, left = divmod(p.rows, p.at_once)

    def several(n: int) -> float:
        return p.out_c * (6.0 + 6.5 * n + 5.0 / p.unrolled) + 6.0 * n + 10.0

    return together * several(p.at_once) + left * several(1) + 30.0


# ---- one input


def takes_table(b: BoundNode, board: Board | None) -> bool:
    """One input."""
    if not (is_rows(b) and all(t.data is not None for t in b.inputs[1:])):
        return False
    r = rows(b)
    return r.in_c == 1 and 256 * r.out_c <= MOST_TABLE


def table(b: BoundNode) -> Mapping[str, Array]:
    """(256, out_c): the outputs for the inputs -128 ... 127."""
    weights, bias = b.inputs[1].data, b.inputs[2].data
    assert weights is not None and bias is not None
    x = np.arange(-128, 128)[:, np.newaxis] - b.inputs[0].zero_point
    return {"table": requant_of(b).apply(x * weights.reshape(1, -1).astype(np.int64) + bias)}


def table_cost(b: BoundNode) -> float:
    """Bytes that are copied."""
    r = rows(b)
    return r.rows * (10.0 + 0.6 * r.out_c) + 20.0


def kernels(op: str) -> tuple[Kernel, ...]:
    """Those of conv2d or dense."""
    return (
        Kernel(
            f"tg_{op}_s8_dsp_dot",
            dot_cost,
            takes_dot,
            dot_constants,
            reads=reads_per(lambda b: -(-rows(b).rows // 2)),
            params=dot,
            template="tg_product_s8_dsp_dot",
            header="tg_dsp.h",
        ),
        Kernel(
            f"tg_{op}_s8_dsp_pairs",
            pair_cost,
            takes_pairs,
            pair_constants,
            reads=reads_per(lambda b: sum(divmod(rows(b).rows, pairs(b).at_once))),
            params=pairs,
            template="tg_product_s8_dsp_pairs",
            header="tg_dsp.h",
        ),
        Kernel(
            f"tg_{op}_s8_table",
            table_cost,
            takes_table,
            table,
            in_place=lambda b: (0,) if rows(b).out_c == 1 else (),
            reads=lambda b, role, values, macs: b.output.elements,
            params=rows,
            template="tg_product_s8_table",
        ),
    )
