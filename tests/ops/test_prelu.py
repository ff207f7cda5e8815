"""prelu: against LiteRT, C on the host, real arithmetic and Keras."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.in_place import assert_in_place
from tests.support.layers import QP, assert_layer_equals_keras, imported
from tests.support.nodes import (
    assert_agree,
    assert_equals_c,
    assert_equals_litert,
    assert_near_real,
    quantized_node,
    random_inputs,
)
from tests.support.products import zero_points
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, QParams
from tinygen.ops.prelu import Attrs


@st.composite
def prelus(draw: st.DrawFn) -> Graph:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    kept = shape[draw(st.integers(0, len(shape) - 1)) :]
    alpha = tuple(1 if draw(st.booleans()) else size for size in kept)
    decimal = st.integers(1, 99).map(lambda n: n / 100)
    x = QParams.per_tensor(draw(decimal), draw(zero_points))
    y = QParams.per_tensor(draw(decimal), draw(zero_points))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    values = rng.normal(0.2, 1, alpha) * draw(st.sampled_from([0.01, 1.0, 5.0]))
    return quantized_node("prelu", Attrs(), [(shape, x)], [values], y)


@settings(max_examples=100)
@given(prelus(), st.integers(0, 1000))
def test_reference_equals_litert_and_real(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=32, seed=seed, host=False)


@settings(max_examples=15)
@given(prelus(), st.integers(0, 1000))
def test_c_equals_reference(graph: Graph, seed: int) -> None:
    assert_agree(graph, seed=seed, litert=False)


def test_every_input_and_alpha() -> None:
    """All 256 inputs with alphas of both signs."""
    alpha = np.linspace(-2, 2, 64)
    for y in (0.03, 0.05, 0.4):
        output = QParams.per_tensor(y, 11)
        graph = quantized_node("prelu", Attrs(), [((256, 64), QP)], [alpha], output)
        column = np.arange(-128, 128).astype(np.int8)[:, np.newaxis]
        inputs = [np.broadcast_to(column, (1, 256, 64))]
        assert_equals_litert(graph, inputs)
        assert_equals_c(graph, inputs)
        assert_near_real(graph, inputs)


@pytest.mark.parametrize("output", [1e-37, 1e-9, 1e9])
def test_extreme_output_scales_do_not_overflow(output: float) -> None:
    q = QParams.per_tensor(output, 0)
    x = QParams.per_tensor(0.9, 0)
    assert_agree(quantized_node("prelu", Attrs(), [((300,), x)], [np.full(300, -3.0)], q), litert=False)


def test_in_place() -> None:
    graph = quantized_node("prelu", Attrs(), [((4, 5), QP)], [np.linspace(-1, 1, 5)], QP)
    assert_in_place(graph, (0,))


def test_import() -> None:
    graph = quantized_node("prelu", Attrs(), [((4, 5), QP)], [np.linspace(-1, 1, 5)], QP)
    inputs = random_inputs(graph, 4, 0)
    (got,), (want,) = evaluate.reference(imported(graph), inputs), evaluate.reference(graph, inputs)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(3,), (2, 4, 5)])
def test_alpha_must_broadcast_to_the_input(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedLayerError, match="alpha must be a constant"):
        quantized_node("prelu", Attrs(), [((4, 5), QP)], [np.ones(shape)], QP)


@pytest.mark.tensorflow
@pytest.mark.parametrize("shared", [None, [1], [1, 2], [2]])
def test_keras(shared: list[int] | None) -> None:
    import keras

    layer = keras.layers.PReLU(
        shared_axes=shared, alpha_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=3)
    )
    assert_layer_equals_keras(layer, (3, 4, 5))
