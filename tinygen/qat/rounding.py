"""Fake quantization: float tensors on the grid of their int8, with gradients that pass straight through.

Activations are rounded in TensorFlow as QParams.quantize does it. Constants are rounded by the operators' own
`quantize`, the function that makes the int8 graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.graph import Array, Graph, QParams
from tinygen.ops.tensors import tensorflow


def fake_quantize(x: Any, scale: Any, zero_point: Any) -> Any:
    """x rounded (halves away from zero) and saturated to int8, as float32. scale, zero_point: scalar tensors, float32.

    Gradients: to x, 1 where it is inside the range of int8 and 0 outside; to the scale, that of rounding as the
    identity (learned step sizes).
    """
    tf = tensorflow()
    steps = tf.clip_by_value(x / scale, -128.0 - zero_point, 127.0 - zero_point)
    rounded = tf.sign(steps) * tf.floor(tf.abs(steps) + 0.5)
    return (steps + tf.stop_gradient(rounded - steps)) * scale


def with_constants(graph: Graph, constants: Mapping[str, Array]) -> Graph:
    """The float graph with other numbers in its constants (name -> float32 array of the same shape)."""
    tensors = {n: replace(t, data=constants[n]) if n in constants else t for n, t in graph.tensors.items()}
    return graph.evolve(tensors=tensors)


def quantized_constants(graph: Graph, qparams: Mapping[str, QParams]) -> dict[str, Array]:
    """Constant name -> the real numbers (float32) that the int8 graph of these QParams holds for it."""
    result: dict[str, Array] = {}
    for b in graph.bound():
        constants = [t for t in b.inputs if t.is_constant]
        if not constants:
            continue
        inputs = tuple(qparams[t.name] for t in b.activations)
        quantized = ops.get(b.node.op).quantize(b, inputs, qparams[b.output.name])
        for tensor, integers in zip(constants, quantized, strict=True):
            assert integers.data is not None
            result[tensor.name] = integers.q.dequantize(integers.data).astype(np.float32)
    return result
