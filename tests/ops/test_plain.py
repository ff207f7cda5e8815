"""conv2d and dense for cores without SIMD: every kernel against the reference, on the host under UBSan and in Unicorn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.kernels import Case, assert_kernels, find_kernel, random_case, supported
from tests.support.nodes import quantized_node
from tests.support.products import exact_node, extreme_constants, random_constants
from tinygen.graph import Graph, QParams
from tinygen.ops import conv2d, dense, depthwise_conv2d
from tinygen.ops.windows import Padding, output_size, same_padding

CONV2D, DENSE = "tg_conv2d_s8_tiled", "tg_dense_s8_tiled"
DEPTHWISE = "tg_depthwise_conv2d_s8_rows"
SCALES = (0.004, 0.02, 0.1, 1.0)
"""Of outputs: the first two make multipliers above 1 or 1/2, which the short requantization does not take."""


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    """Two integers in low ... high."""
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))


def qparams(rng: np.random.Generator) -> tuple[QParams, QParams]:
    """Of input and output."""
    x, y = (QParams.per_tensor(s, int(rng.integers(-128, 128))) for s in (0.05, float(rng.choice(SCALES))))
    return x, y


def random_conv2d(seed: int) -> Graph:
    """A node with everything drawn: window, strides, dilation, padding, channels, clamp, zero points."""
    rng = np.random.default_rng(seed)
    kernel, stride, dilation, size = pair(rng, 1, 4), pair(rng, 1, 3), pair(rng, 1, 2), pair(rng, 1, 9)
    depth, channels = pair(rng, 1, 9)
    padding = same_padding(size, kernel, stride, dilation)
    if rng.integers(2):
        padding = Padding(*map(int, rng.integers(0, 3, 4)))
    if min(output_size((*size, depth), kernel, stride, dilation, padding)) < 1:
        return random_conv2d(seed + 1000)
    attrs = conv2d.Attrs(stride, dilation, padding, 1, str(rng.choice(["none", "relu", "relu6"])))
    x, y = qparams(rng)
    constants = random_constants(seed, (channels, *kernel, depth), channels)
    return quantized_node("conv2d", attrs, [((*size, depth), x)], constants, y)


def random_dense(seed: int) -> Graph:
    """A node with everything drawn; every remainder of products and channels by four comes up."""
    rng = np.random.default_rng(seed)
    depth, channels, rows = 1 + seed % 21, 1 + seed // 3 % 10, int(rng.integers(1, 3))
    x, y = qparams(rng)
    constants = random_constants(seed, (channels, depth), channels)
    return quantized_node("dense", dense.Attrs("none"), [((rows, depth), x)], constants, y)


def test_random_convolutions() -> None:
    assert_kernels([random_case(CONV2D, random_conv2d(seed), 2, seed) for seed in range(60)], "microbit")


def test_random_dense_layers() -> None:
    assert_kernels([random_case(DENSE, random_dense(seed), 2, seed) for seed in range(60)], "microbit")


def random_depthwise(seed: int) -> Graph:
    """A node with everything drawn: window, strides, dilation, padding, channels, depth multiplier, clamp."""
    rng = np.random.default_rng(seed)
    kernel, stride, dilation, size = pair(rng, 1, 5), pair(rng, 1, 3), pair(rng, 1, 2), pair(rng, 1, 11)
    depth, multiplier = int(rng.integers(1, 8)), int(rng.choice([1, 1, 1, 2, 3]))
    padding = same_padding(size, kernel, stride, dilation)
    if rng.integers(2):
        padding = Padding(*map(int, rng.integers(0, 3, 4)))
    if min(output_size((*size, depth), kernel, stride, dilation, padding)) < 1:
        return random_depthwise(seed + 1000)
    attrs = depthwise_conv2d.Attrs(stride, dilation, padding, str(rng.choice(["none", "relu", "relu6"])))
    x, y = qparams(rng)
    channels = depth * multiplier
    constants = random_constants(seed, (*kernel, channels), channels)
    return quantized_node("depthwise_conv2d", attrs, [((*size, depth), x)], constants, y)


def test_random_depthwise_convolutions() -> None:
    assert_kernels([random_case(DEPTHWISE, random_depthwise(seed), 2, seed) for seed in range(60)], "microbit")
