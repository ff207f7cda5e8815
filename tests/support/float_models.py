"""Small Keras models for tests of float32 projects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinygen.graph import Array
from tinygen.heavy import import_keras


def net(outputs: int = 1) -> Any:
    """(6, 5, 2) -> classes; outputs 2: another input is joined and an open output of 7 elements given out."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(3)
    image = keras.Input((6, 5, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer="normal")(image)
    x = layers.DepthwiseConv2D(3, activation="gelu")(x)
    x = layers.MaxPooling2D(2)(layers.ZeroPadding2D(1)(x))
    x = layers.Flatten()(x)
    if outputs == 1:
        return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="net")
    meta = keras.Input((4,), name="meta")
    x = layers.Concatenate()([x, layers.Dense(5, activation="tanh")(meta)])
    scores, open_ = layers.Dense(3, activation="softmax")(x), layers.Dense(7, bias_initializer="normal")(x)
    return keras.Model([image, meta], [open_, scores], name="net")


def saved(model: Any, path: Path) -> Path:
    """The model's file."""
    model.save(path)
    return path


def samples_for(model: Any, count: int, seed: int = 1) -> dict[str, Array]:
    """Input name -> normal samples."""
    rng = np.random.default_rng(seed)
    return {i.name: rng.normal(size=(count, *i.shape[1:])).astype(np.float32) for i in model.inputs}
