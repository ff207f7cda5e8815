"""depthwise_conv2d on DSP cores (Cortex-M4, M7, M33): every channel slides over its plane of int16 (dsp_planes.py), two
products an instruction. docs/kernels.md, "Depthwise".

three: windows of up to 3 x 3 in assembler; quad: the same, 2 x 2 outputs at a time; depthwise_any.py: any window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
from tinygen.ops import depthwise_any
from tinygen.ops.base import dsp
from tinygen.ops.dsp_planes import (
    Planes,
    bound_of,
    doubled_bias,
    even,
    exact,
    geometry,
    kernel,
    phases_of,
    planes,
    quick_numbers,
    run_of,
    widening_cost,
)
from tinygen.ops.requant import requant_of

REACHED = 4096
"""Offsets in bytes that LDR, STRB and ADD reach, and one more."""
MOST_PAIRS, MOST_PAIRS_OF_ONE = 3, 5
"""Pairs of outputs that are unrolled; the same where several output channels slide over a plane."""
MOST_ROWS = 4095
"""Output rows of a block, and pairs in a row: 12 and 11 bits of a register count them."""


# ---- windows of up to 3 x 3


@dataclass(frozen=True)
class Three:
    """Numbers of the kernel for windows of up to 3 x 3. turns * unrolled pairs of outputs and perhaps a `single` one
    are all `outputs` of a run; they are `out_step` bytes apart and read every `advance`-th element. phases, run: as in
    General. offsets: bytes from the first row under the window to each one; turn: bytes from behind a row's last pair
    to the next row; step: from one channel's plane to the next one's (0: output channels share a plane).
    """

    planes: Planes
    phases: int
    run: int
    advance: int
    outputs: int
    turns: int
    unrolled: int
    out_step: int
    offsets: tuple[int, ...]
    turn: int
    step: int

    @property
    def scratch(self) -> int:
        """Bytes of planes."""
        return self.planes.scratch

    @property
    def pitch_bytes(self) -> int:
        """Of a row in a plane."""
        return 2 * self.planes.pitch

    @property
    def out_row(self) -> int:
        """Bytes of a row of the output."""
        return self.planes.c.out_w * self.planes.c.out_c

    @property
    def single(self) -> int:
        return self.outputs % 2

    @property
    def words(self) -> int:
        """Of the constants, per output channel."""
        return 2 + self.planes.c.kernel_h


def three(b: BoundNode) -> Three:
    """Numbers of one node."""
    c = geometry(b)
    phases, advance = phases_of(c)
    outputs = c.out_w // phases
    run = even((outputs - 1) * advance + 3)
    pitch, pairs = phases * run, outputs // 2
    runs = tuple(run_of(c, i, phases, advance, run) for i in range(phases))
    p = planes(b, pitch, runs, c.dilation_w * c.in_c)
    most = MOST_PAIRS if c.depth_multiplier == 1 else MOST_PAIRS_OF_ONE
    unrolled = pairs if pairs <= most else next(n for n in range(most, 0, -1) if pairs % n == 0)
    return Three(
        planes=p,
        phases=phases,
        run=run,
        advance=advance,
        outputs=outputs,
        turns=pairs // max(unrolled, 1),
        unrolled=unrolled,
        out_step=phases * c.out_c,
        offsets=tuple(2 * pitch * c.dilation_h * i for i in range(c.kernel_h)),
        turn=2 * pitch * c.stride_h - 4 * advance * pairs,
        step=2 * pitch * p.rows if c.depth_multiplier == 1 else 0,
    )


def takes_three(b: BoundNode, board: Board | None) -> bool:
    """Up to 3 x 3, stride 1 to 3 in a run and runs alike, exact, within reach of the instructions' offsets."""
    c = geometry(b)
    phases, advance = phases_of(c)
    small = c.kernel_h <= 3 and c.kernel_w <= 3 and advance <= 3 and c.out_w % phases == 0
    if not (dsp(b, board) and small):
        return False
    t = three(b)
    within = max(t.offsets[-1] + 8, t.turn, 2 * t.out_step, t.step) < REACHED
    return within and bool(t.planes.runs) and t.planes.block <= MOST_ROWS and exact(b)


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
    return {"weights": np.concatenate([head, words], axis=1)}


def three_cost(b: BoundNode) -> float:
    """Pairs of outputs, rows, channels of blocks, and what is widened, moved or filled."""
    t = three(b)
    p, c = t.planes, t.planes.c
    words = 2 + (t.advance > 1)
    pair = c.kernel_h * (words + 1 + 4) + 15.0
    single = 6.0 * c.kernel_h + 11.0
    row = t.turns * (t.unrolled * pair + (4 if t.turns > 1 else 0)) + t.single * single + 6
    channel = t.phases * (c.out_h * row + p.blocks * (22.0 + 9 * c.kernel_h))
    return c.out_c * channel + widening_cost(p)


# ---- windows of 3 rows, two rows of output at a time


def quad(b: BoundNode) -> Three:
    """Numbers of one node: tiles of 2 x 2 outputs. turn: bytes from a row's last tile to the row after the next one."""
    t = three(b)
    walked = 4 * t.turns * t.unrolled if t.turns > 1 else 0
    return replace(t, turn=2 * t.pitch_bytes - walked)


def takes_quad(b: BoundNode, board: Board | None) -> bool:
    """What takes_three takes, with three rows side by side, stride 1, at least two rows of output in every block."""
    if not takes_three(b, board):
        return False
    t = quad(b)
    p, c = t.planes, t.planes.c
    last = c.out_h - (p.blocks - 1) * p.block
    plain = (c.kernel_h, c.stride_h, c.dilation_h, t.advance) == (3, 1, 1, 1) and min(p.block, last) >= 2
    reach = max(3 * t.pitch_bytes + 4 * t.unrolled + 8, t.out_row + 2 * t.out_step)
    return plain and reach < REACHED


def quad_cost(b: BoundNode) -> float:
    """Tiles, single columns, pairs of rows, channels of blocks, and what is widened, moved or filled."""
    t = quad(b)
    p, c = t.planes, t.planes.c
    line = t.turns * (65.0 * t.unrolled + (9 if t.turns > 1 else 0)) + 43.0 * t.single + 11
    pairs = (p.blocks - 1) * -(-p.block // 2) + -(-(c.out_h - (p.blocks - 1) * p.block) // 2)
    return c.out_c * t.phases * (pairs * line + 56.0 * p.blocks) + widening_cost(p)


KERNELS = (
    kernel("_3x3_quad", quad_cost, takes_quad, three_constants, quad),
    kernel("_3x3", three_cost, takes_three, three_constants, three),
    depthwise_any.KERNEL,
)
