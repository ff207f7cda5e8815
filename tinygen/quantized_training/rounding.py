"""Fake quantization: a float graph whose values are, bit by bit, those of its int8 graph, with gradients.

Forward, every rounding is that of the int8 reference: constants by the operators' own `quantize`, accumulators by their
own `Requant`, all else by their own `reference`. Only sums of products are made by TensorFlow, of whole numbers, in
float32: exact up to 2**24. Backward, rounding counts as the identity and saturation as a clip (straight through), also
for the scales (learned step sizes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, Graph, Tensor
from tinygen.ops.requant import requant_of
from tinygen.ops.tensors import clamp, tensorflow
from tinygen.scales import SELECTING

Gauge = Callable[[str], tuple[Any, Any]]
"""(activation) -> its scale and zero_point as float32 scalars; gradients flow to the scale."""


class Int8:
    """How an int8 graph computes, on real numbers that lie on its grids. `quantized` may change from step to step:
    to another graph of the same nodes.

    scale_of, factors: see network.run; factors: name of linear weights -> their scale per output channel (C,).
    """

    def __init__(self, float_graph: Graph) -> None:
        self.float = {b.name: b for b in float_graph.bound()}
        self.int8: Mapping[str, BoundNode] = {}
        self.inputs: Mapping[str, Tensor] = {}

    def use(self, quantized: Graph) -> None:
        """Compute as this int8 graph from now on."""
        self.int8 = {b.name: b for b in quantized.bound()}
        self.inputs = {t.name: t for t in quantized.input_tensors}

    def input(self, name: str, x: Any, gauge: Gauge) -> tuple[Any, Any]:
        """(values on the grid, before rounding) of a graph input."""
        exact = _called(lambda a: _steps(self.inputs[name].q.quantize(a), self.inputs[name]), x)
        return self._grid(name, x, exact, gauge), x

    def node(self, name: str, xs: Sequence[Any], gauge: Gauge, factors: Mapping[str, Any]) -> tuple[Any, Any]:
        """(values on the grid, before rounding) of a node's output."""
        b = self.float[name]
        if b.node.op in SELECTING:
            values = ops.get(b.node.op).differentiable(b, xs)
            return values, values
        if ops.get(b.node.op).output_axis is not None:
            return self._linear(b, xs, gauge, factors[b.inputs[1].name])
        values = ops.get(b.node.op).differentiable(b, xs)
        live = [(i, x) for i, x in enumerate(xs) if not b.inputs[i].is_constant]
        steps = [_whole(x / gauge(b.inputs[i].name)[0]) for i, x in live]
        exact = _called(lambda *arrays: self._referred(name, arrays), *steps, like=values)
        return self._grid(b.output.name, values, exact, gauge), values

    def _linear(self, b: BoundNode, xs: Sequence[Any], gauge: Gauge, factors: Any) -> tuple[Any, Any]:
        """A sum of products of whole numbers, requantized."""
        x, weights, bias = xs
        scale, axis = gauge(b.inputs[0].name)[0], ops.get(b.node.op).output_axis
        assert axis is not None
        shape = tuple(-1 if a == axis else 1 for a in range(len(b.inputs[1].shape)))
        whole = _whole(weights / tensorflow().reshape(factors, shape))
        open_node = replace(b, node=replace(b.node, attrs=replace(b.attrs, activation="none")))
        products = ops.get(b.node.op).differentiable(open_node, [_whole(x / scale), whole, bias * 0])
        values = clamp(products * (scale * factors) + bias, b.attrs.activation)
        exact = _called(lambda sums: self._requantized(b.name, sums), products)
        return self._grid(b.output.name, values, exact, gauge), values

    def _grid(self, name: str, values: Any, exact: Any, gauge: Gauge) -> Any:
        """The exact steps times the scale; gradients are those of clipping the values to what int8 covers."""
        scale, zero_point = gauge(name)
        steps = tensorflow().clip_by_value(values / scale, -128.0 - zero_point, 127.0 - zero_point)
        return (steps + tensorflow().stop_gradient(exact - steps)) * scale

    # ---- in numpy, by the reference's own functions

    def _requantized(self, name: str, sums: Array) -> Array:
        """Steps from zero_point of the output, of the sums of products (whole numbers, float32)."""
        b = self.int8[name]
        bias = b.inputs[2].data
        assert bias is not None
        return _steps(requant_of(b).apply(np.rint(sums).astype(np.int64) + bias), b.output)

    def _referred(self, name: str, steps: Sequence[Array]) -> Array:
        """Steps of the output from those of the inputs."""
        b = self.int8[name]
        given = iter(steps)
        arrays = [
            t.data if t.data is not None else (next(given) + t.zero_point).astype(np.int8) for t in b.inputs
        ]
        return _steps(ops.get(b.node.op).reference(b, arrays, Rounding.DOUBLE), b.output)


def _steps(q: Array, tensor: Tensor) -> Array:
    """int8 as steps from zero_point, float32."""
    return np.asarray(q.astype(np.float32) - np.float32(tensor.zero_point))


def _whole(x: Any) -> Any:
    """x, which is whole but for float rounding, made whole; gradient 1."""
    tf = tensorflow()
    return x + tf.stop_gradient(tf.round(x) - x)


def _called(function: Callable[..., Array], *xs: Any, like: Any = None) -> Any:
    """A numpy function of tensors that gives float32 of the shape of `like` (None: the first)."""
    tf = tensorflow()
    y = tf.numpy_function(function, list(xs), tf.float32)
    return tf.ensure_shape(y, (xs[0] if like is None else like).shape)


# ---- constants


def with_constants(graph: Graph, constants: Mapping[str, Array]) -> Graph:
    """The float graph with other numbers in its constants (name -> float32 array of the same shape)."""
    tensors = {n: replace(t, data=constants[n]) if n in constants else t for n, t in graph.tensors.items()}
    return graph.evolve(tensors=tensors)


def constants_of(graph: Graph, quantized: Graph) -> tuple[dict[str, Array], dict[str, Array]]:
    """(constant -> the real numbers that its int8 graph holds for it, weights of linear nodes -> scale per output
    channel), all float32, by names of the float graph."""
    values: dict[str, Array] = {}
    factors: dict[str, Array] = {}
    for b, i in zip(graph.bound(), quantized.bound(), strict=True):
        for tensor, integers in zip(b.inputs, i.inputs, strict=True):
            if integers.data is not None:
                values[tensor.name] = integers.q.dequantize(integers.data).astype(np.float32)
        if ops.get(b.node.op).output_axis is not None:
            factors[b.inputs[1].name] = np.array(i.inputs[1].q.scale, np.float32)
    return values, factors
