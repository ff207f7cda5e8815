"""Layers in 16x8 among int8 ones: borders, choice, C on host and Unicorn, LiteRT, files, the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.host import run_on_host
from tests.support.nodes import SANITIZE
from tests.support.pinned import build, on_unicorn
from tinygen import evaluate, running, serialization
from tinygen.calibration import Calibration, calibrate
from tinygen.decisions import Options, QuantizationReport
from tinygen.emulators import Unicorn
from tinygen.errors import ModelError, UsageError
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, Graph, GraphBuilder
from tinygen.judge import Outcome
from tinygen.ops import activation, add, concat, conv2d, dense, mean, pooling, reshape, softmax
from tinygen.quantization import quantize
from tinygen.samples import Samples, quantize_inputs
from tinygen.simplification import simplify
from tinygen.tflite.export import export_tflite
from tinygen.wishes import Wishes


def float_model() -> Graph:
    """Convolutions with a residual sum, a sigmoid branch, concatenation, pooling, dense layers, softmax."""
    rng = np.random.default_rng(5)

    def weights(name: str, *shape: int) -> str:
        return b.constant(name, rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1))

    b = GraphBuilder("mixed")
    x = b.input("image", (8, 8, 3))
    first = b.add(
        "conv2d", "first", (x, weights("w1", 4, 3, 3, 3), weights("b1", 4)), conv2d.Attrs(activation="relu")
    )
    second = b.add("conv2d", "second", (first, weights("w2", 4, 1, 1, 4), weights("b2", 4)), conv2d.Attrs())
    total = b.add("add", "total", (first, second), add.Attrs("relu6"))
    gate = b.add("activation", "gate", (second,), activation.Attrs("sigmoid"))
    both = b.add("concat", "both", (total, gate), concat.Attrs(2))
    pooled = b.add("max_pool2d", "pooled", (both,), pooling.Attrs((2, 2), (2, 2)))
    means = b.add("mean", "means", (pooled,), mean.Attrs(True))
    flat = b.add("reshape", "flat", (means,), reshape.Attrs((8,)))
    logits = b.add("dense", "logits", (flat, weights("w3", 5, 8), weights("b3", 5)), dense.Attrs())
    return b.build((b.add("softmax", "classes", (logits,), softmax.Attrs()),))


@pytest.fixture(scope="module")
def calibrated() -> tuple[Graph, Calibration, Array]:
    graph = float_model()
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(np.float32)
    return graph, calibrate(graph, Samples((x,))), x


def made(calibrated: tuple[Graph, Calibration, Array], **options: object) -> QuantizationReport:
    graph, calibration, _ = calibrated
    told = Options("min-max", equalization="off", **options)  # type: ignore[arg-type]
    return quantize(graph, calibration, told)


def types(graph: Graph) -> dict[str, str]:
    return {n.name: graph.tensors[n.output].dtype for n in graph.nodes}


CHOICES = [
    {"activations": "int16"},
    {"int16": ("first",)},
    {"int16": ("gate", "logits")},
    {"activations": "auto"},
]


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_c_and_litert_equal_the_reference(
    calibrated: tuple[Graph, Calibration, Array], options: dict[str, object]
) -> None:
    from tinygen.oracle import run_litert

    graph = simplify(made(calibrated, **options).graph)
    assert "int16" in types(graph).values()
    assert graph.input_tensors[0].dtype == graph.output_tensors[0].dtype == "int8"
    x = quantize_inputs(graph, (calibrated[2][:12],))
    np.testing.assert_array_equal(run_on_host(graph, x, SANITIZE)[0], evaluate.reference(graph, x)[0])
    want = evaluate.reference(graph, x, Rounding.SINGLE)[0]
    np.testing.assert_array_equal(run_litert(export_tflite(graph), x)[0].reshape(want.shape), want)


def test_int16_is_nearer_to_float(calibrated: tuple[Graph, Calibration, Array]) -> None:
    """The cost of all in int16 is what the weights alone cost: far below that of int8."""
    narrow, wide = (made(calibrated, activations=a).cost for a in ("int8", "int16"))
    assert wide < narrow / 2


def test_borders_are_where_types_meet(calibrated: tuple[Graph, Calibration, Array]) -> None:
    """'first' in int16: its readers, too; what leaves them is the int8 of before."""
    before, after = made(calibrated).graph, made(calibrated, int16=("first",)).graph
    kinds = types(after)
    assert {n for n, t in kinds.items() if t == "int16"} == {"image/int16", "first", "second", "total"}
    assert kinds["second/int8"] == kinds["total/int8"] == kinds["gate"] == "int8"
    assert after.tensors["total/int8"].qparams == before.tensors["total"].qparams
    assert after.tensors["first/bias"].dtype == "int64" and after.tensors["logits/bias"].dtype == "int32"


def test_auto_stops_at_max_drop(calibrated: tuple[Graph, Calibration, Array]) -> None:
    """A drop that int8 has already is no reason to widen; one that nothing reaches gives the best there is."""
    none = made(calibrated, activations="auto", max_drop=100.0)
    assert none.int16 is not None and none.int16.layers == () and "holds" in str(none.int16)
    best = made(calibrated, activations="auto", max_drop=-1.0).int16
    assert best is not None and best.layers and best.comparison is not None and best.comparison.gain > 0
    assert best.sensitivity


def test_nothing_asked_nothing_changes(calibrated: tuple[Graph, Calibration, Array]) -> None:
    graph, calibration, _ = calibrated
    plain = quantize(graph, calibration, Options("min-max", equalization="off"))
    assert "bits" not in serialization.graph_to_json(plain.graph) and plain.int16 is None


def test_serialization_and_file_round_trip(
    calibrated: tuple[Graph, Calibration, Array], tmp_path: Path
) -> None:
    from tinygen.frontend.tflite import load_tflite

    graph = simplify(made(calibrated, int16=("first", "logits")).graph)
    again = serialization.graph_from_json(serialization.graph_to_json(graph))
    assert types(again) == types(graph) and again.tensors["first"].qparams == graph.tensors["first"].qparams
    path = tmp_path / "mixed.tflite"
    path.write_bytes(export_tflite(graph))
    x = quantize_inputs(graph, (calibrated[2][:8],))
    read = load_tflite(path)
    assert "int16" in types(read).values()
    np.testing.assert_array_equal(evaluate.reference(read, x)[0], evaluate.reference(graph, x)[0])


def test_int16_inputs_and_outputs_of_files_are_refused(
    calibrated: tuple[Graph, Calibration, Array], tmp_path: Path
) -> None:
    from tinygen.frontend.tflite import load_tflite

    graph = made(calibrated, activations="int16").graph
    path = tmp_path / "wide.tflite"
    path.write_bytes(export_tflite(replace(graph, outputs=("classes",)).pruned()))
    with pytest.raises(ModelError, match=r"'classes'.*int16"):
        load_tflite(path)


def test_layers_are_named_as_the_user_knows_them(calibrated: tuple[Graph, Calibration, Array]) -> None:
    with pytest.raises(UsageError, match=r"'frist'.*did you mean 'first'"):
        made(calibrated, int16=("frist",))
    with pytest.raises(UsageError, match="--activations 'int12' is unknown"):
        Options(activations="int12")  # type: ignore[arg-type]


def test_firmware_on_unicorn(calibrated: tuple[Graph, Calibration, Array], tmp_path: Path) -> None:
    """Arena planning, alignment and int64 biases on a core, weights pinned: every element of 4 samples."""
    graph = simplify(made(calibrated, activations="int16").graph)
    board = on_unicorn("nucleo_f446re")
    built = build(graph, board, Wishes(pin="all"), tmp_path)
    x = quantize_inputs(graph, (calibrated[2][:4],))
    result = running.run(built.firmware, board, Unicorn(), x, evaluate.reference(graph, x))
    assert result.outcome is Outcome.PASSED, result
