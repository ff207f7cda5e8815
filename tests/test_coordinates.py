"""Training coordinates: the same model in other numbers, there and back, and what learning in them is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinygen.channels import groups
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import heads
from tinygen.pruning.coordinates import Coordinates, coordinates_of
from tinygen.pruning.distillation import Options, train
from tinygen.pruning.readers import families
from tinygen.pruning.surgery import remove

pytestmark = pytest.mark.tensorflow


def decibels(count: int, seed: int) -> Array:
    """(count, 12) numbers far from 0, each feature with a spread of its own, that lie near 3 directions."""
    generator = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(3, 12))
    x = generator.normal(size=(count, 3)) @ directions + 0.1 * generator.normal(size=(count, 12))
    return np.asarray(x * np.geomspace(0.3, 30, 12) - 60, np.float32)


def autoencoder(x: Array, use_bias: bool = True) -> Any:
    """Dense, normalization, ReLU; a bottleneck; its statistics are those of x, its gammas and betas any."""
    keras = import_keras()
    keras.utils.set_random_seed(3)
    ly = keras.layers
    y = inputs = keras.Input((12,))
    for number, width in enumerate((16, 4, 16)):
        y = ly.Dense(width, use_bias=use_bias or number == 0)(y)
        y = ly.ReLU()(ly.BatchNormalization(momentum=0.0)(y))
    model = keras.Model(inputs, ly.Dense(12)(y))
    for _ in range(3):
        model(x, training=True)
    generator = np.random.default_rng(1)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            size = layer.gamma.shape
            layer.gamma.assign(generator.uniform(0.5, 2, size) * generator.choice((-1, 1), size))
            layer.beta.assign(generator.normal(size=size))
    return model


def distance(a: Any, b: Any) -> float:
    a, b = np.asarray(a), np.asarray(b)
    return float(np.abs(a - b).max() / np.abs(b).max())


def pruned(model: Any) -> Any:
    """A third of the channels of each layer but the bottleneck gone."""
    graph = load_keras_model(model)
    found = groups(graph)
    wide = [members for members in families(graph, found).values() if len(members) == 16]
    return remove(model, graph, [found[i] for members in wide for i in members[:5]])


@pytest.mark.parametrize("use_bias", (True, False))
def test_the_model_computes_the_same_in_its_training_coordinates_and_comes_back(use_bias: bool) -> None:
    x = decibels(256, 1)
    model = autoencoder(x, use_bias)
    twin, _ = heads.twin(model)
    coordinates = coordinates_of(twin, (x,))
    assert (len(coordinates.inputs), len(coordinates.absorbed)) == (1, 3)
    own = heads.weights_of(model)
    there = coordinates.there(own)
    heads.assign(twin, there)
    assert distance(heads.outputs_of(twin, coordinates.read([x]))[0], model(x)) < 1e-4
    for before, back in zip(own, coordinates.back(there), strict=True):
        assert np.allclose(before, back, rtol=1e-4, atol=1e-3)
    read = np.asarray(coordinates.read([x])[0])
    assert np.allclose(read.mean(axis=0), 0, atol=1e-3) and np.allclose(read.std(axis=0), 1, atol=1e-3)


def test_frozen_normalizations_leave_what_learns_and_the_order_of_weights() -> None:
    x = decibels(64, 1)
    twin, _ = heads.twin(autoencoder(x))
    names = [w.path for w in twin.weights]
    coordinates_of(twin, (x,))
    assert [w.path for w in twin.weights] == names
    assert not [w.path for w in twin.trainable_variables if "gamma" in w.path]


def test_what_cannot_be_taken_back_stays() -> None:
    """An input that is also read as it is; a layer that two read; a normalization that sees batches."""
    keras = import_keras()
    ly = keras.layers
    inputs = keras.Input((12,))
    hidden = ly.Dense(12)(inputs)
    outputs = ly.Add()([ly.BatchNormalization()(hidden), hidden, inputs])
    model, x = keras.Model(inputs, outputs), decibels(32, 1)
    assert coordinates_of(model, (x,)) == Coordinates()
    assert not coordinates_of(autoencoder(x), (x,), statistics_kept=False).absorbed


def test_in_scaled_coordinates_units_do_not_matter() -> None:
    """The same model for inputs in other units, and with other kernels in front of a normalization, learns alike."""
    x, held = decibels(256, 1), decibels(64, 2)
    teacher = autoencoder(x)
    other = heads.copied(teacher)
    first, norm = other.layers[1], other.layers[2]
    kernel, bias = (np.asarray(w, np.float64) for w in first.get_weights())
    first.set_weights([30 * kernel / 0.02, 30 * (bias - 3 / 0.02 * kernel.sum(axis=0))])
    norm.moving_mean.assign(30 * norm.moving_mean)
    norm.moving_variance.assign(900 * norm.moving_variance + 899 * norm.epsilon)
    found: dict[str, list[float]] = {}
    for which in ("own", "scaled"):
        options = Options(
            epochs=4, batch=32, rate=1e-3, optimizer="muon", coordinates=which, augment=(), refit=False
        )
        trained = [
            train(pruned(teacher), teacher, (x,), (held,), options),
            train(pruned(other), other, (0.02 * x + 3,), (0.02 * held + 3,), options),
        ]
        assert trained[0].given == pytest.approx(trained[1].given, rel=1e-2)
        found[which] = [t.loss for t in trained]
    assert found["scaled"][0] == pytest.approx(found["scaled"][1], rel=0.02)
    assert abs(np.log(found["own"][0] / found["own"][1])) > 0.1
    again, wanted = (np.asarray(heads.outputs_of(m, [0.02 * held + 3])[0]) for m in (trained[1].model, other))
    error = np.mean((again - wanted) ** 2) / wanted.var(axis=0).mean()
    assert error == pytest.approx(found["scaled"][1], rel=1e-2)  # what was trained is what is given back
