"""rescale: the integers stay, the scale changes; LiteRT computes the same on the exported MUL."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nodes import assert_agree, assert_equals_litert, quantized_node
from tests.support.products import qparams
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import QParams
from tinygen.ops.rescale import Attrs

ALL = np.arange(-128, 128).astype(np.int8).reshape(1, 256)


@settings(max_examples=200)
@given(qparams(), st.floats(-10, 10).map(lambda e: 2.0**e) | st.integers(2, 50).map(lambda n: 1 / n))
def test_identity_of_integers_in_litert_too(x: QParams, factor: float) -> None:
    graph = quantized_node("rescale", Attrs(factor), [((256,), x)])
    (got,) = evaluate.reference(graph, [ALL])
    np.testing.assert_array_equal(got, ALL)
    assert graph.output_tensors[0].scale == pytest.approx(factor * x.scale[0], rel=1e-6)
    assert_equals_litert(graph, [ALL])


def test_c_shares_the_buffer() -> None:
    assert_agree(quantized_node("rescale", Attrs(1 / 3), [((4, 5), QParams.per_tensor(0.3, 9))]), lsb=1e-4)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_only_positive_factors(factor: float) -> None:
    with pytest.raises(UnsupportedLayerError, match="finite number above 0"):
        quantized_node("rescale", Attrs(factor), [((4,), QParams.per_tensor(0.3, 9))])


@pytest.mark.parametrize("factor", [1e-40, 1e40])
def test_scales_stay_within_float32(factor: float) -> None:
    graph = quantized_node("rescale", Attrs(factor), [((4,), QParams.per_tensor(0.3, 9))])
    assert 0 < graph.output_tensors[0].scale < float("inf")
