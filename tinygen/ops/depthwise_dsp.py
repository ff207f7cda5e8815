"""depthwise_conv2d on DSP cores (Cortex-M4, M7, M33): rows of four channels are widened into planes of int16, one plane
per channel, padding included; then each channel slides over its plane with two products an instruction.

Rows are widened a block at a time, and those that the next block needs, too, are moved: so the output may overwrite the
input, and scratch stays small. docs/kernels.md, "Depthwise".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import convolution
from tinygen.ops.base import Kernel, dsp
from tinygen.ops.requant import Requant, accumulator_bound, requant_of

GROUP = 4
"""Channels widened at a time: a word of the input."""
BLOCK_BYTES = 2048
"""Scratch, unless one block of two output rows takes more."""
GROUP_BYTES = 8192
"""Planes of one output row beyond which one channel at a time is widened."""
REACHED = 4096
"""Offsets in bytes that LDR, STRB and ADD reach, and one more."""
DOUBLED_BOUND = 2**30
"""More than any |accumulator|: it is summed doubled, as SMMULR wants it."""
MOST_RIGHT = 22
"""Greatest shift to the right for which (1 + 2 * zero_point) << (shift - 1), added to any high product, fits int32."""
MOST_ROWS = 4095
"""Output rows of a block, and pairs in a row: 12 and 11 bits of a register count them."""


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
    """(output rows of a block, blocks): the fewest blocks whose planes fit BLOCK_BYTES, alike."""
    block, least = c.out_h, 2 if group > 1 else 1
    while block > least and 2 * group * pitch * rows_seen(c, block) > BLOCK_BYTES:
        block -= 1
    block = -(-c.out_h // -(-c.out_h // block))
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
    weights, bias = b.inputs[1].data, b.inputs[2].data
    assert weights is not None and bias is not None
    folded = bias.astype(np.int64) - b.inputs[0].zero_point * weights.astype(np.int64).sum(axis=(0, 1))
    return np.asarray(2 * folded)


def reads(b: BoundNode, role: str, values: Array, macs: int) -> int:
    """Every block reads its channels' constants once."""
    return cut(geometry(b), even(b.inputs[0].shape[1]), GROUP)[1] * int(values.nbytes)


# ---- windows of up to 3 x 3


@dataclass(frozen=True)
class Three:
    """Numbers of the kernel for windows of up to 3 x 3. pairs: of outputs in a row; offsets: bytes from the first row
    under the window to each one; turn: bytes from behind a row's last pair to the next row; step: from one channel's
    plane to the next one's (0: output channels share a plane)."""

    planes: Planes
    pairs: int
    offsets: tuple[int, ...]
    turn: int
    step: int

    @property
    def words(self) -> int:
        """Of the constants, per output channel."""
        return 2 + self.planes.c.kernel_h


def three(b: BoundNode) -> Three:
    """Numbers of one node."""
    c = geometry(b)
    pitch = even((c.out_w - 1) * c.stride_w + 3)
    columns = min(c.in_w, (c.out_w - 1) * c.stride_w + c.kernel_w - c.pad_left)
    p = planes(b, pitch, (Run(c.pad_left, 0, columns),), c.in_c)
    pairs = c.out_w // 2
    turn = 2 * pitch * c.stride_h - 4 * c.stride_w * pairs
    step = 2 * pitch * p.rows if c.depth_multiplier == 1 else 0
    return Three(p, pairs, tuple(2 * pitch * c.dilation_h * i for i in range(c.kernel_h)), turn, step)


def takes_three(b: BoundNode, board: Board | None) -> bool:
    """Up to 3 x 3, stride 1 or 2 and no dilation along rows, exact, within reach of the instructions' offsets."""
    kernel_h, kernel_w, channels = b.inputs[1].shape
    small = kernel_h <= 3 and kernel_w <= 3 and b.attrs.stride[1] <= 2
    if not (dsp(b, board) and small and (b.attrs.dilation[1] == 1 or kernel_w == 1)):
        return False
    p = three(b)
    within = p.offsets[-1] + 8 < REACHED and p.turn < REACHED and 2 * channels < REACHED and p.step < REACHED
    return within and bool(p.planes.runs) and p.planes.block <= MOST_ROWS and exact(b)


def three_constants(b: BoundNode) -> Mapping[str, Array]:
    """Per channel: doubled bias, multiplier, then a word per row of the window: three weights, and in the first one
    the shift to the right above them."""
    weights = b.inputs[1].data
    assert weights is not None
    multiplier, right = quick_numbers(requant_of(b), bound_of(b))
    kernel_h, kernel_w, channels = weights.shape
    bytes_ = np.zeros((channels, kernel_h, 4), np.int8)
    bytes_[:, :, :kernel_w] = weights.transpose(2, 0, 1)
    bytes_[:, 0, 3] = right
    words = bytes_.reshape(channels, -1).view("<i4")
    head = np.stack([doubled_bias(b), multiplier], axis=1).astype(np.int32)
    return {"packed": np.concatenate([head, words], axis=1)}


def three_cost(b: BoundNode) -> float:
    """Pairs of outputs, rows, channels of blocks, and what is widened, moved or filled."""
    t = three(b)
    p, c = t.planes, t.planes.c
    words = 2 + (c.stride_w == 2)
    pair = c.kernel_h * (words + 1 + 4) + 19.0
    single = 6.0 * c.kernel_h + 14.0
    row = t.pairs * pair + (single if c.out_w % 2 else 0) + 8
    channel = c.out_h * row + p.blocks * (30.0 + 9 * c.kernel_h)
    return c.out_c * channel + widening_cost(p)


def widening_cost(p: Planes) -> float:
    """Cycles of widening everything once, moving what blocks share, and calls."""
    c = p.c
    groups = -(-c.in_c // p.group)
    moved = (p.blocks - 1) * p.kept * p.pitch * c.in_c
    pixels = sum(run.count for run in p.runs)
    widened = min(c.in_h, rows_seen(c, c.out_h)) * (2.5 * pixels * c.in_c + 20.0 * groups)
    return widened + 0.8 * moved + 80.0 * groups * p.blocks + 2.0 * p.words


# ---- any window

MOST_UNROLLED = 6
"""Words of a filter's row that are unrolled."""


@dataclass(frozen=True)
class General:
    """Numbers of the kernel for any window. Of a run, output j reads elements j * advance ..., and is written to pixel
    j * phases. run: int16 from one run to the next one.

    A filter's row is `filter_row` int16: the weights as pairs and, where windows start at odd elements, too, the same
    one element later at `odd` (else 0). turns * unrolled + left words of it are multiplied. shifts, parities: of the
    four outputs of a tile: even elements from the first one's window, and whether one more. next_row, next_filter: int16
    from behind the words to the next row. tiles: how many outputs at a time.
    """

    planes: Planes
    phases: int
    run: int
    advance: int
    out_step: int
    odd: int
    filter_row: int
    turns: int
    unrolled: int
    left: int
    tiles: tuple[int, ...]

    @property
    def shifts(self) -> tuple[int, ...]:
        return tuple(j * self.advance // 2 * 2 for j in range(4))

    @property
    def parities(self) -> tuple[int, ...]:
        return tuple(j * self.advance % 2 for j in range(4))

    @property
    def next_row(self) -> int:
        return self.planes.c.dilation_h * self.planes.pitch - 2 * self.turns * self.unrolled

    @property
    def next_filter(self) -> int:
        return self.filter_row - 2 * self.turns * self.unrolled

    @property
    def filter_words(self) -> int:
        return self.planes.c.kernel_h * self.filter_row // 2

    @property
    def clamps(self) -> bool:
        return self.planes.low is not None or self.planes.high is not None


def general(b: BoundNode) -> General:
    """Numbers of one node: pixels that taps of a window read are brought together in runs, one per phase."""
    c = geometry(b)
    common = gcd(c.stride_w, c.dilation_w)
    phases, advance = c.dilation_w // common, c.stride_w // common
    most = -(-c.out_w // phases)
    words = (c.kernel_w + advance % 2 + 1) // 2
    run = even((most - 1) * advance + 2 * words)
    p = planes(
        b,
        phases * run,
        tuple(run_of(c, i, phases, advance, run) for i in range(phases)),
        c.dilation_w * c.in_c,
    )
    turns, unrolled = (1, words) if words <= MOST_UNROLLED else (words // 4, 4)
    counts = {-(-(c.out_w - i) // phases) for i in range(phases)}
    tiles = ((4,) if most >= 4 else ()) + tuple(n for n in (2, 1) if any(count & n for count in counts))
    odd = 2 * words if advance % 2 else 0
    row = 2 * words + odd
    return General(
        p, phases, run, advance, phases * c.out_c, odd, row, turns, unrolled, words - turns * unrolled, tiles
    )


def run_of(c: convolution.Params, phase: int, phases: int, advance: int, run: int) -> Run:
    """The pixels under the windows of outputs phase, phase + phases, ... that the input has."""
    outputs = -(-(c.out_w - phase) // phases)
    start = phase * c.stride_w - c.pad_left
    first = max(-(start // c.dilation_w), 0)
    last = min((outputs - 1) * advance + c.kernel_w, (c.in_w - 1 - start) // c.dilation_w + 1)
    return Run(
        phase * run + first, (start + first * c.dilation_w) * c.in_c, last - first if outputs > 0 else 0
    )


def takes_general(b: BoundNode, board: Board | None) -> bool:
    """Where the quick requantization is proved and windows see anything of the input."""
    return dsp(b, board) and bool(general(b).planes.runs) and exact(b)


def general_constants(b: BoundNode) -> Mapping[str, Array]:
    """Numbers per output channel, and the weights channel by channel."""
    weights = b.inputs[1].data
    assert weights is not None
    numbers = np.stack([doubled_bias(b), *quick_numbers(requant_of(b), bound_of(b))], axis=1)
    return {
        "numbers": numbers.astype(np.int32),
        "weights": np.ascontiguousarray(weights.reshape(-1, weights.shape[2]).T),
    }


def general_cost(b: BoundNode) -> float:
    """Words of filters, outputs, and what is widened."""
    g = general(b)
    c, words = g.planes.c, g.turns * g.unrolled + g.left
    output = c.kernel_h * (words * 2.4 + 2.0) + 14.0
    channel = c.out_h * (c.out_w * output + 30.0 * g.phases) + g.planes.blocks * 6.0 * c.kernel_h * c.kernel_w
    return c.out_c * channel + widening_cost(g.planes)


KERNELS = (
    Kernel(
        "tg_depthwise_conv2d_s8_dsp_3x3",
        three_cost,
        takes_three,
        three_constants,
        lambda b: three(b).planes.scratch,
        lambda b: (0,) if overwrites(b, three(b).planes) else (),
        reads=reads,
        params=three,
        header="tg_dsp.h",
    ),
    Kernel(
        "tg_depthwise_conv2d_s8_dsp",
        general_cost,
        takes_general,
        general_constants,
        lambda b: general(b).planes.scratch + 4 * general(b).filter_words,
        lambda b: (0,) if overwrites(b, general(b).planes) else (),
        reads=reads,
        params=general,
        header="tg_dsp.h",
    ),
)
