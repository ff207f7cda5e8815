"""How channels hang together: the field `channels` of every operator, and where Keras keeps its numbers (`layouts`).

A channel is an index along the last axis of an activation. Channels that an operator reads or writes together can only
be removed together, and with them the indices of the weights that belong to them. tinygen/channels.py puts the
operators' answers together for a whole graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tinygen.graph import Array, BoundNode

OUTPUT = -1
"""Place of the node's output."""


@dataclass(frozen=True)
class Labels:
    """A label for each index along one axis of a tensor of a node; indices with equal labels go together.

    place: index into the node's inputs, or OUTPUT. axis: as in numpy, may be negative; activations have labels on their
    last axis only. labels: 0 or more. reads: the node sums over this axis, so that zeros there make it ignore
    the channel.
    """

    place: int
    axis: int
    labels: tuple[int, ...]
    reads: bool = False


Channels = Callable[[BoundNode], tuple[Labels, ...]]
"""What a node couples. Activations that it does not list are frozen; axes of constants that it does not list stay."""


def frozen(b: BoundNode) -> tuple[Labels, ...]:
    """No channel of the inputs or of the output can be removed."""
    return ()


def same_channels(b: BoundNode) -> tuple[Labels, ...]:
    """Channel c of the output comes from channel c of every input and constant.

    An input or constant that repeats its only channel is not listed: it stays.
    """
    channels = tuple(range(b.output.shape[-1]))
    places = (i for i, t in enumerate(b.inputs) if t.shape and t.shape[-1] == len(channels))
    return Labels(OUTPUT, -1, channels), *(Labels(place, -1, channels) for place in places)


def moved_channels(b: BoundNode) -> tuple[Labels, ...]:
    """As same_channels where the node keeps the number of channels; else all are frozen."""
    return same_channels(b) if b.inputs[0].shape[-1] == b.output.shape[-1] else ()


def mixed_channels(input_axis: int, output_axis: int) -> Channels:
    """`channels` of an operator whose every output channel reads every input channel through inputs[1]."""

    def channels(b: BoundNode) -> tuple[Labels, ...]:
        inputs = tuple(range(b.inputs[0].shape[-1]))
        outputs = tuple(range(len(inputs), len(inputs) + b.output.shape[-1]))
        reading = (Labels(0, -1, inputs), Labels(1, input_axis, inputs, reads=True))
        return (*reading, *written(output_axis, outputs))

    return channels


def written(output_axis: int, labels: tuple[int, ...]) -> tuple[Labels, ...]:
    """Labels of the output, and of the weights (inputs[1]) and bias (inputs[2]) that make it."""
    return Labels(1, output_axis, labels), Labels(2, 0, labels), Labels(OUTPUT, -1, labels)


def passed_channels(inputs: int, outputs: int, output_axis: int) -> tuple[Labels, ...]:
    """Each input channel goes with the `outputs // inputs` neighbouring output channels that it alone makes."""
    made = tuple(o * inputs // outputs for o in range(outputs))
    return Labels(0, -1, tuple(range(inputs))), *written(output_axis, made)


# ---- Keras

Kept = Callable[[str, int], Array]
"""(role of a constant or recorded tensor, axis) -> the indices along it that stay, ascending."""


def same_config(layer: Any, kept: Kept) -> Mapping[str, Any]:
    """Nothing in the config depends on the number of channels."""
    return {}


@dataclass(frozen=True)
class Writing:
    """How other numbers in the graph's constants come back into a layer: the inverse of its Keras handler.

    variables: (layer, role -> constant of any layer of this class) -> name of a variable -> its values. Raises
        ModelError where the layer cannot hold them. config: entries of the config with which it can hold them all.
    """

    variables: Callable[[Any, Mapping[str, Array]], Mapping[str, Array]]
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Where the layers of a Keras class keep what the graph's constants hold.

    variables: name of a variable -> {its axis: (role, axis of the constant that it follows)}. A variable whose axis is
        shorter than the constant's holds so many neighbours in one index.
    config: (layer, kept) -> the entries of the layer's config that change with its channels.
    writing: None where the layer cannot hold other numbers.
    """

    variables: Mapping[str, Mapping[int, tuple[str, int]]]
    config: Callable[[Any, Kept], Mapping[str, Any]] = same_config
    writing: Writing | None = None


def written_linear(kernel: Callable[[Any, Array], Array]) -> Writing:
    """Of a class with `kernel` and `bias`. kernel: (layer, weights) -> the kernel's values in any shape."""

    def variables(layer: Any, constants: Mapping[str, Array]) -> Mapping[str, Array]:
        values = kernel(layer, constants["weights"]).reshape(layer.kernel.shape)
        return {"kernel": values, "bias": constants["bias"]}

    return Writing(variables, {"use_bias": True})


def counted_outputs(entry: str) -> Callable[[Any, Kept], Mapping[str, Any]]:
    """`config` of a class whose `entry` is the number of its output channels, the first axis of 'weights'."""
    return lambda layer, kept: {entry: len(kept("weights", 0))}
