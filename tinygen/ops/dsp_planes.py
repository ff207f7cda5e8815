"""Planes of int16 for DSP cores (Cortex-M4, M7, M33): how depthwise_conv2d cuts its input, what that costs, and when
the quick requantization is proved for its channels. docs/kernels.md, "Depthwise".

Rows are widened a block at a time, one plane per channel; rows that the next block sees, too, are moved: so the output
may overwrite the input, and scratch stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Protocol

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import convolution
from tinygen.ops.base import Kernel
from tinygen.ops.requant import Requant, accumulator_bound, folded_bias, requant_of

GROUP = 4
"""Channels widened at a time: a word of the input."""
BLOCK_BYTES = 2048, 8192
"""Scratch: a quarter of the larger image, but within these bounds, unless a block of two output rows takes more. Layers
beside a depthwise one hold two images of its size, it holds one in place: that much is free."""
GROUP_BYTES = 8192
"""Planes of one output row beyond which one channel at a time is widened."""
DOUBLED_BOUND = 2**30
"""More than any |accumulator|: it is summed doubled, as SMMULR wants it."""
MOST_RIGHT = 22
"""Greatest shift to the right for which (1 + 2 * zero_point) << (shift - 1), added to any high product, fits int32."""


# ---- requantization


def quick_channels(requant: Requant, bound: Array) -> Array:
    """Per channel: SMMULR and one rounding shift equal the reference for every |accumulator| up to `bound`."""
    right = -np.array(requant.shift)
    return (bound < DOUBLED_BOUND) & (right >= 1) & ((right <= MOST_RIGHT) | vanishes(requant, bound))


def vanishes(requant: Requant, bound: Array) -> Array:
    """Per channel: every accumulator is requantized to 0, because its high product is below half a step."""
    right = -np.array(requant.shift, np.int64)
    high = (bound.astype(np.float64) * np.array(requant.multiplier)) / 2.0**31 + 1
    return np.asarray(high < 2.0 ** (right - 1.0))


def quick_numbers(requant: Requant, bound: Array) -> tuple[Array, Array]:
    """(multiplier, shift to the right in 1 ... 22) per channel; of channels that vanish 0 and 1."""
    gone = vanishes(requant, bound)
    return np.where(gone, 0, requant.multiplier), np.where(gone, 1, -np.array(requant.shift))


def bound_of(b: BoundNode) -> Array:
    """Greatest |accumulator| per channel, partial sums and the folded input zero_point included."""
    weights, bias = b.inputs[1].data, b.inputs[2].data
    assert weights is not None and bias is not None
    return accumulator_bound(weights, bias, axis=2)


def exact(b: BoundNode) -> bool:
    """The quick requantization is proved for every channel."""
    return bool(np.all(quick_channels(requant_of(b), bound_of(b))))


# ---- planes


@dataclass(frozen=True)
class Run:
    """Pixels of a row that are neighbours in a plane: `count` of them from byte `source` of the input's row on go to
    element `at` of the plane's row. lead: that is an odd one."""

    at: int
    source: int
    count: int

    @property
    def lead(self) -> int:
        return self.at % 2


@dataclass(frozen=True)
class Planes:
    """How a node is cut. c: its window. pitch: int16 of a row in a plane, even; rows: of a plane: what `block` output
    rows see; blocks: of the output; kept: rows that the next block sees, too. runs: what is widened of a row of the
    input, pixels `step` bytes apart. group: channels at a time. rounding: 1 + 2 * output zero_point. low, high: of the
    clamp, None where int8 clamps.
    """

    c: convolution.Params
    pitch: int
    rows: int
    block: int
    blocks: int
    kept: int
    runs: tuple[Run, ...]
    step: int
    group: int
    rounding: int
    low: int | None
    high: int | None

    @property
    def moved_from(self) -> int:
        """int16 in front of the rows that are kept."""
        return (self.rows - self.kept) * self.pitch

    @property
    def moved_words(self) -> int:
        """32-bit words of them."""
        return self.kept * self.pitch // 2

    @property
    def scratch(self) -> int:
        """Bytes of all planes."""
        return 2 * self.group * self.rows * self.pitch

    @property
    def words(self) -> int:
        """32-bit words of all planes."""
        return self.scratch // 4


def even(n: int) -> int:
    """n rounded up to an even number."""
    return n + n % 2


def geometry(b: BoundNode) -> convolution.Params:
    """The window."""
    weights = b.inputs[1]
    return convolution.params(b, (weights.shape[0], weights.shape[1]), b.inputs[0].shape[2])


def rows_seen(c: convolution.Params, outputs: int) -> int:
    """Rows of the padded input under so many rows of the output."""
    return (outputs - 1) * c.stride_h + (c.kernel_h - 1) * c.dilation_h + 1


def cut(c: convolution.Params, pitch: int, group: int) -> tuple[int, int]:
    """(output rows of a block, blocks): the fewest blocks of even size whose planes fit BLOCK_BYTES, alike."""

    def fits(block: int) -> bool:
        return 2 * group * pitch * rows_seen(c, block) <= budget

    image = max(c.out_h * c.out_w * c.out_c, c.in_h * c.in_w * c.in_c)
    budget = min(max(BLOCK_BYTES[0], image // 4), BLOCK_BYTES[1])

    if c.out_h <= 2 or fits(c.out_h):
        return c.out_h, 1
    most = max((n for n in range(2, c.out_h, 2) if fits(n)), default=2)
    block = even(-(-c.out_h // -(-c.out_h // most)))
    return block, -(-c.out_h // block)


def planes(b: BoundNode, pitch: int, runs: tuple[Run, ...], step: int) -> Planes:
    """Planes with rows of `pitch` int16."""
    c, requant = geometry(b), requant_of(b)
    group = min(GROUP, c.in_c)
    if 2 * group * pitch * rows_seen(c, 1) > GROUP_BYTES:
        group = 1
    block, blocks = cut(c, pitch, group)
    rows = rows_seen(c, block)
    return Planes(
        c=c,
        pitch=pitch,
        rows=rows,
        block=block,
        blocks=blocks,
        kept=max(rows - block * c.stride_h, 0),
        runs=tuple(run for run in runs if run.count > 0),
        step=step,
        group=group,
        rounding=1 + 2 * requant.output_zero_point,
        low=requant.activation_min if requant.activation_min > -128 else None,
        high=requant.activation_max if requant.activation_max < 127 else None,
    )


def phases_of(c: convolution.Params) -> tuple[int, int]:
    """(runs of a row, elements from one output's window to the next one's in a run)."""
    common = gcd(c.stride_w, c.dilation_w)
    return c.dilation_w // common, c.stride_w // common


def run_of(c: convolution.Params, phase: int, phases: int, advance: int, run: int) -> Run:
    """The pixels under the windows of outputs phase, phase + phases, ... that the input has."""
    outputs = -(-(c.out_w - phase) // phases)
    start = phase * c.stride_w - c.pad_left
    first = max(-(start // c.dilation_w), 0)
    last = min((outputs - 1) * advance + c.kernel_w, (c.in_w - 1 - start) // c.dilation_w + 1)
    return Run(
        phase * run + first, (start + first * c.dilation_w) * c.in_c, last - first if outputs > 0 else 0
    )


def overwrites(b: BoundNode, p: Planes) -> bool:
    """Every output pixel of a block stands where the input was widened before."""
    c = p.c
    if c.in_c != c.out_c:
        return False
    last = [min((i + 1) * p.block, c.out_h) for i in range(p.blocks)]
    seen = [min(i * p.block * c.stride_h + p.rows - c.pad_top, c.in_h) for i in range(p.blocks)]
    return all(out * c.out_w <= max(s, 0) * c.in_w or s >= c.in_h for out, s in zip(last, seen, strict=True))


def doubled_bias(b: BoundNode) -> Array:
    """2 * (bias - input zero_point * sum of the weights), int64 per output channel."""
    return 2 * folded_bias(b, 2)


def reads(b: BoundNode, role: str, values: Array, macs: int) -> int:
    """Every block reads its channels' constants once."""
    return cut(geometry(b), even(b.inputs[0].shape[1]), GROUP)[1] * int(values.nbytes)


# ---- cost


def widening_cost(p: Planes) -> float:
    """Cycles of widening everything once, moving what blocks share, and calls."""
    c = p.c
    groups = -(-c.in_c // p.group)
    moved = (p.blocks - 1) * p.kept * p.pitch * c.in_c
    pixels, group = (
        sum(run.count for run in p.runs),
        9.6 + bool(c.in_c % GROUP) if p.group == GROUP else 7.0 * p.group,
    )
    widened = min(c.in_h, rows_seen(c, c.out_h)) * groups * (group * pixels + 10.0)
    return widened + 0.9 * moved + 40.0 * groups * p.blocks + 2.0 * p.words


# ---- kernels


class Cut(Protocol):
    """Numbers of a kernel over planes. scratch: bytes of all that it keeps there."""

    @property
    def planes(self) -> Planes: ...

    @property
    def scratch(self) -> int: ...


def kernel(
    what: str,
    cost: Callable[[BoundNode], float],
    takes: Callable[[BoundNode, Board | None], bool],
    constants: Callable[[BoundNode], Mapping[str, Array]],
    numbers: Callable[[BoundNode], Cut],
) -> Kernel:
    """A kernel over planes. what: the end of its name."""
    return Kernel(
        f"tg_depthwise_conv2d_s8_dsp{what}",
        cost,
        takes,
        constants,
        lambda b: numbers(b).scratch,
        lambda b: (0,) if overwrites(b, numbers(b).planes) else (),
        reads=reads,
        params=numbers,
        header="tg_dsp.h",
    )
