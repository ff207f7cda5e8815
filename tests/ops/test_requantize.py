"""requantize: against LiteRT's QUANTIZE, C on the host, and real arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.in_place import assert_in_place
from tests.support.layers import QP, assert_import_equals_litert, read_file, tflite_file
from tests.support.nodes import assert_agree, assert_equals_litert, assert_near_real, quantized_node
from tests.support.products import activations, qparams
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Graph, QParams
from tinygen.ops.requantize import Attrs
from tinygen.tflite.writer import TfliteWriter

ALL = np.arange(-128, 128).astype(np.int8).reshape(1, 256)

decimals = st.builds(QParams.per_tensor, st.integers(1, 99).map(lambda n: n / 100), st.integers(-128, 127))


def node(x: QParams, y: QParams, activation: str = "none") -> Graph:
    return quantized_node("requantize", Attrs(activation), [((256,), x)], output=y)


@settings(max_examples=150)
@given(qparams() | decimals, qparams() | decimals, activations)
def test_all_inputs_equal_litert_and_real(x: QParams, y: QParams, activation: str) -> None:
    graph = node(x, y, activation)
    assert_equals_litert(graph, [ALL])
    assert_near_real(graph, [ALL])


@settings(max_examples=15)
@given(qparams() | decimals, qparams() | decimals, activations)
def test_c_equals_reference(x: QParams, y: QParams, activation: str) -> None:
    assert_agree(node(x, y, activation), samples=3, litert=False)


@pytest.mark.parametrize("output", [1e-37, 1e-12, 1e-6, 1e9])
def test_extreme_output_scales_do_not_overflow(output: float) -> None:
    """UBSan runs in assert_agree: what is not 0 saturates under tiny scales."""
    assert_agree(node(QParams.per_tensor(0.7, 127), QParams.per_tensor(output, -128)), litert=False)


def test_same_scale_moves_the_zero_point_only() -> None:
    from tinygen.evaluate import reference

    (got,) = reference(node(QParams.per_tensor(0.3, 5), QParams.per_tensor(0.3, -5)), [ALL])
    np.testing.assert_array_equal(got, np.clip(ALL.astype(int) - 10, -128, 127))


def test_in_place() -> None:
    assert_in_place(node(QP, QParams.per_tensor(0.1, 3)), (0,))


def test_import() -> None:
    def append(writer: TfliteWriter, x: int, y: int) -> None:
        middle = writer.temp("m", (40,), "int8", QParams.per_tensor(0.9, 17))
        writer.add("QUANTIZE", [x], middle, "QuantizeOptions", {}, version=2)
        writer.add("QUANTIZE", [middle], y, "QuantizeOptions", {}, version=2)

    model = tflite_file((40,), (40,), append)
    graph = read_file(model)
    assert [n.op for n in graph.nodes] == ["requantize", "requantize"]
    assert_import_equals_litert(model, graph)


def test_import_refuses_other_types() -> None:
    def append(writer: TfliteWriter, x: int, y: int) -> None:
        constant = writer.raw("c", np.zeros((1, 4), np.int32), QP)
        writer.add("QUANTIZE", [constant], y, "QuantizeOptions", {}, version=2)

    with pytest.raises(UnsupportedLayerError):
        read_file(tflite_file((4,), (4,), append))
