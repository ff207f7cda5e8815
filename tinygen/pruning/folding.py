"""Folding: what removed channels contributed on average goes into the biases behind them.

A channel that has one value in every sample and pixel contributes a constant: its removal is exact where every pixel of
the reader sees the same of it. Zeros of padding are not the constant: near borders only the mean is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tinygen import ops
from tinygen.channels import ChannelGroup
from tinygen.graph import Array, Graph, Origin
from tinygen.heavy import import_keras
from tinygen.ops.tensors import tensorflow
from tinygen.pruning.readers import Reader, readers
from tinygen.pruning.statistics import Statistics
from tinygen.pruning.surgery import Json, layers_of, remove

Verdict = Literal["exact", "mean"]
CONSTANT = 1e-6
"""Largest range of a constant channel, and of what its folding leaves, relative to the tensor's largest value."""


@dataclass(frozen=True)
class Shares:
    """What a reader's bias gains when channels go. bias: its name.

    gain: (read indices, outputs) mean contribution; uneven: (read indices,) largest difference between what a pixel
    sees and the gain, for a constant channel, relative to the largest output.
    """

    reader: Reader
    bias: str
    gain: Array
    uneven: Array


def shares(graph: Graph, groups: Sequence[ChannelGroup], found: Statistics) -> tuple[Shares, ...]:
    """Of every reader."""
    return tuple(_shares(reader, found) for reader in readers(graph, groups))


def _shares(reader: Reader, found: Statistics) -> Shares:
    """Gradients by the weights tell how much of each channel an output sees on average at each tap."""
    b = reader.b
    seen = _seen(reader, found[b.inputs[0].name].image)
    mean = _everywhere(reader, found[b.inputs[0].name].mean)
    output = ops.get(b.node.op).output_axis
    assert output is not None
    weights = np.asarray(b.inputs[1].data, np.float64)
    gain = _summed(weights * seen, reader.axis, output)
    ragged = _summed(np.abs(weights * (seen - mean)), reader.axis, output).max(axis=1)
    statistics = found[b.output.name]
    size = max(float(statistics.peak.max()), 1e-30)
    return Shares(reader, b.inputs[2].name, gain, ragged / size)


def _seen(reader: Reader, image: Array) -> Array:
    """Like the weights: the mean over output positions of what each of them multiplies."""
    tf, b = tensorflow(), reader.b
    weights, bias = (tf.constant(t.data) for t in b.inputs[1:3])
    node = replace(b, node=replace(b.node, attrs=replace(b.attrs, activation="none")))
    with tf.GradientTape() as tape:
        tape.watch(weights)
        x = tf.constant(np.asarray(image, np.float32)[np.newaxis])
        made = ops.get(b.node.op).differentiable(node, [x, weights, bias])
        total = tf.reduce_sum(tf.reduce_mean(tf.reshape(made, (-1, made.shape[-1])), axis=0))
    return np.asarray(tape.gradient(total, weights), np.float64)


def _everywhere(reader: Reader, means: Array) -> Array:
    """Like the weights: the channel means that they multiply where nothing is padded."""
    b = reader.b
    weights = b.inputs[1]
    depth, outputs = weights.shape[reader.axis], ops.get(b.node.op).output_axis
    assert outputs is not None
    parts = len(means) // depth  # groups of a grouped convolution
    per_output = np.repeat(means.reshape(parts, depth), weights.shape[outputs] // parts, axis=0)
    shape = [1] * len(weights.shape)
    shape[outputs], shape[reader.axis] = per_output.shape
    ordered = per_output if outputs < reader.axis else per_output.T
    return np.broadcast_to(ordered.reshape(shape), weights.shape)


def _summed(values: Array, axis: int, output: int) -> Array:
    """(read indices, outputs): summed over all other axes of weights."""
    moved = np.moveaxis(values, (axis, output), (0, -1))
    return np.asarray(moved.reshape(moved.shape[0], -1, moved.shape[-1]).sum(axis=1))


# ---- constants


def verdicts(graph: Graph, groups: Sequence[ChannelGroup], found: Statistics) -> tuple[Verdict, ...]:
    """Per group: "exact" where its removal changes nothing on these samples beyond float rounding."""
    exact = np.array([group.removable for group in groups] + [False])
    for share in shares(graph, groups, found):
        statistics = found[share.reader.b.inputs[0].name]
        scale = max(float(statistics.peak.max()), 1e-30)
        moving = statistics.high - statistics.low > CONSTANT * scale
        exact[share.reader.channels[moving]] = False
        exact[share.reader.owner[share.uneven > CONSTANT]] = False
    return tuple("exact" if yes else "mean" for yes in exact[:-1])


def constant_groups(graph: Graph, groups: Sequence[ChannelGroup], found: Statistics) -> tuple[int, ...]:
    """Indices of the groups that can go without a change; at least one channel of every tensor stays."""
    chosen: list[int] = []
    left = {name: list(t.shape) for name, t in graph.tensors.items()}
    for number, verdict in enumerate(verdicts(graph, groups, found)):
        parts = (*groups[number].activations, *groups[number].constants)
        if verdict == "exact" and all(left[p.tensor][p.axis] > len(p.indices) for p in parts):
            for p in parts:
                left[p.tensor][p.axis] -= len(p.indices)
            chosen.append(number)
    return tuple(chosen)


# ---- biases


def biases(
    graph: Graph, groups: Sequence[ChannelGroup], chosen: Iterable[int], found: Statistics
) -> Mapping[str, Array]:
    """Bias constant -> its values with the means of the chosen groups folded in; calls of one layer share a bias."""
    gone = np.zeros(len(groups) + 1)
    gone[list(chosen)] = 1
    gains = {share.bias: gone[share.reader.owner] @ share.gain for share in shares(graph, groups, found)}
    shared = {name: names for names in graph.origins.values() for name in names}
    return {
        name: np.asarray(graph.tensors[name].data, np.float64)
        + np.mean([gains[other] for other in shared.get(name, (name,))], axis=0)
        for name in gains
        if any(gains[other].any() for other in shared.get(name, (name,)))
    }


def folded(graph: Graph, groups: Sequence[ChannelGroup], chosen: Iterable[int], found: Statistics) -> Graph:
    """The graph with the biases of `biases`; no channel is removed yet."""
    tensors = dict(graph.tensors)
    for name, values in biases(graph, groups, chosen, found).items():
        tensors[name] = replace(tensors[name], data=values.astype(np.float32))
    return graph.evolve(tensors=tensors)


def fold(
    model: Any, graph: Graph, groups: Sequence[ChannelGroup], chosen: Iterable[int], found: Statistics
) -> Any:
    """surgery.remove of the chosen groups (indices) with their means folded into the biases; a new keras.Model.

    Layers without a bias get one where it is not 0. Raises ModelError as surgery.remove does.
    """
    chosen = sorted(chosen)
    new = biases(graph, groups, chosen, found)
    paths = {origin[:-1]: new[names[0]] for origin, names in graph.origins.items() if names[0] in new}
    return remove(_biased(model, paths), graph, [groups[i] for i in chosen])


def _biased(model: Any, new: Mapping[Origin, Array]) -> Any:
    """A copy of the model with these biases, by the path of their layers."""
    saving = import_keras().saving
    entry = saving.serialize_keras_object(model)
    _edit(entry, (), new)
    copy = saving.deserialize_keras_object(entry)
    originals = dict(layers_of(model, ()))
    for path, layer in layers_of(copy, ()):
        own = {variable.name: variable for variable in layer.weights} if path in new else {}
        for number, variable in enumerate(originals[path].weights):
            (own[variable.name] if own else layer.weights[number]).assign(variable)
        if path in new:
            layer.bias.assign(new[path].astype(np.float32))
        getattr(
            layer, "finalize_state", lambda: None
        )()  # Normalization computes with copies of its variables
    return copy


def _edit(entry: Json, path: Origin, new: Mapping[Origin, Array]) -> None:
    """Let the layers at these paths have a bias; in place."""
    entry.pop("compile_config", None)
    config = entry["config"]
    inside = [config["layer"]] if entry["class_name"] == "TimeDistributed" else config.get("layers", ())
    for inner in inside:
        _edit(inner, (*path, str(inner.get("name") or inner["config"]["name"])), new)
    if path in new:
        config["use_bias"] = True
