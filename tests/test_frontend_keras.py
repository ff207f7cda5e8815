"""The Keras front end: however a model was built or saved, the graph computes what Keras predicts."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygen import evaluate, spec
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.frontend import Loaded, load
from tinygen.frontend.keras import load_keras, load_keras_model
from tinygen.graph import Array, Graph
from tinygen.heavy import import_keras

# Keras's own np.array(variable) warns with numpy 2 when it saves a model.
SAVING = "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings(SAVING)]

PUBLISHED = [
    ("ad_autoencoder.keras", "ad_toycar_eval", lambda x: x[:2, :5].reshape(2, 640) / 256.0),
    ("ceiling_fan_ae.keras", None, lambda x: x),
    ("cwru_cnn1d.keras", "cwru_bearing_eval", lambda x: x[:4] / 4096.0),
    ("fan_cnn1d.keras", "fan_vibration_eval", lambda x: x[:4] / 1000.0),
    ("ic_resnet8.keras", "cifar10_eval", lambda x: x[:4]),
    ("kws_ds_cnn.keras", "kws_mfcc_eval", lambda x: (x[:4].astype(np.float32) - 83) * 0.5847029089927673),
    ("vww_mobilenet_v1_025_96.keras", "vww96_ccby_eval", lambda x: x[:2] / 255.0),
]


@pytest.fixture(scope="module")
def keras() -> Any:
    return import_keras()


def randomize(model: Any) -> Any:
    """Give every weight a random value; what must be positive (variances) stays so."""
    rng = np.random.default_rng(7)
    for weight in model.weights:
        values = rng.uniform(-1, 1, weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    return model


def inputs_for(graph: Graph, count: int = 3) -> list[Array]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(count, *t.shape)).astype(np.float32) for t in graph.input_tensors]


def predict(model: Any, inputs: list[Array]) -> list[Array]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns when a list of one input is called with an array
        result = model(inputs[0] if len(inputs) == 1 else inputs, training=False)
    if isinstance(result, dict):
        result = [result[key] for key in sorted(result)]
    flat = result if isinstance(result, list) else [result]
    return [np.asarray(y) for y in flat]


def assert_equal(model: Any, graph: Graph, inputs: list[Array] | None = None) -> None:
    """The graph computes what the model predicts, within 1e-4 of the largest output."""
    spec.check(graph, quantized=False)
    inputs = inputs or inputs_for(graph)
    ours, theirs = evaluate.real(graph, inputs), predict(model, inputs)
    assert len(ours) == len(theirs)
    for mine, keras_own in zip(ours, theirs, strict=True):
        assert mine.shape == keras_own.shape
        np.testing.assert_allclose(mine, keras_own, atol=1e-4 * max(float(np.abs(keras_own).max()), 1e-6))


# ---- real models


@pytest.mark.shared
@pytest.mark.parametrize(("name", "data", "prepare"), PUBLISHED, ids=[p[0] for p in PUBLISHED])
def test_published_model_predicts_as_keras(
    keras: Any, shared_data: Path, name: str, data: str | None, prepare: Callable[[Array], Array]
) -> None:
    path = shared_data / "models" / name
    loaded = load(path)
    assert loaded.notes == ()
    model = keras.saving.load_model(path, compile=False)
    samples = None
    if data is not None:
        x = np.load(shared_data / f"{data}.npz", allow_pickle=False)["x"]
        samples = [np.asarray(prepare(x), np.float32)]
    assert_equal(model, loaded.graph, samples)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ic_resnet8", "vww_mobilenet_v1_025_96"])
def test_keras_2_file_equals_its_keras_3_twin(shared_data: Path, name: str) -> None:
    old = load(shared_data / "models" / f"{name}.h5")
    new = load(shared_data / "models" / f"{name}.keras")
    assert [n.op for n in old.graph.nodes] == [n.op for n in new.graph.nodes]
    x = inputs_for(new.graph, 2)
    np.testing.assert_array_equal(evaluate.real(old.graph, x)[0], evaluate.real(new.graph, x)[0])


@pytest.mark.shared
def test_what_was_ignored_is_said(shared_data: Path) -> None:
    notes = load(shared_data / "models" / "vww_mobilenet_v1_025_96.h5").notes
    assert notes == (
        "DepthwiseConv2D: ignored the config key 'groups' (= 1), unknown to this Keras, in 13 layer(s)",
    )


# ---- kinds of models


def test_sequential(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ]
    )
    graph = load_keras_model(randomize(model))
    assert graph.inputs == ("image",)
    assert_equal(model, graph)


def branches(keras: Any) -> Any:
    """Two inputs, two outputs, a shared layer, a nested model called twice."""
    layers = keras.layers
    a, b = keras.Input((6, 4), name="left"), keras.Input((6, 4), name="right")
    shared = layers.Dense(4, activation="tanh", name="shared")
    inner_input = keras.Input((6, 4))
    inner = keras.Model(inner_input, layers.Add()([inner_input, layers.Dense(4)(inner_input)]), name="inner")
    x, y = inner(shared(a)), inner(shared(b))
    joined = layers.Concatenate(name="joined")([x, y])
    outputs = [layers.Dense(3, name="one")(joined), layers.Subtract(name="two")([x, y])]
    return randomize(keras.Model([a, b], outputs, name="branches"))


def test_branches_shared_layers_and_nested_models(keras: Any) -> None:
    model = branches(keras)
    graph = load_keras_model(model)
    assert graph.inputs == ("left", "right")
    assert len(graph.outputs) == 2
    assert_equal(model, graph)


def test_nested_sequential_and_dict_of_outputs(keras: Any) -> None:
    layers = keras.layers
    inner = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(3)])
    x = keras.Input((5,))
    y = inner(x)
    model = randomize(keras.Model(x, {"b": y, "a": layers.ReLU()(y)}))
    assert_equal(model, load_keras_model(model))


def test_arithmetic_on_tensors(keras: Any) -> None:
    x, y = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([x, y], (x + y) * (x - y))
    assert_equal(model, load_keras_model(model))


def test_input_that_is_also_an_output(keras: Any) -> None:
    x = keras.Input((4,))
    model = randomize(keras.Model(x, [x, keras.layers.Dense(2)(x)]))
    assert_equal(model, load_keras_model(model))


def test_training_only_layers_vanish(keras: Any) -> None:
    layers = keras.layers
    names = ["Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"]
    vanish = [getattr(layers, name)(0.2) for name in names]
    vanish += [layers.SpatialDropout1D(0.2), layers.ActivityRegularization(0.1), layers.Identity()]
    model = randomize(keras.Sequential([keras.Input((6, 4)), *vanish, layers.Dense(2)]))
    graph = load_keras_model(model)
    assert [n.op for n in graph.nodes] == ["dense"]
    assert_equal(model, graph)


TIME_DISTRIBUTED: dict[str, dict[str, Any]] = {
    "Dense": {"units": 3, "activation": "relu"},
    "BatchNormalization": {},
    "Flatten": {},
    "Reshape": {"target_shape": (2, -1)},
    "Conv2D": {"filters": 2, "kernel_size": 3, "padding": "same", "activation": "relu"},
    "GlobalAveragePooling2D": {},
    "MaxPooling2D": {},
    "Dropout": {"rate": 0.5},
    "Softmax": {},
}


@pytest.mark.parametrize("kind", TIME_DISTRIBUTED)
def test_time_distributed(keras: Any, kind: str) -> None:
    layer = getattr(keras.layers, kind)(**TIME_DISTRIBUTED[kind])
    model = keras.Sequential([keras.Input((3, 4, 4, 2)), keras.layers.TimeDistributed(layer)])
    assert_equal(randomize(model), load_keras_model(model))


def test_time_distributed_nested_model_and_single_step(keras: Any) -> None:
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8, 2)), layers.Conv1D(3, 3), layers.GlobalMaxPooling1D()])
    model = keras.Sequential([keras.Input((1, 8, 2)), layers.TimeDistributed(inner)])
    assert_equal(randomize(model), load_keras_model(model))


# ---- layers as activations


def activation_layers(keras: Any) -> dict[str, Any]:
    layers = keras.layers
    return {
        "LeakyReLU": layers.LeakyReLU(negative_slope=0.15),
        "ReLU": layers.ReLU(max_value=0.7, negative_slope=0.1, threshold=0.2),
        "ELU": layers.ELU(alpha=0.6),
        "Softmax": layers.Softmax(),
        "Softmax over columns": layers.Softmax(axis=2),
        "Activation": layers.Activation("gelu"),
        "Activation of a layer": layers.Activation(layers.LeakyReLU(negative_slope=0.4)),
    }


ACTIVATION_LAYERS = [
    *("LeakyReLU", "ReLU", "ELU", "Softmax", "Softmax over columns"),
    *("Activation", "Activation of a layer"),
]


@pytest.mark.parametrize("suffix", [None, ".keras", ".h5"])
@pytest.mark.parametrize("kind", ACTIVATION_LAYERS)
def test_layers_as_activations(keras: Any, tmp_path: Path, kind: str, suffix: str | None) -> None:
    """The same object serves several layers, as Keras allows."""
    layers, function = keras.layers, activation_layers(keras)[kind]
    stack = [
        layers.Conv2D(3, 2, activation=function),
        layers.DepthwiseConv2D(2, activation=function),
        layers.SeparableConv2D(4, 2, activation=function),
        layers.Conv2DTranspose(2, 2, activation=function),
        layers.Dense(5, activation=function, name="last"),
    ]
    model = randomize(keras.Sequential([keras.Input((6, 5, 2)), *stack]))
    if suffix is None:
        graph = load_keras_model(model)
    else:
        model.save(tmp_path / f"m{suffix}")
        graph = load(tmp_path / f"m{suffix}").graph
    assert_equal(model, graph)
    assert graph.nodes[-1].name == f"last/{kind.split()[0]}"


@pytest.mark.parametrize("kind", ["PReLU", "BatchNormalization", "LayerNormalization", "own"])
def test_other_layers_as_activations_are_refused_by_name(keras: Any, tmp_path: Path, kind: str) -> None:
    class ReLU(keras.layers.ReLU):  # type: ignore[misc, name-defined]
        """Named like a built-in one."""

    function = ReLU(name="culprit") if kind == "own" else getattr(keras.layers, kind)(name="culprit")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation=function, name="owner")])
    with pytest.raises(UnsupportedLayerError) as caught:
        load_keras_model(model)
    assert (caught.value.layer, caught.value.kind) == ("owner", "Dense")
    assert f"the layer 'culprit' of class {type(function).__name__}" in str(caught.value)
    model.save(tmp_path / "m.keras")
    with pytest.raises(UnsupportedLayerError, match="culprit"):
        load(tmp_path / "m.keras")


# ---- files


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_files(keras: Any, tmp_path: Path, suffix: str) -> None:
    model = branches(keras)
    model.compile("adam", "mse")
    path = tmp_path / f"branches{suffix}"
    model.save(path)
    loaded = load(path)
    assert isinstance(loaded, Loaded)
    assert loaded.graph.name == "branches"
    assert_equal(model, loaded.graph)


def test_another_suffix_is_read_by_content(keras: Any, tmp_path: Path) -> None:
    model = randomize(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
    model.save(tmp_path / "m.keras")
    path = (tmp_path / "m.keras").rename(tmp_path / "model.bin")
    assert_equal(model, load(path).graph)


def test_every_supported_training_option_is_dropped(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    dense = layers.Dense(
        3,
        kernel_regularizer="l2",
        kernel_initializer="he_normal",
        bias_constraint="non_neg",
        activation=keras.activations.gelu,
    )
    model = randomize(
        keras.Sequential([keras.Input((4,)), dense, layers.LeakyReLU(), layers.Activation("elu")])
    )
    model.save(tmp_path / "m.keras")
    assert_equal(model, load(tmp_path / "m.keras").graph)


def test_half_precision_models_are_computed_in_float32(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="mixed_float16")])
    randomize(model).save(tmp_path / "m.keras")
    graph = load(tmp_path / "m.keras").graph
    x = inputs_for(graph)
    np.testing.assert_allclose(evaluate.real(graph, x)[0], predict(model, x)[0], atol=1e-2)


IMAGE_LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("Conv2D", {"filters": 4, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same", "groups": 2}),
    (
        "Conv2D",
        {"filters": 3, "kernel_size": 3, "dilation_rate": 2, "activation": "relu6", "use_bias": False},
    ),
    ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"}),
    ("SeparableConv2D", {"filters": 5, "kernel_size": 3, "depth_multiplier": 2, "activation": "elu"}),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}),
    ("Dense", {"units": 3, "activation": "softplus"}),
    ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
    ("AveragePooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
    ("GlobalMaxPooling2D", {"keepdims": True}),
    ("GlobalAveragePooling2D", {}),
    ("BatchNormalization", {}),
    ("BatchNormalization", {"axis": 1, "scale": False}),
    ("ReLU", {"max_value": 3.0, "negative_slope": 0.1, "threshold": 0.2}),
    ("LeakyReLU", {"negative_slope": 0.2}),
    ("PReLU", {"shared_axes": [1, 2]}),
    ("ELU", {}),
    ("Softmax", {}),
    ("Activation", {"activation": "silu"}),
    ("Activation", {"activation": "hard_sigmoid"}),
    ("Activation", {"activation": "gelu"}),
    ("ZeroPadding2D", {"padding": ((1, 2), (0, 1))}),
    ("Cropping2D", {"cropping": ((1, 2), (0, 1))}),
    ("UpSampling2D", {"size": (2, 3)}),
    ("UpSampling2D", {"size": 2, "interpolation": "bilinear"}),
    ("Rescaling", {"scale": 0.5, "offset": -1.0}),
    ("Normalization", {"mean": [1.0, 2.0, 3.0, 4.0], "variance": [1.0, 4.0, 9.0, 0.5]}),
    ("Permute", {"dims": (3, 1, 2)}),
    ("Reshape", {"target_shape": (-1, 2)}),
    ("Flatten", {}),
    ("SpatialDropout2D", {"rate": 0.5}),
]
SEQUENCE_LAYERS: list[tuple[str, dict[str, Any]]] = [
    (
        "Conv1D",
        {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2, "activation": "tanh"},
    ),
    ("Conv1D", {"filters": 4, "kernel_size": 3, "strides": 2, "groups": 2}),
    ("DepthwiseConv1D", {"kernel_size": 3, "padding": "same"}),
    ("SeparableConv1D", {"filters": 3, "kernel_size": 3}),
    ("MaxPooling1D", {"pool_size": 2}),
    ("AveragePooling1D", {"pool_size": 3, "padding": "same"}),
    ("GlobalMaxPooling1D", {}),
    ("GlobalAveragePooling1D", {}),
    ("ZeroPadding1D", {"padding": (1, 2)}),
    ("Cropping1D", {"cropping": (1, 2)}),
    ("UpSampling1D", {"size": 2}),
    ("PReLU", {}),
]


def zoo(keras: Any) -> Any:
    """One model with (nearly) every supported layer, each with an output of its own."""
    layers = keras.layers
    image, sequence, vector = keras.Input((8, 9, 4)), keras.Input((9, 4)), keras.Input((6,))
    outputs = [getattr(layers, kind)(**options)(image) for kind, options in IMAGE_LAYERS]
    outputs += [getattr(layers, kind)(**options)(sequence) for kind, options in SEQUENCE_LAYERS]
    other = layers.Dense(4)(sequence)
    for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"):
        outputs.append(getattr(layers, kind)()([sequence, other]))
    outputs += [layers.Concatenate(axis=1)([sequence, other]), layers.RepeatVector(3)(vector)]
    return randomize(keras.Model([image, sequence, vector], outputs, name="zoo"))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_every_layer_survives_a_file(keras: Any, tmp_path: Path, suffix: str) -> None:
    model = zoo(keras)
    model.save(tmp_path / f"zoo{suffix}")
    assert_equal(model, load(tmp_path / f"zoo{suffix}").graph)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_adapted_normalization(keras: Any, tmp_path: Path, suffix: str) -> None:
    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (100, 4)).astype(np.float32))
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])
    model.save(tmp_path / f"m{suffix}")
    assert_equal(model, load(tmp_path / f"m{suffix}").graph)


def test_negative_variance_is_refused(keras: Any) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="bn")])
    model.layers[0].moving_variance.assign([-1.0, 1.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ModelError, match="'bn/scale' comes out as NaN"):
            load_keras_model(model)


def old_sequential(config: dict[str, Any]) -> dict[str, Any]:
    """As Keras 2.2 wrote it: the input's shape in the first layer, the axis as a list."""
    layers = config["config"]["layers"][1:]
    layers[0]["config"]["batch_input_shape"] = [None, 8, 8, 2]
    layers[1]["config"]["axis"] = [3]
    return {"class_name": "Sequential", "config": {"name": "old", "layers": layers}}


def older_sequential(config: dict[str, Any]) -> dict[str, Any]:
    """As Keras 2.1 wrote it: a bare list of layers."""
    return {"class_name": "Sequential", "config": old_sequential(config)["config"]["layers"]}


def shapeless_sequential(config: dict[str, Any]) -> dict[str, Any]:
    """Without any input shape."""
    return {"class_name": "Sequential", "config": {"name": "old", "layers": config["config"]["layers"][1:]}}


@pytest.mark.parametrize("change", [old_sequential, older_sequential, shapeless_sequential])
def test_old_sequential_files(keras: Any, tmp_path: Path, change: Callable[[Any], Any]) -> None:
    import h5py

    layers, path = keras.layers, tmp_path / "old.h5"
    inner = [
        layers.Conv2D(3, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(2),
    ]
    model = randomize(keras.Sequential([keras.Input((8, 8, 2)), *inner]))
    model.save(path)
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps(change(json.loads(file.attrs["model_config"])))
        file.attrs["keras_version"] = "2.2.4"
    if change is shapeless_sequential:
        with pytest.raises(ModelError, match="--input-shape"):
            load(path)
        assert_equal(model, load(path, (8, 8, 2)).graph)
    else:
        assert_equal(model, load(path).graph)


def test_keras_2_archive(keras: Any, tmp_path: Path) -> None:
    """.keras as Keras 2.13 to 2.15 wrote it: other modules, calls as lists."""
    x = keras.Input((4,), name="x")
    y = keras.layers.Dense(3, name="one")(x)
    model = randomize(keras.Model(x, keras.layers.Add()([y, keras.layers.Dense(3, name="two")(y)])))
    model.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as archive:
        config, weights = json.loads(archive.read("config.json")), archive.read("model.weights.h5")
    config.update(module="keras.src.engine.functional", registered_name="Functional")
    for layer in config["config"]["layers"]:
        for index, call in enumerate(layer["inbound_nodes"]):
            tensors = call["args"][0] if isinstance(call["args"][0], list) else call["args"]
            layer["inbound_nodes"][index] = [[*t["config"]["keras_history"], {}] for t in tensors]
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    assert_equal(model, load(tmp_path / "old.keras").graph)


# ---- dynamic shapes


def test_dynamic_shape_needs_input_shape(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((None, None, 3), name="image"), layers.Conv2D(2, 3), layers.GlobalMaxPooling2D()]
    )
    with pytest.raises(ModelError, match=r"'image' .* \(\?,\?,3\)\n.*--input-shape 32,32,3"):
        load_keras_model(model)
    graph = load_keras_model(randomize(model), (8, 6, 3))
    assert graph.input_tensors[0].shape == (8, 6, 3)
    assert_equal(model, graph)


def test_input_shape_must_fit(keras: Any) -> None:
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Conv1D(2, 3)])
    for shape in [(8, 4), (8,), (0, 3), (-1, 3)]:
        with pytest.raises(ModelError, match="does not fit"):
            load_keras_model(model, shape)
    with pytest.raises(ModelError, match="has no input 'other'"):
        load_keras_model(model, {"other": (8, 3)})


def test_input_shape_of_several_inputs_goes_by_name(keras: Any) -> None:
    a, b = keras.Input((None, 3), name="a"), keras.Input((4,), name="b")
    pooled = keras.layers.GlobalAveragePooling1D()(a)
    model = randomize(keras.Model([a, b], keras.layers.Concatenate()([pooled, b])))
    with pytest.raises(ModelError, match="a=32,3"):
        load_keras_model(model)
    with pytest.raises(ModelError, match=r"--input-shape a=\.\.\. --input-shape b="):
        load_keras_model(model, (5, 3))
    assert_equal(model, load_keras_model(model, {"a": (5, 3)}))


def test_sequential_without_input_layer(keras: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    with pytest.raises(ModelError, match="--input-shape"):
        load_keras_model(model)
    model(np.zeros((1, 5), np.float32))
    randomize(model).save(tmp_path / "m.keras")
    assert_equal(model, load_keras(tmp_path / "m.keras").graph)


# ---- refusals


def unsupported_layers(keras: Any) -> dict[str, tuple[tuple[int, ...], Any, str]]:
    layers = keras.layers
    return {
        "LSTM": ((5, 3), layers.LSTM(2), "Conv1D"),
        "Bidirectional": ((5, 3), layers.Bidirectional(layers.GRU(2)), "Conv1D"),
        "LayerNormalization": ((5, 3), layers.LayerNormalization(), "BatchNormalization"),
        "Conv3D": ((4, 4, 4, 1), layers.Conv3D(2, 3), "2D layer"),
        "Lambda": ((4,), layers.Lambda(lambda x: x), "built-in layers"),
        "UnitNormalization": ((4,), layers.UnitNormalization(), "BatchNormalization"),
    }


@pytest.mark.parametrize(
    "kind", ["LSTM", "Bidirectional", "LayerNormalization", "Conv3D", "Lambda", "UnitNormalization"]
)
def test_unsupported_layer_is_refused_by_name(keras: Any, tmp_path: Path, kind: str) -> None:
    shape, layer, instead = unsupported_layers(keras)[kind]
    layer.name = "culprit"
    model = keras.Sequential([keras.Input(shape), layer])
    model.save(tmp_path / "m.keras")
    for attempt in (lambda: load_keras_model(model), lambda: load(tmp_path / "m.keras")):
        with pytest.raises(UnsupportedLayerError) as caught:
            attempt()
        assert (caught.value.layer, caught.value.kind) == ("culprit", kind)
        assert instead in str(caught.value)


def test_subclassed_model_is_refused(keras: Any) -> None:
    class Mine(keras.Model):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(ModelError, match="rebuild it as a Sequential or functional"):
        load_keras_model(Mine())


def test_own_layer_class_is_refused(keras: Any) -> None:
    class Dense(keras.layers.Dense):  # type: ignore[misc, name-defined]
        """Named like a built-in one."""

    model = keras.Sequential([keras.Input((3,)), Dense(2, name="mine")])
    with pytest.raises(UnsupportedLayerError, match="'mine'"):
        load_keras_model(model)


def test_training_true_is_refused(keras: Any) -> None:
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dropout(0.5, name="monte_carlo")(x, training=True))
    with pytest.raises(UnsupportedLayerError, match=r"'monte_carlo' .*training=True"):
        load_keras_model(model)


def test_image_augmentation_vanishes(keras: Any) -> None:
    """Keras notes down training=True for these layers, the default of their call."""
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, keras.layers.RandomFlip()(keras.layers.RandomZoom(0.2)(x)))
    graph = load_keras_model(model)
    assert graph.nodes == () and graph.outputs == graph.inputs


def test_raw_operation_is_refused(keras: Any) -> None:
    x = keras.Input((3,))
    with pytest.raises(UnsupportedLayerError, match="raw Keras operation"):
        load_keras_model(keras.Model(x, keras.ops.sin(x)))
    with pytest.raises(UnsupportedLayerError, match="raw Keras operation"):
        load_keras_model(keras.Model(x, x + 1.0))


def test_channels_first_is_refused(keras: Any) -> None:
    x = keras.Input((3, 8, 8))
    model = keras.Model(x, keras.layers.GlobalAveragePooling2D(data_format="channels_first", name="first")(x))
    with pytest.raises(UnsupportedLayerError, match=r"'first' .*channels_first"):
        load_keras_model(model)


def test_long_time_distribution_is_refused(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((65, 4, 4, 1)), layers.TimeDistributed(layers.Conv2D(1, 2))])
    with pytest.raises(UnsupportedLayerError, match="65 steps, allowed are 64"):
        load_keras_model(model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(keras: Any, tmp_path: Path, value: float) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="sick")])
    model.layers[0].kernel.assign([[0, 1], [value, 1], [1, 1]])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="1 of the 6 values of 'sick/kernel' are NaN or infinite"):
        load(tmp_path / "m.keras")


def test_keras_2_hard_sigmoid_is_refused(keras: Any, tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "m.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="hard_sigmoid", name="d")]).save(
        path
    )
    assert load(path).graph
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = "2.4.0"
    with pytest.raises(UnsupportedLayerError, match=r"'d' .*Keras 2"):
        load(path)


def test_unknown_options_are_dropped_one_by_one(keras: Any, tmp_path: Path) -> None:
    """A key that the class takes though its signature does not show it (LeakyReLU's old `alpha`) is kept."""
    import h5py

    path = tmp_path / "m.h5"
    model = keras.Sequential([keras.Input((3,)), keras.layers.LeakyReLU(name="leaky")])
    model.save(path)
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        options = config["config"]["layers"][1]["config"]
        del options["negative_slope"]
        options.update(alpha=0.25, fancy=[1, 2])
        file.attrs["model_config"] = json.dumps(config)
    loaded = load(path)
    assert loaded.notes == (
        "LeakyReLU: ignored the config key 'fancy' (= [1, 2]), unknown to this Keras, in 1 layer(s)",
    )
    y = evaluate.real(loaded.graph, [np.full((1, 3), -4, np.float32)])[0]
    np.testing.assert_array_equal(y, np.full((1, 3), -1, np.float32))
