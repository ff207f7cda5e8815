"""depthwise_conv2d and separable convolutions: against LiteRT, C on the host, real arithmetic and Keras."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.layers import QP, assert_layer_equals_keras, assert_same_when_imported
from tests.support.nodes import assert_agree, quantized_node, random_inputs
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
from tinygen.graph import Graph, QParams
from tinygen.ops.depthwise_conv2d import Attrs
from tinygen.ops.windows import Padding, same_padding


@st.composite
def convolutions(draw: st.DrawFn) -> Graph:
    depth, multiplier = draw(st.integers(1, 5)), draw(st.sampled_from([1, 1, 2, 3]))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    size = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    if draw(st.booleans()):
        padding = same_padding(size, kernel, stride, dilation)
    else:
        padding = Padding(*(draw(st.integers(0, 3)) for _ in range(4)))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        size = (max(size[0], reach[0] - padding.vertical), max(size[1], reach[1] - padding.horizontal))
    attrs = Attrs(stride, dilation, padding, draw(activations))
    x = QParams.per_tensor(draw(st.sampled_from([0.02, 0.5])), draw(zero_points))
    channels = depth * multiplier
    constants = random_constants(draw(st.integers(0, 99)), (*kernel, channels), channels)
    output = QParams.per_tensor(draw(st.sampled_from([0.01, 0.1, 2.0])), draw(zero_points))
    return quantized_node("depthwise_conv2d", attrs, [((*size, depth), x)], constants, output)


@settings(max_examples=40)
@given(convolutions(), st.integers(0, 1000))
def test_reference_litert_c_and_real_agree(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=4, seed=seed)


@settings(max_examples=20)
@given(convolutions().filter(fused_in_files), st.integers(0, 1000))
def test_survives_the_file(graph: Graph, seed: int) -> None:
    (node,) = graph.nodes
    size, kernel = graph.input_tensors[0].shape[:2], graph.bind(node).inputs[1].shape[:2]
    named = same_padding(size, kernel, node.attrs.stride, node.attrs.dilation)  # type: ignore[arg-type]
    if not node.attrs.padding.any or node.attrs.padding == named:
        assert_same_when_imported(graph, random_inputs(graph, 3, seed))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 7, 14]), qparams(), qparams(), st.booleans())
def test_extreme_accumulators(seed: int, headroom: int, x: QParams, y: QParams, per_channel: bool) -> None:
    weights, bias, multipliers = extreme_constants(seed, (1, 1, 12), 12, headroom)
    chosen = multipliers if per_channel else multipliers[:1]
    axis = 2 if per_channel else None
    graph = exact_node(
        "depthwise_conv2d", Attrs(), (2, 2, 12), weights, bias, chosen, axis, input=x, output=y
    )
    assert_agree(graph, samples=4, seed=seed)


@pytest.mark.parametrize(
    ("shape", "weights", "rule"),
    [((2, 2, 3), (1, 3, 3), "larger than the padded input"), ((4, 4, 2), (1, 1, 3), "whole multiple")],
)
def test_refusals(shape: tuple[int, ...], weights: tuple[int, ...], rule: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=rule):
        quantized_node(
            "depthwise_conv2d", Attrs(), [(shape, QP)], [np.ones(weights), np.zeros(weights[2])], QP
        )


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("stride", "dilation", "multiplier"), [(1, 1, 1), (2, 1, 3), (1, 2, 2)])
def test_keras_depthwise_conv2d(padding: str, stride: int, dilation: int, multiplier: int) -> None:
    import keras

    layer = keras.layers.DepthwiseConv2D(
        (3, 2), stride, padding, multiplier, dilation_rate=dilation, bias_initializer="normal"
    )
    graph = assert_layer_equals_keras(layer, (9, 8, 4))
    assert [n.op for n in graph.nodes] == ["depthwise_conv2d"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("stride", "dilation", "multiplier"), [(1, 1, 1), (2, 1, 3), (1, 2, 2)])
def test_keras_depthwise_conv1d(padding: str, stride: int, dilation: int, multiplier: int) -> None:
    import keras

    layer = keras.layers.DepthwiseConv1D(
        4, stride, padding, multiplier, dilation_rate=dilation, use_bias=False
    )
    assert_layer_equals_keras(layer, (17, 3))


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("stride", "dilation", "multiplier"), [(1, 1, 1), (2, 1, 3), (1, 2, 2)])
def test_keras_separable(padding: str, stride: int, dilation: int, multiplier: int) -> None:
    import keras

    layer = keras.layers.SeparableConv2D(
        5,
        (3, 2),
        stride,
        padding,
        depth_multiplier=multiplier,
        dilation_rate=dilation,
        bias_initializer="normal",
    )
    graph = assert_layer_equals_keras(layer, (9, 8, 4))
    assert [n.op for n in graph.nodes] == ["depthwise_conv2d", "conv2d"]
    layer = keras.layers.SeparableConv1D(
        5, 3, stride, padding, depth_multiplier=multiplier, dilation_rate=dilation, activation="relu"
    )
    assert_layer_equals_keras(layer, (17, 4))
