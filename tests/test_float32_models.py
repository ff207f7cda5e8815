"""float32 firmware of real models against Keras's own predict, and C of random models against both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tinygen
from benchmarks.real_models import REAL_MODELS
from tests.fuzz.checks import keras_outputs
from tests.fuzz.generator import random_model
from tests.support.host import run_on_host
from tests.support.nodes import random_inputs
from tinygen import evaluate, pipeline
from tinygen.frontend.keras import load_keras_model
from tinygen.heavy import import_keras
from tinygen.judge import Outcome
from tinygen.samples import load_samples
from tinygen.tolerances import FLOAT_TOLERANCE, tolerance, wrong_elements

pytestmark = pytest.mark.tensorflow
BY_FILE = {m.file: m for m in REAL_MODELS}
RUNS = (
    ("ad_autoencoder.keras", "mps2_an386", ("unicorn", "host-sanitized")),
    ("cwru_cnn1d.keras", "mps2_an386", ("unicorn", "host")),
    ("fan_cnn1d.keras", "mps2_an386", ("unicorn", "host-sanitized")),
    ("kws_ds_cnn.keras", "mps2_an386", ("unicorn", "qemu")),
    ("ic_resnet8.keras", "mps2_an386", ("host",)),
    ("vww_mobilenet_v1_025_96.keras", "mps2_an386", ("host",)),
    ("ceiling_fan_ae.keras", "pico", ("unicorn",)),
)


@pytest.mark.shared
@pytest.mark.arm
@pytest.mark.qemu
@pytest.mark.parametrize(("file", "board", "emulators"), RUNS, ids=[r[0] for r in RUNS])
def test_firmware_computes_what_keras_predicts(
    file: str, board: str, emulators: tuple[str, ...], shared_data: Path, tmp_path: Path
) -> None:
    """Two real samples; Keras's own predict is the judge, beside tinygen's."""
    keras = import_keras()
    real, path = BY_FILE[file], shared_data / "models" / file
    build = tinygen.compile(path, precision="float32", board=board, samples=real.options, out=tmp_path / "fw")
    (x,) = load_samples(shared_data / real.eval, build.compiled.graph, real.options).head(2).x
    want = keras.models.load_model(path, compile=False).predict(x, verbose=0).reshape(2, -1)
    for emulator in emulators:
        ran = tinygen.run(tmp_path / "fw", inputs=shared_data / real.eval, emulator=emulator, count=2)
        assert ran.result.outcome is Outcome.PASSED, ran.result.detail
        assert ran.result.detail == "2 samples, every output element within 1e-4 of the float model"
        (got,) = ran.result.outputs
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT_TOLERANCE * float(np.abs(want).max()))


def assert_random_models(seeds: range) -> None:
    """C on the host is within the tolerance of its graph, and ten times that of Keras: as far as a graph may be off."""
    judged = 0
    for seed in seeds:
        model = random_model(seed).model
        loaded = load_keras_model(model)
        graph = pipeline.float_program(loaded)
        x = random_inputs(graph, 4, seed)
        outputs = zip(
            run_on_host(graph, x), evaluate.real(graph, x), keras_outputs(model, loaded, x), strict=True
        )
        for got, want, theirs in outputs:
            limit = tolerance(want)
            if limit > 1e-9:  # else the output is 0 but for rounding
                judged += 1
                assert wrong_elements(got, want, limit).size == 0, seed
                np.testing.assert_allclose(got, theirs, rtol=0, atol=10 * limit, err_msg=str(seed))
    assert judged > len(seeds)


def test_random_models() -> None:
    assert_random_models(range(7000, 7012))


@pytest.mark.slow
def test_many_random_models() -> None:
    assert_random_models(range(8000, 8400))
