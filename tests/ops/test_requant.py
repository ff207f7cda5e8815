"""Quantization of weights and bias: scales that are degenerate, sums that are long, outputs that are tiny."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nodes import assert_agree, quantized_node
from tests.support.products import exact_node
from tinygen.errors import UnsupportedLayerError
from tinygen.evaluate import reference
from tinygen.graph import Graph, QParams
from tinygen.ops.dense import Attrs
from tinygen.ops.requant import accumulator_bound, quantize_weights

exponents = st.floats(-30, 8)


def dense(weights: list[list[float]], bias: list[float], x: QParams, y: QParams) -> Graph:
    constants = [np.array(weights), np.array(bias)]
    return quantized_node("dense", Attrs(), [((len(weights[0]),), x)], constants, y)


def assert_promise(graph: Graph) -> None:
    """No accumulator, shifted or not, can leave int32."""
    from tinygen import ops

    b = graph.bind(graph.nodes[0])
    shifts = ops.get(b.node.op).params(b).requant.shift
    bound = accumulator_bound(b.inputs[1].data, b.inputs[2].data, 0)  # type: ignore[arg-type]
    assert all(int(most) << max(s, 0) <= 2**31 - 1 - 256 for most, s in zip(bound, shifts, strict=True))


@settings(max_examples=150)
@given(exponents, exponents, exponents, st.floats(-12, 12), st.floats(-12, 12), st.integers(0, 99))
def test_any_sizes_keep_the_promise_and_agree(
    weight: float, bias: float, spread: float, x: float, y: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** np.array([weight, spread, weight])
    weights = rng.normal(size=(3, 4)) * np.minimum(sizes, 1e8)[:, np.newaxis]
    offsets = rng.normal(size=3) * 10.0**bias * rng.integers(0, 2, 3)
    graph = dense(
        weights.tolist(), offsets.tolist(), QParams.per_tensor(10.0**x, 3), QParams.per_tensor(10.0**y, -5)
    )
    assert_promise(graph)
    assert_agree(graph, samples=3, seed=seed, host=seed % 10 == 0)


def test_every_output_channel_has_its_own_scale() -> None:
    graph = dense(
        [[1.0, -0.5], [0.01, 0.002]], [0.0, 0.0], QParams.per_tensor(0.1, 0), QParams.per_tensor(0.1, 0)
    )
    weights = graph.bound()[0].inputs[1]
    assert weights.q.axis == 0 and weights.q.scale == pytest.approx((1 / 127, 0.01 / 127))
    assert weights.data is not None and weights.data.tolist() == [[127, -64], [127, 25]]


def test_a_channel_without_weights_is_its_bias() -> None:
    graph = dense(
        [[0.0, 0.0], [1.0, -1.0]], [0.3, 0.0], QParams.per_tensor(7.0, 0), QParams.per_tensor(0.01, 0)
    )
    (out,) = reference(graph, [np.array([[100, -100]], np.int8)])
    assert out[0, 0] == 30


def test_a_bias_much_greater_than_the_weights_is_kept() -> None:
    graph = dense([[1e-12, 1e-12]], [0.3], QParams.per_tensor(0.1, 0), QParams.per_tensor(0.01, 0))
    (out,) = reference(graph, [np.zeros((1, 2), np.int8)])
    assert out.tolist() == [[30]]
    assert_promise(graph)


def test_weights_too_small_for_float32_scales() -> None:
    graph = dense([[1e-44, -1e-44]], [1e-40], QParams.per_tensor(1e-3, 0), QParams.per_tensor(0.01, 4))
    assert reference(graph, [np.full((1, 2), 127, np.int8)])[0].tolist() == [[4]]
    assert_agree(graph)


def test_an_output_scale_of_next_to_nothing_saturates() -> None:
    graph = dense([[1.0, -0.5]], [0.0], QParams.per_tensor(0.1, 0), QParams.per_tensor(1e-20, 0))
    x = np.array([[0, 0], [1, 0], [-1, 0], [127, -128], [-128, 127]], np.int8)
    assert reference(graph, [x])[0].ravel().tolist() == [0, 127, -128, 127, -128]
    assert_promise(graph)
    assert_agree(graph)


def test_a_sum_of_very_many_products_gets_a_coarser_scale() -> None:
    count = 200_000
    weights = np.linspace(0.9, 1.0, count)
    graph = dense([weights.tolist()], [0.0], QParams.per_tensor(0.1, -128), QParams.per_tensor(30_000.0, 0))
    assert_promise(graph)
    (out,) = reference(graph, [np.full((1, count), 0, np.int8)])
    assert abs(out[0, 0] - weights.sum() * 12.8 / 30_000) < 2


def test_too_many_products_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="at most 4,194,304 products per output"):
        dense([[0.0] * (2**22 + 1)], [0.0], QParams.per_tensor(0.1, 0), QParams.per_tensor(1.0, 0))


@pytest.mark.parametrize(
    ("bias", "multiplier", "fits"),
    [
        (2**31 - 257 - 256 * 127, 0.9, True),
        (2**31 - 256 - 256 * 127, 0.9, False),
        (2**30 - 129 - 256 * 127, 1.5, True),
        (2**30 - 128 - 256 * 127, 1.5, False),
    ],
)
def test_imported_accumulators_that_overflow_are_refused(bias: int, multiplier: float, fits: bool) -> None:
    def node() -> Graph:
        q = QParams.per_tensor(1.0, -128)
        weights, biases = np.array([[127]]), np.array([bias])
        return exact_node(
            "dense", Attrs(), (1,), weights, biases, np.array([multiplier]), 0, input=q, output=q
        )

    if fits:
        assert_agree(node())
        return
    with pytest.raises(UnsupportedLayerError, match="accumulator of an output must not overflow"):
        node()


def test_quantize_weights_per_tensor_and_per_axis() -> None:
    from tinygen.graph import Tensor

    data = np.array([[1.0, -2.0], [0.0, 0.0]], np.float32)
    tensor = Tensor("w", data.shape, "float32", None, data)
    whole, rows = quantize_weights(tensor, "q", None), quantize_weights(tensor, "q", 0)
    assert whole.data is not None and rows.data is not None
    assert whole.data.tolist() == [[64, -127], [0, 0]] and len(whole.q.scale) == 1
    assert rows.data.tolist() == [[64, -127], [0, 0]] and rows.q.scale[1] == 1.0


def test_the_greatest_results_leave_room_for_the_zero_point() -> None:
    """UBSan watches the C: accumulator, multiplier and zero point all at their limits."""
    q = QParams.per_tensor(1.0, 127)
    bias = np.array([2**31 - 257 - 256 * 127, -(2**31 - 257 - 256 * 127)])
    weights, multipliers = np.full((2, 1), 127), np.full(2, 1 - 2.0**-24)
    assert_agree(exact_node("dense", Attrs(), (1,), weights, bias, multipliers, 0, input=q, output=q))


def test_scales_beyond_float32_are_limited() -> None:
    x, y = QParams.per_tensor(1e-30, 0), QParams.per_tensor(1e30, 0)
    graph = dense([[0.0], [3e38]], [1e30, 3e38], x, y)
    (out,) = reference(graph, [np.array([[1]], np.int8)])
    assert out.shape == (1, 2)
    assert_promise(graph)
