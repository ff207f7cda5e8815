"""More samples for an autoencoder than were given: what the original makes of codes between and beyond theirs.

The original has seen far more than the few samples at hand, and its decoder knows what that looked like: near the
outputs for other codes. What it did not reconstruct of one sample is added to another, as real samples have it, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import heads

BEYOND = 1.5
"""Largest share of two codes' difference that another one is moved by."""
MOST = 20_000
"""Samples made at most."""
BATCH = 1024


def imagined(autoencoder: Any, x: Array, count: int, seed: int) -> Array:
    """`count` samples (at most MOST) like x, float32 (N, *shape); none where the model is no chain of layers with a
    bottleneck. Deterministic for a seed."""
    model = heads.copied(autoencoder)  # calls of its layers would stay with the original's
    cut = bottleneck(model)
    if cut is None:
        return x[:0]
    generator, count = np.random.default_rng((seed, len(x))), min(count, MOST)
    one, other, start, rest = (generator.integers(len(x), size=count) for _ in range(4))
    (call,) = heads.calls_of(model, model.layers[cut])
    both = import_keras().Model(model.inputs, [call.outputs[0], model.outputs[0]])
    codes, outputs = both.predict(x, batch_size=BATCH, verbose=0)
    far = generator.uniform(0, BEYOND, (count, *(1,) * (codes.ndim - 1))).astype(np.float32)
    moved = codes[start] + far * (codes[one] - codes[other])
    decoded = _behind(model, cut).predict(moved, batch_size=BATCH, verbose=0)
    return np.asarray(decoded + (x - outputs)[rest], np.float32)


def bottleneck(model: Any) -> int | None:
    """Index of the first layer whose output has the fewest numbers, fewer than the input; None where layers do not
    follow one another in a chain."""
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    tensor, sizes = model.inputs[0], []
    for layer in layers:
        calls = heads.calls_of(model, layer)
        if len(calls) != 1 or [id(t) for t in calls[0].input_tensors] != [id(tensor)]:
            return None
        tensor = calls[0].outputs[0]
        sizes.append(int(np.prod(tensor.shape[1:])))
    if not sizes or min(sizes) >= np.prod(model.inputs[0].shape[1:]):
        return None
    return int(model.layers.index(layers[sizes.index(min(sizes))]))


def _behind(model: Any, cut: int) -> Any:
    """The layers behind one, as a model of its own (it shares them)."""
    keras = import_keras()
    (call,) = heads.calls_of(model, model.layers[cut])
    given = hidden = keras.Input(call.outputs[0].shape[1:])
    for layer in model.layers[cut + 1 :]:
        hidden = layer(hidden)
    return keras.Model(given, hidden)
