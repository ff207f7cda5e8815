"""Weights solved for again after channels went: what the rest can make up for is made up for."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from tinygen.channels import groups
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import heads
from tinygen.pruning.refitting import aligned, matched, refit
from tinygen.pruning.surgery import remove

pytestmark = pytest.mark.tensorflow


def layer(kind: str, **more: Any) -> Any:
    layers = import_keras().layers
    if kind == "dense":
        return layers.Dense(5, name="reader", **more)
    depthwise = kind.startswith("depthwise")
    make = getattr(layers, kind.removeprefix("depthwise_") if not depthwise else "DepthwiseConv2D")
    return make(3, name="reader", **more) if depthwise else make(5, 3, name="reader", **more)


def redundant(kind: str, **more: Any) -> Any:
    """A net whose first layer computes each of its 4 channels twice; `reader` reads all 8."""
    keras = import_keras()
    keras.utils.set_random_seed(3)
    one_axis, dense = kind == "Conv1D", kind == "dense"
    shape = (6,) if dense else (12, 3) if one_axis else (9, 8, 3)
    first = (
        keras.layers.Dense(8) if dense else getattr(keras.layers, "Conv1D" if one_axis else "Conv2D")(8, 1)
    )
    inputs = keras.Input(shape)
    x = keras.layers.ReLU()(first(inputs))
    x = keras.layers.BatchNormalization()(x)
    x = layer(kind, **more)(x)
    x = x if dense else keras.layers.Flatten()(keras.layers.ReLU()(x))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    kernel, bias = first.get_weights()
    kernel[..., 4:] = kernel[..., :4]
    first.set_weights([kernel, bias + 0.1])
    return model


def data(model: Any, count: int = 300, seed: int = 0) -> Array:
    shape = model.inputs[0].shape[1:]
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def without_doubles(model: Any) -> Any:
    graph = load_keras_model(model)
    doubles = [
        group
        for group in groups(graph)
        if group.removable and any(s.indices == (i,) for s in group.activations[:1] for i in range(4, 8))
    ]
    return remove(model, graph, doubles[:4])


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("dense", {}),
        ("dense", {"use_bias": False}),
        ("Conv1D", {"padding": "same", "strides": 2}),
        ("Conv1D", {"dilation_rate": 2, "use_bias": False}),
        ("Conv2D", {"padding": "same", "strides": (2, 1), "activation": "relu"}),
        ("Conv2D", {"padding": "valid", "strides": 2}),
    ],
)
def test_doubled_channels_are_not_missed(kind: str, more: dict[str, Any]) -> None:
    model = redundant(kind, **more)
    smaller = without_doubles(model)
    fitted = refit(smaller, model, (data(model),))
    x = data(model, 50, 1)
    wanted = np.asarray(model(x))
    before, after = (
        float(np.mean((np.asarray(m(x)) - wanted) ** 2) / wanted.var()) for m in (smaller, fitted)
    )
    assert before > 0.1
    assert after < 1e-3
    again = refit(smaller, model, (data(model),))
    for a, b in zip(heads.weights_of(fitted), heads.weights_of(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_that_lost_nothing_keeps_its_weights() -> None:
    model = redundant("depthwise_conv", padding="same")
    fitted = refit(model, model, (data(model),))
    for a, b in zip(heads.weights_of(model), heads.weights_of(fitted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_depthwise_layer_makes_up_for_inputs_that_are_half_as_large() -> None:
    model = redundant("depthwise_conv", padding="same", strides=2)
    smaller = heads.copied(model)
    weights = heads.weights_of(smaller)
    weights[0] *= 0.5
    weights[1] *= 0.5
    for v, values in zip(smaller.weights, weights, strict=True):
        v.assign(values)
    x = data(model, 50, 1)
    wanted = np.asarray(model(x))
    assert np.mean((np.asarray(smaller(x)) - wanted) ** 2) / wanted.var() > 0.1
    fitted = refit(smaller, model, (data(model),))
    assert np.mean((np.asarray(fitted(x)) - wanted) ** 2) / wanted.var() < 1e-3


def test_a_sequential_model_is_refitted_as_the_same_functional_one_is() -> None:
    """Layers of a Sequential remember calls of models that are gone."""
    model = redundant("Conv2D", padding="same")
    keras = import_keras()
    chain = keras.Sequential([keras.Input(model.inputs[0].shape[1:])])
    for one in heads.copied(model).layers[1:]:
        chain.add(one)
    assert any(len(one._inbound_nodes) > 1 for one in chain.layers)
    fitted = [refit(without_doubles(m), m, (data(m),)) for m in (model, chain)]
    for a, b in zip(heads.weights_of(fitted[0]), heads.weights_of(fitted[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    x = data(model, 50, 1)
    assert np.mean((np.asarray(fitted[1](x)) - np.asarray(model(x))) ** 2) < 1e-3 * np.asarray(model(x)).var()


def test_channels_are_told_apart_by_their_order_where_several_do_much_the_same() -> None:
    """The second of ours is most like the first of theirs, which the first of ours is already."""
    signals = np.random.default_rng(4).normal(size=(500, 3))
    mixes = np.array([[1.0, 0.0, 0.0], [0.9, 0.4, 0.0], [0.0, 0.0, 1.0]])
    wanted = signals @ mixes.T
    have = signals @ np.array([[1.0, 0.0, 0.0], [0.95, 0.15, 0.0]]).T
    alone = np.corrcoef(have.T, wanted.T)[:2, 2:].argmax(axis=1)
    assert alone.tolist() == [0, 0]
    counterpart, sure = matched(have, wanted)
    assert counterpart.tolist() == [0, 1] and sure.all()


@pytest.mark.parametrize("ours", (1, 3, 5))
def test_of_all_orders_the_likest_is_found(ours: int) -> None:
    correlation = np.random.default_rng(ours).uniform(-1, 1, (ours, 7))
    choices = [list(c) for c in combinations(range(7), ours)]
    best = max(choices, key=lambda c: correlation[np.arange(ours), c].sum())
    assert aligned(correlation).tolist() == best
