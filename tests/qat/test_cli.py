"""`tinygen qat`: what it writes, what it refuses, and that nothing is half written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.float_models import net, samples_for, saved
from tinygen import bundle, evaluate
from tinygen.cli.main import main
from tinygen.fixedpoint import Rounding
from tinygen.heavy import import_keras
from tinygen.oracle import run_litert

pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.keras, train.npz, eval.npz."""
    folder = tmp_path_factory.mktemp("qat")
    model = net()
    saved(model, folder / "net.keras")
    for seed, name in enumerate(("train", "eval")):
        x = samples_for(model, 60, seed)["image"]
        np.savez(folder / f"{name}.npz", x=x, y=np.asarray(model(x)).argmax(axis=1))
    return folder


def arguments(given: Path, out: Path, *more: str) -> list[str]:
    files = ["--representative", str(given / "train.npz"), "--eval", str(given / "eval.npz")]
    return ["qat", str(given / "net.keras"), *files, "--epochs", "2", "--out", str(out), "--json", *more]


def test_project_tflite_and_keras(given: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "fw"
    assert main(arguments(given, out)) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["epochs"] == 2 and data["files"] == ["qat.keras", "qat_int8.tflite"]
    assert data["metrics"]["int8"]["count"] == data["metrics"]["untrained"]["count"] == 60
    graph, _, manifest = bundle.load_project(out)
    assert manifest["qat"]["seed"] == 1 and any(
        "quantization-aware" in d for d in manifest["quantization"]["decisions"]
    )
    x = np.load(given / "eval.npz")["x"]
    q = [graph.input_tensors[0].q.quantize(x)]
    (want,) = evaluate.reference(graph, q, Rounding.SINGLE)
    np.testing.assert_array_equal(
        run_litert((out / "qat_int8.tflite").read_bytes(), q)[0].reshape(want.shape), want
    )
    keras = import_keras().models.load_model(out / "qat.keras")
    (device,) = evaluate.reference(graph, q)
    answers = graph.output_tensors[0].q.dequantize(device)
    assert np.abs(np.asarray(keras(x)) - answers).mean() < 0.02


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--max-drop", "-200"), "--max-drop allows -200: nothing was written"),
        (("--ranges", "learnt"), "did you mean 'learned'"),
        (("--board", "nucleo"), "nucleo"),
        (("--teacher", "no.keras"), "no.keras"),
        (("--epochs", "0"), "epochs"),
    ],
)
def test_refusals_leave_nothing(
    given: Path, tmp_path: Path, capsys: Any, more: tuple[str, ...], message: str
) -> None:
    assert main(arguments(given, tmp_path / "fw", *more)) == 1
    assert message in json.loads(capsys.readouterr().out)["error"]
    assert list(tmp_path.iterdir()) == []


def test_an_int8_model_and_missing_samples_are_refused(given: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["qat", str(given / "net.keras"), "--out", str(tmp_path / "fw")]) == 1
    assert "--representative is missing" in capsys.readouterr().err
    model = tmp_path / "m.tflite"
    model.write_bytes(b"")
    assert (
        main(["qat", str(model), "--representative", str(given / "train.npz"), "--out", str(tmp_path / "fw")])
        == 1
    )
    assert "int8 already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_while_training_nothing_is_left(given: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Runs for as long as it may; the signal comes while it trains."""
    line = [*arguments(given, tmp_path / "fw")]
    line[line.index("--epochs") + 1] = "100000"
    with subprocess.Popen(
        [sys.executable, "-m", "tinygen", *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    ) as process:  # fmt: skip
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=15)
            process.send_signal(how)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == (-9 if how is signal.SIGKILL else 1)
    assert how is signal.SIGKILL or "nothing was written" in out
    assert list(tmp_path.iterdir()) == []
