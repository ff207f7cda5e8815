"""add, sub and mul on DSP cores: all 65,536 pairs of inputs, remainders, broadcasting, clamps."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.kernels import Case, assert_kernels, random_case, supported
from tests.support.nodes import quantized_node
from tinygen.graph import Graph, QParams, Shape
from tinygen.ops.binary import Attrs

EACH = (("add", "tg_add_s8_dsp"), ("sub", "tg_sub_s8_dsp"), ("mul", "tg_mul_s8_dsp"))

# Two input scales, output scale: the larger one first, last, both alike, far apart, output below what is added.
SCALES = (
    (0.05, 0.031, 0.07),
    (0.0301, 0.05, 0.04),
    (0.04, 0.04, 0.0553),
    (0.5, 0.0004, 0.3),
    (1e-9, 2.0, 1.5),
    (0.02, 0.03, 0.9),
)


def node(
    op: str, scales: tuple[float, float, float], shapes: tuple[Shape, Shape], seed: int, act: str = "none"
) -> Graph:
    rng = np.random.default_rng(seed)
    first, second, output = (QParams.per_tensor(s, int(rng.integers(-128, 128))) for s in scales)
    return quantized_node(op, Attrs(act), [(shapes[0], first), (shapes[1], second)], output=output)


def every_pair(kernel: str, graph: Graph) -> Case:
    """Both inputs (256, 256): every pair of values once."""
    values = np.arange(-128, 128, dtype=np.int8)
    first, second = np.meshgrid(values, values, indexing="ij")
    return Case(kernel, graph, (first[np.newaxis], second[np.newaxis]))


@pytest.mark.parametrize(("op", "kernel"), EACH)
def test_every_pair_of_inputs(op: str, kernel: str) -> None:
    graphs = [node(op, scales, ((256, 256),) * 2, i) for i, scales in enumerate(SCALES)]
    made = [every_pair(kernel, g) for g in graphs if supported(kernel, next(iter(g.bound())))]
    assert len(made) >= 4
    for case in made:
        assert_kernels([case])


def test_shapes_clamps_and_constants() -> None:
    made = []
    for seed, (op, kernel) in enumerate(EACH * 2):
        act = ("none", "relu6")[seed % 2]
        for shapes in (((5, 3), (5, 3)), ((1,), (1,)), ((4, 3), (3,)), ((1, 3), (4, 1)), ((2, 8), (2, 8))):
            made.append(random_case(kernel, node(op, SCALES[0], shapes, seed, act)))
        constant = np.random.default_rng(seed).normal(size=(4, 3))
        x, y = QParams.per_tensor(0.05, -3), QParams.per_tensor(0.06, 5)
        made.append(random_case(kernel, quantized_node(op, Attrs(), [((4, 3), x)], [constant], y)))
    assert_kernels(made)
