"""One Keras layer through its handler, one TFLite operator through the reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen import evaluate, ops
from tinygen.graph import Array, Graph, GraphBuilder, QParams, Shape, Tensor
from tinygen.tflite.export import export_tflite
from tinygen.tflite.writer import TfliteWriter

QP = QParams.per_tensor(0.05, -7)


def graph_of_layer(layer: Any, shapes: Sequence[Shape]) -> Graph:
    """The float graph that the layer's handler makes for inputs of these shapes (without batch)."""
    builder = GraphBuilder("layer")
    inputs = [builder.input(f"x{i}", shape) for i, shape in enumerate(shapes)]
    return builder.build((ops.keras_handlers()[type(layer).__name__](layer, inputs, builder),))


def assert_layer_equals_keras(layer: Any, *shapes: Shape, samples: int = 3, tolerance: float = 1e-5) -> Graph:
    """Calls the layer on random samples; its float graph must give the same. Returns the graph."""
    rng = np.random.default_rng(7)
    arrays = [rng.normal(size=(samples, *shape)).astype(np.float32) for shape in shapes]
    expected = np.asarray(layer(arrays if len(arrays) > 1 else arrays[0]))
    graph = graph_of_layer(layer, shapes)
    (got,) = evaluate.real(graph, arrays)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    return graph


def imported(graph: Graph) -> Graph:
    """The graph that the .tflite front end reads from the export of `graph`."""
    from tinygen.frontend.tflite import read_tflite

    return read_tflite(export_tflite(graph), "exported.tflite")


def assert_same_when_imported(graph: Graph, inputs: Sequence[Array]) -> None:
    """Export, import: the same operators with the same numbers, and the same results."""
    again = imported(graph)
    assert [(n.op, n.attrs) for n in again.nodes] == [(n.op, n.attrs) for n in graph.nodes]
    for got, want in zip(evaluate.reference(again, inputs), evaluate.reference(graph, inputs), strict=True):
        np.testing.assert_array_equal(got, want)


def tflite_file(
    shape: Shape, output_shape: Shape, append: Callable[[TfliteWriter, int, int], None], q: QParams = QP
) -> bytes:
    """A file with one int8 input; `append(writer, input, output)` adds operators. Shapes without batch."""
    x, y = Tensor("x", shape, "int8", q), Tensor("y", output_shape, "int8", q)
    writer = TfliteWriter(Graph("file", (), {"x": x, "y": y}, ("x",), ("y",)))
    append(writer, writer.activation(x), writer.activation(y))
    return writer.finish()


def read_file(model: bytes) -> Graph:
    """The graph of a .tflite file given as bytes."""
    from tinygen.frontend.tflite import read_tflite

    return read_tflite(model, "file.tflite")


def assert_import_equals_litert(model: bytes, graph: Graph, samples: int = 4) -> None:
    """The graph that was read computes what LiteRT computes on the file."""
    from tests.support.nodes import random_inputs
    from tinygen.oracle import run_litert

    inputs = random_inputs(graph, samples, 3)
    for got, want in zip(evaluate.reference(graph, inputs), run_litert(model, inputs), strict=True):
        np.testing.assert_array_equal(got, np.reshape(want, got.shape))
