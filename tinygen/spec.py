"""The checked specification of a Graph between stages: a violation is tinygen's own bug."""

from __future__ import annotations

from tinygen import ops
from tinygen.graph import BoundNode, Graph


def check(graph: Graph, quantized: bool) -> Graph:
    """Return the graph if it is well formed, else raise AssertionError naming the node.

    quantized: all tensors must be integers with QParams, activations int8 or (all of a node but a requantize) int16;
    else float32 without.
    """
    known = {*graph.inputs, *(t.name for t in graph.tensors.values() if t.is_constant)}
    assert len(set(graph.inputs)) == len(graph.inputs), "an input stands twice"
    for b in graph.bound():
        missing = [t for t in b.node.inputs if t not in known]
        assert not missing, f"'{b.name}' reads {missing} before it is written"
        assert b.node.output not in known, f"'{b.node.output}' is written twice"
        known.add(b.node.output)
        _check_node(b, quantized)
    assert graph.outputs and all(o in known for o in graph.outputs), (
        f"outputs {graph.outputs} are not all written"
    )
    return graph


def _check_node(b: BoundNode, quantized: bool) -> None:
    operator = ops.get(b.node.op)
    assert isinstance(b.attrs, operator.attrs), f"'{b.name}': attributes {b.attrs}"
    shape = operator.infer(b.attrs, tuple(t.shape for t in b.inputs))
    assert shape == b.output.shape, f"'{b.name}': shape {b.output.shape}, inferred {shape}"
    for tensor in (*b.inputs, b.output):
        if quantized:
            assert tensor.dtype != "float32" and tensor.qparams is not None, (
                f"'{tensor.name}' is not quantized"
            )
            assert tensor.is_constant or tensor.dtype == tensor.q.dtype, f"'{tensor.name}' is {tensor.dtype}"
        else:
            assert tensor.dtype == "float32" and tensor.qparams is None, f"'{tensor.name}' is not float"
    if quantized and b.node.op != "requantize":
        assert all(t.dtype == b.output.dtype for t in b.activations), f"'{b.name}' mixes int8 and int16"
        assert operator.has(b.output.dtype, b), f"'{b.name}': {b.node.op} has no form in {b.output.dtype}"
