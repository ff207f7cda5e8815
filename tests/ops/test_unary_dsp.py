"""activation and requantize on DSP cores: all 256 inputs, scales of every kind, remainders, in place."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.kernels import Case, assert_kernels, find_kernel, supported
from tests.support.nodes import quantized_node
from tinygen.graph import Graph, QParams
from tinygen.ops import activation, requantize

RATIOS = (1.0, 0.5, 0.51, 0.77, 0.003, 1.9, 4.0, 300.0, 3e-6, 1e-9)
pytestmark = [pytest.mark.arm]


def every_input(kernel: str, graph: Graph) -> Case:
    """All inputs in order, and as many more as the shape has, from the start again."""
    (shape,) = (t.shape for t in graph.input_tensors)
    return Case(kernel, graph, (np.resize(np.arange(-128, 128, dtype=np.int8), (1, *shape)),))


def rescaling(ratio: float, seed: int, act: str = "none", size: int = 259) -> Graph:
    rng = np.random.default_rng(seed)
    x, y = (QParams.per_tensor(s, int(rng.integers(-128, 128))) for s in (ratio, 1.0))
    return quantized_node("requantize", requantize.Attrs(act), [((size,), x)], output=y)


def test_requantize() -> None:
    graphs = [rescaling(r, seed, ("none", "relu6")[seed % 2]) for r in RATIOS for seed in range(2)]
    kernel = "tg_requantize_s8_dsp"
    made = [every_input(kernel, g) for g in graphs if supported(kernel, next(iter(g.bound())))]
    assert len(made) >= 16
    assert_kernels([*made, *(every_input(kernel, rescaling(0.7, 1, size=n)) for n in (1, 3, 4))])


def test_requantize_leaves_other_types_alone() -> None:
    x, y = QParams.int16(0.001), QParams.per_tensor(1.0, 0)
    graph = quantized_node("requantize", requantize.Attrs(), [((5,), x)], output=y)
    assert not supported("tg_requantize_s8_dsp", next(iter(graph.bound())))


@pytest.mark.parametrize("size", [259, 256, 1])
def test_activation(size: int) -> None:
    q = QParams.per_tensor(0.05, 3)
    graph = quantized_node("activation", activation.Attrs("sigmoid"), [((size,), q)])
    (b,) = graph.bound()
    assert find_kernel("tg_activation_s8_dsp").in_place(b) == (0,)
    assert_kernels([every_input("tg_activation_s8_dsp", graph)])
