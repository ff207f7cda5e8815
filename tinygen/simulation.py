"""Simulated quantization: the float graph with every activation rounded to its int8 grid, to measure what
that costs.

Much faster than the int8 reference and close to it (only the rounding of accumulators is missing). The cost
is measured at the outputs, per sample: squared distance from the float probabilities behind a softmax,
else squared error relative to the variance of the float output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tinygen import evaluate, ops
from tinygen.graph import Array, BoundNode, Graph, QParams
from tinygen.ops.base import Share

State = dict[str, Array]
"""Activation name -> values (N, *shape) of all activations computed so far."""


def rounded(values: Array, qparams: QParams) -> Array:
    """Values rounded and saturated to their integer grid, as float32."""
    scale, zero_point = np.float32(qparams.scale[0]), qparams.zero_point[0]
    q = np.rint(values / scale)
    return np.clip(q, np.float32(qparams.low - zero_point), np.float32(qparams.high - zero_point)) * scale


def rounded_constants(graph: Graph, qparams: Mapping[str, QParams]) -> dict[str, Array]:
    """Constant name -> its values after quantization to int8 (biases, of 32 or 64 bits, as they are)."""
    result: dict[str, Array] = {}
    for b in graph.bound():
        constants = [t for t in b.inputs if t.data is not None]
        if constants:
            inputs = tuple(qparams[t.name] for t in b.activations)
            quantized = ops.get(b.node.op).quantize(b, inputs, qparams[b.output.name])
            for tensor, int_tensor in zip(constants, quantized, strict=True):
                assert tensor.data is not None and int_tensor.data is not None
                is_int8 = int_tensor.dtype == "int8"
                result[tensor.name] = (
                    int_tensor.q.dequantize(int_tensor.data).astype(np.float32) if is_int8 else tensor.data
                )
    return result


CHUNK = 16
"""Samples that are simulated at a time."""


@dataclass(frozen=True)
class Simulator:
    """A graph with rounded constants and judge samples.

    target: the float outputs on those samples. spread: their variances, which squared errors are relative to.
    """

    graph: Graph
    constants: Mapping[str, Array]
    x: tuple[Array, ...]
    target: tuple[Array, ...]
    spread: tuple[float, ...]

    @classmethod
    def of(cls, graph: Graph, constants: Mapping[str, Array], x: tuple[Array, ...]) -> Simulator:
        """A simulator whose target is the float graph itself."""
        target = evaluate.chunked(lambda part: evaluate.real(graph, part), x)
        return cls(graph, constants, x, target, tuple(max(float(np.var(t)), 1e-30) for t in target))

    def run(self, nodes: Iterable[BoundNode], state: State, qparams: Mapping[str, QParams]) -> State:
        """Compute nodes on top of `state` (which stays); activations named in qparams are rounded."""
        new: State = {}
        for b in nodes:
            arrays = [
                self.constants[t.name] if t.is_constant else new[t.name] if t.name in new else state[t.name]
                for t in b.inputs
            ]
            values = ops.get(b.node.op).real(b, arrays)
            new[b.output.name] = (
                rounded(values, qparams[b.output.name]) if b.output.name in qparams else values
            )
        return new

    def start(self, qparams: Mapping[str, QParams]) -> State:
        """The state that holds the graph's inputs only."""
        pairs = zip(self.graph.inputs, self.x, strict=True)
        return {name: rounded(a, qparams[name]) if name in qparams else a for name, a in pairs}

    def errors(self, qparams: Mapping[str, QParams]) -> Array:
        """Cost per sample (N,) of rounding the activations named in qparams; in chunks, to bound memory."""
        visible = judged(self.graph, qparams)
        starts = range(0, len(self.x[0]), CHUNK)
        return np.concatenate([self.part(slice(i, i + CHUNK)).cost_of(visible) for i in starts])

    def cost_of(self, qparams: Mapping[str, QParams]) -> Array:
        """`errors` in one go, of exactly the activations named."""
        state = self.start(qparams)
        return self.cost({**state, **self.run(self.graph.bound(), state, qparams)})

    def part(self, chosen: slice) -> Simulator:
        """The simulator of some of the samples."""
        x, target = (tuple(a[chosen] for a in arrays) for arrays in (self.x, self.target))
        return replace(self, x=x, target=target)

    def cost(self, state: State) -> Array:
        """Cost per sample (N,) of the outputs in `state`."""
        total = np.zeros(len(self.target[0]))
        for name, wanted, spread in zip(self.graph.outputs, self.target, self.spread, strict=True):
            node = self.graph.writer(name)
            is_softmax = node is not None and node.op == "softmax"
            got = state[name]
            total += probability_distance(wanted, got) if is_softmax else squared_error(wanted, got) / spread
        return total


def judged(graph: Graph, qparams: Mapping[str, QParams]) -> dict[str, QParams]:
    """qparams without those of outputs whose scale is fixed: rounding probabilities to 1/256 is no choice of
    ours."""
    hidden = {o for o in graph.outputs if _is_fixed(graph, o)}
    return {name: q for name, q in qparams.items() if name not in hidden}


def _is_fixed(graph: Graph, tensor: str) -> bool:
    node = graph.writer(tensor)
    return node is not None and ops.get(node.op).scaling(graph.bind(node)).share is Share.FIXED


def is_classifier(graph: Graph) -> bool:
    """True when a softmax makes output 0."""
    node = graph.writer(graph.outputs[0])
    return node is not None and node.op == "softmax"


def probability_distance(wanted: Array, got: Array) -> Array:
    """Squared distance of probabilities along the last axis, mean per sample (N,).

    Unlike relative entropy it is bounded: samples whose class is in no danger do not outweigh those on the border.
    """
    difference = (got.astype(np.float64) - wanted).reshape(-1, wanted.shape[-1])
    return np.asarray((difference**2).sum(axis=1).reshape(len(wanted), -1).mean(axis=1))


def squared_error(wanted: Array, got: Array) -> Array:
    """Mean squared error per sample (N,)."""
    difference = (got.astype(np.float64) - wanted).reshape(len(wanted), -1)
    return np.asarray(np.mean(difference**2, axis=1))


@dataclass(frozen=True)
class Comparison:
    """Mean cost of two ways over the same samples. standard_error: of the mean difference."""

    before: float
    after: float
    standard_error: float

    @property
    def better(self) -> bool:
        """After is lower than before by more than one standard error, so not by luck alone."""
        return self.before - self.after > self.standard_error

    @property
    def gain(self) -> float:
        return self.before - self.after


def compare(before: Array, after: Array) -> Comparison:
    """Compare costs per sample (N,) of the same samples."""
    difference = before - after
    spread = float(np.std(difference, ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else 0.0
    return Comparison(float(before.mean()), float(after.mean()), spread)
