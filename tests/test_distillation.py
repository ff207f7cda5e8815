"""Fine-tuning by distillation: pruned models learn the original's answers; seeds, early stop, time, heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tinygen.channels import groups
from tinygen.errors import DataError, UsageError
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import distillation, epochs, features, heads
from tinygen.pruning.augmentation import WAYS, augmentation_of, chosen, mixed
from tinygen.pruning.distillation import Options, Progress, train
from tinygen.pruning.recipe import DEFAULT, RECONSTRUCTING, SEEING, recipe_for
from tinygen.pruning.reestimation import reestimate
from tinygen.pruning.surgery import remove

pytestmark = pytest.mark.tensorflow
QUICK = Options(epochs=6, batch=32, rate=1e-2, augment=())


def classifier(width: int = 8, end: str = "dense") -> Any:
    """A small convolution net of 3 classes with a dropout and a batch normalization."""
    keras = import_keras()
    keras.utils.set_random_seed(5)
    x = inputs = keras.Input((12, 2))
    x = keras.layers.Conv1D(width, 3, name="conv")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling1D()(x))
    if end == "dense":
        x = keras.layers.Dense(3, activation="softmax")(x)
    elif end == "sigmoid":
        x = keras.layers.Dense(1, activation="sigmoid")(x)
    else:
        layer = keras.layers.Softmax() if end == "layer" else keras.layers.Activation("softmax")
        x = layer(keras.layers.Dense(3)(x))
    return keras.Model(inputs, x)


def autoencoder() -> Any:
    keras = import_keras()
    keras.utils.set_random_seed(6)
    layers = [
        keras.layers.Dense(n, activation=a) for n, a in ((12, "relu"), (4, None), (12, "relu"), (10, None))
    ]
    return keras.Sequential([keras.Input((10,)), *layers])


def data(shape: Sequence[int], count: int = 96, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0.5, 2.0, (count, *shape)).astype(np.float32)


def pruned(model: Any, count: int = 3) -> Any:
    graph = load_keras_model(model)
    return remove(model, graph, [g for g in groups(graph) if g.removable][:count])


def scale_up(model: Any, factor: float) -> Any:
    """The last dense layer's weights times a factor: saturated answers."""
    dense = next(layer for layer in reversed(model.layers) if layer.weights)
    dense.set_weights([w * factor for w in dense.get_weights()])
    return model


@pytest.mark.parametrize("make", [classifier, autoencoder])
def test_a_pruned_model_learns_the_originals_answers_and_both_stay_as_they_were(make: Any) -> None:
    teacher = make()
    student = pruned(teacher)
    before = [heads.weights_of(m) for m in (teacher, student)]
    shape = teacher.inputs[0].shape[1:]
    seen: list[Progress] = []
    options = replace(QUICK, refit=False)  # what training alone does
    trained = train(student, teacher, (data(shape),), (data(shape, 40, 1),), options, seen.append)
    assert trained.loss < 0.5 * trained.given
    assert trained.loss == min(epoch.held_out for epoch in trained.history)
    assert [p.epoch for p in seen] == [1, 2, 3, 4, 5, 6] and seen[-1].seconds_left == 0
    assert [len(trained.history), seen[-1].best] == [7, trained.loss]
    for weights, model in zip(before, (teacher, student), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(weights, heads.weights_of(model), strict=True))
    assert [v.trainable for v in trained.model.variables] == [v.trainable for v in student.variables]


def test_the_loss_is_that_of_the_returned_models_own_probabilities() -> None:
    teacher = classifier()
    trained = train(pruned(teacher), teacher, (data((12, 2)),), (data((12, 2), 40, 1),), QUICK)
    p, q = (np.asarray(m(data((12, 2), 40, 1)), np.float64) for m in (teacher, trained.model))
    assert trained.loss == pytest.approx(float((p * np.log(p / q)).sum(axis=1).mean()), rel=1e-4)


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    teacher = classifier()
    student = pruned(teacher)
    options = replace(QUICK, augment=("mixup", "noise", "shift"), refit=False)
    results = []
    for seed in (3, 3, 4):
        trained = train(
            student, teacher, (data((12, 2)),), (data((12, 2), 9, 1),), replace(options, seed=seed)
        )
        results.append(heads.weights_of(trained.model))
    assert all(np.array_equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(results[0], results[2], strict=True))


def test_a_training_that_only_hurts_gives_back_the_model_as_it_was() -> None:
    teacher = classifier()
    student = heads.copied(teacher)
    x = data((12, 2))
    student = reestimate(student, (x,))
    harmful = replace(QUICK, rate=50.0, patience=2, epochs=9)
    trained = train(student, student, (x,), (data((12, 2), 40, 1),), harmful)
    assert trained.best == 0 and trained.loss < 1e-6 and trained.start == "as given"
    assert len(trained.history) == 3 and trained.stopped == "no better epoch since 0"
    for a, b in zip(heads.weights_of(student), heads.weights_of(trained.model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("start", "settled", "best"), [(9.0, 0.0, 2), (9.0, 0.6, 4), (2.5, 0.6, 0)])
def test_restless_epochs_do_not_compete_but_the_start_does(start: float, settled: float, best: int) -> None:
    losses = [5.0, 1.0, 4.0, 3.0, 6.0]
    taken: list[float] = []

    def epoch(done: int, planned: int) -> float:
        taken.append(losses[done])
        return 0.0

    ended = epochs.take(
        (start, 0), epoch, lambda: taken[-1], lambda: best, 5, QUICK, lambda progress: None, 0.0, settled
    )
    assert (ended.best, ended.kept) == (best, best)
    judged = [epoch.number for epoch in ended.history if not math.isnan(epoch.held_out)]
    assert judged == [0, *range(3 if settled else 1, 6)]


def test_batches_made_ahead_come_in_order_and_raise_what_making_them_raised() -> None:
    def make(n: int) -> int:
        if n == 3:
            raise ValueError("three")
        return 2 * n

    assert list(epochs.ahead(make, [0, 1, 2])) == [0, 2, 4]
    found = epochs.ahead(make, [2, 3, 4])
    assert next(found) == 4
    with pytest.raises(ValueError, match="three"):
        next(found)


def test_judging_takes_of_the_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of a second that are judged for three: of a minute, fifteen have room."""
    now = [0.0]
    monkeypatch.setattr(epochs.time, "perf_counter", lambda: now[0])

    def takes(seconds: float) -> float:
        now[0] += seconds
        return 1.0

    limits = replace(QUICK, minutes=1.0)
    ended = epochs.take(
        (9.0, 0),
        lambda done, planned: takes(1.0),
        lambda: takes(3.0),
        int,
        100,
        limits,
        lambda progress: None,
        0.0,
    )
    assert len(ended.history) - 1 == 15 and now[0] == 60.0
    assert "1 minutes are over after 15 of 100 epochs" in ended.stopped


def test_time_that_runs_out_ends_the_training_with_the_best_so_far() -> None:
    teacher = classifier()
    options = replace(QUICK, epochs=100_000, minutes=0.05, starts=1)
    trained = train(pruned(teacher), teacher, (data((12, 2)),), (data((12, 2), 40, 1),), options)
    assert "minutes are over" in trained.stopped
    assert trained.loss < trained.given
    assert trained.seconds < 30


def test_it_starts_from_what_is_best_before_training() -> None:
    teacher = classifier()
    x, held = (data((12, 2)),), (data((12, 2), 40, 1),)
    student = pruned(teacher)
    trained = train(student, teacher, x, held, replace(QUICK, epochs=1, rate=1e-6))
    assert trained.start != "as given" and trained.history[0].held_out < trained.given
    plain = train(student, teacher, x, held, replace(QUICK, epochs=1, rate=1e-6, refit=False))
    assert plain.start == "as given" and plain.history[0].held_out == plain.given == trained.given
    spoilt = heads.copied(student)
    weights = heads.weights_of(spoilt)
    for values, variable in zip(weights, spoilt.weights, strict=True):
        values[:] = values * 100 if variable.name == "moving_variance" else values
    heads.assign(spoilt, weights)
    assert train(spoilt, student, x, held, replace(QUICK, epochs=1, rate=1e-6)).loss < 0.1


def test_the_best_of_several_starts_is_kept() -> None:
    teacher = classifier()
    student, x, held = pruned(teacher), (data((12, 2)),), (data((12, 2), 40, 1),)
    options = replace(QUICK, epochs=2)
    single = [train(student, teacher, x, held, replace(options, seed=seed)).loss for seed in (1, 2, 3)]
    assert train(student, teacher, x, held, replace(options, starts=3)).loss == min(single)


@pytest.mark.parametrize("end", ["dense", "layer", "activation"])
def test_logits_stand_in_for_every_final_softmax_however_saturated(end: str) -> None:
    model = scale_up(classifier(end=end), 1e4)
    twin, kinds = heads.twin(model)
    x = data((12, 2), 20)
    logits = heads.outputs_of(twin, [x])[0]
    assert kinds == ("softmax",) and np.abs(logits).max() > 1000
    keras = import_keras()
    np.testing.assert_array_equal(keras.ops.softmax(logits), heads.outputs_of(model, [x])[0])
    trained = train(pruned(model), model, (x,), (x,), replace(QUICK, epochs=1))
    assert all(np.isfinite(w).all() for w in heads.weights_of(trained.model))


def test_a_softmax_that_something_else_reads_stays() -> None:
    keras = import_keras()
    inputs = keras.Input((4,))
    probabilities = keras.layers.Dense(3, activation="softmax")(inputs)
    model = keras.Model(inputs, [probabilities, keras.layers.Dense(2)(probabilities)])
    twin, kinds = heads.twin(model)
    assert kinds == ("linear", "linear")
    x = data((4,), 5)
    for a, b in zip(heads.outputs_of(twin, [x]), heads.outputs_of(model, [x]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sigmoids_are_compared_by_their_logits() -> None:
    teacher = classifier(end="sigmoid")
    assert heads.twin(teacher)[1] == ("sigmoid",)
    held = data((12, 2), 40, 1)
    trained = train(pruned(teacher), teacher, (data((12, 2)),), (held,), QUICK)
    p, q = (np.asarray(m(held), np.float64) for m in (teacher, trained.model))
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert trained.loss == pytest.approx(float(divergence.mean()), rel=1e-3)


def test_several_inputs_go_in_together() -> None:
    keras = import_keras()
    keras.utils.set_random_seed(7)
    a, b = keras.Input((6,), name="a"), keras.Input((3,), name="b")
    x = keras.layers.Dense(8, activation="relu")(keras.layers.Concatenate()([a, b]))
    teacher = keras.Model({"a": a, "b": b}, keras.layers.Dense(2)(x))
    x2 = [data((6,)), data((3,), seed=2)]
    trained = train(pruned(teacher), teacher, x2, [v[:20] for v in x2], replace(QUICK, augment=("mixup",)))
    assert trained.loss < trained.given


def test_reestimated_statistics_are_those_of_the_whole_set() -> None:
    keras = import_keras()
    keras.utils.set_random_seed(8)
    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((10, 4)), layers.Conv1D(5, 3), layers.BatchNormalization(name="second")]
    )
    inputs = keras.Input((12, 2))
    x = layers.BatchNormalization(name="first")(layers.Conv1D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, inner(layers.Dropout(0.5)(layers.ReLU()(x))))
    samples = data((12, 2), 77)
    fresh = reestimate(model, (samples,))
    conv = np.asarray(model.get_layer("conv")(samples), np.float64)
    first = fresh.get_layer("first")
    np.testing.assert_allclose(first.moving_mean, conv.mean(axis=(0, 1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first.moving_variance, conv.var(axis=(0, 1)), rtol=1e-5)
    out = np.asarray(fresh(samples), np.float64)
    np.testing.assert_allclose(out.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(out.var(axis=(0, 1)), 1, atol=0.02)
    assert fresh.get_layer("first").momentum == model.get_layer("first").momentum
    assert not np.allclose(model.get_layer("first").moving_mean, first.moving_mean)


@pytest.mark.parametrize("way", WAYS)
def test_every_augmentation_changes_a_batch_in_its_own_way_and_its_seed_repeats_it(way: Any) -> None:
    batch = data((16, 16, 3), 32)
    change = augmentation_of((way,), batch)

    def changed() -> Array:
        generator = np.random.default_rng(1)
        return mixed([batch], generator)[0] if way == "mixup" else change(batch, generator)

    one, two = changed(), changed()
    assert one.dtype == np.float32 and one.shape == batch.shape
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, batch)
    if way in ("flip", "shift"):
        assert set(np.unique(one)) <= set(np.unique(batch))


def test_differences_move_samples_along_the_data_and_noise_in_every_direction() -> None:
    """Data on a line: what is moved stays on it, and leaves its ends."""
    along = data((1,), 256) * np.float32([1, 2, -1])
    moved = augmentation_of(("difference",), along)(along, np.random.default_rng(3))
    np.testing.assert_allclose(moved, moved[:, :1] * np.float32([1, 2, -1]), atol=1e-4)
    assert moved[:, 0].max() > along[:, 0].max() and moved[:, 0].min() < along[:, 0].min()
    noisy = augmentation_of(("noise",), along)(along, np.random.default_rng(3)) - along
    assert np.linalg.matrix_rank(noisy) == 3
    strengths = np.abs(noisy / along.std(axis=0)).mean(axis=1)
    assert strengths.min() < 0.05 and 0.3 < strengths.max() < 2


def test_only_models_that_give_back_their_input_learn_off_the_data() -> None:
    keras = import_keras()
    regressor = keras.Sequential([keras.Input((10,)), keras.layers.Dense(9)])
    number = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    assert recipe_for(autoencoder()) == RECONSTRUCTING != DEFAULT
    assert [recipe_for(model) for model in (classifier(), regressor, number)] == [DEFAULT] * 3
    eye = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    assert recipe_for(eye) == SEEING


def test_an_autoencoder_that_learned_off_the_data_answers_there_as_the_original_does() -> None:
    """Few normal samples on a plane; judged on samples beside it, the student that saw only the plane is worse."""
    teacher = autoencoder()
    plane = data((2,), 64) @ data((2, 10), 1)[0] / 4
    beside = plane + data((10,), 64, 2) / 4
    wanted = np.asarray(teacher(beside))
    errors = []
    for ways in ((), RECONSTRUCTING.augment):
        options = replace(QUICK, epochs=60, augment=ways)
        student = train(pruned(teacher), teacher, (plane,), (plane,), options).model
        errors.append(float(np.mean((np.asarray(student(beside)) - wanted) ** 2)))
    assert errors[1] < 0.7 * errors[0]


def test_images_stay_in_their_range_and_what_is_pasted_is_of_another_image() -> None:
    """Images of one gray each: zooming shows nothing new, colours change, a collage has two grays at most."""
    grays = np.linspace(0, 255, 64, dtype=np.float32)
    batch = np.broadcast_to(grays[:, np.newaxis, np.newaxis, np.newaxis], (64, 12, 10, 3)).copy()
    ramp = batch + np.arange(10, dtype=np.float32)[:, np.newaxis]
    generator = np.random.default_rng(4)
    np.testing.assert_allclose(augmentation_of(("zoom",), batch)(batch, generator), batch, atol=1e-3)
    steps = np.diff(augmentation_of(("zoom",), ramp)(ramp, generator)[:, 0, 4:6, 0], axis=1)
    assert steps.min() < 0.8 and 1.1 < steps.max() < 1.4  # enlarged, and made smaller
    coloured = augmentation_of(("colour",), batch)(batch, generator)
    assert coloured.min() == 0 and coloured.max() == 255 and np.ptp(coloured[20:40], axis=3).min() > 0
    pasted = augmentation_of(("paste",), batch)(batch, generator)
    found = [np.unique(image) for image in pasted]
    assert {len(values) for values in found} == {1, 2} and set(np.concatenate(found)) == set(grays)
    assert 20 < sum(len(values) == 2 for values in found) < 44


def test_hidden_layers_are_paired_with_the_channels_that_they_kept() -> None:
    teacher = classifier()
    graph = load_keras_model(teacher)
    removable = [g for g in groups(graph) if g.removable]
    student = remove(teacher, graph, [removable[1], removable[4]])
    (pair,) = features.pairs_of(student, teacher, (data((12, 2)),))
    (normalization,) = [n.name for n in student.layers if type(n).__name__ == "BatchNormalization"]
    assert pair.layer == normalization
    np.testing.assert_array_equal(pair.counterparts, [0, 2, 3, 5, 6, 7])
    assert np.all(pair.weights > 0)
    ours, theirs = features.parts_of(student, teacher, (pair,))
    x = data((12, 2), 40, 1)
    hidden = [heads.outputs_of(part, [x])[1] for part in (ours, theirs)]
    assert float(features.distance((pair,), hidden[:1], hidden[1:])) < 1e-8
    student.get_layer(normalization).beta.assign_add(np.float32([1, 0, 0, 0, 0, 0]))
    moved = heads.outputs_of(ours, [x])[1]
    expected = pair.weights[0] / 6
    assert float(features.distance((pair,), [moved], hidden[1:])) == pytest.approx(expected, rel=1e-4)


def test_hidden_layers_teach_where_outputs_say_little() -> None:
    """One number per sample, few samples: told what its layers should compute, too, the student is better."""
    keras = import_keras()
    keras.utils.set_random_seed(11)
    wide = [keras.layers.Dense(16, activation="tanh") for _ in range(3)]
    teacher = keras.Sequential([keras.Input((6,)), *wide, keras.layers.Dense(1)])
    held = data((6,), 400, 1)
    plain = replace(QUICK, epochs=100, rate=5e-3, refit=False)
    losses = [
        train(pruned(teacher, 8), teacher, (data((6,), 48) / 2,), (held / 2,), options).loss
        for options in (plain, replace(plain, features=1.0))
    ]
    assert losses[1] < 0.9 * losses[0]


def test_outputs_alone_count_at_the_end(monkeypatch: Any) -> None:
    """What hidden layers of a narrow model cannot match does not hold its outputs back."""
    keras = import_keras()
    keras.utils.set_random_seed(11)
    wide = [keras.layers.Dense(16, activation="tanh") for _ in range(3)]
    teacher = keras.Sequential([keras.Input((6,)), *wide, keras.layers.Dense(1)])
    x, held, student = data((6,), 400), data((6,), 400, 1), pruned(teacher, 8)
    options = replace(QUICK, epochs=40, rate=5e-3, refit=False, features=5.0)
    guided = train(student, teacher, (x,), (held,), options).loss
    monkeypatch.setattr(distillation, "guidance", lambda share: 1.0)
    assert guided < 0.9 * train(student, teacher, (x,), (held,), options).loss


def test_mixing_treats_all_inputs_and_labels_of_a_sample_alike() -> None:
    one_hot = np.eye(8, dtype=np.float32)
    a, b, weights = mixed([data((3,), 8), data((2, 2), 8), one_hot], np.random.default_rng(2))
    np.testing.assert_allclose(weights @ data((3,), 8), a, rtol=1e-5)
    np.testing.assert_allclose(np.tensordot(weights, data((2, 2), 8), 1), b, rtol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)


def test_labels_teach_what_the_original_does_not_know() -> None:
    """The original answers at random; labels say which feature is greatest."""
    keras = import_keras()
    keras.utils.set_random_seed(9)
    make = [
        keras.Input((3,)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(3, activation="softmax"),
    ]
    teacher = keras.Sequential(make)
    x, held = data((3,), 400), data((3,), 200, 1)
    labels = x.argmax(axis=1)
    options = Options(epochs=60, rate=2e-2, augment=(), task=1.0)
    with_labels = train(teacher, teacher, (x,), (held,), options, labels=(labels, held.argmax(axis=1)))
    before, after = (np.asarray(m(held)).argmax(axis=1) for m in (teacher, with_labels.model))
    assert np.mean(before == held.argmax(axis=1)) < 0.6
    assert np.mean(after == held.argmax(axis=1)) > 0.9


def test_automatic_augmentation_follows_the_shape() -> None:
    assert chosen("auto", (32, 32, 3)) == ("flip", "shift")
    assert chosen("auto", (49, 10, 1)) == chosen("auto", (128, 3)) == chosen("auto", (640,)) == ()


def test_refusals_name_what_is_wrong() -> None:
    teacher = classifier()
    with pytest.raises(DataError, match=r"held-out samples of shape \(4, 11, 2\) do not fit"):
        train(teacher, teacher, (data((12, 2)),), (data((11, 2), 4),), QUICK)
    with pytest.raises(DataError, match="samples of shape"):
        train(teacher, teacher, (data((12, 2), 0),), (data((12, 2), 4),), QUICK)
    with pytest.raises(UsageError, match="'flop' is unknown, did you mean 'flip'"):
        chosen(("flop",), (3, 3, 3))
    with pytest.raises(UsageError, match="needs images or series"):
        chosen(("shift",), (640,))
    with pytest.raises(UsageError, match="'zoom' needs images, the input has shape"):
        chosen(("zoom",), (128, 3))
    with pytest.raises(UsageError, match="temperature of the fine-tuning is 0"):
        Options(temperature=0)
