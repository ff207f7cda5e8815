"""conv2d and dense on DSP cores: every kernel against the reference, on the host under UBSan and in Unicorn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.kernels import Case, assert_kernels, random_case, supported
from tests.support.nodes import quantized_node
from tests.support.products import exact_node, random_constants
from tinygen import building
from tinygen.graph import Graph, QParams
from tinygen.ops import conv2d, dense, dsp_product
from tinygen.ops.windows import Padding, output_size, same_padding

CONVOLUTIONS = ("tg_conv2d_s8_dsp_columns", "tg_conv2d_s8_dsp_rows")
DENSE = "tg_dense_s8_dsp"
pytestmark = [pytest.mark.arm]


def random_convolution(seed: int) -> Graph:
    """Everything drawn: window, strides, dilation, padding, channels with all remainders, clamp, zero points."""
    rng = np.random.default_rng(seed)
    largest = int(rng.choice([1, 3, 5]))
    kernel, stride = tuple(rng.integers(1, largest + 1, 2).tolist()), tuple(rng.integers(1, 4, 2).tolist())
    stride = (1, 1) if largest == 1 else stride
    dilation = tuple(rng.choice([1, 1, 1, 2], 2).tolist())
    size, depth, channels = (
        tuple(rng.integers(1, 9, 2).tolist()),
        int(rng.integers(1, 20)),
        int(rng.integers(1, 12)),
    )
    padding = Padding(*map(int, rng.integers(0, 3, 4)))
    if rng.integers(2):
        padding = same_padding(size, kernel, stride, dilation)
    if min(output_size((*size, depth), kernel, stride, dilation, padding)) < 1:
        return random_convolution(seed + 1000)
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
    if seed % 3 == 0:  # a bias that no lane holds: it is added apart
        bias[1::2], multipliers[1::2] = 2**26 - 2**25 // 3, 2.0**-20
        bias[2], multipliers[2] = -(2**27) + 5, 1.3 * 2.0**-21
    # negative halves in both lanes: one input in eight
    weights[29:32], bias[29:32], multipliers[29:32] = [1, 0, 0], [-40, -41, -42], 2.0**-3
    bias[::4], multipliers[::4] = 2**24, 2.0**-10  # dead: the same output for every input
    x = QParams.per_tensor(1.0, int(rng.integers(-128, 128)))
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


def test_extreme_accumulators() -> None:
    made = cases(CONVOLUTIONS, [extreme(seed) for seed in range(8)])
    assert len(made) == 16
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


@pytest.mark.parametrize("flags", [("-O0",), ("-Os",), ("-O3",), ("-O2", "-flto")])
def test_every_optimization_gives_the_same(flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tuple(f for f in building.OPTIMIZE if not f.startswith("-O"))
    monkeypatch.setattr(building, "OPTIMIZE", (*flags, *kept))
    some = cases(CONVOLUTIONS, [random_convolution(seed) for seed in range(6)])
    assert_kernels([*some, *cases((DENSE,), [random_dense(3)])], emulators=("unicorn",))
