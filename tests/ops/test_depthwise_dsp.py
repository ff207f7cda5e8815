"""depthwise_conv2d on DSP cores: every kernel against the reference, on the host under UBSan and in Unicorn."""

from __future__ import annotations

import numpy as np

from tests.support.kernels import Case, assert_kernels, random_case, supported
from tests.support.nodes import quantized_node
from tests.support.products import random_constants
from tinygen.graph import Graph, QParams
from tinygen.ops.depthwise_conv2d import Attrs
from tinygen.ops.windows import Padding, output_size, same_padding

THREE = "tg_depthwise_conv2d_s8_dsp_3x3"
GENERAL = "tg_depthwise_conv2d_s8_dsp"


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    """Two integers in low ... high."""
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))


def random_node(seed: int, largest: int = 3, dilations: tuple[int, ...] = (1,), stride: int = 2) -> Graph:
    """A node with everything drawn: window, strides, dilation, padding, channels, clamp, zero points."""
    rng = np.random.default_rng(seed)
    kernel, strides = pair(rng, 1, largest), pair(rng, 1, stride)
    dilation = (int(rng.integers(1, 3)), int(rng.choice(dilations)))
    channels, multiplier = int(rng.integers(1, 10)), int(rng.choice([1, 1, 1, 2, 3]))
    size = pair(rng, 1, 13)
    same = bool(rng.integers(2))
    padding = (
        same_padding(size, kernel, strides, dilation) if same else Padding(*map(int, rng.integers(0, 3, 4)))
    )
    if min(output_size((*size, channels), kernel, strides, dilation, padding)) < 1:
        return random_node(seed + 1000, largest, dilations, stride)
    attrs = Attrs(strides, dilation, padding, str(rng.choice(["none", "relu", "relu6"])))
    x, y = (QParams.per_tensor(s, int(rng.integers(-128, 128))) for s in (0.05, rng.choice([0.02, 0.1, 1.0])))
    constants = random_constants(seed, (*kernel, channels * multiplier), channels * multiplier)
    return quantized_node("depthwise_conv2d", attrs, [((*size, channels), x)], constants, y)


def cases(kernel: str, graphs: list[Graph]) -> list[Case]:
    """Those that the kernel takes."""
    return [
        random_case(kernel, g, 2, i) for i, g in enumerate(graphs) if supported(kernel, next(iter(g.bound())))
    ]


def test_windows_of_up_to_three() -> None:
    made = cases(THREE, [random_node(seed) for seed in range(60)])
    assert len(made) >= 40
    assert_kernels(made)


def test_any_window() -> None:
    made = cases(GENERAL, [random_node(seed, 7, (1, 2, 3), 3) for seed in range(60)])
    made += cases(GENERAL, [random_node(seed, 16) for seed in range(10)])
    assert len(made) >= 60
    assert_kernels(made)
