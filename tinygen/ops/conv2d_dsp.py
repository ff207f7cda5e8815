"""conv2d on DSP cores (Cortex-M4, M7, M33): two kernels around the tile of dsp_product.py.

columns: the window of every output is copied into a column of int16 (im2col), a few at a time; any window.
rows: rows of the input are widened into a ring once and read where they stand; kernels of up to three rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import convolution, dsp_product
from tinygen.ops.base import Kernel, dsp, reads_per
from tinygen.ops.dsp_product import MOST_UNROLLED, REACHED, Tiles

BLOCK_BYTES = 1024
MOST_COLUMNS = 16
"""Columns of one block: as many as fit these bytes, at most 16, whole tiles and at least one."""
MOST_ROWS = 3
"""Rows of a kernel that the tile has pointers for."""


def _even(n: int) -> int:
    """n rounded up to an even number."""
    return n + n % 2


def _geometry(b: BoundNode) -> convolution.Params:
    weights = b.inputs[1]
    return convolution.params(b, (weights.shape[1], weights.shape[2]), b.attrs.groups)


# ---- columns


@dataclass(frozen=True)
class Columns:
    """c: the window. column: int16 of one column, even; block: columns at a time. contiguous: a column is a pixel of
    the input and follows the one before."""

    c: convolution.Params
    products: int
    column: int
    block: int
    contiguous: bool
    tiles: Tiles


def columns(b: BoundNode) -> Columns:
    """Numbers of one node."""
    c = _geometry(b)
    products = c.kernel_h * c.kernel_w * c.in_c
    column = _even(products)
    tiles = dsp_product.tiles(b, c.out_h * c.out_w, column // 2, 2 * column)
    whole = tiles.many.pixels
    most = min(MOST_COLUMNS, BLOCK_BYTES // (2 * column), -(-c.out_h * c.out_w // whole) * whole)
    single = c.kernel_h == c.kernel_w == c.stride_h == c.stride_w == 1
    inside = single and not b.attrs.padding.any
    block = max(1, most // whole) * whole
    return Columns(c, products, column, block, inside and column == products, tiles)


def takes_columns(b: BoundNode, board: Board | None) -> bool:
    """Exact, one group, and within reach of the tile's offsets."""
    channels, *window = b.inputs[1].shape
    reach = 2 * _even(int(np.prod(window))) <= REACHED - 4 * MOST_UNROLLED and 2 * channels < REACHED
    return dsp(b, board) and b.attrs.groups == 1 and reach and dsp_product.exact(b)


def column_constants(b: BoundNode) -> Mapping[str, Array]:
    """Weights in the order (ky, kx, channel)."""
    return dsp_product.constants(b, lanes=2)


def column_cost(b: BoundNode) -> float:
    """The product, and 2.5 cycles per int16 of a column, 12 a run."""
    p = columns(b)
    pixels = p.c.out_h * p.c.out_w
    runs = 1 if p.contiguous else p.c.kernel_h * (1 if p.c.dilation_w == 1 else p.c.kernel_w)
    building = 2.5 * p.column + (0 if p.contiguous else 20.0 * runs + 20)
    return pixels * building + p.tiles.cycles(pixels) + 60.0 * pixels / p.block


def columns_in_place(b: BoundNode) -> tuple[int, ...]:
    """A block of pixels is copied before it is overwritten."""
    p = columns(b)
    return (0,) if p.contiguous and p.c.in_c == p.c.out_c else ()


# ---- rows


@dataclass(frozen=True)
class Rows:
    """c: the window. pitch: int16 from one row of the ring to the next. left, row: int16 of a row before the input's
    first pixel, and of the input's pixels."""

    c: convolution.Params
    pitch: int
    left: int
    row: int
    tiles: Tiles
    in_place: bool


def rows(b: BoundNode) -> Rows:
    """Numbers of one node."""
    c = _geometry(b)
    width = max(c.pad_left + c.in_w, (c.out_w - 1) * c.stride_w + c.kernel_w)
    pairs, step = _even(c.kernel_w * c.in_c) // 2, 2 * c.stride_w * c.in_c
    tiles = dsp_product.tiles(b, c.out_w, pairs, step, c.kernel_h)
    return Rows(
        c, _even(width * c.in_c) + 2, c.pad_left * c.in_c, c.in_w * c.in_c, tiles, bool(rows_in_place(b))
    )


def takes_rows(b: BoundNode, board: Board | None) -> bool:
    """Exact, one group, at most three rows, no dilation, and within reach of the tile's offsets."""
    channels, kernel_h, _, depth = b.inputs[1].shape
    step = 2 * b.attrs.stride[1] * depth
    reach = step <= REACHED - 4 * MOST_UNROLLED and 2 * channels < REACHED
    plain = b.attrs.groups == 1 and b.attrs.dilation == (1, 1) and kernel_h <= MOST_ROWS
    return dsp(b, board) and plain and reach and dsp_product.exact(b)


def row_constants(b: BoundNode) -> Mapping[str, Array]:
    """Weights row by row of the kernel, each with an even number of products."""
    return dsp_product.constants(b, lanes=2, runs=b.inputs[1].shape[1])


def row_scratch(b: BoundNode) -> int:
    """The ring of widened rows."""
    p = rows(b)
    return 2 * p.c.kernel_h * p.pitch


def row_cost(b: BoundNode) -> float:
    """The product, 2.5 cycles per int16 that is widened, the ring's first filling, a call or two per row."""
    p = rows(b)
    c = p.c
    # A pixel at an odd int16 makes the second load of every pair of products one cycle longer.
    many = p.tiles.many
    odd_step = (c.stride_w * c.in_c) % 2 * c.kernel_h * many.pairs * (many.full + bool(many.rest))
    turns, left = divmod(c.out_w, many.pixels)
    turn = odd_step * (many.pixels // 2) + 5.0 * c.kernel_h
    line = p.tiles.cycles(c.out_w) + turns * turn + (60 if left else 0.0) + 100
    widened = min(c.out_h * c.stride_h, c.in_h) * p.row
    return c.out_h * line + 2.5 * widened + 2.0 * c.kernel_h * p.pitch


def rows_in_place(b: BoundNode) -> tuple[int, ...]:
    """Where every row of the input is in the ring before the output's rows reach it."""
    c = _geometry(b)
    read = [min(y * c.stride_h - c.pad_top + c.kernel_h, c.in_h) for y in range(c.out_h)]
    behind = all(
        (y + 1) * c.out_w * c.out_c <= max(r, 0) * c.in_w * c.in_c or r >= c.in_h for y, r in enumerate(read)
    )
    return (0,) if behind else ()


KERNELS = (
    Kernel(
        "tg_conv2d_s8_dsp_columns",
        column_cost,
        takes_columns,
        column_constants,
        lambda b: 2 * columns(b).column * columns(b).block,
        columns_in_place,
        reads=reads_per(lambda b: columns(b).tiles.calls(b.output.elements // b.output.shape[2])),
        params=columns,
        header="tg_dsp.h",
    ),
    Kernel(
        "tg_conv2d_s8_dsp_rows",
        row_cost,
        takes_rows,
        row_constants,
        row_scratch,
        rows_in_place,
        reads=reads_per(lambda b: b.output.shape[0] * rows(b).tiles.calls(b.output.shape[1])),
        params=rows,
        header="tg_dsp.h",
    ),
)
