"""depthwise_conv2d on DSP cores (Cortex-M4, M7, M33) where windows do not overlap along rows: nothing is read twice, so
planes would not pay. Four channels of two neighbouring pixels at a time, straight from the input. Taps in the padding
are left out; there is a bias for every set of taps, which holds the input's zero_point. docs/kernels.md, "Depthwise".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import convolution
from tinygen.ops.base import Kernel, dsp
from tinygen.ops.dsp_planes import bound_of, exact, geometry, quick_numbers
from tinygen.ops.requant import Requant, requant_of, wrapped

GROUP = 4
"""Channels computed together: the bytes of a word."""
REACHED = 4096
"""Offsets in bytes that LDR, STRB and ADD reach, and one more."""
MOST_TAPS = 25
"""Of a window."""
MOST_PAIRS = 4
"""Different pairs of columns, each with an inner function of its own."""


@dataclass(frozen=True)
class Tap:
    """Column kx of the window. at: for each pixel of a pair the bytes from the pair's source, None in the padding."""

    kx: int
    at: tuple[int | None, ...]


@dataclass(frozen=True)
class Pair:
    """Neighbouring pixels (two, or the last of an odd row) and the taps that any of them reads. sets: of each pixel,
    the index of its taps in Direct.sets."""

    taps: tuple[Tap, ...]
    sets: tuple[int, ...]

    @property
    def pixels(self) -> int:
        return len(self.sets)


@dataclass(frozen=True)
class Run:
    """`count` pairs alike (index `pair`); bytes from a row's start to what the first one reads, and writes."""

    pair: int
    source: int
    target: int
    count: int


@dataclass(frozen=True)
class Direct:
    """c: the window. sets: columns of the window that a pixel has, the different ones; spans: the same of rows, (first,
    behind). rows: of every output row the first row of the input that it reads, and its span. pairs: the different
    ones; runs: of a row of the output. pitch, step: bytes from one row of the window to the next one, from one pair to
    the next one. low, high: of the clamp, None where int8 clamps."""

    c: convolution.Params
    sets: tuple[tuple[int, ...], ...]
    spans: tuple[tuple[int, int], ...]
    rows: tuple[tuple[int, int], ...]
    pairs: tuple[Pair, ...]
    runs: tuple[Run, ...]
    pitch: int
    step: int
    low: int | None
    high: int | None

    @property
    def row_bytes(self) -> int:
        """Weights of a row of the window, four channels."""
        return 8 * self.c.kernel_w

    @property
    def span_bytes(self) -> int:
        """Biases of a span, four channels."""
        return 4 * GROUP * len(self.sets)

    @property
    def weights_at(self) -> int:
        """Bytes from the start of a group of channels to its weights."""
        return len(self.spans) * self.span_bytes

    @property
    def numbers_at(self) -> int:
        """To what it is requantized with."""
        return self.weights_at + self.c.kernel_h * self.row_bytes

    @property
    def group_bytes(self) -> int:
        return self.numbers_at + 12 * GROUP

    @property
    def groups(self) -> int:
        return self.c.out_c // GROUP


def columns(c: convolution.Params, x: int) -> dict[int, int]:
    """Column of the window -> column of the input, for output column x, where the input has it."""
    start = x * c.stride_w - c.pad_left
    return {k: at for k in range(c.kernel_w) if 0 <= (at := start + k * c.dilation_w) < c.in_w}


def span(c: convolution.Params, y: int) -> tuple[int, int]:
    """(first, behind) of the window's rows that the input has, for output row y."""
    top = y * c.stride_h - c.pad_top
    inside = [k for k in range(c.kernel_h) if 0 <= top + k * c.dilation_h < c.in_h]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def pair_at(c: convolution.Params, x: int, sets: tuple[tuple[int, ...], ...]) -> tuple[Pair, int]:
    """The pair of output columns x and x + 1, and the input's column that its offsets count from."""
    pixels = [columns(c, i) for i in range(x, min(x + 2, c.out_w))]
    source = min((at for p in pixels for at in p.values()), default=0)

    def offset(p: dict[int, int], kx: int) -> int | None:
        return (p[kx] - source) * c.in_c if kx in p else None

    taps = (Tap(kx, tuple(offset(p, kx) for p in pixels)) for kx in range(c.kernel_w))
    read = tuple(t for t in taps if any(at is not None for at in t.at))
    return Pair(read, tuple(sets.index(tuple(p)) for p in pixels)), source


def direct(b: BoundNode) -> Direct:
    """Numbers of one node."""
    c, requant = geometry(b), requant_of(b)
    sets = tuple(dict.fromkeys(tuple(columns(c, x)) for x in range(c.out_w)))
    spans = [span(c, y) for y in range(c.out_h)]
    different = tuple(dict.fromkeys(spans))
    tops = [y * c.stride_h - c.pad_top + s[0] * c.dilation_h for y, s in enumerate(spans)]
    found = [(x, *pair_at(c, x, sets)) for x in range(0, c.out_w, 2)]
    pairs = tuple(dict.fromkeys(pair for _, pair, _ in found))
    runs = []
    for pair, same in groupby(found, key=lambda f: f[1]):
        members = list(same)
        x, _, source = members[0]
        runs.append(Run(pairs.index(pair), source * c.in_c, x * c.out_c, len(members)))
    return Direct(
        c,
        sets,
        different,
        tuple(zip(tops, map(different.index, spans), strict=True)),
        pairs,
        tuple(runs),
        pitch=c.dilation_h * c.in_w * c.in_c,
        step=2 * c.stride_w * c.in_c,
        low=requant.activation_min if requant.activation_min > -128 else None,
        high=requant.activation_max if requant.activation_max < 127 else None,
    )


def takes(b: BoundNode, board: Board | None) -> bool:
    """No overlap along rows, whole words of channels, exact, every window sees something, within reach."""
    c = geometry(b)
    apart = c.stride_w >= c.kernel_w * c.dilation_w and c.depth_multiplier == 1 and c.in_c % GROUP == 0
    if not (dsp(b, board) and apart and c.kernel_h * c.kernel_w <= MOST_TAPS):
        return False
    d = direct(b)
    offsets = [at for pair in d.pairs for tap in pair.taps for at in tap.at if at is not None]
    reach = max((*offsets, d.pitch, d.step, 2 * c.out_c, d.group_bytes)) < REACHED
    sees = all(p.taps for p in d.pairs) and all(first < behind for first, behind in d.spans)
    return reach and sees and len(d.pairs) <= MOST_PAIRS and exact(b)


def constants(b: BoundNode) -> Mapping[str, Array]:
    """weights, per four channels: doubled biases of every span and set; of every tap the doubled weights of channels 0
    and 2, 1 and 3; multiplier, shift to the right and rounding of each."""
    weights, requant = b.inputs[1].data, requant_of(b)
    assert weights is not None
    four = 2 * weights.astype(np.int64).reshape(-1, weights.shape[2] // GROUP, GROUP).transpose(1, 0, 2)
    pairs = (four[..., :2] & 0xFFFF) | (four[..., 2:] << 16)
    parts = (biases(b), pairs.reshape(len(four), -1), numbers(b, requant))
    return {"weights": wrapped(np.concatenate(parts, axis=1)), "rows": row_table(direct(b))}


def row_table(d: Direct) -> Array:
    """int16 (out_h, 4): of every output row the first row of the input, and bytes from a group's start to its biases,
    to the weights of its first row of the window and behind those of its last one."""
    ends = [[d.weights_at + k * d.row_bytes for k in d.spans[s]] for _, s in d.rows]
    return np.array([(top, s * d.span_bytes, *e) for (top, s), e in zip(d.rows, ends, strict=True)], np.int16)


def biases(b: BoundNode) -> Array:
    """(groups, spans * sets * 4): twice the bias less the input's zero_point times the weights of the taps."""
    weights, bias, d = b.inputs[1].data, b.inputs[2].data, direct(b)
    assert weights is not None and bias is not None
    wide = weights.astype(np.int64)
    sums = [wide[low:high][:, list(taps)].sum(axis=(0, 1)) for low, high in d.spans for taps in d.sets]
    each = 2 * (bias.astype(np.int64) - b.inputs[0].zero_point * np.array(sums))
    return np.asarray(each.reshape(len(each), -1, GROUP).transpose(1, 0, 2).reshape(d.groups, -1))


def numbers(b: BoundNode, requant: Requant) -> Array:
    """(groups, 12): multiplier, shift to the right, rounding of four channels."""
    multiplier, right = (n.astype(np.int64) for n in quick_numbers(requant, bound_of(b)))
    rounding = (1 + 2 * requant.output_zero_point) * (np.int64(1) << (right - 1))
    return np.stack([multiplier, right, rounding], axis=1).reshape(-1, 3 * GROUP)


def cost(b: BoundNode) -> float:
    """Taps of pairs, rows of them, pairs, and calls."""
    d = direct(b)
    total, out_h = 0.0, d.c.out_h
    rows = sum(d.spans[s][1] - d.spans[s][0] for _, s in d.rows)
    for run in d.runs:
        pair = d.pairs[run.pair]
        taps = sum(18.0 if None not in t.at and len(t.at) == 2 else 10.0 for t in pair.taps)
        total += run.count * (rows * (taps + 8.0) + out_h * (32.0 + GROUP * (4.0 + 5.0 * pair.pixels)))
    return d.groups * (total + out_h * 20.0 * len(d.runs)) + out_h * (30.0 + 50.0 * len(d.runs))


def reads(b: BoundNode, role: str, values: Array, macs: int) -> int:
    """Every pair reads its channels' weights; rows are read once."""
    height, width, _ = b.output.shape
    return (height * -(-width // 2) if role == "weights" else 1) * int(values.nbytes)


KERNEL = Kernel(
    "tg_depthwise_conv2d_s8_dsp_direct",
    cost,
    takes,
    constants,
    reads=reads,
    params=direct,
    header="tg_dsp.h",
)
