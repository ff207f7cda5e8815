"""Channels that others can stand in for go first: the error of refitted readers, held to least squares itself."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tinygen.channels import groups
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import importance
from tinygen.pruning.readers import families
from tinygen.pruning.statistics import statistics
from tinygen.samples import Samples

pytestmark = pytest.mark.tensorflow
X = np.random.default_rng(0).normal(0.3, 1.0, (1500, 6)).astype(np.float32)


def net(normalized: bool = False) -> Any:
    """'a' of 8 channels: 5 is 2 doubled, 7 nearly the sum of 0 and 1."""
    keras = import_keras()
    keras.utils.set_random_seed(2)
    ly = keras.layers
    inputs = keras.Input((6,))
    y = ly.Dense(5, name="b")(ly.ReLU()(ly.Dense(8, name="a")(inputs)))
    y = ly.BatchNormalization(name="bn")(y) if normalized else y
    model = keras.Model(inputs, ly.Dense(3, name="c")(ly.ReLU()(y)))
    kernel, bias = (np.array(w) for w in model.get_layer("a").get_weights())
    kernel[:, 5], bias[5] = 2 * kernel[:, 2], 2 * bias[2]
    bias[[0, 1, 7]] = 4  # the ReLU lets all through
    kernel[:, 7], bias[7] = kernel[:, 0] + kernel[:, 1], 8.05
    model.get_layer("a").set_weights([kernel, bias])
    return model


def scored(model: Any) -> tuple[Array, Any]:
    graph = load_keras_model(model)
    found, samples = groups(graph), Samples((X,))
    scores = importance.scores("redundancy", model, graph, found, samples, statistics(graph, samples))
    return scores, families(graph, found)


def least_squares(model: Any, kept: list[int], factor: Array | float = 1.0) -> float:
    """Relative error of 'b' that is fitted anew to what is kept of 'a'."""
    kernel, bias = (np.asarray(w, np.float64) for w in model.get_layer("a").get_weights())
    a = np.maximum(X @ kernel + bias, 0)
    a -= a.mean(axis=0)
    wanted = a @ np.asarray(model.get_layer("b").get_weights()[0], np.float64) * factor
    fitted = a[:, kept] @ np.linalg.lstsq(a[:, kept], wanted, rcond=None)[0]
    return float(((wanted - fitted) ** 2).sum() / (wanted**2).sum())


def test_channels_that_others_can_stand_in_for_go_first() -> None:
    scores, own = scored(net())
    order = np.argsort(scores[list(own["a"])])
    assert (order[0] in (2, 5) and order[1] in (0, 1, 7)) or (order[1] in (2, 5) and order[0] in (0, 1, 7))
    assert max(np.sort(scores[list(own["a"])])[:2]) < 1e-3


@pytest.mark.parametrize("normalized", (False, True))
def test_the_score_is_what_least_squares_leaves(normalized: bool) -> None:
    """Normalizations behind count: their factors say what an error of a sum is worth."""
    model, factor = net(normalized), np.ones(5)
    if normalized:
        factor = np.array([5.0, 0.1, 1.0, 0.1, 2.0])
        bn = model.get_layer("bn")
        bn.gamma.assign(factor * np.sqrt(1 + bn.epsilon))
    scores, own = scored(model)
    values = scores[list(own["a"])]
    order = [int(i) for i in np.argsort(values)]
    for gone in range(1, 8):
        left = sorted(order[gone:])
        assert values[order[gone - 1]] == pytest.approx(
            least_squares(model, left, factor), rel=0.02, abs=2e-3
        )
    assert all(values[a] < values[b] for a, b in pairwise(order))
    assert max(values) == pytest.approx(1, abs=1e-3)


def test_a_layer_whose_readers_read_several_channels_of_a_group_keeps_its_activation_scores() -> None:
    keras = import_keras()
    ly = keras.layers
    inputs = keras.Input((6, 1))
    y = ly.Flatten()(ly.ReLU()(ly.Conv1D(4, 3, name="conv")(inputs)))
    model = keras.Model(inputs, ly.Dense(2)(y))
    graph, samples = load_keras_model(model), Samples((X[:, :, np.newaxis],))
    found, seen = groups(graph), statistics(graph, samples)
    both = [importance.scores(m, model, graph, found, samples, seen) for m in ("redundancy", "activation")]
    members = list(families(graph, found)["conv"])
    assert np.array_equal(both[0][members], both[1][members])
