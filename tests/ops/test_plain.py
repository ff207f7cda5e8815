"""Kernels for cores without SIMD, against the reference: on the host under UBSan and in Unicorn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.kernels import Case, assert_kernels, library, random_case
from tests.support.nodes import quantized_node
from tests.support.products import exact_node, extreme_constants, random_constants
from tinygen.boards import load_board
from tinygen.fixedpoint import saturating_rounding_doubling_high_mul as doubling_high_mul
from tinygen.graph import Graph, QParams
from tinygen.ops import conv2d, dense, depthwise_conv2d, plain_product
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


DRAWN = {"conv2d": random_conv2d, "dense": random_dense, "depthwise_conv2d": random_depthwise}
KERNELS = {"conv2d": CONV2D, "dense": DENSE, "depthwise_conv2d": DEPTHWISE}


@pytest.mark.parametrize("op", DRAWN)
def test_random_nodes(op: str) -> None:
    """Every fourth one is executed by the portable kernel, which the host has for no other int8 node."""
    graphs = [DRAWN[op](seed) for seed in range(32)]
    names = [f"tg_{op}_s8" if i % 4 == 3 else KERNELS[op] for i in range(32)]
    made = [random_case(k, g, 2, i) for i, (k, g) in enumerate(zip(names, graphs, strict=True))]
    assert_kernels(made, "microbit")


def extreme(op: str, seed: int) -> Graph:
    """Accumulators up to the limits of int32; of odd seeds no multiplier above 1/2, so that the bound alone decides."""
    quick = seed % 2 == 1
    headroom = (2, 3, 9, 0)[seed // 2 % 4] if quick else (0, 1, 7, 13)[seed // 2 % 4]
    shape, weights, axis, attrs = {
        "conv2d": ((2, 2, 1), (12, 1, 1, 1), 0, conv2d.Attrs()),
        "dense": ((5,), (11, 5), 0, dense.Attrs()),
        "depthwise_conv2d": ((3, 2, 12), (2, 2, 12), 2, depthwise_conv2d.Attrs()),
    }[op]
    integers, bias, multipliers = extreme_constants(seed, weights, weights[axis], headroom)
    chosen = np.minimum(multipliers, 0.4999) if quick else multipliers
    x, y = (QParams.per_tensor(s, (-128, -1, 0, 127)[(seed + i) % 4]) for i, s in enumerate((0.05, 0.1)))
    return exact_node(op, attrs, shape, integers, bias, chosen, axis, input=x, output=y)


def halves(last: int, step: int) -> Graph:
    """Multipliers 2**(last - 10) ... 2**last for 3 times all 256 inputs, beside biases around 0: all exact halves.

    2**-1 is 2**30 without a shift, which the short requantization does not take.
    """
    exponents = np.arange(last - 10, last + 1)
    weights, bias = np.full((11, 1, 1, 1), 3), step * (np.arange(11) - 5)
    x, y = QParams.per_tensor(0.05, 0), QParams.per_tensor(0.1, 0)
    return exact_node(
        "conv2d", conv2d.Attrs(), (16, 16, 1), weights, bias, 2.0**exponents, 0, input=x, output=y
    )


def every_input(kernel: str) -> Case:
    """Halves, on one image of all inputs."""
    return Case(kernel, halves(-1, 1), (np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16, 1),))


def test_halves() -> None:
    """Exhaustive around halves, and odd multipliers whose product is just below or above one."""
    quick = Case(CONV2D, halves(-2, 7001), every_input(CONV2D).inputs)
    assert plain_product.quick(next(iter(quick.graph.bound())), 0)
    rng = np.random.default_rng(7)
    integers, bias = rng.integers(-127, 128, (40, 1, 1, 1)), rng.integers(-(2**19), 2**19, 40)
    x, y = QParams.per_tensor(0.05, 0), QParams.per_tensor(0.1, 0)
    multipliers = 100.0 / (np.abs(bias) + 2**15)
    dense_bits = exact_node(
        "conv2d", conv2d.Attrs(), (16, 16, 1), integers, bias, multipliers, 0, input=x, output=y
    )
    other = Case(CONV2D, dense_bits, quick.inputs)
    assert_kernels([every_input(CONV2D), quick, other], "microbit")


def test_accumulators_too_large_for_halves() -> None:
    """Partial sums of the product of halves would leave int32, so that the long requantization is called."""
    rng = np.random.default_rng(3)
    bias = rng.choice([-1, 1], 60) * rng.integers(2**30, 2**31 - 2**18, 60)
    weights, multipliers = rng.integers(-127, 128, (60, 1, 1, 1)), rng.uniform(1, 2, 60) * 2.0**-25
    x, y = QParams.per_tensor(0.05, 0), QParams.per_tensor(0.1, 0)
    graph = exact_node(
        "conv2d", conv2d.Attrs(), (16, 16, 1), weights, bias, multipliers, 0, input=x, output=y
    )
    assert_kernels([Case(CONV2D, graph, every_input(CONV2D).inputs)], "microbit")


@pytest.mark.parametrize("op", DRAWN)
def test_extreme_accumulators(op: str) -> None:
    graphs = [extreme(op, seed) for seed in range(24)]
    quick = [plain_product.quick(next(iter(g.bound())), EXTREME_AXIS[op]) for g in graphs]
    assert 8 <= sum(quick) <= 16, "both requantizations"
    assert_kernels([random_case(KERNELS[op], g, 6, i) for i, g in enumerate(graphs)], "microbit")


EXTREME_AXIS = {"conv2d": 0, "dense": 0, "depthwise_conv2d": 2}


def test_multiplication_in_halves() -> None:
    """tg_plain_high_mul without a 64-bit product, for accumulators around everything where a carry could be lost."""
    steps = [0, 1, 2**14, 2**15, 2**16, 2**16 * 3 - 1, 2**28, 2**29 - 2]
    around = {s * sign + d for s in steps for sign in (-1, 1) for d in (-1, 0, 1)}
    a = np.array(sorted(x for x in around if abs(x) < 2**29), np.int64)
    m = np.array([0, 1, 2**30, 2**30 + 1, 2**30 + 2**15, 2**31 - 2**16, 2**31 - 2**15, 2**31 - 1], np.int64)
    al = ((a & 0xFFFF) ^ 0x8000) - 0x8000
    ah = (a - al) >> 16
    a, al, ah, bl, bh = (
        x.reshape(-1, 1) if x.shape == a.shape else x for x in (a, al, ah, m & 0xFFFF, m >> 16)
    )
    middle = ah * bl + al * bh + ((al * bl) >> 16)
    assert np.abs(middle).max() + 2**14 < 2**31
    np.testing.assert_array_equal(2 * ah * bh + ((middle + 2**14) >> 15), doubling_high_mul(a, m))


def test_depthwise_in_place() -> None:
    """Input and output share their bytes, and no row is overwritten before its last window."""
    attrs = depthwise_conv2d.Attrs((1, 1), (1, 1), Padding(1, 1, 1, 1))
    constants = random_constants(1, (3, 3, 6), 6)
    x, y = QParams.per_tensor(0.05, 3), QParams.per_tensor(0.1, -5)
    case = random_case(DEPTHWISE, quantized_node("depthwise_conv2d", attrs, [((9, 8, 6), x)], constants, y))
    assert library(case, load_board("microbit"), "m").arena_bytes <= 9 * 8 * 6 + 3 * 10 + 8
    assert_kernels([case], "microbit")
