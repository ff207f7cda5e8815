"""Walks the graph of a Keras model and hands every layer to the operator that compiles it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from tinygen import ops
from tinygen.errors import UnsupportedLayerError
from tinygen.frontend import safety, time_distributed
from tinygen.graph import GraphBuilder, Origin

MAX_ACTIVATION = 1 << 26
"""Elements of one activation: more than any microcontroller, and than the evaluators should meet."""


class Walker:
    """Appends the nodes of Keras layers to a builder. Nested and shared models are walked once per call."""

    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder
        self.supported = safety.supported_layers()
        self.paths: dict[int, Origin] = {}

    def model(self, model: Any, inputs: Sequence[str]) -> list[str]:
        """Append a Sequential or functional model applied to tensors; returns its outputs' names."""
        known = {id(t): name for t, name in zip(model.inputs, inputs, strict=True)}
        for tensor, name in zip(model.inputs, inputs, strict=True):
            with self.builder.inside(self.path(tensor._keras_history.operation)):
                self.builder.record("output", name)
        for node in ordered_nodes(model, set(known)):
            names = [known[id(t)] for t in node.input_tensors]
            outputs = self.call(node, names)
            known.update((id(t), name) for t, name in zip(node.output_tensors, outputs, strict=True))
        return [known[id(t)] for t in model.outputs]

    def call(self, node: Any, inputs: Sequence[str]) -> list[str]:
        """One call of a layer or a nested model."""
        layer = node.operation
        kind = type(layer).__name__
        if node.arguments.kwargs.get("training") and not _trains_by_default(layer):
            why = "it is called with training=True, so its output is random or depends on the batch"
            raise UnsupportedLayerError(layer.name, kind, why, "call it without training=True and save again")
        if hasattr(layer, "layers") and hasattr(layer, "inputs"):
            return self.nested(layer, inputs)
        if not hasattr(layer, "weights"):
            return [self.operation(node, inputs)]
        return [self.layer(layer, inputs)]

    def one(self, layer: Any, inputs: Sequence[str]) -> str:
        """A layer or nested model with one output, inside a wrapper."""
        return self.nested(layer, inputs)[0] if hasattr(layer, "layers") else self.layer(layer, inputs)

    def nested(self, model: Any, inputs: Sequence[str]) -> list[str]:
        if len(inputs) != len(model.inputs):
            why = f"it is called with {len(inputs)} tensors and has {len(model.inputs)} inputs"
            raise UnsupportedLayerError(model.name, type(model).__name__, why, "give every input its tensor")
        with self.builder.inside(self.path(model)):
            return self.model(model, inputs)

    def path(self, layer: Any) -> Origin:
        """Where a layer was met first: names of the models around it, and its own."""
        return self.paths.setdefault(id(layer), (*self.builder.path, str(layer.name)))

    def operation(self, node: Any, inputs: Sequence[str]) -> str:
        """x + y on Keras tensors."""
        operation = node.operation
        kind = type(operation).__name__
        if kind not in safety.RAW_OPERATIONS or len(inputs) != 2:
            why = "it is a raw Keras operation (keras.ops or Python arithmetic), not a layer of two tensors"
            raise UnsupportedLayerError(operation.name, kind, why, "use a layer that does the same")
        return self.checked(ops.keras_handlers()[kind](operation, inputs, self.builder), operation)

    def layer(self, layer: Any, inputs: Sequence[str]) -> str:
        """One built-in layer; returns the name of its output tensor."""
        kind = type(layer).__name__
        if kind not in self.supported or not type(layer).__module__.startswith("keras."):
            raise safety.unsupported(layer.name, kind)
        if getattr(layer, "data_format", None) == "channels_first":
            why = "its data_format is channels_first"
            raise UnsupportedLayerError(layer.name, kind, why, "build it with data_format='channels_last'")
        if kind in safety.IDENTITY:
            return inputs[0]
        with self.builder.inside(self.path(layer)):
            if kind == "TimeDistributed":
                return self.checked(time_distributed.append(layer, inputs[0], self.builder, self.one), layer)
            return self.checked(ops.keras_handlers()[kind](layer, inputs, self.builder), layer)

    def checked(self, output: str, layer: Any) -> str:
        """The output tensor, unless it is absurdly large."""
        elements = self.builder.tensor(output).elements
        if elements > MAX_ACTIVATION:
            why = f"its output has {elements:,} elements, allowed are {MAX_ACTIVATION:,}"
            raise UnsupportedLayerError(layer.name, type(layer).__name__, why, "use a smaller input")
        return output


def _trains_by_default(layer: Any) -> bool:
    """True for image augmentation: Keras notes down call's default, training=True, without the user's doing."""
    training = inspect.signature(layer.call).parameters.get("training")
    return training is not None and training.default is True


def ordered_nodes(model: Any, stop: set[int]) -> list[Any]:
    """The calls that lead to the model's outputs, every call behind those it depends on.

    stop: ids of the tensors that are given (the model's inputs). Depth first, without recursion.
    """
    ordered: list[Any] = []
    done: set[int] = set()
    stack = [(node, False) for node in reversed(_makers(model.outputs, stop))]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            ordered.append(node)
        else:
            stack.append((node, True))
            stack.extend((maker, False) for maker in reversed(_makers(node.input_tensors, stop)))
    return ordered


def _makers(tensors: Sequence[Any], stop: set[int]) -> list[Any]:
    """The calls that made these tensors."""
    made = [t._keras_history for t in tensors if id(t) not in stop]
    return [history.operation._inbound_nodes[history.node_index] for history in made]
