"""`tinygen demo`: trains a small CNN on scikit-learn digits, so that all other commands have something to eat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.errors import ToolError
from tinygen.graph import Array
from tinygen.heavy import import_keras

EVAL_SAMPLES = 360
"""Every fifth of the 1,797 digits is kept back for evaluation."""


@dataclass(frozen=True)
class DemoFiles:
    """What the demo trained and where: a Keras model, its representative dataset and its labelled evaluation set."""

    model: Path
    representative: Path
    eval: Path


def digits() -> tuple[Array, Array, Array, Array]:
    """(train x, train y, eval x, eval y): 8 x 8 grey images (N, 8, 8, 1) of 0..16 as uint8, labels 0..9."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ToolError("the demo needs scikit-learn for its images\n  pip install scikit-learn") from None
    data = load_digits()
    x, y = data.images[..., np.newaxis].astype(np.uint8), data.target.astype(np.uint8)
    held = np.arange(len(x)) % 5 == 0
    return x[~held], y[~held], x[held][:EVAL_SAMPLES], y[held][:EVAL_SAMPLES]


def build_model() -> Any:
    """A CNN of about 3,000 weights with what real networks have: BatchNorm, depthwise, residual add, pooling."""
    keras = import_keras()
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Rescaling(1 / 16.0)(inputs)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.Conv2D(16, 1, name="pointwise")(y)
    x = layers.ReLU()(layers.Add(name="residual")([x, y]))
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(24, 3, activation="relu", name="head")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="digit")(x), name="digits")


def train(folder: Path, epochs: int = 20) -> DemoFiles:
    """Train and write model and data below `folder` (created if missing)."""
    keras = import_keras()
    train_x, train_y, eval_x, eval_y = digits()
    keras.utils.set_random_seed(7)
    model = build_model()
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(train_x, train_y, batch_size=32, epochs=epochs, verbose=0)
    folder.mkdir(parents=True, exist_ok=True)
    files = DemoFiles(folder / "digits.keras", folder / "digits_train.npz", folder / "digits_eval.npz")
    model.save(files.model)
    np.savez(files.representative, x=train_x, y=train_y)
    np.savez(files.eval, x=eval_x, y=eval_y)
    return files
