"""Quantization-aware training: numerics, gradients, what it hands over, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.datasets import BY_NAME
from tests.support.host import run_on_host
from tinygen import evaluate
from tinygen.errors import DataError, ModelError, UsageError
from tinygen.frontend.keras import load_keras, load_keras_model
from tinygen.graph import Array, Graph
from tinygen.heavy import import_keras
from tinygen.ops.tensors import tensorflow
from tinygen.pruning import heads
from tinygen.quantized_training import network, rounding, training
from tinygen.quantized_training.ranges import Ranges, moved
from tinygen.quantized_training.state import Loop
from tinygen.quantized_training.training import Options, Trained, train
from tinygen.samples import Samples, quantize_inputs

pytestmark = pytest.mark.tensorflow
BRIEF = Options(epochs=2, batch=16, rate=5e-3, augment=())
LONGER = Options(epochs=4, batch=16, rate=2e-2, range_rate=5e-2, augment=())


@pytest.fixture(scope="module")
def model() -> Any:
    """Batch normalization to fold, a residual, depthwise and separable convolution, sigmoid inside, softmax."""
    keras = import_keras()
    keras.utils.set_random_seed(5)
    ly = keras.layers
    x = keras.Input((8, 8, 2), name="x")
    y = ly.Conv2D(6, 3, padding="same", use_bias=False)(x)
    y = ly.ReLU()(ly.BatchNormalization(name="bn", moving_mean_initializer="normal")(y))
    z = ly.DepthwiseConv2D(3, padding="same", activation="relu6")(y)
    y = ly.Add()([y, ly.PReLU(shared_axes=[1, 2], alpha_initializer="normal")(z)])
    y = ly.SeparableConv2D(5, 3, strides=2, activation="silu")(y)
    y = ly.Multiply()([y, ly.Conv2D(5, 1, activation="sigmoid")(y)])
    wide = keras.initializers.RandomNormal(stddev=8.0)  # else all samples have nearly the same answer
    y = ly.Dense(3, activation="softmax", kernel_initializer=wide)(ly.GlobalAveragePooling2D()(y))
    return keras.Model(x, y, name="small")


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples((np.random.default_rng(3).normal(size=(80, 8, 8, 2)).astype(np.float32),), grids=(None,))


@pytest.fixture(scope="module")
def teacher(model: Any) -> Any:
    """The same model with other answers, so that there is something to learn."""
    other = heads.copied(model)
    other.layers[-1].bias.assign(np.array([0.3, -0.5, 1.0], np.float32))
    return other


@pytest.fixture(scope="module")
def trained(model: Any, samples: Samples, teacher: Any) -> Trained:
    return train(model, samples, LONGER, teacher=teacher)


def loop_of(graph: Graph, samples: Samples, options: Options = BRIEF) -> Loop:
    fused = training.fuse(graph)
    start = training._quantized(fused, samples, options, training.silent)
    return Loop(training._ranges(start, samples), fused, samples.x, samples.x, options)


def shares(loop: Loop, int8: Graph, x: list[Array]) -> tuple[float, float]:
    """(share of elements of all activations within 1 step of the int8 reference, share equal)."""
    _, factors, scales, zero_points = now = loop.rounded()
    values, _ = network.int8(
        loop.graph, [tensorflow().constant(a) for a in x], now[0], loop.arithmetic,
        lambda name: (scales[loop.place[name]], zero_points[loop.place[name]]), factors,
    )  # fmt: skip
    count = within = equal = 0

    def visit(name: str, want: Array) -> None:
        nonlocal count, within, equal
        q = int8.tensors[name].q
        steps = values[name].numpy().astype(np.float64) / q.scale[0] + q.zero_point[0]
        away = np.abs(np.rint(steps) - want)
        count, within, equal = (
            count + away.size,
            within + int((away <= 1).sum()),
            equal + int((away == 0).sum()),
        )

    evaluate.reference(int8, quantize_inputs(int8, x), visit=visit)
    return within / count, equal / count


@pytest.mark.parametrize("ranges", ["learned", "moving"])
def test_numerics_are_those_of_the_int8_reference(model: Any, samples: Samples, ranges: str) -> None:
    """Before conversion, after some learning: asked are 99.9 % within 1 step; all are equal but for float32 sums."""
    loop = loop_of(load_keras_model(model), samples, replace(BRIEF, ranges=ranges))
    loop.epoch(0, 2)
    state = loop.state()
    within, equal = shares(loop, training.to_int8(state.graph, state.qparams), [a[:32] for a in samples.x])
    assert within >= 0.999 and equal >= 0.9999


@pytest.mark.shared
@pytest.mark.parametrize("name", ["fan", "cwru", "kws", "ad", "ceiling_fan", "ic", "vww"])
def test_numerics_on_real_models(name: str, shared_data: Any) -> None:
    task = BY_NAME[name]
    whole = task.samples("train")
    few = Samples(tuple(a[:: max(1, whole.count // 40)][:40] for a in whole.x), None, None, whole.grids)
    graph = load_keras(task.model_path).graph
    loop = loop_of(graph, few, replace(BRIEF, calibration="min-max"))
    state = loop.state()
    within, equal = shares(loop, training.to_int8(state.graph, state.qparams), [a[:8] for a in few.x])
    assert within >= 0.999 and equal >= 0.9999


def test_before_training_it_is_post_training_quantization(model: Any, samples: Samples) -> None:
    loop = loop_of(load_keras_model(model), samples)
    start = training._quantized(training.fuse(load_keras_model(model)), samples, BRIEF, training.silent)
    state = loop.state()
    assert same(training.to_int8(state.graph, state.qparams), start.graph)


def same(a: Graph, b: Graph) -> bool:
    tensors = all(
        np.array_equal(a.tensors[n].data, b.tensors[n].data) for n in b.tensors if b.tensors[n].is_constant
    )
    return a == b and tensors


def test_gradients_pass_straight_through(model: Any, samples: Samples) -> None:
    """To the values: 1 inside what int8 covers, 0 outside. To the scale: rounding error inside, the limit outside."""
    loop = loop_of(load_keras_model(model), samples)
    tf, (name,) = tensorflow(), loop.graph.inputs
    loop.rounded()
    scale = loop.ranges.start[name].scale[0]
    zero_point = loop.ranges.start[name].zero_point[0]
    x = tf.constant(np.linspace(-400, 400, 128, dtype=np.float32).reshape(1, 8, 8, 2) * scale)
    step = tf.constant(scale)
    with tf.GradientTape() as tape:
        tape.watch([x, step])
        y, _ = loop.arithmetic.input(name, x, lambda _: (step, tf.constant(float(zero_point))))
    by_x, by_scale = tape.gradient(y, [x, step])
    steps = x.numpy() / scale
    inside = (steps > -128 - zero_point) & (steps < 127 - zero_point)
    np.testing.assert_array_equal(by_x.numpy(), inside.astype(np.float32))
    want = np.where(inside, np.rint(steps) - steps, np.clip(steps, -128 - zero_point, 127 - zero_point))
    assert float(by_scale) == pytest.approx(want.sum(), rel=1e-4)


def test_weights_are_rounded_and_learn_nevertheless() -> None:
    """What is whole but for float rounding becomes whole; its gradient is 1."""
    tf = tensorflow()
    x = tf.constant([-1.0001, 0.0, 2.9999])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = rounding._whole(x)
    np.testing.assert_array_equal(y.numpy(), [-1, 0, 3])
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), np.ones(3))


def test_the_int8_graph_has_the_trained_scales(trained: Trained) -> None:
    assert trained.best > 0 and trained.history[trained.best].held_out < trained.history[0].held_out
    for name, q in trained.qparams.items():
        if name in trained.graph.tensors:
            assert trained.graph.tensors[name].q == q
    changed = [r.group for r in trained.start.ranges if trained.qparams[r.group] != r.qparams]
    assert len(changed) > 5, "learned scales move"


def test_the_same_seed_gives_the_same(model: Any, samples: Samples, teacher: Any, trained: Trained) -> None:
    again = train(model, samples, LONGER, teacher=teacher)
    assert [e.held_out for e in again.history] == [e.held_out for e in trained.history]
    assert same(again.graph, trained.graph)
    other = train(model, samples, replace(LONGER, seed=2), teacher=teacher)
    assert other.history[1].held_out != trained.history[1].held_out


def test_c_is_the_reference_of_the_trained_graph(trained: Trained, samples: Samples) -> None:
    inputs = quantize_inputs(trained.graph, [a[:6] for a in samples.x])
    for got, want in zip(
        run_on_host(trained.graph, inputs), evaluate.reference(trained.graph, inputs), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_the_keras_model_is_the_trained_graph(trained: Trained, samples: Samples) -> None:
    assert trained.model is not None, trained.unfit
    (want,) = evaluate.real(trained.real, samples.x)
    np.testing.assert_allclose(heads.outputs_of(trained.model, samples.x)[0], want, atol=1e-5)
    kinds = [type(layer).__name__ for layer in trained.model.layers]
    assert "BatchNormalization" not in kinds and kinds.count("Activation") == 1


def test_a_shared_layer_has_no_keras_model_but_an_int8_graph(samples: Samples) -> None:
    keras = import_keras()
    x = keras.Input((8, 8, 2))
    layer = keras.layers.Conv2D(2, 3, padding="same", name="twice")
    model = keras.Model(x, keras.layers.Flatten()(layer(layer(x))))
    made = train(model, samples, replace(BRIEF, epochs=1))
    assert made.model is None and "'twice'" in made.unfit and "more than once" in made.unfit
    assert made.graph.precision == "int8"


def test_a_teacher_of_its_own(samples: Samples, teacher: Any, trained: Trained) -> None:
    """The student learns the teacher's answers, not those of the float model it was made from."""
    want = np.asarray(heads.outputs_of(teacher, samples.x)[0])

    def distance(graph: Graph) -> float:
        (q,) = evaluate.reference(graph, quantize_inputs(graph, samples.x))
        return float(np.abs(graph.output_tensors[0].q.dequantize(q) - want).mean())

    assert distance(trained.graph) < 0.5 * distance(trained.start.graph)


def test_moving_ranges_follow() -> None:
    limits = np.array([[-1.0], [1.0]])
    for _ in range(300):
        limits = moved(limits, np.array([[-2.0], [3.0]]))
    np.testing.assert_allclose(limits, [[-2.0], [3.0]], atol=0.02)


def test_learned_scales_are_limited(model: Any, samples: Samples) -> None:
    ranges: Ranges = loop_of(load_keras_model(model), samples).ranges
    far = ranges.learned(np.full(len(ranges.free), 100.0, np.float32))
    for group in ranges.free:
        assert far[group.name].scale[0] == pytest.approx(16 * ranges.start[group.name].scale[0], rel=1e-6)


def test_minutes_end_it(model: Any, samples: Samples) -> None:
    made = train(model, samples, replace(BRIEF, epochs=1000, minutes=1e-6))
    assert len(made.history) <= 2 and "minutes are over" in made.stopped


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rate": 0.0}, "rate of the training is 0.0"), ({"ranges": "learnt"}, "did you mean 'learned'")],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Options(**options)


def test_refusals(model: Any, samples: Samples, trained: Trained) -> None:
    with pytest.raises(ModelError, match="int8 already"):
        train(trained.graph, samples, BRIEF)
    keras = import_keras()
    other = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Flatten(), keras.layers.Dense(4)])
    with pytest.raises(ModelError, match="outputs of shape"):
        train(model, samples, BRIEF, teacher=other)
    linear = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(ModelError, match="softmax"):
        train(model, samples, BRIEF, teacher=linear)
    with pytest.raises(DataError, match="only 1 sample"):
        train(model, Samples(tuple(a[:1] for a in samples.x), grids=(None,)), BRIEF)
