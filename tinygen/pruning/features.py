"""Hidden layers of a pruned model beside the original's: each channel that is left has its counterpart there.

Few samples teach more when every layer is told what it should compute, not the outputs alone (Romero et al. 2015,
FitNets). No adapters are needed: pruning keeps channels, it does not mix them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import heads
from tinygen.pruning.refitting import WINDOWED, matched

LOOKED_AT = 64
"""Samples that tell which channel is which."""
QUIET = 1e-6
"""Channels whose variance is a smaller share of their layer's largest do not count."""
COMPARED = (*WINDOWED, "Dense", "BatchNormalization")


@dataclass(frozen=True)
class Pair:
    """A layer by its name. counterparts: which of the original's channels each of ours is (channels,); weights: what a
    squared error of each counts (channels,), 0 where the counterpart is not sure."""

    layer: str
    counterparts: Array
    weights: Array


def pairs_of(student: Any, teacher: Any, x: Sequence[Array]) -> tuple[Pair, ...]:
    """Layers of both that are called once, before their activations where a normalization stands between.

    x: float32 (N, *shape) per input. Layers are told by name, channels by correlation.
    """
    names = _names(student, teacher)
    chosen = np.linspace(0, len(x[0]) - 1, min(len(x[0]), LOOKED_AT)).round().astype(np.int64)
    batch = [np.asarray(a[chosen], np.float32) for a in x]
    both = [heads.outputs_of(_part(model, names), batch) if names else [] for model in (student, teacher)]
    hidden = [[_rows(values) for values in found[-len(names) :]] for found in both]
    return tuple(_pair(*triple) for triple in zip(names, *hidden, strict=True))


def parts_of(student: Any, teacher: Any, pairs: Sequence[Pair]) -> tuple[Any, Any]:
    """Both models with the pairs' layers as further outputs."""
    names = [pair.layer for pair in pairs]
    return (_part(student, names), _part(teacher, names)) if names else (student, teacher)


def distance(pairs: Sequence[Pair], ours: Sequence[Any], theirs: Sequence[Any]) -> Any:
    """Mean of squared errors over the variance of the original's channels, of what the layers compute of a batch."""
    import tensorflow as tf

    errors = [_error(*triple) for triple in zip(pairs, ours, theirs, strict=True)]
    return tf.add_n(errors) / len(errors) if errors else 0.0


def _error(pair: Pair, own: Any, known: Any) -> Any:
    """Of one layer. A product of matrices picks and scales the original's channels: gathering along the innermost axis
    takes longer than the layers themselves do."""
    import tensorflow as tf

    scales = np.sqrt(pair.weights)
    picks = np.zeros((known.shape[-1], len(scales)), np.float32)
    picks[pair.counterparts, np.arange(len(scales))] = scales
    wanted = tf.matmul(tf.reshape(known, (-1, len(picks))), picks)
    errors = tf.reshape(own, (-1, len(scales))) * scales - wanted
    return 2 * tf.nn.l2_loss(errors) / tf.cast(tf.size(errors), errors.dtype)


def _names(student: Any, teacher: Any) -> list[str]:
    originals: dict[str, Any] = {layer.name: layer for layer in teacher.layers}
    found: list[str] = []
    for layer in student.layers:
        original = originals.get(layer.name)
        alike = original is not None and type(original) is type(layer)
        if alike and _compares(student, layer) and _compares(teacher, original):
            found.append(layer.name)
    return found


def _compares(model: Any, layer: Any) -> bool:
    """True for a layer with channels of its own that is called once, is no output, and has no normalization behind."""
    calls = heads.calls_of(model, layer)
    if type(layer).__name__ not in COMPARED or len(calls) != 1:
        return False
    if any(calls[0].outputs[0] is output for output in model.outputs):
        return False
    readers = {type(node.operation).__name__ for node in layer._outbound_nodes}
    return readers != {"BatchNormalization"}


def _part(model: Any, names: Sequence[str]) -> Any:
    hidden = [heads.calls_of(model, model.get_layer(name))[0].outputs[0] for name in names]
    return import_keras().Model(model.inputs, [*model.outputs, *hidden])


def _rows(values: Any) -> Array:
    """(positions, channels)."""
    return np.asarray(values, np.float64).reshape(-1, values.shape[-1])


def _pair(name: str, ours: Array, theirs: Array) -> Pair:
    counterparts, sure = matched(ours, theirs)
    variance = theirs.var(axis=0)
    least = max(QUIET * float(variance.max()), 1e-12)
    heard = sure & (variance[counterparts] > least)
    weights = np.where(heard, 1 / np.maximum(variance[counterparts], least), 0.0)
    return Pair(name, counterparts, weights.astype(np.float32))
