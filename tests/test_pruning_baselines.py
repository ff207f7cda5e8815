"""The baselines of pruning: smallest filters of every layer go, and a net as narrow with weights drawn anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.pruning_baselines import (
    from_scratch,
    magnitude,
    narrower,
    pruned_uniformly,
    ratio_for,
    uniform,
)
from tinygen.channels import groups
from tinygen.frontend.keras import load_keras_model
from tinygen.heavy import import_keras
from tinygen.pruning.distillation import Options
from tinygen.samples import Samples

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def model() -> Any:
    keras = import_keras()
    keras.utils.set_random_seed(4)
    layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(8, activation="relu")]
    return keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(3, activation="softmax")])


def test_the_smallest_filters_of_every_layer_go(model: Any) -> None:
    graph = load_keras_model(model)
    gone = list(uniform(graph, 0.5))
    smaller = pruned_uniformly(model, graph, 0.5)
    assert [layer.units for layer in smaller.layers] == [8, 4, 3]
    norms = np.abs(model.layers[0].get_weights()[0]).sum(axis=0)
    kept = np.sort(np.argsort(norms)[8:])
    np.testing.assert_array_equal(
        smaller.layers[0].get_weights()[0], model.layers[0].get_weights()[0][:, kept]
    )
    stay = [g for g in groups(graph) if g.removable and g not in gone]
    assert min(magnitude(graph, g) for g in stay[:8]) >= max(magnitude(graph, g) for g in gone[:8])
    assert ratio_for(graph, lambda chosen: len(chosen) >= 12) == pytest.approx(0.5, abs=0.04)
    assert ratio_for(graph, lambda chosen: False) == 1


def test_a_narrower_net_learns_from_scratch(model: Any) -> None:
    graph = load_keras_model(model)
    fresh = narrower(model, graph, 0.5)
    assert [layer.units for layer in fresh.layers] == [8, 4, 3]
    pruned = pruned_uniformly(model, graph, 0.5)
    assert not np.array_equal(fresh.layers[0].get_weights()[0], pruned.layers[0].get_weights()[0])
    rng = np.random.default_rng(0)
    fit, held = (
        Samples((x,), x[:, :3].argmax(axis=1))
        for x in (rng.normal(size=(n, 6)).astype(np.float32) for n in (300, 100))
    )
    trained = from_scratch(model, graph, 0.5, fit, held, Options(epochs=20, rate=1e-2))
    assert trained.loss < 0.8 * trained.history[0].held_out
