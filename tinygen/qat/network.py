"""A float graph as a differentiable TensorFlow function, its activations rounded to int8 or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygen import ops
from tinygen.graph import Array, BoundNode, Graph
from tinygen.pruning.heads import Kind
from tinygen.scales import SELECTING

Round = Callable[[str, Any], Any]
"""(activation, its values) -> the values as its readers see them."""


def unrounded(name: str, values: Any) -> Any:
    """Floating point."""
    return values


def run(
    graph: Graph, inputs: Sequence[Any], constants: Mapping[str, Any], round: Round = unrounded
) -> dict[str, Any]:
    """Every activation (N, *shape) as its readers see it. inputs: tensors, one per graph input; constants: by name.

    What operators in SELECTING give out lies on the grid of their inputs, and is not rounded again.
    """
    live = {name: round(name, x) for name, x in zip(graph.inputs, inputs, strict=True)}
    for b in graph.bound():
        xs = [constants[t.name] if t.is_constant else live[t.name] for t in b.inputs]
        values = ops.get(b.node.op).differentiable(b, xs)
        live[b.output.name] = values if b.node.op in SELECTING else round(b.output.name, values)
    return live


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


def constants_of(graph: Graph) -> dict[str, Array]:
    """Constant name -> its numbers."""
    return {name: t.data for name, t in graph.tensors.items() if t.data is not None}
