"""dense: against LiteRT, C on the host, real arithmetic and Keras; both roundings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.layers import QP, assert_layer_equals_keras, assert_same_when_imported
from tests.support.nodes import assert_agree, assert_equals_litert, quantized_node, random_inputs
from tests.support.products import (
    activations,
    exact_node,
    extreme_constants,
    fused_in_files,
    qparams,
    random_constants,
    zero_points,
)
from tinygen.errors import UnsupportedLayerError
from tinygen.evaluate import reference
from tinygen.fixedpoint import Rounding
from tinygen.graph import Graph, QParams
from tinygen.ops.dense import Attrs


@st.composite
def layers(draw: st.DrawFn) -> Graph:
    depth, channels = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    leading = draw(st.lists(st.integers(1, 4), max_size=2))
    x = QParams.per_tensor(draw(st.sampled_from([0.02, 0.5])), draw(zero_points))
    constants = random_constants(draw(st.integers(0, 99)), (channels, depth), channels)
    y = QParams.per_tensor(draw(st.sampled_from([0.01, 0.1, 2.0])), draw(zero_points))
    return quantized_node("dense", Attrs(draw(activations)), [((*leading, depth), x)], constants, y)


@settings(max_examples=40)
@given(layers(), st.integers(0, 1000))
def test_reference_litert_c_and_real_agree(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=4, seed=seed)


@settings(max_examples=20)
@given(layers().filter(fused_in_files), st.integers(0, 1000))
def test_survives_the_file(graph: Graph, seed: int) -> None:
    assert_same_when_imported(graph, random_inputs(graph, 3, seed))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 7, 14]), qparams(), qparams(), st.booleans())
def test_extreme_accumulators(seed: int, headroom: int, x: QParams, y: QParams, per_channel: bool) -> None:
    weights, bias, multipliers = extreme_constants(seed, (12, 1), 12, headroom)
    chosen = multipliers if per_channel else multipliers[:1]
    axis = 0 if per_channel else None
    graph = exact_node("dense", Attrs(), (1,), weights, bias, chosen, axis, input=x, output=y)
    assert_agree(graph, samples=16, seed=seed)


@pytest.mark.parametrize("per_channel", [True, False])
def test_litert_rounds_the_real_product_once(per_channel: bool) -> None:
    """Accumulators next to the halves tell apart: double precision, single precision, 31-bit multiplier."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        x, y = (QParams.per_tensor(2.0 ** rng.uniform(-12, 4), 0) for _ in range(2))
        multiplier = 2.0 ** rng.uniform(-24, -23)
        stored = np.float32(multiplier * y.scale[0] / x.scale[0])
        real = x.scale[0] * float(stored) / y.scale[0]
        bias = np.round((rng.integers(-50, 50, 200) + 0.5) / real).astype(np.int64)
        chosen = np.full(200 if per_channel else 1, multiplier)
        axis = 0 if per_channel else None
        graph = exact_node("dense", Attrs(), (1,), np.zeros((200, 1)), bias, chosen, axis, input=x, output=y)
        assert_equals_litert(graph, [np.zeros((1, 1), np.int8)])


def test_roundings_differ_only_next_to_halves() -> None:
    """The first of two roundings takes -1.5 and -0.5 to -1 and 0, as halves of negative numbers go up."""
    x = y = QParams.per_tensor(1.0, 0)
    halves = np.array([-3, -1, 1, 3])
    graph = exact_node(
        "dense", Attrs(), (1,), np.zeros((4, 1)), halves, np.full(4, 0.5), 0, input=x, output=y
    )
    (single,) = reference(graph, [np.zeros((1, 1), np.int8)], Rounding.SINGLE)
    (double,) = reference(graph, [np.zeros((1, 1), np.int8)], Rounding.DOUBLE)
    assert single.tolist() == [[-2, -1, 1, 2]]
    assert double.tolist() == [[-1, 0, 1, 2]]


def test_depth_that_disagrees_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="as long as a row of the weights"):
        quantized_node("dense", Attrs(), [((3,), QP)], [np.ones((2, 4)), np.zeros(2)], QP)


@pytest.mark.tensorflow
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7)])
def test_keras_dense(shape: tuple[int, ...]) -> None:
    import keras

    assert_layer_equals_keras(keras.layers.Dense(5, bias_initializer="normal"), shape)
    assert_layer_equals_keras(keras.layers.Dense(5, use_bias=False, activation="relu"), shape)
