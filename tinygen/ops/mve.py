"""conv2d, dense and add on cores with Helium (Cortex-M55): 16 products an instruction, requantization of four channels.

The window of an output is a column of int8, padded to whole vectors; four output channels meet it at a time. The
input's zero_point is folded into the bias. Requantization is exact for every accumulator: docs/kernels.md, "Helium".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import convolution
from tinygen.ops.base import Kernel, reads_per
from tinygen.ops.requant import Requant, folded_bias, requant_of, wrapped

LANES = 16
"""Bytes of a vector."""
WIDTH = 4
"""Output channels computed together."""


def helium(b: BoundNode, board: Board | None) -> bool:
    """Cores with the vector extension: M55."""
    return board is not None and "mve" in board.isa


def pixels(b: BoundNode) -> int:
    """Outputs of one channel."""
    return b.output.elements // b.output.shape[-1]


def products(b: BoundNode) -> int:
    """Of one output."""
    return b.inputs[1].elements // b.inputs[1].shape[0]


def blocks(b: BoundNode) -> int:
    """Vectors of a column."""
    return -(-products(b) // LANES)


def packed(b: BoundNode) -> Mapping[str, Array]:
    """int32 stream, per four channels: biases, multipliers, shifts (positive: left), weights for 16 products each."""
    weights, requant = b.inputs[1].data, requant_of(b)
    assert weights is not None
    channels, spare = len(weights), -len(weights) % WIDTH
    flat = weights.reshape(channels, -1)
    head = np.stack(
        [folded_bias(b, 0), np.array(requant.multiplier, np.int64), np.array(requant.shift, np.int64)]
    )
    heads = wrapped(np.pad(head, ((0, 0), (0, spare)))).reshape(3, -1, WIDTH).transpose(1, 0, 2)
    padded = np.pad(flat, ((0, spare), (0, LANES * blocks(b) - flat.shape[1])))
    vectors = np.ascontiguousarray(padded.reshape(-1, WIDTH, blocks(b), LANES).transpose(0, 2, 1, 3))
    words = vectors.reshape(len(heads), -1).view("<i4")
    return {"weights": np.concatenate([heads.reshape(len(heads), -1), words], axis=1)}


def left(requant: Requant) -> int:
    """1 where some channel shifts to the left."""
    return int(max(requant.shift) > 0)


def cycles(b: BoundNode) -> float:
    """Instructions of all output channels of one column: 11 a vector of four channels, 36 for four outputs."""
    return -(-b.inputs[1].shape[0] // WIDTH) * (11.0 * blocks(b) + 36.0)


# ---- conv2d


@dataclass(frozen=True)
class Columns:
    """c: the window. blocks: vectors of a column. direct: a column is whole vectors where it stands in the input.
    left: some channel shifts to the left."""

    c: convolution.Params
    blocks: int
    direct: bool
    zero_point: int
    low: int
    high: int
    left: int


def single(b: BoundNode) -> bool:
    """Every window is one pixel of the input."""
    return bool(b.inputs[1].shape[1:3] == (1, 1) and not b.attrs.padding.any)


def direct(b: BoundNode) -> bool:
    """A column can be read where it stands."""
    return single(b) and products(b) % LANES == 0


def columns(b: BoundNode) -> Columns:
    """Numbers of one node."""
    weights, requant = b.inputs[1], requant_of(b)
    c = convolution.params(b, (weights.shape[1], weights.shape[2]), b.attrs.groups)
    limits = requant.activation_min, requant.activation_max, left(requant)
    return Columns(c, blocks(b), direct(b), requant.output_zero_point, *limits)


def column_cost(b: BoundNode) -> float:
    """Per output: the products, 12 instructions a row of the window, 7 a vector of it."""
    building = 0.0 if direct(b) else 12.0 * b.inputs[1].shape[1] + 7.0 * blocks(b)
    return pixels(b) * (cycles(b) + building + 20.0)


CONV2D = Kernel(
    "tg_conv2d_s8_mve",
    column_cost,
    lambda b, board: helium(b, board) and b.attrs.groups == 1,
    packed,
    lambda b: 0 if direct(b) else LANES * blocks(b),
    reads=reads_per(pixels),
    params=columns,
    header="tg_mve.h",
)


# ---- dense


@dataclass(frozen=True)
class Rows:
    """rows of `products` inputs each. direct: a row is whole vectors."""

    rows: int
    products: int
    channels: int
    blocks: int
    direct: bool
    zero_point: int
    low: int
    high: int
    left: int


def whole(b: BoundNode) -> bool:
    """A row can be read where it stands."""
    return products(b) % LANES == 0


def rows(b: BoundNode) -> Rows:
    """Numbers of one node."""
    requant = requant_of(b)
    limits = requant.activation_min, requant.activation_max, left(requant)
    size = pixels(b), products(b), b.inputs[1].shape[0], blocks(b)
    return Rows(*size, whole(b), requant.output_zero_point, *limits)


DENSE = Kernel(
    "tg_dense_s8_mve",
    lambda b: pixels(b) * (cycles(b) + (0.0 if whole(b) else 7.0 * blocks(b)) + 20.0),
    helium,
    packed,
    lambda b: 0 if whole(b) else LANES * blocks(b),
    reads=reads_per(pixels),
    params=rows,
    header="tg_mve.h",
)
