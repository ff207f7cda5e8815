"""Batch statistics after pruning: the means and variances of batch normalizations, measured anew. No training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.graph import Array
from tinygen.pruning import heads

MAX_BYTES = 2**30
"""Of the largest activation of all samples together, as float32: they are computed at once."""


def reestimate(model: Any, x: Sequence[Array]) -> Any:
    """A copy of the model whose batch normalizations hold the exact mean and variance of their inputs over x.

    x: float32 (N, *shape) per input; evenly spaced samples of it where MAX_BYTES does not hold all. Each
    normalization sees what the ones before it make of their new statistics. Of a layer that is called twice, the last
    call counts. Raises ModelError where the model cannot be copied.
    """
    copy = heads.copied(model)
    twin, _ = heads.twin(model)
    batch = prepare(twin, x)
    if batch:
        pass_of(twin)(batch)
        heads.assign(copy, heads.weights_of(twin))
    return copy


def prepare(twin: Any, x: Sequence[Array], most: int = 2**31) -> list[Array]:
    """Let each pass with training=True leave the statistics of its batch. Returns the samples for that, at most
    `most` and what memory holds; none where nothing is normalized by batches."""
    layers = list(twin._flatten_layers())
    normalizations = [layer for layer in layers if type(layer).__name__ == "BatchNormalization"]
    for normalization in normalizations:
        normalization.momentum = 0.0  # all of the new, nothing of the old
    if not normalizations:
        return []
    shapes = [t.shape[1:] for layer in layers for node in layer._inbound_nodes for t in node.outputs]
    largest = max(math.prod(size or 1 for size in shape) for shape in shapes)
    count = min(len(x[0]), most, max(1, MAX_BYTES // (4 * largest)))
    chosen = np.linspace(0, len(x[0]) - 1, count).round().astype(np.int64)
    return [np.asarray(a[chosen], np.float32) for a in x]


def pass_of(twin: Any) -> Any:
    """A compiled pass of a batch [(N, *shape) per input] through a prepared twin."""
    import tensorflow as tf

    return tf.function(lambda inputs: heads.outputs_of(twin, inputs, training=True), autograph=False)
