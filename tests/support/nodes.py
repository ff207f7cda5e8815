"""One-operator graphs and the check that everything agrees on them: reference, LiteRT, C, real arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.host import run_on_host
from tinygen import evaluate, ops, spec
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, Graph, Node, QParams, Shape, Tensor

SANITIZE = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")


def quantized_node(
    op: str,
    attrs: Any,
    activations: Sequence[tuple[Shape, QParams]],
    constants: Sequence[Array] = (),
    output: QParams | None = None,
) -> Graph:
    """An int8 graph of one node: activation inputs first, then float constants, which Op.quantize quantizes.

    output: QParams of the output; None takes what the operator's Scaling gives (SAME, FIXED, DERIVED).
    """
    operator = ops.get(op)
    xs = [Tensor(f"x{i}", shape, q.dtype, q) for i, (shape, q) in enumerate(activations)]
    floats = [
        Tensor(f"c{i}", np.shape(c), "float32", None, np.array(c, np.float32))
        for i, c in enumerate(constants)
    ]
    shape = operator.infer(attrs, tuple(t.shape for t in (*xs, *floats)))
    node = Node(op, "node", tuple(t.name for t in (*xs, *floats)), "node", attrs)
    bound = BoundNode(node, (*xs, *floats), Tensor("node", shape))
    operator.check(bound)
    qparams = output or _ruled(bound, tuple(q for _, q in activations))
    quantized = operator.quantize(bound, tuple(q for _, q in activations), qparams)
    tensors = {t.name: t for t in (*xs, *quantized, Tensor("node", shape, qparams.dtype, qparams))}
    final = Node(op, "node", tuple(t.name for t in (*xs, *quantized)), "node", attrs)
    return Graph("single", (final,), tensors, tuple(t.name for t in xs), ("node",))


def _ruled(bound: BoundNode, inputs: tuple[QParams, ...]) -> QParams:
    """The output's QParams by the operator's own rule."""
    rule = ops.get(bound.node.op).scaling(bound)
    qparams = rule.derive(inputs) if rule.derive else rule.fixed(inputs[0].bits) or inputs[0]
    assert rule.share.value != "free", "give output QParams"
    return qparams


def float_twin(graphs: Sequence[Graph]) -> Graph:
    """One float32 graph of all nodes of int8 graphs beside each other: the same attributes, dequantized constants."""
    nodes: list[Node] = []
    tensors: dict[str, Tensor] = {}
    for i, graph in enumerate(graphs):
        for t in graph.tensors.values():
            data = None if t.data is None else t.q.dequantize(t.data).astype(np.float32)
            tensors[f"{i}/{t.name}"] = Tensor(f"{i}/{t.name}", t.shape, "float32", None, data)
        for n in graph.nodes:
            inputs = tuple(f"{i}/{name}" for name in n.inputs)
            nodes.append(Node(n.op, f"{i}/{n.name}", inputs, f"{i}/{n.output}", n.attrs))
    inputs = tuple(f"{i}/{name}" for i, graph in enumerate(graphs) for name in graph.inputs)
    outputs = tuple(f"{i}/{name}" for i, graph in enumerate(graphs) for name in graph.outputs)
    return spec.check(Graph("twin", tuple(nodes), tensors, inputs, outputs), quantized=False)


def assert_float_c(graph: Graph, inputs: Sequence[Array], tolerance: float = 1e-5) -> None:
    """A float graph's C on the host, under UBSan, is within `tolerance` of its float evaluation, relative to the
    largest element of each output: ten times closer than firmware must be."""
    got, want = run_on_host(graph, inputs, SANITIZE), evaluate.real(graph, inputs)
    for name, ours, theirs in zip(graph.outputs, got, want, strict=True):
        assert ours.dtype == np.float32
        scale = float(np.max(np.abs(theirs), initial=0.0))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale, err_msg=name)


def random_inputs(graph: Graph, samples: int, seed: int) -> list[Array]:
    """Integer samples: uniform, and the first ones at the extremes. Of float graphs: normal, the first 0 and large."""
    rng = np.random.default_rng(seed)
    arrays = []
    for t in graph.input_tensors:
        if t.dtype == "float32":
            spread = np.array([0.0, 20.0, *[2.0] * samples])[:samples].reshape(-1, *[1] * len(t.shape))
            arrays.append((rng.normal(size=(samples, *t.shape)) * spread).astype(np.float32))
            continue
        low, high = t.q.low, t.q.high
        x = rng.integers(low, high + 1, (samples, *t.shape), dtype=np.int64)
        x[0] = low
        if samples > 1:
            x[1] = high
        if samples > 2:
            x[2] = rng.choice([low, high, t.zero_point], t.shape)
        arrays.append(x.astype(t.dtype))
    return arrays


def assert_agree(
    graph: Graph, samples: int = 8, seed: int = 0, litert: bool = True, lsb: float = 1.0, host: bool = True
) -> None:
    """reference SINGLE = LiteRT, host C = reference DOUBLE, reference within `lsb` of real arithmetic."""
    inputs = random_inputs(graph, samples, seed)
    if host:
        assert_equals_c(graph, inputs)
    if litert:
        assert_equals_litert(graph, inputs)
    assert_near_real(graph, inputs, lsb)


def assert_equals_c(graph: Graph, inputs: Sequence[Array]) -> None:
    """The graph's C on the host, under UBSan, equals the reference."""
    for got, want in zip(
        run_on_host(graph, inputs, SANITIZE), evaluate.reference(graph, inputs), strict=True
    ):
        np.testing.assert_array_equal(got, want, err_msg="C differs from the reference")


def assert_equals_litert(graph: Graph, inputs: Sequence[Array]) -> None:
    """The reference with LiteRT's rounding equals LiteRT's reference kernels on the exported file."""
    from tinygen.oracle import run_litert
    from tinygen.tflite.export import export_tflite

    single = evaluate.reference(graph, inputs, Rounding.SINGLE)
    for got, want in zip(run_litert(export_tflite(graph), inputs), single, strict=True):
        np.testing.assert_array_equal(
            np.reshape(got, want.shape), want, err_msg="LiteRT differs from the reference"
        )


def real_output(graph: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """Float64 outputs of a quantized graph's real arithmetic on the same int8 inputs, dequantized constants."""
    floats = {
        t.name: Tensor(t.name, t.shape, "float32", None, t.q.dequantize(t.data).astype(np.float32))
        if t.data is not None
        else t
        for t in graph.tensors.values()
    }
    (node,) = graph.nodes
    bound = BoundNode(node, tuple(floats[i] for i in node.inputs), floats[node.output])
    live = dict(zip(graph.inputs, arrays, strict=True))
    values = [
        graph.tensors[i].q.dequantize(graph.tensors[i].data)  # float64, not the narrowed copy
        if graph.tensors[i].data is not None
        else graph.tensors[i].q.dequantize(live[i])
        for i in node.inputs
    ]
    return (ops.get(node.op).real(bound, values),)


def assert_near_real(graph: Graph, inputs: Sequence[Array], lsb: float = 1.0) -> None:
    """One-node graph: the reference is within `lsb` output steps of real arithmetic (saturated to its type)."""
    (want,) = evaluate.reference(graph, inputs)
    (real,) = real_output(graph, inputs)
    q = graph.output_tensors[0].q
    exact = np.clip(real / q.scale[0] + q.zero_point[0], q.low, q.high)
    worst = np.max(np.abs(want.astype(np.float64) - exact), initial=0.0)
    assert worst <= lsb + 1e-6, f"{worst} output steps from real arithmetic"
