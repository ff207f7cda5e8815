"""The specification that holds between stages: each way to break it is caught, by the node's name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.graphs import float_graph, int8_graph
from tinygen import spec
from tinygen.graph import Graph
from tinygen.ops import reshape


def broken(graph: Graph, message: str, quantized: bool = True) -> None:
    with pytest.raises(AssertionError, match=message):
        spec.check(graph, quantized)


def with_tensor(graph: Graph, name: str, **changes: object) -> Graph:
    """The graph with one tensor changed."""
    tensors = {**graph.tensors, name: replace(graph.tensors[name], **changes)}  # type: ignore[arg-type]
    return graph.evolve(tensors=tensors)


def test_well_formed_graphs_pass() -> None:
    assert spec.check(int8_graph(), quantized=True) is int8_graph()
    spec.check(float_graph(), quantized=False)


def test_reading_before_writing() -> None:
    graph = int8_graph()
    broken(graph.evolve(nodes=graph.nodes[::-1]), "'scores' reads .* before it is written")


def test_writing_twice() -> None:
    graph = int8_graph()
    broken(graph.evolve(nodes=(graph.nodes[0], *graph.nodes)), f"'{graph.nodes[0].output}' is written twice")


def test_inputs_and_outputs() -> None:
    graph = int8_graph()
    broken(graph.evolve(inputs=graph.inputs * 2), "an input stands twice")
    broken(graph.evolve(outputs=()), "are not all written")
    broken(graph.evolve(outputs=("head", "nowhere")), "'nowhere'.* are not all written")


def test_shapes_types_and_attributes() -> None:
    graph = int8_graph()
    broken(with_tensor(graph, "join", shape=(6, 5, 3)), "'join': shape .*inferred")
    broken(with_tensor(graph, "join", qparams=None), "'join' is not quantized")
    broken(float_graph(), "is not quantized")
    broken(graph, "is not float", quantized=False)
    odd = tuple(replace(n, attrs=reshape.Attrs((1,))) if n.name == "head" else n for n in graph.nodes)
    broken(graph.evolve(nodes=odd), "'head': attributes")
