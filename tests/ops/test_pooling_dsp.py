"""Pooling on DSP cores: windows inside and over the borders, remainders of channels, sums at their limits."""

from __future__ import annotations

import numpy as np

from tests.support.kernels import Case, assert_kernels, random_case, supported
from tests.support.nodes import quantized_node
from tinygen.graph import Graph, QParams
from tinygen.ops import mean
from tinygen.ops.pooling import Attrs
from tinygen.ops.windows import VALID, same_padding


def random_pool(op: str, seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    height, width, channels = (int(n) for n in rng.integers(1, (12, 12, 10)))
    window = int(rng.integers(1, min(height, 5) + 1)), int(rng.integers(1, min(width, 5) + 1))
    stride = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    padding = same_padding((height, width), window, stride) if rng.integers(2) else VALID
    q = QParams.per_tensor(0.05, int(rng.integers(-128, 128)))
    attrs = Attrs(window, stride, padding, str(rng.choice(["none", "relu", "relu6", "relu_n1_to_1"])))
    return quantized_node(op, attrs, [((height, width, channels), q)])


def whole(op: str, shape: tuple[int, int, int]) -> Graph:
    return quantized_node(op, Attrs(shape[:2], (1, 1)), [(shape, QParams.per_tensor(0.1, 4))])


def of_mean(shape: tuple[int, int, int], ratio: float, zero_point: int) -> Graph:
    x, y = QParams.per_tensor(0.1, 4), QParams.per_tensor(0.1 * ratio, zero_point)
    return quantized_node("mean", mean.Attrs(), [(shape, x)], output=y)


def cases(kernel: str, graphs: list[Graph]) -> list[Case]:
    for graph in graphs:
        assert supported(kernel, next(iter(graph.bound())))
    return [random_case(kernel, graph, 3, seed) for seed, graph in enumerate(graphs)]


def test_max() -> None:
    graphs = [random_pool("max_pool2d", seed) for seed in range(40)]
    assert_kernels(cases("tg_max_pool2d_s8_dsp", [*graphs, whole("max_pool2d", (20, 17, 7))]))


def test_average() -> None:
    graphs = [random_pool("average_pool2d", seed) for seed in range(40)]
    shapes = ((16, 16, 9), (257, 1, 5), (20, 26, 4), (25, 5, 8))
    assert_kernels(
        cases("tg_average_pool2d_s8_dsp", [*graphs, *(whole("average_pool2d", s) for s in shapes)])
    )


def test_mean() -> None:
    """Sums at the limit of a lane and beyond, and an output scale for which the quick requantization is not proved."""
    shapes = ((1, 1, 3), (16, 16, 9), (23, 23, 4), (3, 3, 16), (5, 1, 1))
    graphs = [of_mean(s, r, z) for s in shapes for r, z in ((1.0, 4), (0.3, -128), (2.7, 127), (0.001, 9))]
    assert_kernels(cases("tg_mean_s8_dsp", graphs))


def test_large_windows_that_slide_are_left_to_the_portable_kernel() -> None:
    attrs, q = Attrs((17, 17), (1, 1)), QParams.per_tensor(0.1, 0)
    graph = quantized_node("average_pool2d", attrs, [((18, 18, 4), q)])
    assert not supported("tg_average_pool2d_s8_dsp", next(iter(graph.bound())))
