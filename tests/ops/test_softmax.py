"""softmax: bit-exact to LiteRT's reference kernel, C on the host equal to the reference, close to the real one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.host import run_on_host
from tests.support.in_place import assert_in_place
from tests.support.layers import (
    assert_import_equals_litert,
    assert_layer_equals_keras,
    graph_of_layer,
    read_file,
    tflite_file,
)
from tests.support.nodes import SANITIZE, assert_equals_litert, quantized_node, random_inputs, real_output
from tests.support.products import zero_points
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Array, Graph, QParams
from tinygen.ops import q31, softmax
from tinygen.ops.softmax import OUTPUT, Attrs
from tinygen.tflite.writer import TfliteWriter

scales = st.floats(-14, 8).map(lambda e: 2.0**e)


def node(depth: int, scale: float, zero_point: int = 0, rows: int = 1, beta: float = 1.0) -> Graph:
    shape = (rows, depth) if rows > 1 else (depth,)
    return quantized_node("softmax", Attrs(beta), [(shape, QParams.per_tensor(scale, zero_point))])


def judged(graph: Graph, inputs: list[Array]) -> list[Array]:
    """The samples that LiteRT can compute: it aborts where the sum of exponentials reaches 512."""
    x = graph.input_tensors[0]
    real = x.q.dequantize(inputs[0]) * graph.nodes[0].attrs.beta
    sums = np.exp(real - real.max(axis=-1, keepdims=True)).sum(axis=-1)
    return [inputs[0][sums.reshape(len(sums), -1).max(axis=1) < 511.9]]


@settings(max_examples=150)
@given(st.integers(1, 1000), scales, zero_points, st.integers(0, 1000))
def test_reference_equals_litert(depth: int, scale: float, zero_point: int, seed: int) -> None:
    graph = node(depth, scale, zero_point, rows=5)
    inputs = judged(graph, random_inputs(graph, 6, seed))
    assume(len(inputs[0]))
    assert_equals_litert(graph, inputs)


@settings(max_examples=60)
@given(st.integers(2, 12), st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.5]), st.integers(0, 1000))
def test_many_rows_of_usual_scales(depth: int, scale: float, seed: int) -> None:
    graph = node(depth, scale, rows=500)
    assert_equals_litert(graph, random_inputs(graph, 4, seed))


@settings(max_examples=20)
@given(st.integers(1, 12) | st.integers(1, 1000), scales, st.integers(1, 4), st.integers(0, 1000))
def test_c_equals_reference(depth: int, scale: float, rows: int, seed: int) -> None:
    graph = node(depth, scale, -3, rows)
    inputs = random_inputs(graph, 6, seed)
    np.testing.assert_array_equal(
        run_on_host(graph, inputs, SANITIZE)[0], evaluate.reference(graph, inputs)[0]
    )


@pytest.mark.parametrize("depth", [2, 10, 100, 1000])
@pytest.mark.parametrize("scale", [0.001, 0.02, 0.1, 0.5, 4.0])
def test_within_one_step_of_real(depth: int, scale: float) -> None:
    graph = node(depth, scale, rows=50)
    inputs = random_inputs(graph, 8, 1)
    (got,), (real,) = evaluate.reference(graph, inputs), real_output(graph, inputs)
    exact = np.clip(real * 256 - 128, -128, 127)
    assert np.abs(got - exact).max() <= 1


@pytest.mark.parametrize("depth", [511, 513, 1000, 4095])
def test_long_equal_rows(depth: int) -> None:
    """Sums of 512 and more, where LiteRT aborts: every output is 256 / depth, rounded (less than half: 0)."""
    graph = node(depth, 0.1)
    inputs = [np.full((1, depth), 7, np.int8)]
    (got,) = evaluate.reference(graph, inputs)
    assert (got == -128 + math.floor(256 / depth + 0.5)).all()
    np.testing.assert_array_equal(run_on_host(graph, inputs, SANITIZE)[0], got)


@pytest.mark.parametrize("beta", [0.25, 1.0, 3.0])
def test_beta(beta: float) -> None:
    graph = node(17, 0.1, rows=20, beta=beta)
    assert_equals_litert(graph, random_inputs(graph, 4, 3))


def test_row_of_one_is_one() -> None:
    graph = node(1, 0.1)
    assert (evaluate.reference(graph, [np.arange(-128, 128).astype(np.int8).reshape(256, 1)])[0] == 127).all()


def test_in_place() -> None:
    assert_in_place(node(9, 0.1, rows=4), (0,))


def test_exponential_in_fixed_point() -> None:
    """Q5 -> Q0 over the whole range: the series of degree 4 is less than 2**-22 from exp; 1 - 2**-31 for 0."""
    raw = np.concatenate([-np.arange(0, 2**31, 99_991), [-(2**31), -1, 0]])
    got = q31.exp_of_negative(raw) / 2.0**31
    assert np.abs(got - np.exp(raw / 2.0**26)).max() < 2.0**-22
    assert q31.exp_of_negative(np.array([0]))[0] == 2**31 - 1


def test_reciprocal_in_fixed_point() -> None:
    raw = np.arange(0, 2**31, 99_991)
    got = q31.one_over_one_plus(raw) / 2.0**31
    assert np.abs(got - 1 / (1 + raw / 2.0**31)).max() < 2.0**-27


def test_leading_zeros() -> None:
    values = np.array([1, 2, 3, 2**19, 2**31 - 1, 2**31, 2**32 - 1])
    assert q31.leading_zeros(values).tolist() == [32 - int(v).bit_length() for v in values]


@pytest.mark.parametrize("depth", [0, 4096])
def test_depth_is_bounded(depth: int) -> None:
    with pytest.raises(UnsupportedLayerError, match="1 to 4,095 elements"):
        node(depth, 0.1)


# ---- .tflite files


def softmax_file(output: QParams) -> bytes:
    def append(writer: TfliteWriter, x: int, y: int) -> None:
        middle = writer.temp("m", (3, 7), "int8", output)
        writer.add("SOFTMAX", [x], middle, "SoftmaxOptions", {"beta": 2.0}, version=2)
        writer.add("QUANTIZE", [middle], y, "QuantizeOptions", {}, version=2)

    return tflite_file((3, 7), (3, 7), append)


def test_import() -> None:
    graph = read_file(softmax_file(OUTPUT))
    assert graph.nodes[0].attrs == Attrs(2.0)
    assert_import_equals_litert(softmax_file(OUTPUT), graph)


def test_import_refuses_other_output_scales() -> None:
    with pytest.raises(UnsupportedLayerError, match="1/256"):
        read_file(softmax_file(QParams.per_tensor(1 / 255, -128)))


# ---- Keras


@pytest.mark.tensorflow
@pytest.mark.parametrize("axis", [-1, 3, [-1], 1, 2, -2])
def test_keras_axes(axis: int | list[int]) -> None:
    import keras

    layer = keras.layers.Softmax(axis=axis)
    graph = assert_layer_equals_keras(layer, (2, 3, 4))
    last = axis in (-1, 3, [-1])
    assert [n.op for n in graph.nodes] == (["softmax"] if last else ["transpose", "softmax", "transpose"])
    assert graph.nodes[-1].name == layer.name


@pytest.mark.tensorflow
@pytest.mark.parametrize("axis", [0, 4, -5, [1, 2]])
def test_keras_axes_that_are_refused(axis: int | list[int]) -> None:
    import keras

    with pytest.raises(UnsupportedLayerError, match="softmax runs along axis"):
        graph_of_layer(keras.layers.Softmax(axis=axis), [(2, 3, 4)])


@pytest.mark.tensorflow
def test_keras_activation_argument() -> None:
    import keras

    layer = keras.layers.Dense(5, activation="softmax", name="top")
    graph = assert_layer_equals_keras(layer, (4,))
    assert graph.nodes[-1].op == "softmax" and graph.nodes[-1].name == "top/softmax"
    assert softmax.OP.keras.keys() == {"Softmax"}
