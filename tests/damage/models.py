"""The healthy models that are damaged: small, with several operators, in each Keras format."""

from __future__ import annotations

import logging
from pathlib import Path

from tinygen.heavy import import_keras


def write(folder: Path) -> None:
    """model.keras and model.h5 of one small residual network, input (8, 8, 2)."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(5)
    inputs = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x), name="small")
    model.save(folder / "model.keras")
    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras advises against .h5: users own such files
    model.save(folder / "model.h5")
