"""conv2d: against LiteRT, C on the host, real arithmetic and Keras."""

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
from tinygen.ops.conv2d import Attrs
from tinygen.ops.windows import Padding, same_padding


@st.composite
def convolutions(draw: st.DrawFn) -> Graph:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    depth, channels = draw(st.integers(1, 4)), groups * draw(st.integers(1, 4))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    kind = draw(st.sampled_from(["same", "free", "valid"]))
    if kind == "same":
        padding = same_padding(size, kernel, stride, dilation)
    else:
        extra = [draw(st.integers(0, 3)) * (kind == "free") for _ in range(4)]
        padding = Padding(*extra)
        size = (max(size[0], reach[0] - padding.vertical), max(size[1], reach[1] - padding.horizontal))
        size = (max(size[0], 1), max(size[1], 1))
    attrs = Attrs(stride, dilation, padding, groups, draw(activations))
    x = QParams.per_tensor(draw(st.sampled_from([0.02, 0.5])), draw(zero_points))
    constants = random_constants(draw(st.integers(0, 99)), (channels, *kernel, depth), channels)
    output = QParams.per_tensor(draw(st.sampled_from([0.01, 0.1, 2.0])), draw(zero_points))
    return quantized_node("conv2d", attrs, [((*size, depth * groups), x)], constants, output)


@settings(max_examples=40)
@given(convolutions(), st.integers(0, 1000))
def test_reference_litert_c_and_real_agree(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=4, seed=seed)


@settings(max_examples=20)
@given(convolutions().filter(fused_in_files), st.integers(0, 1000))
def test_survives_the_file(graph: Graph, seed: int) -> None:
    (node,) = graph.nodes
    size, kernel = graph.input_tensors[0].shape[:2], graph.bind(node).inputs[1].shape[1:3]
    named = same_padding(size, kernel, node.attrs.stride, node.attrs.dilation)  # type: ignore[arg-type]
    if not node.attrs.padding.any or node.attrs.padding == named:
        assert_same_when_imported(graph, random_inputs(graph, 3, seed))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 7, 14]), qparams(), qparams(), st.booleans())
def test_extreme_accumulators(seed: int, headroom: int, x: QParams, y: QParams, per_channel: bool) -> None:
    weights, bias, multipliers = extreme_constants(seed, (12, 1, 1, 1), 12, headroom)
    chosen = multipliers if per_channel else multipliers[:1]
    axis = 0 if per_channel else None
    graph = exact_node("conv2d", Attrs(), (2, 2, 1), weights, bias, chosen, axis, input=x, output=y)
    assert_agree(graph, samples=4, seed=seed)


def test_a_known_result() -> None:
    from tinygen.evaluate import reference

    x, y = QParams.per_tensor(0.5, 1), QParams.per_tensor(1.0, -1)
    weights, bias = np.array([[[[1.27], [-0.64]]]]), np.array([3.0])
    graph = quantized_node("conv2d", Attrs(), [((1, 3, 1), x)], [weights, bias], y)
    (out,) = reference(graph, [np.array([[[[3], [5], [-7]]]], np.int8)])
    # real: (1.0, 2.0, -4.0) -> 1.27 - 1.28 + 3 = 2.99 and 2.54 + 2.56 + 3 = 8.10
    assert out.tolist() == [[[[2], [7]]]]


@pytest.mark.parametrize(
    ("attrs", "shape", "weights", "rule"),
    [
        (Attrs(), (2, 2, 3), (1, 3, 1, 3), "larger than the padded input"),
        (Attrs(dilation=(2, 2)), (4, 4, 3), (1, 3, 3, 3), "larger than the padded input"),
        (Attrs(groups=2), (4, 4, 4), (3, 1, 1, 2), "groups must divide"),
        (Attrs(), (4, 4, 4), (3, 1, 1, 2), "input channels / groups"),
    ],
)
def test_refusals(attrs: Attrs, shape: tuple[int, ...], weights: tuple[int, ...], rule: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=rule):
        quantized_node("conv2d", attrs, [(shape, QP)], [np.ones(weights), np.zeros(weights[0])], QP)


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_keras_conv2d(padding: str, stride: int) -> None:
    import keras

    layer = keras.layers.Conv2D(6, (3, 2), strides=stride, padding=padding, bias_initializer="normal")
    graph = assert_layer_equals_keras(layer, (9, 8, 4))
    assert [n.op for n in graph.nodes] == ["conv2d"]


@pytest.mark.tensorflow
def test_keras_groups_dilation_and_no_bias() -> None:
    import keras

    assert_layer_equals_keras(keras.layers.Conv2D(6, 3, groups=2, use_bias=False), (6, 6, 4))
    assert_layer_equals_keras(keras.layers.Conv2D(5, 3, dilation_rate=(2, 3), padding="same"), (9, 8, 4))


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 3)])
def test_keras_conv1d(padding: str, stride: int, dilation: int) -> None:
    import keras

    layer = keras.layers.Conv1D(5, 4, strides=stride, dilation_rate=dilation, padding=padding)
    graph = assert_layer_equals_keras(layer, (17, 3))
    assert [n.op for n in graph.nodes] == ["reshape", "conv2d", "reshape"]


@pytest.mark.tensorflow
def test_keras_activation_is_applied() -> None:
    import keras

    assert_layer_equals_keras(keras.layers.Conv2D(5, 3, activation="relu"), (6, 6, 2))
