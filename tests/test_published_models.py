"""The four published int8 .tflite files: read, evaluated, written again; LiteRT's reference kernels judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinygen.evaluate import reference
from tinygen.fixedpoint import Rounding
from tinygen.frontend.tflite import load_tflite, read_tflite
from tinygen.graph import Array, Graph
from tinygen.oracle import run_litert, run_litert_indexed
from tinygen.spec import check
from tinygen.tflite.export import export_tflite
from tinygen.tflite.parsing import TfliteFile

pytestmark = pytest.mark.shared

SAMPLES = 100
LAYERS = {"ad_autoencoder": 10, "ic_resnet8": 16, "kws_ds_cnn": 13, "vww_mobilenet_v1_025_96": 31}
MODELS = tuple(LAYERS)


def image_samples(file: Path) -> Array:
    """uint8 images as the models' int8 inputs: u - 128."""
    return (np.load(file)["x"][:SAMPLES].astype(np.int16) - 128).astype(np.int8)


def toycar_windows(file: Path, graph: Graph) -> Array:
    """Windows of 5 frames of 128 log-mel values in dB, from all over the clips, as the input asks."""
    clips = np.load(file)["x"].astype(np.float32) / 256
    starts = np.linspace(0, clips.shape[1] - 5, SAMPLES).astype(int)
    windows = [clips[i % len(clips), s : s + 5].reshape(-1) for i, s in enumerate(starts)]
    return graph.input_tensors[0].q.quantize(np.stack(windows))


def samples(name: str, folder: Path, graph: Graph) -> Array:
    """Real inputs of a model, prepared as SOURCES.md says."""
    if name == "ad_autoencoder":
        return toycar_windows(folder / "ad_toycar_eval.npz", graph)
    if name == "kws_ds_cnn":
        return np.asarray(np.load(folder / "kws_mfcc_eval.npz")["x"][:SAMPLES])
    return image_samples(folder / ("cifar10_eval.npz" if name == "ic_resnet8" else "vww96_ccby_eval.npz"))


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(name: str, shared_data: Path) -> Path:
    return shared_data / "models" / f"{name}_int8.tflite"


def test_every_layer_equals_litert(name: str, file: Path, shared_data: Path) -> None:
    graph = load_tflite(file)
    assert len(graph.nodes) == LAYERS[name]
    check(graph, quantized=True)
    x = samples(name, shared_data, graph)
    assert len(x) >= 100 and len(np.unique(x)) > 50
    ours: dict[str, Array] = {}
    reference(graph, [x], Rounding.SINGLE, ours.__setitem__)
    theirs = run_litert_indexed(file.read_bytes(), [x])
    operators = TfliteFile(file.read_bytes(), file.name).operators
    for node, operator in zip(graph.nodes, operators, strict=True):
        np.testing.assert_array_equal(ours[node.output], theirs[operator.outputs[0]], err_msg=node.name)


def test_written_again_it_computes_the_same(name: str, file: Path, shared_data: Path) -> None:
    graph = load_tflite(file)
    x = samples(name, shared_data, graph)
    (published,) = run_litert(file.read_bytes(), [x])
    exported = export_tflite(graph)
    (written,) = run_litert(exported, [x])
    np.testing.assert_array_equal(written, published)
    again = read_tflite(exported, file.name)
    assert (again.nodes, again.tensors, again.outputs) == (graph.nodes, graph.tensors, graph.outputs)
    for constant in filter(lambda t: t.is_constant, graph.tensors.values()):
        np.testing.assert_array_equal(again.tensors[constant.name].data, constant.data)
    assert export_tflite(again) == exported


def test_layers_have_the_names_of_the_keras_model(name: str, file: Path) -> None:
    names = [n.name for n in load_tflite(file).nodes]
    expected = {
        "ad_autoencoder": ["dense", "dense_1", "dense_9"],
        "ic_resnet8": ["conv2d", "conv2d_8", "add", "add_2", "average_pooling2d", "flatten", "softmax"],
        "kws_ds_cnn": ["conv2d", "depthwise_conv2d_3", "conv2d_4", "flatten", "softmax"],
        "vww_mobilenet_v1_025_96": ["conv2d", "depthwise_conv2d_12", "conv2d_13", "softmax"],
    }
    assert set(expected[name]) <= set(names) and len(set(names)) == len(names)


def test_quantization_is_kept_exactly(shared_data: Path) -> None:
    graph = load_tflite(shared_data / "models" / "kws_ds_cnn_int8.tflite")
    (x,) = graph.input_tensors
    assert (x.shape, x.scale, x.zero_point) == ((49, 10, 1), float(np.float32(0.5847029089927673)), 83)
    weights = graph.bound()[1].inputs[1]
    assert (weights.shape, weights.q.axis, len(weights.q.scale)) == ((3, 3, 64), 2, 64)
