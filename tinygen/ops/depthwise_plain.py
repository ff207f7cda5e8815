"""depthwise_conv2d on cores without SIMD (Cortex-M0, M0+, M3): channel by channel, over a few rows of unsigned bytes.

The rows under the window are copied, padding included, before the output reaches them: it may overwrite the input.
docs/kernels.md, "Plain cores".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import convolution
from tinygen.ops.base import Kernel
from tinygen.ops.plain_product import RAISED, quick, shifts
from tinygen.ops.requant import folded_bias, requant_of, wrapped

MOST_TAPS = 25
"""Of a window: its products are written out in the kernel."""


@dataclass(frozen=True)
class Params:
    """c: the window. span, width: rows under the window and bytes of each, padding included. columns: of the input
    that windows see. fill: the input's zero_point as unsigned byte. outside: a window reaches over the upper or lower
    border. words: of a channel in the stream. quick: the short requantization is proved. low, high: of the clamp."""

    c: convolution.Params
    span: int
    width: int
    columns: int
    taps: int
    fill: int
    outside: bool
    words: int
    quick: bool
    in_place: bool
    zero_point: int
    low: int
    high: int


def geometry(b: BoundNode) -> convolution.Params:
    """The window."""
    kernel_h, kernel_w, _ = b.inputs[1].shape
    return convolution.params(b, (kernel_h, kernel_w), b.inputs[0].shape[2])


def rows_of(c: convolution.Geometry) -> tuple[int, int]:
    """(rows under a window, bytes of a padded row)."""
    return (c.kernel_h - 1) * c.dilation_h + 1, (c.out_w - 1) * c.stride_w + (
        c.kernel_w - 1
    ) * c.dilation_w + 1


def params(b: BoundNode) -> Params:
    """Numbers of one node."""
    c, requant = geometry(b), requant_of(b)
    span, width = rows_of(c)
    taps = c.kernel_h * c.kernel_w
    return Params(
        c=c,
        span=span,
        width=width,
        columns=max(min(c.in_w, width - c.pad_left), 0),
        taps=taps,
        fill=c.input_zero_point + RAISED,
        outside=bool(c.overhang.top or c.overhang.bottom),
        words=2 + -(-(taps + 1) // 4),
        quick=quick(b, 2),
        in_place=bool(in_place(b)),
        zero_point=requant.output_zero_point,
        low=requant.activation_min,
        high=requant.activation_max,
    )


def takes(b: BoundNode, board: Board | None) -> bool:
    """Windows of up to 25 taps."""
    kernel_h, kernel_w, _ = b.inputs[1].shape
    return bool(kernel_h * kernel_w <= MOST_TAPS)


def in_place(b: BoundNode) -> tuple[int, ...]:
    """Where a row is copied before the output's rows reach it."""
    c = geometry(b)
    span, _ = rows_of(c)
    seen = [min(y * c.stride_h - c.pad_top + span, c.in_h) for y in range(c.out_h)]
    behind = all((y + 1) * c.out_w <= max(s, 0) * c.in_w or s >= c.in_h for y, s in enumerate(seen))
    return (0,) if c.in_c == c.out_c and behind else ()


def constants(b: BoundNode) -> Mapping[str, Array]:
    """Per channel: folded bias, multiplier, then the bytes of its shift and its weights."""
    weights, requant, p = b.inputs[1].data, requant_of(b), params(b)
    assert weights is not None
    channels = weights.shape[2]
    bytes_ = np.zeros((channels, 4 * (p.words - 2)), np.int8)
    bytes_[:, 0] = shifts(requant, p.quick)
    bytes_[:, 1 : 1 + p.taps] = weights.reshape(-1, channels).T
    head = np.stack([folded_bias(b, 2, RAISED), np.array(requant.multiplier, np.int64)], axis=1)
    return {"weights": np.concatenate([wrapped(head), bytes_.view("<i4")], axis=1)}


def scratch(b: BoundNode) -> int:
    """The rows under the window."""
    span, width = rows_of(geometry(b))
    return span * width


def cost(b: BoundNode) -> float:
    """Per output 6 cycles a tap and 45; per row and channel 12 a byte and 60; per channel 60 and 4 a tap."""
    kernel_h, kernel_w, channels = b.inputs[1].shape
    taps, (height, width, _) = kernel_h * kernel_w, b.inputs[0].shape
    rows = channels * height * (12.0 * width + 60.0)
    return b.output.elements * (6.0 * taps + 45.0) + rows + channels * (60.0 + 4.0 * taps)


def reads(b: BoundNode, role: str, values: Array, macs: int) -> int:
    """Bias, multiplier and shift at every output, weights once: registers do not hold them all."""
    return 9 * b.output.elements + b.inputs[1].elements


KERNEL = Kernel(
    "tg_depthwise_conv2d_s8_rows",
    cost,
    takes,
    constants,
    scratch,
    in_place,
    reads=reads,
    params=params,
    header="tg_plain.h",
)
