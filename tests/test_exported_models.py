"""Every Keras model of ../shared/data, quantized and exported: LiteRT equals the reference layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_models import REAL_MODELS, RealModel
from tinygen import spec
from tinygen.calibration import calibrate
from tinygen.evaluate import reference
from tinygen.fixedpoint import Rounding
from tinygen.frontend import load
from tinygen.frontend.tflite import read_tflite
from tinygen.fusion import fuse
from tinygen.graph import Array
from tinygen.oracle import run_litert_layers
from tinygen.quantization import Options, quantize
from tinygen.samples import load_samples, quantize_inputs
from tinygen.simplification import simplify
from tinygen.tflite.export import export_tflite

pytestmark = [pytest.mark.shared, pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore")]

KERAS = [m for m in REAL_MODELS if m.file.endswith(".keras")]
SAMPLES = 30


@pytest.mark.parametrize("model", KERAS, ids=lambda m: m.file)
def test_litert_equals_the_reference(model: RealModel, shared_data: Path) -> None:
    fused = fuse(load(shared_data / "models" / model.file).graph)
    calibration = calibrate(fused, load_samples(shared_data / model.train, fused, model.options), limit=8)
    quick = Options("min-max", equalization="off", bias_correction="off")
    graph = spec.check(simplify(quantize(fused, calibration, quick).graph), quantized=True)
    judged = load_samples(shared_data / model.eval, fused, model.options).head(SAMPLES)
    xs = quantize_inputs(graph, judged.x)
    ours: dict[str, Array] = {}
    reference(graph, xs, Rounding.SINGLE, ours.__setitem__)
    exported = export_tflite(graph)
    theirs = run_litert_layers(exported, xs)
    for name, values in ours.items():
        np.testing.assert_array_equal(theirs[name], values, err_msg=name)
    again = read_tflite(exported, f"{graph.name}.tflite")
    (got,) = reference(again, xs)
    np.testing.assert_array_equal(got, reference(graph, xs)[0], err_msg="read back")
