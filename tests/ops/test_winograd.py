"""conv2d by Winograd's F(4x4, 3x3) on DSP cores: against the reference, on the host under UBSan and in Unicorn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.kernels import Case, assert_kernels, random_case, supported
from tests.support.nodes import quantized_node
from tests.support.products import random_constants
from tinygen.graph import Graph, QParams
from tinygen.ops import conv2d
from tinygen.ops.windows import Padding, output_size, same_padding

KERNEL = "tg_conv2d_s8_dsp_winograd"
pytestmark = [pytest.mark.arm]


def random_node(seed: int, most_channels: int = 11) -> Graph:
    """Heights and widths of every remainder, any padding, channels of every remainder, clamp, zero points."""
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 14, 2).tolist())
    depth, channels = (int(n) for n in rng.integers(1, most_channels + 1, 2))
    padding = Padding(*map(int, rng.integers(0, 3, 4)))
    if rng.integers(2):
        padding = same_padding(size, (3, 3), (1, 1))
    if min(output_size((*size, depth), (3, 3), (1, 1), (1, 1), padding)) < 1:
        return random_node(seed + 1000, most_channels)
    return quantized_node(
        "conv2d",
        conv2d.Attrs(padding=padding, activation=str(rng.choice(["none", "relu", "relu6"]))),
        [((*size, depth), QParams.per_tensor(0.05, int(rng.integers(-128, 128))))],
        random_constants(seed, (channels, 3, 3, depth), channels),
        QParams.per_tensor(float(rng.choice([0.05, 0.3, 2.0])), int(rng.integers(-128, 128))),
    )


def cases(graphs: list[Graph]) -> list[Case]:
    """All of them: the kernel must take them."""
    assert all(supported(KERNEL, next(iter(g.bound()))) for g in graphs)
    return [random_case(KERNEL, g, 2, i) for i, g in enumerate(graphs)]


def test_random_nodes() -> None:
    made = cases([random_node(seed) for seed in range(24)])
    shapes = [c.graph.output_tensors[0].shape for c in made]
    depths = {c.inputs[0].shape[3] % 4 for c in made}
    assert (
        {s[0] % 4 for s in shapes} == {s[1] % 4 for s in shapes} == {s[2] % 4 for s in shapes} == {0, 1, 2, 3}
    )
    assert depths == {0, 1, 2, 3}
    assert_kernels(made)
