"""conv2d of 3x3 windows with stride 1 on DSP cores by Winograd's F(4x4, 3x3): numbers, packing, cost.

A tile of 4 x 4 outputs takes 36 products per pair of channels where the window takes 144. Integers all the way: the
weights' transform is scaled by 24 in either direction, all sums are modulo 2**32, and 576 = 64 * 9 is divided by
exactly.
docs/kernels.md, "Winograd".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import convolution, dsp_product
from tinygen.ops.base import Kernel, dsp, reads_per
from tinygen.ops.requant import requant_of, wrapped

TILE = 4
"""Outputs of a tile along rows and columns."""
POINTS = (TILE + 2) ** 2
"""Products per pair of an input and an output channel: as many as a tile reads pixels."""
GROUP = 4
"""Output channels of one turn, and input channels of a word."""
TILES = 2
"""Neighbouring tiles that are computed together."""
RAISED = 128
"""What is added to inputs: bytes without sign need no care when two of them share a word."""

WEIGHTS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 6]], np.int64)
"""24 * G; of its last row a quarter, so that the transform (at most 12 * 12 * 127) is int16. The kernel's output
transform makes up for it."""


@dataclass(frozen=True)
class Winograd:
    """The numbers of one node. c: the window.

    depth: input channels, whole words. pitch: bytes from one row of the ring to the next. tiles, bands: tiles along a
    row, rows of tiles. stride: words from one of the 36 points to the next: the inputs of two tiles, then their sums
    for four channels. turns, unrolled, left: of the inner loop over pairs of input channels. low, high: of the clamp,
    None where int8 clamps. apart: the output's zero_point where it is added behind the shift. overwrites: the output
    may be the input.
    """

    c: convolution.Params
    depth: int
    pitch: int
    tiles: int
    bands: int
    stride: int
    turns: int
    unrolled: int
    left: int
    low: int | None
    high: int | None
    apart: int | None
    overwrites: bool

    @property
    def padding(self) -> int:
        """Four raised zero_points of the input: a word of the ring."""
        return 0x01010101 * (self.c.input_zero_point + RAISED)

    @property
    def ring(self) -> int:
        """Where the ring of input rows begins in scratch: words."""
        return POINTS * self.stride


def winograd(b: BoundNode) -> Winograd:
    """Numbers of one node."""
    c, requant = convolution.params(b, (3, 3), 1), requant_of(b)
    depth, tiles = _up(c.in_c, GROUP), -(-c.out_w // TILE)
    width = max(TILE * _up(tiles, TILES) + 2, c.pad_left + c.in_w)
    turns, unrolled = dsp_product.unrolling(depth // 2)
    return Winograd(
        c=c,
        depth=depth,
        pitch=width * depth,
        tiles=tiles,
        bands=-(-c.out_h // TILE),
        stride=depth + TILES * GROUP,
        turns=turns,
        unrolled=unrolled,
        left=depth // 2 - turns * unrolled,
        low=requant.activation_min if requant.activation_min > -128 else None,
        high=requant.activation_max if requant.activation_max < 127 else None,
        apart=requant.output_zero_point if dsp_product.operands(b).apart else None,
        overwrites=bool(in_place(b)),
    )


def _up(n: int, step: int) -> int:
    """n rounded up to a multiple of step."""
    return -(-n // step) * step


def takes(b: BoundNode, board: Board | None) -> bool:
    """3x3, stride 1, one group, no dilation, no Helium (its kernels take half the cycles), and exact: |sum of products|
    < 2**24 of a channel, so that 64 times it, the accumulator modulo 2**32 divided by 9, is in int32."""
    attrs, window = b.attrs, b.inputs[1].shape[1:3]
    plain = attrs.groups == 1 and attrs.stride == attrs.dilation == (1, 1) and window == (3, 3)
    helium = board is not None and "mve" in board.isa
    return dsp(b, board) and not helium and plain and dsp_product.exact(b)


def transformed(weights: Array) -> Array:
    """(channels, 3, 3, depth) -> (channels, 36, depth), within int16."""
    points = np.einsum("iy,oyxc,jx->oijc", WEIGHTS, weights, WEIGHTS)
    return np.asarray(points.reshape(len(weights), POINTS, -1))


def constants(b: BoundNode) -> Mapping[str, Array]:
    """The one stream that the kernel reads, group by group of four output channels: per point, per two input channels
    a word of each output channel; then (2 * bias, multiplier, right, rounding) of each channel that exists.

    Words have channels 0 and 2 of four, or 1 and 3, as UXTB16 leaves the inputs.
    """
    o, shape = dsp_product.operands(b), b.inputs[1].shape
    points = transformed(o.weights.reshape(shape))
    points = np.pad(points, ((0, -shape[0] % GROUP), (0, 0), (0, -shape[3] % GROUP))) & 0xFFFF
    fours = points.reshape(len(points), POINTS, -1, 4)
    words = (fours[..., :2] | (fours[..., 2:] << 16)).reshape(len(points) // GROUP, GROUP, POINTS, -1)
    streams = words.transpose(0, 2, 3, 1).reshape(len(words), -1)
    apart = o.half + ((o.zero_point - b.output.zero_point) << np.clip(o.right, 1, 31))
    bias = 2 * (o.bias - RAISED * o.weights.sum(axis=1))
    four = np.stack([bias, o.multiplier, o.right, apart if o.apart else o.rounding], axis=1)
    parts = [
        part
        for i, stream in enumerate(streams)
        for part in (stream, four[GROUP * i : GROUP * (i + 1)].reshape(-1))
    ]
    return {"weights": wrapped(np.concatenate(parts))}


def scratch(b: BoundNode) -> int:
    """36 points of two tiles, and a ring of six rows of the input."""
    p = winograd(b)
    return 4 * p.ring + (TILE + 2) * p.pitch


def cost(b: BoundNode) -> float:
    """Products, with their inner loop's turns; the transform of two tiles, of an output channel of a tile; bytes that
    are copied one by one."""
    p = winograd(b)
    c, pairs = p.c, _streamed(b)
    turns = 8.0 + 9.0 * p.turns + (2.0 if p.left else 0.0) if p.turns > 1 else 0.0
    groups = -(-c.out_c // GROUP) * (POINTS * (8.0 * p.depth + 18.0 + turns) + 42.0)
    outputs = c.out_c * p.bands * (251.0 * p.tiles + 46.0 * c.out_w)
    bytewise = 6.6 * c.in_h * c.in_w * c.in_c if c.in_c % GROUP else 0.0
    return pairs * (groups + 495.0 * p.depth) + outputs + bytewise


def in_place(b: BoundNode) -> tuple[int, ...]:
    """Where every row of the input is in the ring before the output's rows reach it."""
    c = convolution.params(b, (3, 3), 1)
    ends = range(TILE, c.out_h + TILE, TILE)
    read = [min(end + 2 - c.pad_top, c.in_h) for end in ends]
    written = [min(end, c.out_h) * c.out_w * c.out_c for end in ends]
    behind = all(w <= max(r, 0) * c.in_w * c.in_c or r >= c.in_h for w, r in zip(written, read, strict=True))
    return (0,) if behind else ()


def _streamed(b: BoundNode) -> int:
    """How often the stream is read."""
    p = winograd(b)
    return -(-p.tiles // TILES) * p.bands


KERNEL = Kernel(
    "tg_conv2d_s8_dsp_winograd",
    cost,
    takes,
    constants,
    scratch,
    in_place,
    reads=reads_per(_streamed),
    params=winograd,
    header="tg_dsp.h",
)
