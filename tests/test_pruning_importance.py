"""Statistics, scores, folding and masks of channel groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.datasets import BY_NAME
from tests.fuzz.generator import random_model
from tests.support.pruned import choose, error, masked, random_inputs
from tests.support.pruned_models import CASES
from tinygen import evaluate, ops
from tinygen.channels import groups
from tinygen.errors import UsageError
from tinygen.frontend.keras import load_keras_model, open_keras
from tinygen.heavy import import_keras
from tinygen.pruning import folding, heads, importance, judging, removals
from tinygen.pruning.judging import make_judge
from tinygen.pruning.masks import Masks
from tinygen.pruning.readers import families
from tinygen.pruning.setting import answers
from tinygen.pruning.statistics import conditions_of, statistics
from tinygen.samples import Samples

SAVING = "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings(SAVING)]

FIRST = 3_000_000
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def keras() -> Any:
    return import_keras()


def headed(keras: Any, seed: int) -> Any:
    keras.utils.set_random_seed(seed)
    body, layers = random_model(seed).model, keras.layers
    return keras.Model(body.inputs, [layers.Dense(2)(layers.Flatten()(y)) for y in body.outputs])


def net(keras: Any, padding: str = "valid", use_bias: bool = True) -> Any:
    """Convolution, normalization, ReLU, depthwise, ReLU, and a reader of the padding asked for."""
    keras.utils.set_random_seed(1)
    ly = keras.layers
    x = keras.Input((7, 6, 2), name="x")
    y = ly.ReLU(name="r")(ly.BatchNormalization(name="bn")(ly.Conv2D(6, 3, name="a")(x)))
    y = ly.ReLU(name="s")(
        ly.DepthwiseConv2D(2, name="dw", bias_initializer=keras.initializers.Constant(4))(y)
    )
    y = ly.Conv2D(3, 3, padding=padding, use_bias=use_bias, name="b")(y)
    return keras.Model(x, ly.Dense(2, name="head")(ly.Flatten()(ly.ReLU()(y))))


def kill(model: Any, channels: list[int]) -> None:
    """Let these channels of 'a' be 0 behind their ReLU, whatever comes in."""
    bn = model.get_layer("bn")
    gamma, beta = np.array(bn.gamma), np.array(bn.beta)
    gamma[channels], beta[channels] = 0, -1
    bn.gamma.assign(gamma)
    bn.beta.assign(beta)


def tried_alone(masks: Masks, judge: Any, scores: Any, members: Any) -> float:
    """Loss with a fifth of one family gone."""
    count = max(1, round(0.2 * len(members)))
    return masks.loss(sorted(members, key=lambda i: float(scores[i]))[:count], judge)


def random_samples(graph: Any, count: int = 40) -> Samples:
    return Samples(tuple(random_inputs(graph, 5, count)))


@pytest.mark.parametrize("batch", range(2))
def test_masks_equal_folded_models(keras: Any, batch: int) -> None:
    """Random models, as extreme as in tests/fuzz, where Keras and the graph may differ by 2e-3."""
    removed = 0
    for seed in range(FIRST + 8 * batch, FIRST + 8 * batch + 8):
        model = headed(keras, seed)
        graph = load_keras_model(model)
        found, samples = groups(graph), random_samples(graph, 8)
        chosen = [found.index(g) for g in choose(graph, found, seed)]
        stats = statistics(graph, samples)
        smaller = load_keras_model(folding.fold(model, graph, found, chosen, stats))
        got = Masks(graph, found, stats).outputs(chosen, samples.x)
        assert error(got, evaluate.real(smaller, samples.x)) < 2e-3
        removed += len(chosen)
    assert removed > 20


def test_masks_without_means_equal_plain_removal(keras: Any) -> None:
    graph = load_keras_model(net(keras))
    found, samples = groups(graph), random_samples(graph)
    stats = statistics(graph, samples)
    gone = families(graph, found)["a"][1:4]
    zeroed = Masks(graph, found, stats, mean=False).outputs(gone, samples.x)
    assert error(zeroed, evaluate.real(masked(graph, [found[i] for i in gone]), samples.x)) < ROUNDING
    assert error(zeroed, Masks(graph, found, stats).outputs(gone, samples.x)) > 1e-3


@pytest.mark.parametrize("use_bias", (True, False))
def test_dead_channels_fold_exactly(keras: Any, use_bias: bool) -> None:
    """The depthwise bias makes them 4: exact behind valid padding, with a bias added where there was none."""
    model = net(keras, "valid", use_bias)
    kill(model, [1, 4])
    graph = load_keras_model(model)
    found, samples = groups(graph), random_samples(graph)
    stats = statistics(graph, samples)
    own = families(graph, found)["a"]
    constant = tuple(i for i in folding.constant_groups(graph, found, stats) if i in own)
    assert constant == (own[1], own[4])
    smaller = folding.fold(model, graph, found, constant, stats)
    other = random_inputs(graph, 99, 9)
    assert error(heads.outputs_of(smaller, other), heads.outputs_of(model, other)) < ROUNDING
    plain = folding.remove(model, graph, [found[i] for i in constant])
    assert error(heads.outputs_of(plain, other), heads.outputs_of(model, other)) > 100 * ROUNDING


def test_constants_at_padded_borders_are_only_means(keras: Any) -> None:
    model = net(keras, "same")
    kill(model, [1])
    graph = load_keras_model(model)
    found = groups(graph)
    stats = statistics(graph, random_samples(graph))
    own = families(graph, found)["a"]
    assert folding.verdicts(graph, found, stats)[own[1]] == "mean"
    assert not set(own) & set(folding.constant_groups(graph, found, stats))
    model.get_layer("dw").bias.assign(np.zeros(6, np.float32))  # then they are 0, as padding is
    graph = load_keras_model(model)
    constant = folding.constant_groups(graph, found, statistics(graph, random_samples(graph)))
    assert set(own) & set(constant) == {own[1]}


def test_a_folded_mean_keeps_the_mean_behind(keras: Any) -> None:
    """Borders counted: what the reader gives keeps its mean over samples and pixels."""
    model = net(keras, "same")
    graph = load_keras_model(model)
    found, samples = groups(graph), random_samples(graph)
    stats = statistics(graph, samples)
    gone = families(graph, found)["a"][:3]
    smaller = load_keras_model(folding.fold(model, graph, found, gone, stats))
    after = statistics(smaller, samples)
    np.testing.assert_allclose(after["b"].mean, stats["b"].mean, atol=1e-5)


def test_the_worst_condition_decides(keras: Any) -> None:
    """A channel that only one class of samples moves is as loud as in that class."""
    ly = keras.layers
    x = keras.Input((2,), name="x")
    model = keras.Model(x, ly.Dense(1, name="h")(ly.Dense(2, name="a", activation="relu")(x)))
    model.set_weights(
        [np.eye(2, dtype=np.float32), np.zeros(2, np.float32), np.ones((2, 1), np.float32), np.zeros(1)]
    )
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(100, 2)).astype(np.float32)
    inputs[:90, 1], y = 0, np.repeat([0, 1], [90, 10])
    graph = load_keras_model(model)
    found = groups(graph)
    samples = Samples((inputs,), y)
    stats = statistics(graph, samples)
    own = families(graph, found)["a"]
    worst = stats["a/relu"].variance
    assert worst[1, 1] > 5 * worst[0, 1] and stats["a/relu"].left[1] == worst[1, 1]
    assert stats["a/relu"].zeros[0, 1] == 1.0
    blind = statistics(graph, samples, np.zeros(100, np.int64))
    by_class = importance.scores("activation", model, graph, found, samples, stats)
    by_all = importance.scores("activation", model, graph, found, samples, blind)
    assert by_class[own[1]] / by_class[own[0]] > 2 * by_all[own[1]] / by_all[own[0]]


def test_channels_near_zero_in_every_condition_are_told(keras: Any) -> None:
    """One that a single condition moves is not among them; where it is folded away, the log says so, too."""
    ly = keras.layers
    x = keras.Input((4,), name="x")
    model = keras.Model(x, ly.Dense(1, name="h")(ly.Dense(4, name="a", activation="relu")(x)))
    model.set_weights(
        [np.eye(4, dtype=np.float32), np.zeros(4, np.float32), np.ones((4, 1), np.float32), np.zeros(1)]
    )
    inputs = np.abs(np.random.default_rng(0).normal(size=(100, 4))).astype(np.float32)
    inputs[:, 1] *= 1e-4
    inputs[:, 2], y = 0, np.repeat([0, 1], [90, 10])
    inputs[:90, 3] = 0
    graph, samples = load_keras_model(model), Samples((inputs,), y)
    found, stats = groups(graph), statistics(graph, samples)
    silent = removals.quiet(graph, found, stats)
    own = families(graph, found)["a"]
    assert silent == removals.Quiet(frozenset(own[1:3]), 2)
    (gone,) = removals.removals(graph, found, own[1:], "refitted", {"a": "least by bn"}, silent)
    assert (gone.layer, gone.channels, gone.left) == ("a", (1, 2, 3), 1)
    assert gone.why == "least by bn; near zero in each of 2 operating conditions: 2 of 3 (1-2)"
    (loud,) = removals.removals(graph, found, own[3:], "exact", "why", silent)
    assert loud.why == "why"
    (all_of_it,) = removals.removals(graph, found, own[1:3], "exact", "why", silent)
    assert all_of_it.why.endswith("conditions: all")


def test_conditions_come_from_classes_or_recordings() -> None:
    x = (np.zeros((40, 1), np.float32),)
    assert conditions_of(Samples(x)).max() == 0
    assert conditions_of(Samples(x, np.arange(40) % 3)).tolist() == (np.arange(40) % 3).tolist()
    assert conditions_of(Samples(x, np.linspace(0, 1, 40))).max() == 0
    joined = conditions_of(Samples(x, None, np.arange(40)))
    assert joined.max() == 15 and np.all(np.diff(joined) >= 0)


@pytest.mark.parametrize("kind", ("linear", "softmax", "sigmoid"))
def test_taylor_is_the_loss_of_a_small_removal(keras: Any, kind: str) -> None:
    """Of a group whose reading weights are small, the loss itself: measured by removing it."""
    keras.utils.set_random_seed(3)
    ly, units = keras.layers, 1 if kind == "sigmoid" else 3
    x = keras.Input((4,), name="x")
    out = ly.Dense(units, name="h", activation=kind)(ly.Dense(5, name="a", activation="tanh")(x))
    model = keras.Model(x, out)
    head = model.get_layer("h")
    head.kernel.assign(np.array(head.kernel) * np.array([[0.3], [0.1], [0.2], [0.15], [0.25]], np.float32))
    graph = load_keras_model(model)
    found, samples = groups(graph), random_samples(graph, 512)
    stats = statistics(graph, samples)
    masks = Masks(graph, found, stats)
    judge = make_judge(graph, samples, masks.outputs((), samples.x))
    own = families(graph, found)["a"]
    told = importance.scores("taylor", model, graph, found, samples, stats)[list(own)]
    seen = [masks.loss([i], judge) for i in own]
    np.testing.assert_allclose(told, seen, rtol=0.35)
    assert np.argsort(told)[0] == np.argsort(seen)[0]


def test_every_method_is_deterministic_and_auto_takes_the_best(keras: Any) -> None:
    model = net(keras)
    kill(model, [2])
    graph = load_keras_model(model)
    found, samples = groups(graph), random_samples(graph)
    stats = statistics(graph, samples)
    for method in importance.METHODS:
        first, again = (importance.scores(method, model, graph, found, samples, stats) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert np.all(first[[g.removable for g in found]] >= 0) and np.all(
            np.isinf(first) == [not g.removable for g in found]
        )
    masks = Masks(graph, found, stats)
    judge = make_judge(graph, samples, masks.outputs((), samples.x))
    choice = importance.choose("auto", model, graph, found, samples, stats, masks, judge)
    assert set(choice.losses) == {*importance.METHODS} - {"redundancy"}  # whose worth shows after refitting
    assert "random" not in choice.methods.values()
    ranked = {m: importance.scores(m, model, graph, found, samples, stats) for m in choice.losses}
    for family, members in families(graph, found).items():
        lost = {
            m: tried_alone(masks, judge, values, members) for m, values in ranked.items() if m != "random"
        }
        assert lost[choice.methods[family]] == min(lost.values()), family
        own = list(members)
        np.testing.assert_array_equal(choice.scores[own], ranked[choice.methods[family]][own])
    by_user = importance.choose("bn", model, graph, found, samples, stats, masks, judge)
    assert by_user.method == "bn" and set(by_user.methods) == set(choice.methods)
    with pytest.raises(UsageError, match="--importance is 'luck'"):
        importance.scores("luck", model, graph, found, samples, stats)


def test_families_are_layers(keras: Any) -> None:
    model = next(c for c in CASES if c.make.__name__ == "residual").make(keras.layers, keras)
    graph = load_keras_model(model)
    assert {name: len(g) for name, g in families(graph, groups(graph)).items()} == {"c": 4, "out": 2}


@pytest.mark.shared
def test_auto_loses_least_on_samples_that_it_has_not_seen(keras: Any, shared_data: Path) -> None:
    """Bearings: chosen on one half of what was held out, judged on the other."""
    task = BY_NAME["cwru"]
    model, loaded = open_keras(task.model_path)
    graph, found = loaded.graph, groups(loaded.graph)
    fit, held = judging.split(task.samples("train"))
    halves = [Samples((held.x[0][i::2],)) for i in (0, 1)]
    one, other = (make_judge(graph, half, answers(model, half.x)) for half in halves)
    stats = statistics(graph, fit)
    masks = Masks(graph, found, stats)
    choice = importance.choose("auto", model, graph, found, fit, stats, masks, one)
    own = families(graph, found).values()
    lost = {
        method: sum(tried_alone(masks, other, values, members) for members in own)
        for method in choice.losses
        for values in [importance.scores(method, model, graph, found, fit, stats)]
    }
    assert sum(tried_alone(masks, other, choice.scores, members) for members in own) < min(lost.values())


@pytest.mark.shared
def test_vww_halves_without_a_change(keras: Any, shared_data: Path) -> None:
    task = BY_NAME["vww"]
    model, loaded = open_keras(task.model_path)
    graph, found = loaded.graph, groups(loaded.graph)
    stats = statistics(graph, task.samples("train"))
    smaller = folding.fold(model, graph, found, folding.constant_groups(graph, found, stats), stats)
    assert _macs(graph) > 7.4e6 and _macs(load_keras_model(smaller)) < 3.85e6
    x = list(task.samples("eval").x)
    difference = np.asarray(heads.outputs_of(smaller, x)[0]) - np.asarray(heads.outputs_of(model, x)[0])
    assert np.abs(difference).max() < 1e-6


def _macs(graph: Any) -> int:
    return sum(
        ops.get(b.node.op).macs(b)
        for b in graph.bound()
        if b.node.op in ("conv2d", "depthwise_conv2d", "dense")
    )
