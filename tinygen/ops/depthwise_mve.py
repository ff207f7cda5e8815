"""depthwise_conv2d on cores with Helium (Cortex-M55): eight channels along the lanes. docs/kernels.md, "Helium"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import convolution, mve
from tinygen.ops.base import Kernel, reads_per
from tinygen.ops.requant import folded_bias, requant_of, wrapped

WIDTH = 8
"""Channels computed together."""
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Channels in the order of the lanes of their sums: products of even lanes stand in a vector of their own."""
MOST_TAPS = 64
"""Of a window: there is a pointer for each on the stack."""


@dataclass(frozen=True)
class Params:
    """c: the window. low, high: of the clamp. left: some channel shifts to the left."""

    c: convolution.Params
    zero_point: int
    low: int
    high: int
    left: int


def params(b: BoundNode) -> Params:
    """Numbers of one node."""
    (kernel_h, kernel_w, _), requant = b.inputs[1].shape, requant_of(b)
    c = convolution.params(b, (kernel_h, kernel_w), b.inputs[0].shape[2])
    limits = requant.activation_min, requant.activation_max
    return Params(c, requant.output_zero_point, *limits, mve.left(requant))


def taps(b: BoundNode) -> int:
    """Of a window."""
    return int(np.prod(b.inputs[1].shape[:2]))


def takes(b: BoundNode, board: Board | None) -> bool:
    """One output channel per input channel, windows of up to 64 taps."""
    return mve.helium(b, board) and b.output.shape[2] == b.inputs[0].shape[2] and taps(b) <= MOST_TAPS


def packed(b: BoundNode) -> Mapping[str, Array]:
    """int32 stream, per eight channels: biases, multipliers, shifts in ORDER, then the weights of every tap."""
    weights, requant = b.inputs[1].data, requant_of(b)
    assert weights is not None
    spare = -weights.shape[2] % WIDTH
    flat = weights.reshape(taps(b), -1)
    head = np.stack(
        [folded_bias(b, 2), np.array(requant.multiplier, np.int64), np.array(requant.shift, np.int64)]
    )
    heads = (
        wrapped(np.pad(head, ((0, 0), (0, spare)))).reshape(3, -1, WIDTH)[..., list(ORDER)].transpose(1, 0, 2)
    )
    padded = np.pad(flat, ((0, 0), (0, spare))).reshape(len(flat), -1, WIDTH).transpose(1, 0, 2)
    words = np.ascontiguousarray(padded).reshape(len(heads), -1).view("<i4")
    return {"weights": np.concatenate([heads.reshape(len(heads), -1), words], axis=1)}


def cost(b: BoundNode) -> float:
    """Instructions: per pixel 12 a tap and 20, per eight channels of it 10 a tap and 45."""
    groups, count = -(-b.output.shape[2] // WIDTH), taps(b)
    return mve.pixels(b) * (12.0 * count + 20.0 + groups * (10.0 * count + 45.0))


KERNEL = Kernel(
    "tg_depthwise_conv2d_s8_mve",
    cost,
    takes,
    packed,
    lambda b: b.inputs[0].shape[2],
    reads=reads_per(mve.pixels),
    params=params,
    header="tg_mve.h",
)
