"""conv2d and dense on DSP cores: every kernel against the reference, on the host under UBSan and in Unicorn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.kernels import Case, assert_kernels, find_kernel, random_case, supported
from tests.support.nodes import quantized_node
from tests.support.products import exact_node, random_constants
from tinygen.graph import Graph, QParams
from tinygen.ops import conv2d, dense, dsp_product
from tinygen.ops.windows import Padding, output_size, same_padding

CONVOLUTIONS = ("tg_conv2d_s8_dsp_columns", "tg_conv2d_s8_dsp_rows")
PLANES = tuple(f"tg_conv2d_s8_dsp_planes{what}" for what in ("_3x3_quad", "_3x3", ""))
DENSE = "tg_dense_s8_dsp"
WIDE = ("tg_dense_s8_dsp_wide", "tg_conv2d_s8_dsp_wide")
pytestmark = [pytest.mark.arm]


def random_convolution(seed: int, inputs: int | None = None, outputs: int | None = None) -> Graph:
    """Everything drawn: window, strides, dilation, padding, channels with all remainders, clamp, zero points. inputs,
    outputs: so many channels."""
    rng = np.random.default_rng(seed)
    largest = int(rng.choice([1, 3, 5]))
    kernel, stride = tuple(rng.integers(1, largest + 1, 2).tolist()), tuple(rng.integers(1, 4, 2).tolist())
    stride = (1, 1) if largest == 1 else stride
    dilation = tuple(rng.choice([1, 1, 1, 2], 2).tolist())
    size = tuple(rng.integers(1, 9, 2).tolist())
    depth, channels = inputs or int(rng.integers(1, 20)), outputs or int(rng.integers(1, 12))
    padding = Padding(*map(int, rng.integers(0, 3, 4)))
    if rng.integers(2):
        padding = same_padding(size, kernel, stride, dilation)
    if min(output_size((*size, depth), kernel, stride, dilation, padding)) < 1:
        return random_convolution(seed + 1000, inputs, outputs)
    attrs = conv2d.Attrs(stride, dilation, padding, 1, str(rng.choice(["none", "relu", "relu6"])))
    return quantized_node(
        "conv2d",
        attrs,
        [((*size, depth), QParams.per_tensor(0.05, int(rng.integers(-128, 128))))],
        random_constants(seed, (channels, *kernel, depth), channels),
        QParams.per_tensor(float(rng.choice([0.05, 0.3, 2.0])), int(rng.integers(-128, 128))),
    )


def random_dense(seed: int, depth: int | None = None) -> Graph:
    """Rows, inputs and channels of every remainder."""
    rng = np.random.default_rng(seed)
    drawn, channels, rows = int(rng.integers(1, 70)), int(rng.integers(1, 26)), int(rng.integers(1, 4))
    depth = depth or drawn
    return quantized_node(
        "dense",
        dense.Attrs(str(rng.choice(["none", "relu"]))),
        [((rows, depth), QParams.per_tensor(0.05, int(rng.integers(-128, 128))))],
        random_constants(seed, (channels, depth), channels),
        QParams.per_tensor(0.3, int(rng.integers(-128, 128))),
    )


def extreme(seed: int) -> Graph:
    """Accumulators up to 2**23, powers of two for multipliers (halves are exact), channels that are constant."""
    rng = np.random.default_rng(seed)
    weights = rng.choice([-127, -1, 0, 1, 127], (33, 1, 1, 3))
    reach = 2 * 128 * np.abs(weights).sum(axis=(1, 2, 3))
    bias = (rng.choice([-1, 1], 33) * (2**23 - 1 - reach)) >> rng.integers(0, 16, 33)
    exponent = rng.uniform(-20, -1.01, 33)
    multipliers = 2.0 ** np.where(rng.random(33) < 0.5, np.floor(exponent), exponent)
    # negative halves in both lanes: one input in eight
    weights[29:32], bias[29:32], multipliers[29:32] = [1, 0, 0], [-40, -41, -42], 2.0**-3
    bias[::4], multipliers[::4] = 2**24, 2.0**-10  # dead: the same output for every input
    x = QParams.per_tensor(1.0, int(rng.integers(-128, 128)))
    if seed % 3 == 0:  # a bias that no lane holds: it is added apart; products decide about the last bit
        apart = [2, 5, 6, 32]
        weights[apart], multipliers[apart] = 127, 2.0**-17
        bias[apart] = (129 * 2**16) * (1 if x.zero_point[0] < 0 else -1)
    return exact_node("conv2d", conv2d.Attrs(), (3, 5, 3), weights, bias, multipliers, 0, input=x, output=x)


def cases(kernels: tuple[str, ...], graphs: list[Graph]) -> list[Case]:
    """Those that a kernel takes."""
    return [
        random_case(kernel, g, 2, i)
        for i, g in enumerate(graphs)
        for kernel in kernels
        if supported(kernel, next(iter(g.bound())))
    ]


def test_random_convolutions() -> None:
    made = cases(CONVOLUTIONS, [random_convolution(seed) for seed in range(36)])
    counts = [sum(c.kernel == kernel for c in made) for kernel in CONVOLUTIONS]
    assert counts[0] >= 30 and counts[1] >= 15
    assert_kernels(made)


def test_one_output_channel() -> None:
    made = cases(CONVOLUTIONS, [random_convolution(seed, outputs=1) for seed in range(30)])
    tiles = {find_kernel(c.kernel).params(next(iter(c.graph.bound()))).tiles.many.pixels for c in made}
    assert len(made) >= 40 and tiles == {2, 3, 4, 5}
    assert_kernels(made)


def test_one_input_channel() -> None:
    graphs = [random_convolution(seed, inputs=1) for seed in range(200)]
    made = [cases((kernel,), graphs)[:most] for kernel, most in zip(PLANES, (5, 12, 12), strict=True)]
    assert [len(m) for m in made] == [5, 12, 12]
    assert_kernels([c for m in made for c in m])


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_more_convolutions(block: int) -> None:
    assert_kernels(cases(CONVOLUTIONS, [random_convolution(100 + 40 * block + i) for i in range(40)]))


def test_random_dense() -> None:
    made = cases((DENSE,), [random_dense(seed) for seed in range(24)])
    assert len(made) == 24
    assert_kernels(made)


def test_long_sums() -> None:
    """Loops whose end is no constant that CMP takes, were all their products in turns of twenty."""
    lengths = (546, 570, 594, 1023, 1178)
    made = cases((DENSE,), [random_dense(seed, depth) for seed, depth in enumerate(lengths)])
    assert len(made) == len(lengths)
    assert_kernels(made)


def huge(seed: int) -> Graph:
    """Sums that no lane holds, near the ends of int32, with multipliers of every size, shifts to the left, too."""
    rng = np.random.default_rng(seed)
    depth, channels = int(rng.integers(1500, 2000)), 5
    weights = rng.choice([-128, -127, 127], (channels, depth))
    bias = rng.choice([-1, 1], channels) * (2**31 - 1 - 256 * 128 * depth)
    bias[:2] = rng.integers(-(2**16), 2**16, 2)
    x = QParams.per_tensor(1.0, int(rng.integers(-128, 128)))
    multipliers = 2.0 ** rng.uniform(-28, 1, channels)
    multipliers[0] = 2.0**-14
    return exact_node("dense", dense.Attrs(), (2, depth), weights, bias, multipliers, 0, input=x, output=x)


def test_sums_beyond_the_lanes() -> None:
    graphs = [huge(seed) for seed in range(4)]
    assert not cases((DENSE,), graphs)
    assert_kernels(cases(WIDE, [*graphs, *(random_dense(seed) for seed in range(16))]))


def test_pixels_as_rows() -> None:
    pointwise = [extreme(seed) for seed in range(4)] + [random_convolution(seed) for seed in range(36)]
    made = cases(WIDE, pointwise)
    assert len(made) >= 8
    assert_kernels(made)


def test_extreme_accumulators() -> None:
    made = cases(CONVOLUTIONS, [extreme(seed) for seed in range(8)])
    assert len(made) == 16
    assert sum(dsp_product.operands(next(iter(c.graph.bound()))).apart for c in made) == 6
    assert_kernels(made)


def test_what_cannot_be_proved_is_not_taken() -> None:
    x = QParams.per_tensor(1.0, 0)

    def node(weight: int, bias: int, multiplier: float) -> Graph:
        weights = np.full((2, 1, 1, 2), weight)
        values = (weights, np.array([bias, 0]), np.full(2, multiplier))
        return exact_node("conv2d", conv2d.Attrs(), (1, 2, 2), *values, 0, input=x, output=x)

    def taken(g: Graph) -> bool:
        return supported(CONVOLUTIONS[0], next(iter(g.bound())))

    def apart(g: Graph) -> bool:
        return dsp_product.operands(next(iter(g.bound()))).apart

    near, far = (node(-127, 2**23 - more - 256 * 127, 0.9 * 2.0**-17) for more in (1, 0))
    assert taken(near) and taken(far)
    assert not apart(near) and apart(far)  # the upper lane's accumulator
    assert not taken(node(-128, 0, 0.01))  # the lane itself
    assert not taken(node(1, 0, 1.5)) and not taken(node(1, 0, 0.75))  # no shift to the right
    assert taken(node(1, 0, 0.49))


def test_constant_channels_need_no_product() -> None:
    o = dsp_product.operands(next(iter(extreme(1).bound())))
    assert not o.weights[::4].any() and not o.multiplier[::4].any() and o.weights.any()
