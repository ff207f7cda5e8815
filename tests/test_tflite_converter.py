"""Files as TensorFlow's own converter writes them today: read, and equal to LiteRT in every element."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from tinygen.errors import UnsupportedLayerError
from tinygen.evaluate import reference
from tinygen.fixedpoint import Rounding
from tinygen.frontend.tflite import read_tflite
from tinygen.oracle import run_litert
from tinygen.spec import check

pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore")]


def sequential(shape: tuple[int, ...], *layers: Any, batch: int | None = 1) -> Any:
    import keras

    x = source = keras.Input(shape, batch_size=batch)
    for layer in layers:
        x = layer(x)
    return keras.Model(source, x)


def cnn() -> Any:
    from keras import layers as k

    return sequential(
        (12, 12, 3),
        k.Conv2D(8, 3, strides=2, padding="same"),
        k.BatchNormalization(),
        k.ReLU(),
        k.DepthwiseConv2D(3, padding="same"),
        k.ReLU(6.0),
        k.MaxPooling2D(),
        k.GlobalAveragePooling2D(),
        k.Dense(5, activation="softmax"),
        batch=None,
    )


def conv1d() -> Any:
    """With a dynamic batch: the file computes shapes with SHAPE, STRIDED_SLICE and PACK."""
    from keras import layers as k

    return sequential(
        (32, 3),
        k.Conv1D(8, 5, padding="same", activation="relu"),
        k.MaxPooling1D(2),
        k.Conv1D(8, 3, padding="causal"),
        k.AveragePooling1D(2),
        k.Flatten(),
        k.Dense(4, activation="sigmoid"),
        batch=None,
    )


def reshapes() -> Any:
    from keras import layers as k

    return sequential(
        (24,),
        k.Dense(24, activation="tanh"),
        k.Reshape((4, 6)),
        k.Dense(5),
        k.Permute((2, 1)),
        k.Reshape((20,)),
        k.Dense(3),
    )


def dilated() -> Any:
    from keras import layers as k

    return sequential(
        (16, 16, 2),
        k.Conv2D(3, 3, dilation_rate=2, padding="same"),
        k.Conv2D(4, 3, groups=1),
        k.LeakyReLU(0.1),
        k.SeparableConv2D(6, 3),
        k.Conv2D(4, 3, groups=2),
        k.PReLU(shared_axes=[1, 2]),
        k.Conv2D(4, 1, activation="hard_silu"),
    )


def transposed() -> Any:
    from keras import layers as k

    return sequential(
        (6, 6, 2),
        k.Conv2DTranspose(3, 3, strides=2, padding="same", activation="relu"),
        k.Conv2DTranspose(2, 2, strides=2),
        k.ZeroPadding2D(1),
        k.Cropping2D(((1, 2), (0, 1))),
        batch=None,
    )


def branches() -> Any:
    import keras
    from keras import layers as k

    source = keras.Input((6, 6, 2), batch_size=1)
    a, b = (k.Conv2D(4, 3, padding="same")(source) for _ in range(2))
    gate = k.Dense(4, activation="sigmoid")(k.GlobalAveragePooling2D()(b))
    gated = k.Multiply()([a, k.Reshape((1, 1, 4))(gate)])
    average = k.Average()([k.Maximum()([a, b]), k.Minimum()([a, b])])
    joined = k.Concatenate()([k.Add()([gated, average]), k.Subtract()([a, b])])
    return keras.Model(source, k.GlobalMaxPooling2D()(k.ReLU()(joined)))


MODELS: tuple[Callable[[], Any], ...] = (cnn, conv1d, reshapes, dilated, transposed, branches)


@cache
def converted_cnn() -> bytes:
    import keras

    keras.utils.set_random_seed(1)
    return converted(cnn())


def converted(model: Any, io: str = "int8") -> bytes:
    """The model after full integer quantization by TensorFlow."""
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def samples() -> Iterator[list[Any]]:
        for _ in range(10):
            yield [rng.normal(0, 1, (1, *x.shape[1:])).astype(np.float32) for x in model.inputs]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, io)
    return bytes(converter.convert())


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_reference_equals_litert(make: Callable[[], Any]) -> None:
    import keras

    keras.utils.set_random_seed(1)
    data = converted(make())
    graph = read_tflite(data, f"{make.__name__}.tflite")
    check(graph, quantized=True)
    rng = np.random.default_rng(1)
    xs = [rng.integers(-128, 128, (50, *t.shape)).astype(np.int8) for t in graph.input_tensors]
    (want,) = run_litert(data, xs)
    (got,) = reference(graph, xs, Rounding.SINGLE)
    np.testing.assert_array_equal(got, want)
    assert len(np.unique(got)) > 3


@pytest.mark.parametrize("io", ["float32", "uint8"])
def test_other_edges_give_the_same_int8_graph(io: str) -> None:
    import keras

    keras.utils.set_random_seed(1)
    model = cnn()
    inner, outer = read_tflite(converted_cnn()), read_tflite(converted(model, io))
    assert [(n.op, n.attrs) for n in inner.nodes] == [(n.op, n.attrs) for n in outer.nodes]
    xs = [np.random.default_rng(2).integers(-128, 128, (5, 12, 12, 3)).astype(np.int8)]
    np.testing.assert_array_equal(reference(outer, xs)[0], reference(inner, xs)[0])


def test_what_runs_in_float_is_refused() -> None:
    from keras import layers as k

    with pytest.raises(UnsupportedLayerError, match="runs in float32, for want of an int8 kernel"):
        read_tflite(converted(sequential((10,), k.Dense(8, activation="elu"), k.Dense(3))))
