"""conv2d_transpose: against LiteRT, C on the host, real arithmetic and Keras."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.layers import QP, assert_layer_equals_keras, assert_same_when_imported, graph_of_layer
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
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, QParams
from tinygen.ops.conv2d_transpose import Attrs, tflite_padding


@st.composite
def convolutions(draw: st.DrawFn) -> Graph:
    depth, channels = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    kernel, size, stride, offset, output = [], [], [], [], []
    for _ in range(2):
        k, n, s = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
        full = (n - 1) * s + k
        cut = draw(st.integers(0, min(k, full - 1)))
        kept = draw(st.sampled_from([full - cut, full - cut + s - 1]) | st.integers(1, full - cut))
        for values, value in zip((kernel, size, stride, offset, output), (k, n, s, cut, kept), strict=True):
            values.append(value)
    attrs = Attrs(tuple(output), tuple(stride), tuple(offset), draw(activations))  # type: ignore[arg-type]
    x = QParams.per_tensor(draw(st.sampled_from([0.02, 0.5])), draw(zero_points))
    constants = random_constants(draw(st.integers(0, 99)), (channels, *kernel, depth), channels)
    y = QParams.per_tensor(draw(st.sampled_from([0.01, 0.1, 2.0])), draw(zero_points))
    return quantized_node("conv2d_transpose", attrs, [((*size, depth), x)], constants, y)


@settings(max_examples=40)
@given(convolutions(), st.integers(0, 1000))
def test_reference_litert_c_and_real_agree(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=4, seed=seed)


@settings(max_examples=20)
@given(convolutions().filter(fused_in_files), st.integers(0, 1000))
def test_survives_the_file(graph: Graph, seed: int) -> None:
    if tflite_padding(graph.bind(graph.nodes[0])):
        assert_same_when_imported(graph, random_inputs(graph, 3, seed))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 7, 14]), qparams(), qparams(), st.booleans())
def test_extreme_accumulators(seed: int, headroom: int, x: QParams, y: QParams, per_channel: bool) -> None:
    weights, bias, multipliers = extreme_constants(seed, (12, 1, 1, 1), 12, headroom)
    chosen = multipliers if per_channel else multipliers[:1]
    axis = 0 if per_channel else None
    graph = exact_node(
        "conv2d_transpose", Attrs((2, 2)), (2, 2, 1), weights, bias, chosen, axis, input=x, output=y
    )
    assert_agree(graph, samples=4, seed=seed)


@pytest.mark.parametrize(
    ("attrs", "depth", "rule"),
    [
        (Attrs((0, 5)), 3, "at least one row and one column"),
        (Attrs((5, 5)), 2, "input's channels"),
        (Attrs((8, 7), (2, 2)), 3, None),
        (Attrs((9, 7), (2, 2)), 3, "less than one stride behind the full result"),
        (Attrs((7, 7), (2, 2), (-1, 0)), 3, "less than one stride behind the full result"),
    ],
)
def test_refusals(attrs: Attrs, depth: int, rule: str | None) -> None:
    constants = [np.ones((4, 3, 3, depth)), np.zeros(4)]
    if rule is None:
        assert quantized_node("conv2d_transpose", attrs, [((3, 3, 3), QP)], constants, QP).nodes
        return
    with pytest.raises(UnsupportedLayerError, match=rule):
        quantized_node("conv2d_transpose", attrs, [((3, 3, 3), QP)], constants, QP)


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel", [(1, 2), (3, 4), (2, 5)])
@pytest.mark.parametrize(("stride", "extra"), [(1, None), (2, None), (3, None), (2, 1), (3, 1), (3, 2)])
def test_keras_conv2d_transpose(
    padding: str, kernel: tuple[int, int], stride: int, extra: int | None
) -> None:
    import keras

    layer = keras.layers.Conv2DTranspose(
        5, kernel, stride, padding, output_padding=extra, bias_initializer="normal"
    )
    graph = assert_layer_equals_keras(layer, (4, 3, 4))
    assert [n.op for n in graph.nodes] == ["conv2d_transpose"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_keras_conv1d_transpose(padding: str, stride: int) -> None:
    import keras

    graph = assert_layer_equals_keras(keras.layers.Conv1DTranspose(5, 4, stride, padding), (7, 3))
    assert [n.op for n in graph.nodes] == ["reshape", "conv2d_transpose", "reshape"]


@pytest.mark.tensorflow
def test_output_padding_that_tensorflow_cannot_run_is_refused() -> None:
    import keras

    layer = keras.layers.Conv2DTranspose(5, 4, 3, "same", output_padding=0)
    layer.build((None, 4, 3, 4))
    with pytest.raises(
        UnsupportedLayerError, match="9 x 6 outputs, from which 'same' gives 3 x 2 inputs, not 4 x 3"
    ):
        graph_of_layer(layer, [(4, 3, 4)])


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_keras_dilation_is_zeros_between_the_taps(padding: str) -> None:
    """TensorFlow cannot run dilation on a CPU: the same kernel written out with zeros is the oracle."""
    import keras

    layer = keras.layers.Conv2DTranspose(5, 3, 1, padding, dilation_rate=(2, 3))
    layer.build((None, 6, 7, 2))
    sparse = np.zeros((5, 7, 5, 2), np.float32)
    sparse[::2, ::3] = np.asarray(layer.kernel)
    written_out = keras.layers.Conv2DTranspose(5, (5, 7), 1, padding)
    written_out.build((None, 6, 7, 2))
    written_out.set_weights([sparse, np.asarray(layer.bias)])
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 2)).astype(np.float32)
    (got,) = evaluate.real(graph_of_layer(layer, [(6, 7, 2)]), [x])
    np.testing.assert_allclose(got, np.asarray(written_out(x)), rtol=1e-5, atol=1e-5)
