"""max_pool2d, average_pool2d and mean on DSP cores (Cortex-M4, M7, M33): four channels at a time.

docs/kernels.md, "Pooling".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinygen.boards import Board
from tinygen.graph import BoundNode
from tinygen.ops import pooling
from tinygen.ops.base import Kernel, dsp
from tinygen.ops.dsp_elements import clamps
from tinygen.ops.windows import overhang

LANE_PIXELS = 256
"""Pixels whose sum an int16 lane holds: 256 * -128 = -2**15, 256 * 127 < 2**15."""
MOST_UNROLLED = 9
"""Pixels of a window that are read without a loop."""
MOST_RIGHT = 22
"""As in binary_dsp.py."""


@dataclass(frozen=True)
class Pool:
    """c: the window. inside: no window reaches over a border. offsets: bytes from a window's first pixel to each of
    them, where they are few and all inside, else (). whole: one window over all pixels."""

    c: pooling.Params
    inside: bool
    offsets: tuple[int, ...]
    whole: bool

    @property
    def count(self) -> int:
        """Pixels of a window."""
        return self.c.window_h * self.c.window_w

    @property
    def low_word(self) -> str:
        """The clamp's lower bound in all four bytes of a word, as C."""
        return f"0x{0x01010101 * (self.c.activation_min % 256):08x}U"

    @property
    def high_word(self) -> str:
        """The same of the upper one."""
        return f"0x{0x01010101 * (self.c.activation_max % 256):08x}U"

    @property
    def clamps(self) -> bool:
        return clamps(self.c.activation_min, self.c.activation_max)


def pool(b: BoundNode) -> Pool:
    """Numbers of one node."""
    c = pooling.params(b)
    window, attrs = (c.window_h, c.window_w), b.attrs
    over = overhang(attrs.padding, b.inputs[0].shape, b.output.shape, window, attrs.stride, (1, 1))
    inside = not over.any
    few = inside and c.window_h * c.window_w <= MOST_UNROLLED
    pixels = [(y, x) for y in range(c.window_h) for x in range(c.window_w)] if few else []
    offsets = tuple((y * c.in_w + x) * c.channels for y, x in pixels)
    return Pool(c, inside, offsets, window == (c.in_h, c.in_w) and inside)


def takes_max(b: BoundNode, board: Board | None) -> bool:
    """Every node."""
    return dsp(b, board)


def takes_average(b: BoundNode, board: Board | None) -> bool:
    """Windows whose sums fit int16 lanes, or one window, which is summed in pieces."""
    p = pool(b)
    return dsp(b, board) and (p.count <= LANE_PIXELS or p.whole)


def cost(unrolled: float, whole: float, looped: float, output: float) -> Callable[[BoundNode], float]:
    """Cycles per four channels: of a pixel (unrolled, of one window over everything, in loops), of an output. A channel
    that is left over takes three times a quarter."""

    def cycles(b: BoundNode) -> float:
        p = pool(b)
        pixel = unrolled if p.offsets else whole if p.whole else looped
        rows = 0.0 if p.offsets or p.whole else 12.0 * p.c.window_h
        four = p.c.channels // 4 + 3.0 * (p.c.channels % 4)
        window = four * (p.count * pixel + output + rows) + 25.0
        return p.c.out_h * p.c.out_w * window

    return cycles


MAX = Kernel("tg_max_pool2d_s8_dsp", cost(3.3, 9.0, 8.5, 6.0), takes_max, params=pool, header="tg_dsp.h")
AVERAGE = Kernel(
    "tg_average_pool2d_s8_dsp", cost(4.5, 4.5, 8.5, 42.0), takes_average, params=pool, header="tg_dsp.h"
)


# ---- mean


@dataclass(frozen=True)
class Mean:
    """m: numbers of the portable kernel (mean.Params). quick: its requantization is proved to be that of DSP cores."""

    m: Any
    quick: bool

    @property
    def count(self) -> int:
        return int(self.m.count)

    @property
    def whole(self) -> bool:
        return True

    @property
    def right(self) -> int:
        return int(-self.m.shift)

    @property
    def rounding(self) -> int:
        """Half a step and the output's zero_point."""
        return (1 << (self.right - 1)) + (self.m.output_zero_point << self.right) if self.quick else 0


def mean_numbers(m: Any) -> Mean:
    """Numbers of one node."""
    return Mean(m, 1 <= -m.shift <= MOST_RIGHT and 255 * m.count < 2**29)


def mean_kernel(params: Callable[[BoundNode], Any]) -> Kernel:
    """The kernel of mean. params: those of the portable kernel."""

    def cycles(b: BoundNode) -> float:
        height, width, channels = b.inputs[0].shape
        four = channels // 4 + 3.0 * (channels % 4)
        return four * (4.7 * height * width + (45.0 if mean_numbers(params(b)).quick else 160.0)) + 20.0

    return Kernel("tg_mean_s8_dsp", cycles, dsp, params=lambda b: mean_numbers(params(b)), header="tg_dsp.h")
