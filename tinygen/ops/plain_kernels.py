"""conv2d and dense on cores without SIMD (Cortex-M0, M0+, M3), around the products of plain_product.py.

The window of every output is copied into a column of unsigned bytes; any window, one group.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinygen.boards import Board
from tinygen.graph import BoundNode
from tinygen.ops import convolution, plain_product
from tinygen.ops.base import Kernel, reads_per
from tinygen.ops.plain_product import Product

# ---- conv2d


@dataclass(frozen=True)
class Columns:
    """c: the window. run: neighbouring bytes of the input that are copied at once. single: a column is one pixel of the
    input; inside: no window reaches over a border."""

    c: convolution.Params
    product: Product
    run: int
    single: bool
    inside: bool


def columns(b: BoundNode) -> Columns:
    """Numbers of one node."""
    weights = b.inputs[1]
    c = convolution.params(b, (weights.shape[1], weights.shape[2]), b.attrs.groups)
    run = c.in_c * (c.kernel_w if c.dilation_w == 1 else 1)
    inside = not c.overhang.any
    return Columns(c, plain_product.product(b), run, inside and c.kernel_h == c.kernel_w == 1, inside)


def takes_columns(b: BoundNode, board: Board | None) -> bool:
    """One group."""
    return bool(b.attrs.groups == 1)


def pixels(b: BoundNode) -> int:
    """Outputs of one channel."""
    return b.output.elements // b.output.shape[-1]


def products(b: BoundNode) -> int:
    """Of one output."""
    return b.inputs[1].elements // b.inputs[1].shape[0]


def column_cost(b: BoundNode) -> float:
    """Per output: the products, 10 cycles a byte of the column, 20 a tap."""
    _, kernel_h, kernel_w, depth = b.inputs[1].shape
    building = kernel_h * kernel_w * (10.0 * depth + 20.0)
    return pixels(b) * (plain_product.cycles(b) + building + 40.0)


def columns_in_place(b: BoundNode) -> tuple[int, ...]:
    """A pixel is copied before it is overwritten."""
    _, kernel_h, kernel_w, _ = b.inputs[1].shape
    single = kernel_h == kernel_w == 1 and b.attrs.stride == (1, 1) and not b.attrs.padding.any
    return (0,) if single and b.inputs[0].shape == b.output.shape else ()


CONV2D = Kernel(
    "tg_conv2d_s8_tiled",
    column_cost,
    takes_columns,
    plain_product.constants,
    lambda b: plain_product.column_bytes(products(b)),
    columns_in_place,
    reads=reads_per(pixels),
    params=columns,
    header="tg_plain.h",
)


# ---- dense


@dataclass(frozen=True)
class Rows:
    """rows of inputs, each a column."""

    rows: int
    product: Product


def row_cost(b: BoundNode) -> float:
    """Per row: the products, 10 cycles an input."""
    return pixels(b) * (plain_product.cycles(b) + 10.0 * products(b) + 40.0)


DENSE = Kernel(
    "tg_dense_s8_tiled",
    row_cost,
    constants=plain_product.constants,
    scratch=lambda b: plain_product.column_bytes(products(b)),
    in_place=lambda b: (0,) if b.inputs[0].shape == b.output.shape else (),
    reads=reads_per(pixels),
    params=lambda b: Rows(pixels(b), plain_product.product(b)),
    header="tg_plain.h",
)
