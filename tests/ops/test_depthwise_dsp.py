"""depthwise_conv2d on DSP cores: every kernel against the reference, on the host under UBSan and in Unicorn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.kernels import Case, assert_kernels, find_kernel, forced, random_case, supported
from tests.support.nodes import quantized_node
from tests.support.products import exact_node, random_constants
from tinygen.boards import load_board
from tinygen.graph import Graph, QParams
from tinygen.ops.depthwise_conv2d import Attrs
from tinygen.ops.windows import Padding, output_size, same_padding
from tinygen.planning import plan

pytestmark = [pytest.mark.arm]
THREE = "tg_depthwise_conv2d_s8_dsp_3x3"
QUAD = "tg_depthwise_conv2d_s8_dsp_3x3_quad"
GENERAL = "tg_depthwise_conv2d_s8_dsp"
DIRECT = "tg_depthwise_conv2d_s8_dsp_direct"


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    """Two integers in low ... high."""
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))


def random_node(
    seed: int,
    largest: int = 3,
    dilations: tuple[int, ...] = (1,),
    stride: int = 2,
    least: int = 1,
    group: int = 1,
) -> Graph:
    """A node with everything drawn: window, strides, dilation, padding, groups of channels, clamp, zero points."""
    rng = np.random.default_rng(seed)
    kernel, strides = pair(rng, least, largest), pair(rng, 1, stride)
    dilation = (int(rng.integers(1, 3)) if least == 1 else 1, int(rng.choice(dilations)))
    channels, multiplier = group * int(rng.integers(1, 10)), int(rng.choice([1, 1, 1, 2, 3]))
    size = pair(rng, 1, 13)
    same = bool(rng.integers(2))
    padding = (
        same_padding(size, kernel, strides, dilation) if same else Padding(*map(int, rng.integers(0, 3, 4)))
    )
    if min(output_size((*size, channels), kernel, strides, dilation, padding)) < 1:
        return random_node(seed + 1000, largest, dilations, stride, least, group)
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
    made = cases(THREE, [random_node(seed, dilations=(1, 1, 2, 3), stride=3) for seed in range(60)])
    assert len(made) >= 30
    assert_kernels(made)


def test_two_rows_at_a_time() -> None:
    graphs = [random_node(seed, dilations=(1, 1, 2), stride=1, least=3) for seed in range(100, 140)]
    made = cases(QUAD, graphs)
    assert len(made) >= 20
    assert {c.graph.output_tensors[0].shape[0] % 2 for c in made} == {0, 1}
    assert_kernels(made)


def test_windows_that_do_not_overlap() -> None:
    graphs = [random_node(seed, 5, (1, 1, 2), 6, group=4) for seed in range(200)]
    made = cases(DIRECT, graphs)[:24]
    numbers = [find_kernel(DIRECT).params(next(iter(c.graph.bound()))) for c in made]
    assert len(made) == 24
    assert {len(p.sets) for p in numbers} >= {1, 2, 3} and {len(p.spans) for p in numbers} >= {1, 2, 3}
    assert {pair.pixels for p in numbers for pair in p.pairs} == {1, 2}
    assert_kernels(made)


def test_any_window() -> None:
    made = cases(GENERAL, [random_node(seed, 7, (1, 2, 3), 3) for seed in range(30)])
    made += cases(GENERAL, [random_node(seed, 16) for seed in range(6)])
    assert len(made) >= 30
    assert_kernels(made)


def extreme(seed: int, kernel: int, channels: int = 9, stride: int = 1) -> Graph:
    """Accumulators up to 2**30, powers of two for multipliers (halves are exact), channels that shift all away."""
    rng = np.random.default_rng(seed)
    weights = rng.choice([-127, -1, 0, 1, 127], (kernel, kernel, channels))
    reach = 256 * np.abs(weights).sum(axis=(0, 1))
    bias = (rng.choice([-1, 1], channels) * (2**30 - 1 - reach)) >> rng.integers(0, 24, channels)
    exponent = rng.uniform(-22, -1.01, channels)
    multipliers = 2.0 ** np.where(rng.random(channels) < 0.5, np.floor(exponent), exponent)
    bias[::4], multipliers[::4] = rng.integers(-1000, 1000, bias[::4].size), 2.0**-29
    halves = slice(1, None, 4)  # of either sign, and not saturated
    weights[..., halves] = 0
    weights[1, 1, halves], bias[halves], multipliers[halves] = (
        1,
        rng.integers(-3, 4, bias[halves].size),
        2.0**-2,
    )
    x, y = (QParams.per_tensor(1.0, int(rng.integers(-128, 128))) for _ in range(2))
    attrs = Attrs((stride, stride), padding=Padding(1, 1, 1, 1))
    return exact_node(
        "depthwise_conv2d", attrs, (3, 5, channels), weights, bias, multipliers, 2, input=x, output=y
    )


def test_extreme_accumulators() -> None:
    made = cases(THREE, [extreme(seed, 3) for seed in range(8)])
    made += cases(GENERAL, [extreme(seed, 3) for seed in range(8)])
    made += cases(QUAD, [extreme(seed, 3) for seed in range(8)])
    made += cases(DIRECT, [extreme(seed, 3, 12, 3) for seed in range(8)])
    assert len(made) == 32
    assert_kernels(made)


def test_what_cannot_be_proved_is_not_taken() -> None:
    def taken(bias: int, multiplier: float) -> bool:
        x = QParams.per_tensor(1.0, 3)
        weights = np.full((1, 1, 2), 1)
        values = (weights, np.array([bias, 0]), np.full(2, multiplier))
        graph = exact_node("depthwise_conv2d", Attrs(), (2, 2, 2), *values, 2, input=x, output=x)
        return supported(THREE, next(iter(graph.bound()))) and supported(GENERAL, next(iter(graph.bound())))

    assert taken(2**30 - 257, 0.49 * 2.0**-8)
    assert not taken(2**30 - 256, 0.49 * 2.0**-8)  # doubled, it leaves int32
    assert not taken(0, 0.75)  # no shift to the right
    assert taken(1000, 2.0**-28)  # a long shift, and everything vanishes
    assert not taken(2**30 - 257, 2.0**-24)  # a long shift, and it does not


def in_place_graphs() -> list[Graph]:
    """Several blocks, one block, paddings to one side, dilation, and strides that leave fewer pixels."""
    size, padded = (40, 30, 6), same_padding((40, 30), (3, 3), (1, 1))
    shapes = (
        ((3, 3), Attrs(padding=padded), size),
        ((3, 3), Attrs(padding=same_padding((9, 7), (3, 3), (1, 1))), (9, 7, 5)),
        ((3, 3), Attrs(padding=Padding(0, 2, 2, 0)), (30, 20, 4)),
        ((3, 3), Attrs(dilation=(2, 2), padding=Padding(2, 2, 2, 2)), (30, 30, 4)),
        ((3, 3), Attrs((2, 2), padding=same_padding((40, 30), (3, 3), (2, 2))), size),
        ((5, 5), Attrs(padding=same_padding((40, 30), (5, 5), (1, 1))), size),
        ((5, 3), Attrs(dilation=(1, 3), padding=same_padding((20, 40), (5, 3), (1, 1), (1, 3))), (20, 40, 4)),
    )
    q = QParams.per_tensor(0.05, -7)
    return [
        quantized_node(
            "depthwise_conv2d", a, [(s, q)], random_constants(i, (*k, s[2]), s[2]), QParams.per_tensor(0.1, 4)
        )
        for i, (k, a, s) in enumerate(shapes)
    ]


@pytest.mark.parametrize("kernel", [THREE, QUAD, GENERAL])
def test_in_place(kernel: str) -> None:
    """The planner lets the output overwrite the input: the arena is not much more than the input."""
    graphs = in_place_graphs()
    taken = [g for g in graphs if supported(kernel, next(iter(g.bound())))]
    for graph in taken:
        (b,) = graph.bound()
        assert find_kernel(kernel).in_place(b) == (0,)
        program = forced(graph, kernel, load_board("mps2_an386"))
        scratch = find_kernel(kernel).scratch(b)
        apart = 0 if b.output.elements == b.inputs[0].elements else b.output.size_bytes
        assert plan(program).arena_bytes <= b.inputs[0].size_bytes + apart + scratch + 8
    assert len(taken) >= (3 if kernel == QUAD else 5)
    assert_kernels([random_case(kernel, g, 1) for g in taken])


def test_an_output_that_would_overtake_its_rows_needs_its_own_buffer() -> None:
    x, y = QParams.per_tensor(0.05, -7), QParams.per_tensor(0.1, 4)
    for attrs, multiplier in (
        (Attrs(padding=Padding(3, 0, 1, 1)), 1),
        (Attrs(padding=Padding(1, 1, 1, 1)), 2),
    ):
        constants = random_constants(1, (3, 3, 4 * multiplier), 4 * multiplier)
        graph = quantized_node("depthwise_conv2d", attrs, [((60, 30, 4), x)], constants, y)
        (b,) = graph.bound()
        assert find_kernel(THREE).in_place(b) == find_kernel(GENERAL).in_place(b) == ()
