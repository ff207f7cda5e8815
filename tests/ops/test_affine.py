"""affine: against LiteRT (as a depthwise convolution), C on the host, real arithmetic and Keras."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.layers import QP, assert_layer_equals_keras, graph_of_layer
from tests.support.nodes import assert_agree, quantized_node
from tests.support.products import activations, exact_node, extreme_constants, qparams, zero_points
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, QParams
from tinygen.ops.affine import Attrs


@st.composite
def affines(draw: st.DrawFn) -> Graph:
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    x = QParams.per_tensor(draw(st.sampled_from([0.02, 0.5])), draw(zero_points))
    y = QParams.per_tensor(draw(st.sampled_from([0.01, 0.1, 2.0])), draw(zero_points))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    scale = rng.normal(size=shape[-1]) * 10.0 ** rng.uniform(-4, 2, shape[-1]) * (rng.random(shape[-1]) > 0.1)
    offset = rng.normal(size=shape[-1]) * 10.0 ** rng.uniform(-4, 2, shape[-1])
    return quantized_node("affine", Attrs(draw(activations)), [(tuple(shape), x)], [scale, offset], y)


@settings(max_examples=40)
@given(affines(), st.integers(0, 1000))
def test_reference_litert_c_and_real_agree(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=16, seed=seed)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 7, 14]), qparams(), qparams())
def test_extreme_accumulators(seed: int, headroom: int, x: QParams, y: QParams) -> None:
    weights, bias, multipliers = extreme_constants(seed, (12,), 12, headroom)
    graph = exact_node("affine", Attrs(), (3, 12), weights, bias, multipliers, 0, input=x, output=y)
    assert_agree(graph, samples=4, seed=seed)


def test_nearly_exactly_rounded() -> None:
    """Against the float factors: their quantization and double rounding cost below 0.02 of a step."""
    from tinygen.evaluate import reference

    rng = np.random.default_rng(0)
    scale, offset = rng.uniform(-2, 2, 50).astype(np.float32), rng.uniform(-2, 2, 50).astype(np.float32)
    x, y = QParams.per_tensor(0.03, 11), QParams.per_tensor(0.06, -9)
    graph = quantized_node("affine", Attrs(), [((256, 50), x)], [scale, offset], y)
    q = np.broadcast_to(np.arange(-128, 128)[:, np.newaxis], (256, 50)).astype(np.int8)
    (got,) = reference(graph, [q[np.newaxis]])
    exact = (x.dequantize(q) * scale.astype(np.float64) + offset) / y.scale[0] + y.zero_point[0]
    inside = (exact > -127) & (exact < 126)
    assert np.abs(got[0] - exact)[inside].max() < 0.52


def test_in_place_is_offered() -> None:
    from tinygen.ops.affine import KERNELS

    graph = quantized_node("affine", Attrs(), [((3,), QP)], [np.ones(3), np.ones(3)], QP)
    assert KERNELS[0].in_place(graph.bind(graph.nodes[0])) == (0,)


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="one number per channel"):
        quantized_node("affine", Attrs(), [((4, 3), QP)], [np.ones(2), np.ones(2)], QP)


@pytest.mark.tensorflow
@pytest.mark.parametrize("shape", [(6,), (4, 6), (3, 4, 6)])
@pytest.mark.parametrize(("center", "scale"), [(True, True), (False, True), (True, False)])
def test_keras_batch_normalization(shape: tuple[int, ...], center: bool, scale: bool) -> None:
    import keras

    layer = keras.layers.BatchNormalization(
        center=center,
        scale=scale,
        beta_initializer=keras.initializers.RandomNormal(seed=1),
        gamma_initializer=keras.initializers.RandomUniform(0.5, 2, seed=2),
        moving_mean_initializer=keras.initializers.RandomNormal(seed=3),
        moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2, seed=4),
    )
    graph = assert_layer_equals_keras(layer, shape)
    assert [n.op for n in graph.nodes] == ["affine"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("axis", [1, 2, -2])
def test_keras_batch_normalization_of_another_axis(axis: int) -> None:
    import keras

    initializer = keras.initializers.RandomNormal(seed=3)
    layer = keras.layers.BatchNormalization(axis=axis, moving_mean_initializer=initializer)
    graph = assert_layer_equals_keras(layer, (3, 4, 6))
    assert [n.op for n in graph.nodes] == ["transpose", "affine", "transpose"]


@pytest.mark.tensorflow
def test_keras_rescaling() -> None:
    import keras

    assert_layer_equals_keras(keras.layers.Rescaling(1 / 127.5, -1), (3, 4, 2))
    assert_layer_equals_keras(keras.layers.Rescaling([0.5, 2.0], [1.0, -1.0]), (3, 4, 2))


@pytest.mark.tensorflow
@pytest.mark.parametrize("invert", [False, True])
def test_keras_normalization(invert: bool) -> None:
    import keras

    data = np.random.default_rng(0).normal(3, [1, 2, 0.5], size=(50, 4, 3)).astype(np.float32)
    layer = keras.layers.Normalization(axis=-1, invert=invert)
    layer.adapt(data)
    assert_layer_equals_keras(layer, (4, 3))
    assert_layer_equals_keras(
        keras.layers.Normalization(axis=None, mean=2.0, variance=3.0, invert=invert), (4, 3)
    )
    assert_layer_equals_keras(
        keras.layers.Normalization(mean=[1.0, 2], variance=[0.0, 4], invert=invert), (2,)
    )


@pytest.mark.tensorflow
def test_keras_normalization_of_every_element_is_refused() -> None:
    import keras

    layer = keras.layers.Normalization(axis=(1, 2), mean=np.zeros((4, 3)), variance=np.ones((4, 3)))
    layer.build((None, 4, 3))
    with pytest.raises(UnsupportedLayerError, match="along the last axis"):
        graph_of_layer(layer, [(4, 3)])
