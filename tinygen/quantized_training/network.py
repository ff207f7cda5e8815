"""A float graph as a differentiable TensorFlow function, and what its outputs are to a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygen import ops
from tinygen.graph import Array, BoundNode, Graph
from tinygen.pruning.heads import Kind
from tinygen.quantized_training.rounding import Gauge, Int8
from tinygen.rewriting import remove_dead_nodes


def real(graph: Graph, inputs: Sequence[Any], constants: Mapping[str, Any]) -> dict[str, Any]:
    """Every activation (N, *shape), in floating point. inputs: tensors, one per graph input; constants: by name."""
    live = dict(zip(graph.inputs, inputs, strict=True))
    for b in graph.bound():
        live[b.output.name] = ops.get(b.node.op).differentiable(b, _given(b, live, constants))
    return live


def int8(
    graph: Graph,
    inputs: Sequence[Any],
    constants: Mapping[str, Any],
    arithmetic: Int8,
    gauge: Gauge,
    factors: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(every activation as its readers see it, the same before it was rounded), real numbers."""
    seen, live = {}, {}
    for name, x in zip(graph.inputs, inputs, strict=True):
        live[name], seen[name] = arithmetic.input(name, x, gauge)
    for b in graph.bound():
        xs = _given(b, live, constants)
        live[b.output.name], seen[b.output.name] = arithmetic.node(b.name, xs, gauge, factors)
    return live, seen


def _given(b: BoundNode, live: Mapping[str, Any], constants: Mapping[str, Any]) -> list[Any]:
    return [constants[t.name] if t.is_constant else live[t.name] for t in b.inputs]


@dataclass(frozen=True)
class Output:
    """A graph output as losses take it: the activation in front of a final softmax or sigmoid, or the output itself.

    factor: logits are the activation times this.
    """

    kind: Kind
    tensor: str
    factor: float = 1.0

    def of(self, state: Mapping[str, Any]) -> Any:
        """Logits, or linear values, of the activations."""
        return state[self.tensor] * self.factor


def outputs_of(graph: Graph) -> tuple[Output, ...]:
    """What the graph's outputs are, in order."""
    return tuple(_output(graph, name) for name in graph.outputs)


def _output(graph: Graph, name: str) -> Output:
    node = graph.producers.get(name)
    if node is None or graph.consumers[name]:
        return Output("linear", name)
    b: BoundNode = graph.bind(node)
    if node.op == "softmax":
        return Output("softmax", b.inputs[0].name, b.attrs.beta)
    if node.op == "activation" and b.attrs.function == "sigmoid":
        return Output("sigmoid", b.inputs[0].name)
    return Output("linear", name)


def trunk(graph: Graph) -> Graph:
    """The graph up to what its losses see."""
    ends = tuple(dict.fromkeys(output.tensor for output in outputs_of(graph)))
    shorter = graph.evolve(outputs=ends)
    return remove_dead_nodes(shorter) or shorter


def constants_of(graph: Graph) -> dict[str, Array]:
    """Constant name -> its numbers."""
    return {name: t.data for name, t in graph.tensors.items() if t.data is not None}
