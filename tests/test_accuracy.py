"""What int8 costs on real data (benchmarks/accuracy.py), and the data's preparation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import accuracy, datasets
from benchmarks.accuracy import Judged, Row, measure, page
from benchmarks.datasets import BY_NAME, TASKS, folder, spectrum, toycar
from tinygen.errors import DataError
from tinygen.graph import GraphBuilder
from tinygen.metrics import Metric
from tinygen.ops import reshape
from tinygen.quantization import QuantizationReport

SMALL = ("cwru", "fan", "ceiling_fan")


@pytest.mark.shared
@pytest.mark.tensorflow
@pytest.mark.parametrize("name", SMALL)
def test_small_models_stay_within_their_bounds(name: str) -> None:
    row = measure(BY_NAME[name], "eval", with_tflite=False)
    assert row.holds, accuracy._summary(row)


@pytest.mark.shared
@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("name", [task.name for task in TASKS if task.name not in SMALL])
def test_large_models_stay_within_their_bounds(name: str) -> None:
    row = measure(BY_NAME[name], "eval", with_tflite=False)
    assert row.holds, accuracy._summary(row)


@pytest.mark.shared
@pytest.mark.tensorflow
def test_tflite_stands_beside_on_the_same_samples() -> None:
    row = measure(BY_NAME["ceiling_fan"], "train", with_tflite=True)
    assert (
        row.tflite is not None and abs(row.tflite.lost) < 3 and row.float32.count == row.tflite.metric.count
    )


@pytest.mark.shared
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_prepared_data_has_the_shapes_and_sizes_of_its_description(task: datasets.Task) -> None:
    samples = task.samples("eval")
    counts = {"kws": 665, "ic": 689, "vww": 176, "ad": 165 * 196, "cwru": 295, "fan": 306}
    assert samples.count == counts.get(task.name, samples.count)
    assert samples.x[0].dtype == np.float32 and np.isfinite(samples.x[0]).all()
    exact = {"kws": 83, "ic": -128, "vww": -128}
    (grid,) = samples.grids or (None,)
    assert (grid.zero_point if grid else None) == exact.get(task.name)


@pytest.mark.shared
def test_anomalies_are_not_calibrated_on() -> None:
    task = BY_NAME["ceiling_fan"]
    train, judging = task.samples("train"), task.samples("train", judging=True)
    assert not train.y.any() and judging.y.any() and judging.count > train.count  # type: ignore[union-attr]
    assert abs(float(train.x[0].mean())) < 0.2 and abs(float(train.x[0].std()) - 1) < 0.2


def test_windows_of_a_recording_are_five_frames_in_a_row() -> None:
    frames = np.arange(2 * 7 * 128, dtype=np.int16).reshape(2, 7, 128)
    samples = toycar({"x": frames, "y": np.array([0, 1], np.uint8), "scale": np.float32(0.5)}, "eval")
    assert samples.x[0].shape == (6, 640) and samples.groups.tolist() == [0, 0, 0, 1, 1, 1]  # type: ignore[union-attr]
    assert np.array_equal(samples.x[0][1], 0.5 * frames[0, 1:6].reshape(640))


def test_spectrum_finds_a_tone_in_its_band() -> None:
    time = np.arange(128)
    x = np.zeros((1, 128, 3))
    x[0, :, 1] = 1024 * np.sin(2 * np.pi * 22 * time / 128)  # bin 22: band (22 - 1) // 4 = 5
    bands = spectrum(x).reshape(16, 3)
    assert bands[:, 1].argmax() == 5 and np.allclose(bands[:, (0, 2)], -3)


def test_absent_data_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGEN_SHARED_DATA", str(tmp_path))
    assert folder() == tmp_path
    with pytest.raises(DataError, match=r"cifar10_train.npz' does not exist"):
        BY_NAME["ic"].samples("train")


# ---- the page and the command


def row(lost: float) -> Row:
    """A made-up row."""
    b = GraphBuilder("g")
    graph = b.build((b.add("reshape", "y", (b.input("x", (2,)),), reshape.Attrs((2,))),))
    metric = Metric("accuracy", 0.9, 0.88, 0.92, 700)
    judged = Judged(metric, lost, 9, 5, 4)
    return Row(
        "ic", "CIFAR-10", 1.0, metric, judged, judged, 2.0, QuantizationReport(graph, (), (), 64, 32, 0.01)
    )


@pytest.mark.parametrize(("lost", "status"), [(0.99, 0), (1.01, 1), (-3.0, 0)])
def test_exit_status_says_whether_bounds_hold(
    lost: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accuracy, "measure", lambda task, split, with_tflite: row(lost))
    assert accuracy.main(["ic", "--json"]) == status
    (figures,) = json.loads(capsys.readouterr().out)
    assert figures["holds"] == (status == 0) and figures["int8"]["changed"] == 9


def test_page_is_written_from_all_models_on_the_evaluation_sets_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accuracy, "measure", lambda task, split, with_tflite: row(0.5))
    monkeypatch.setattr(accuracy, "PAGE", tmp_path / "accuracy.md")
    for arguments in (["ic"], ["--split", "train"], ["--no-tflite"]):
        assert accuracy.main(arguments) == 0 and not accuracy.PAGE.exists()
    assert accuracy.main([]) == 0
    assert accuracy.PAGE.read_text() == page([row(0.5)] * len(TASKS))
    assert "| 9 (5, 4) |" in page([row(0.5)]) and "**too much**" not in page([row(0.5)])
    assert "**too much**" in page([row(2.0)])
    capsys.readouterr()
