"""Channel groups removed from Keras models: the smaller model computes what the original does without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygen
from benchmarks.real_models import REAL_MODELS, RealModel
from tests.fuzz.checks import keras_outputs
from tests.fuzz.generator import random_model
from tests.support.pruned import (
    ROUNDING,
    assert_equals_masked,
    check_model,
    choose,
    error,
    masked,
    random_inputs,
)
from tinygen import evaluate
from tinygen.channels import groups
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.frontend import load
from tinygen.frontend.keras import load_keras_model
from tinygen.heavy import import_keras
from tinygen.judge import Outcome
from tinygen.pruning.surgery import remove
from tinygen.samples import load_samples

SAVING = "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings(SAVING)]

FIRST, BATCHES, BATCH = 2_000_000, 6, 10
MODELS = [m for m in REAL_MODELS if m.file.endswith(".keras")]


@pytest.fixture(scope="module")
def keras() -> Any:
    return import_keras()


def headed(keras: Any, seed: int) -> Any:
    """A random model whose outputs are read by dense layers, so that few of its channels are outputs themselves."""
    keras.utils.set_random_seed(seed)
    body, layers = random_model(seed).model, keras.layers
    return keras.Model(
        body.inputs, [layers.Dense(2)(layers.Flatten()(y)) for y in body.outputs], name="headed"
    )


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_models_equal_their_masked_originals(keras: Any, batch: int) -> None:
    """The weights are as extreme as in tests/fuzz, where Keras and the graph may differ by 2e-3."""
    first = FIRST + batch * BATCH
    removed = [check_model(headed(keras, seed), [seed], 2e-3) for seed in range(first, first + BATCH)]
    assert sum(count > 0 for count in removed) >= BATCH // 2 and sum(removed) > 2 * BATCH


@pytest.mark.shared
@pytest.mark.parametrize("real", MODELS, ids=lambda m: m.name)
def test_real_models_equal_their_masked_originals(
    keras: Any, real: RealModel, shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data / "models" / real.file
    model, graph = keras.saving.load_model(path, compile=False), load(path).graph
    chosen = choose(graph, groups(graph), seed=1)
    x = load_samples(shared_data / real.eval, graph, real.options).head(4).x
    smaller = assert_equals_masked(model, graph, chosen, x)
    assert smaller.count_params() < 0.6 * model.count_params()
    smaller.save(tmp_path / "smaller.keras")
    opened = keras.saving.load_model(tmp_path / "smaller.keras", safe_mode=True)
    assert error(keras_outputs(opened, graph, x), keras_outputs(smaller, graph, x)) == 0.0


@pytest.mark.shared
@pytest.mark.arm
@pytest.mark.qemu
def test_a_smaller_model_compiles_and_runs(keras: Any, shared_data: Path, tmp_path: Path) -> None:
    real = next(m for m in MODELS if m.file == "cwru_cnn1d.keras")
    path = shared_data / "models" / real.file
    graph = load(path).graph
    smaller = remove(keras.saving.load_model(path), graph, choose(graph, groups(graph), seed=2))
    smaller.save(tmp_path / "smaller.keras")
    arena = []
    for name, file in (("whole", path), ("smaller", tmp_path / "smaller.keras")):
        build = tinygen.compile(
            file, representative=shared_data / real.train, samples=real.options, out=tmp_path / name
        )
        arena.append(build.compiled.plan.arena_bytes)
    assert arena[1] < arena[0]
    ran = tinygen.run(tmp_path / "smaller", inputs=shared_data / real.eval, emulator="unicorn", count=2)
    assert (ran.result.outcome, ran.result.detail) == (Outcome.PASSED, ran.result.detail)


# ---- what stays, what is refused


def small(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")], name="small"
    )


def test_names_options_and_the_original_stay(keras: Any) -> None:
    model = small(keras)
    model.compile("adam", "mse")
    model.get_layer("a").trainable = False
    graph = load_keras_model(model)
    found = [g for g in groups(graph) if g.removable]
    smaller = remove(model, graph, found[1:2])
    assert [layer.name for layer in smaller.layers] == ["a", "b"] and smaller.name == "small"
    assert not smaller.get_layer("a").trainable and not smaller.compiled
    np.testing.assert_array_equal(
        smaller.get_layer("a").kernel, np.asarray(model.get_layer("a").kernel)[:, [0, 2]]
    )
    np.testing.assert_array_equal(
        smaller.get_layer("b").kernel, np.asarray(model.get_layer("b").kernel)[[0, 2]]
    )
    unchanged = remove(model, graph, ())
    assert [w.shape for w in unchanged.get_weights()] == [w.shape for w in model.get_weights()]


def test_channels_that_must_stay_are_refused_by_name(keras: Any) -> None:
    model = small(keras)
    graph = load_keras_model(model)
    found = groups(graph)
    with pytest.raises(
        ModelError, match=r"channel 'b'\[1\] cannot be removed: 'b' is an output of the model"
    ):
        remove(model, graph, [g for g in found if g.activations[0].tensor == "b"][1:])
    with pytest.raises(ModelError, match="nothing would be left of 'a': all of its 3 channels were to go"):
        remove(model, graph, [g for g in found if g.removable])


def test_what_cannot_be_made_smaller_is_refused_by_name(keras: Any) -> None:
    model = small(keras)
    model.get_layer("a").enable_lora(1)
    graph = load_keras_model(model)
    with pytest.raises(
        UnsupportedLayerError, match=r"'a' \(Dense\) .* its channels cannot be removed from 'lora"
    ):
        remove(model, graph, [next(g for g in groups(graph) if g.removable)])


def test_a_layer_of_two_models_is_refused_by_name(keras: Any) -> None:
    layers = keras.layers
    x, y = keras.Input((4,)), keras.Input((4,))
    dense = layers.Dense(4, name="both")
    inner = keras.Model(x, layers.ReLU()(dense(x)), name="inner")
    model = keras.Model(y, layers.Dense(1)(inner(dense(y))))
    graph = load_keras_model(model)
    with pytest.raises(UnsupportedLayerError, match="it stands in two models, as 'both' and 'inner/both'"):
        remove(model, graph, ())


def test_a_model_of_two_models_is_refused_by_name(keras: Any) -> None:
    """Without weights, too: its input has as many channels as what it is called with."""
    layers = keras.layers
    x, y, z = keras.Input((4,)), keras.Input((4,)), keras.Input((4,))
    clip = keras.Sequential([keras.Input((4,), name="i"), layers.ReLU(name="r")], name="clip")
    inner = keras.Model(x, clip(layers.Dense(4, name="a")(x)), name="inner")
    other = keras.Model(z, clip(layers.Dense(4, name="b")(z)), name="other")
    model = keras.Model(y, layers.Dense(1)(other(inner(y))))
    with pytest.raises(UnsupportedLayerError, match=r"layer 'i' \(InputLayer\) .* it stands in two models"):
        remove(model, load_keras_model(model), ())


def test_the_graph_of_another_model_is_refused(keras: Any) -> None:
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="c")])
    with pytest.raises(ModelError, match="'a' is not in the graph"):
        remove(small(keras), load_keras_model(other), ())
    own = type("Own", (keras.Model,), {"call": lambda self, x: x})(name="own")
    with pytest.raises(ModelError, match="'own' is of the class Own"):
        remove(own, load_keras_model(other), ())


def test_the_comparison_can_fail(keras: Any) -> None:
    """Without the mask, or with another channel's, the outputs differ."""
    model = small(keras)
    graph = load_keras_model(model)
    found = [g for g in groups(graph) if g.removable]
    x = random_inputs(graph, 1)
    smaller = np.asarray(remove(model, graph, found[1:2])(x[0]))
    assert error([smaller], evaluate.real(masked(graph, found[1:2]), x)) < ROUNDING
    for wrong in ((), found[:1]):
        assert error([smaller], evaluate.real(masked(graph, wrong), x)) > 1e-2
