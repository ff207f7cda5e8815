"""depthwise_conv2d with any window on DSP cores (Cortex-M4, M7, M33), over planes of int16 (dsp_planes.py), in C.
docs/kernels.md, "Depthwise".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinygen.boards import Board
from tinygen.graph import Array, BoundNode
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

MOST_UNROLLED = 6
"""Words of a filter's row that are unrolled."""


@dataclass(frozen=True)
class General:
    """Numbers of the kernel for any window. Of a run, output j reads elements j * advance ..., and is written to pixel
    j * phases. run: int16 from one run to the next one.

    A filter's row is `filter_row` int16: the weights as pairs and, where windows start at odd elements, too, the same
    one element later at `odd` (else 0). turns * unrolled + left words of it are multiplied. shifts, parities: of the
    four outputs of a tile: even elements from the first one's window, and whether one more. next_row, next_filter:
    int16 from behind the words to the next row. tiles: how many outputs at a time.
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
    def scratch(self) -> int:
        """Bytes of planes and filter."""
        return self.planes.scratch + 4 * self.filter_words

    @property
    def clamps(self) -> bool:
        return self.planes.low is not None or self.planes.high is not None


def general(b: BoundNode) -> General:
    """Numbers of one node: pixels that taps of a window read are brought together in runs, one per phase."""
    c = geometry(b)
    phases, advance = phases_of(c)
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


KERNEL = kernel("", general_cost, takes_general, general_constants, general)
