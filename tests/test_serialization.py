"""A project's graph.json: reads back as the same graph; damage is a ModelError."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.graphs import int8_graph
from tinygen.errors import ModelError
from tinygen.serialization import graph_from_json, graph_to_json


def test_round_trip() -> None:
    graph = int8_graph()
    again = graph_from_json(graph_to_json(graph))
    assert (again.name, again.nodes, again.inputs, again.outputs) == (
        graph.name,
        graph.nodes,
        graph.inputs,
        graph.outputs,
    )
    assert dict(again.tensors) == dict(graph.tensors)
    for name, tensor in graph.tensors.items():
        if tensor.data is not None:
            np.testing.assert_array_equal(again.tensors[name].data, tensor.data)
    assert graph_to_json(again) == graph_to_json(graph)


@given(st.integers(0, 10**6), st.sampled_from('x0]}",-'))
def test_damage_is_a_model_error_or_harmless(position: int, character: str) -> None:
    text = graph_to_json(int8_graph())
    position %= len(text)
    damaged = text[:position] + character + text[position + 1 :]
    try:
        graph_from_json(damaged)
    except ModelError as error:
        assert "generate the project again" in str(error)


def test_truncated() -> None:
    text = graph_to_json(int8_graph())
    with pytest.raises(ModelError, match="is not a graph that this tinygen wrote"):
        graph_from_json(text[: len(text) // 2])
