"""Export a quantized graph (int8, layers in int16 included) as a .tflite file that computes the same."""

from __future__ import annotations

from dataclasses import replace

from tinygen import ops
from tinygen.errors import ModelError
from tinygen.graph import BoundNode, Graph
from tinygen.ops.base import FUSED, clamp_bounds, clamp_fits_int32
from tinygen.tflite.writer import TfliteWriter


def export_tflite(graph: Graph) -> bytes:
    """The bytes of an int8 .tflite file of a quantized graph: int8 inputs and outputs, batch 1.

    LiteRT and TFLite Micro compute what evaluate.reference computes; LiteRT's dense layers round singly.
    Raises ModelError for a graph that is not quantized or holds an operator that TFLite has no equal of.
    """
    _check(graph)
    writer = TfliteWriter(graph)
    for tensor in graph.input_tensors:
        writer.activation(tensor)
    for bound in graph.bound():
        to_tflite = ops.get(bound.node.op).to_tflite
        assert to_tflite is not None
        to_tflite(_writable(bound), writer)
    return writer.finish()


def _writable(b: BoundNode) -> BoundNode:
    """The node without a clamp so far beyond its type that LiteRT, computing it as an int32, refuses the file."""
    activation = getattr(b.attrs, "activation", "none")
    if clamp_fits_int32(activation, b.output.q):
        return b
    weaker = "none" if FUSED[activation][0] < 0 else "relu"
    assert clamp_bounds(weaker, b.output.q) == clamp_bounds(activation, b.output.q)
    return replace(b, node=replace(b.node, attrs=replace(b.attrs, activation=weaker)))


def _check(graph: Graph) -> None:
    """Refuse what cannot be exported, before anything is written."""
    for tensor in graph.tensors.values():
        if not tensor.is_constant and tensor.dtype not in ("int8", "int16"):
            raise ModelError(f"tensor '{tensor.name}' is {tensor.dtype}: only quantized graphs are exported")
    refused = [n for n in graph.nodes if ops.get(n.op).to_tflite is None]
    if refused:
        first = refused[0]
        others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise ModelError(
            f"layer '{first.name}' ({first.op}){others} has no equal among TFLite's operators\n"
            "  the generated C runs it; to export, replace the layer in the Keras model"
        )
