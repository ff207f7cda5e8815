"""Nodes that sum products, every integer and scale given: extremes that quantize() would never choose."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygen import ops
from tinygen.graph import Array, BoundNode, Graph, Node, QParams, Shape, Tensor

zero_points = st.sampled_from([-128, -1, 0, 5, 127]) | st.integers(-128, 127)
scales = st.floats(-12, 4).map(lambda e: float(np.float32(2.0**e)))
activations = st.sampled_from(["none", "relu", "relu6", "relu_0_to_1", "relu_n1_to_1"])


def fused_in_files(graph: Graph) -> bool:
    """False for the one fused activation that becomes an operator of its own in a .tflite file."""
    return bool(graph.nodes[0].attrs.activation != "relu_0_to_1")


@st.composite
def qparams(draw: st.DrawFn) -> QParams:
    """Any per-tensor scale and zero point."""
    return QParams.per_tensor(draw(scales), draw(zero_points))


def random_constants(seed: int, weights: Shape, channels: int) -> tuple[Array, Array]:
    """Float weights and bias whose channels have very different sizes; some channels are all zero."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-3, 1, channels) * (rng.random(channels) > 0.1)
    axis = weights.index(channels) if channels in weights else 0
    spread = np.expand_dims(size, [a for a in range(len(weights)) if a != axis])
    return rng.normal(size=weights) * spread, rng.normal(size=channels)


def fitting_output(graph_real: Array, zero_point: int) -> QParams:
    """QParams under which most of these real outputs do not saturate."""
    return QParams.per_tensor(max(float(np.max(np.abs(graph_real), initial=0.0)), 1e-6) / 100, zero_point)


def exact_node(
    op: str,
    attrs: Any,
    shape: Shape,
    weights: Array,
    bias: Array,
    multipliers: Array,
    axis: int | None,
    **q: Any,
) -> Graph:
    """An int8 graph of one node with these integers and (about) these effective multipliers.

    axis: of the weights' channels, None for per-tensor scales. q: input and output QParams.
    """
    input_q, output_q = q["input"], q["output"]
    scale = tuple(float(m) * output_q.scale[0] / input_q.scale[0] for m in multipliers)
    weight_q = QParams(scale, (0,) * len(scale), axis)
    products = tuple(input_q.scale[0] * s for s in weight_q.scale)
    bias_q = QParams(products, (0,) * len(products), None if axis is None else 0)
    inputs = (
        Tensor("x0", shape, "int8", input_q),
        Tensor("weights", weights.shape, "int8", weight_q, weights.astype(np.int8)),
        Tensor("bias", bias.shape, "int32", bias_q, bias.astype(np.int32)),
    )
    output = Tensor("node", ops.get(op).infer(attrs, tuple(t.shape for t in inputs)), "int8", output_q)
    node = Node(op, "node", tuple(t.name for t in inputs), "node", attrs)
    ops.get(op).check(BoundNode(node, inputs, output))
    return Graph("single", (node,), {t.name: t for t in (*inputs, output)}, ("x0",), ("node",))


def extreme_constants(seed: int, weights: Shape, channels: int, headroom: int) -> tuple[Array, Array, Array]:
    """(weights, bias, multipliers) with accumulators up to the limits of int32.

    headroom: bits of int32 that the bias leaves free. Multipliers run from 2**-33 (nothing is left) to
    2**headroom, with powers of two among them, where halves are exact.
    """
    rng = np.random.default_rng(seed)
    integers = (
        rng.choice([-128, -127, -1, 0, 1, 127], weights) if seed % 2 else rng.integers(-128, 128, weights)
    )
    limit = (2**31 - 257 >> headroom) - 256 * 128 * (int(np.prod(weights)) // channels)
    assert limit > 0, "too many products for this headroom"
    bias = rng.integers(-limit, limit + 1, channels) >> rng.integers(0, 24, channels)
    exponent = rng.uniform(-33, headroom - 0.01, channels)
    whole = rng.random(channels) < 0.3
    return integers, bias, 2.0 ** np.where(whole, np.floor(exponent), exponent)
