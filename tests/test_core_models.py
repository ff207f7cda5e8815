"""Real models with the kernels of each core: equal to the reference in every element, instructions as recorded.

The Cortex-M4 is in tests/test_real_models.py; here stand the cores without SIMD, the others with the DSP
extension, and Helium. Counts are in tests/baselines/cores.json and never rise silently (docs/testing.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tinygen
from benchmarks.kernel_targets import CORES
from benchmarks.real_models import REAL_MODELS, RealModel
from tests.support import baselines
from tinygen.boards import load_board
from tinygen.emulators import find_emulator
from tinygen.judge import Outcome

BASELINES = baselines.FOLDER / "cores.json"
BY_FILE = {m.file: m for m in REAL_MODELS}
OTHERS = tuple(core for core in CORES if core != "m4")
QUICK_CORES = tuple(core for core in OTHERS if core != "m7")
QUICK = ("kws_ds_cnn_int8.tflite", "ad_autoencoder_int8.tflite")
VIBRATION = ("cwru_cnn1d.keras", "fan_cnn1d.keras", "ceiling_fan_ae.keras")
LONG = ("ic_resnet8_int8.tflite", "vww_mobilenet_v1_025_96_int8.tflite", *VIBRATION)

pytestmark = [pytest.mark.shared, pytest.mark.arm, pytest.mark.qemu]


def few_records(file: Path, count: int, folder: Path) -> Path:
    """`count` records from all over a data file in one of its own: preparing all takes longer than running a few."""
    with np.load(file) as whole:
        arrays, records = dict(whole), len(whole["x"])
    kept = np.linspace(0, records - 1, count + 1).astype(int)[1:]
    arrays |= {name: array[kept] for name, array in arrays.items() if array.shape[:1] == (records,)}
    folder.mkdir(exist_ok=True)
    np.savez(folder / file.name, **arrays)
    return folder / file.name


def instructions(model: RealModel, core: str, data: Path, out: Path, count: int) -> int:
    """Instructions of the first of `count` inferences, after every emulator of the core's board found all outputs
    equal to the reference and counted alike."""
    board = load_board(CORES[core])
    train = None if model.file.endswith(".tflite") else data / model.train
    tinygen.compile(
        data / "models" / model.file,
        representative=train,
        samples=model.options,
        board=CORES[core],
        out=out,
        optimize="balanced",
        pin="none",  # no veneers: instructions are the kernels' own
        pin_code="none",
    )
    inputs = few_records(data / model.eval, count, out.parent / "data")
    emulators = [n for n in ("unicorn", "qemu") if not find_emulator(n).unavailable(board)]
    assert emulators
    counts = set()
    for emulator in emulators:
        ran = tinygen.run(out, inputs=inputs, emulator=emulator, count=count)
        assert (ran.result.outcome, ran.result.detail) == (Outcome.PASSED, ran.result.detail)
        counts.add(ran.result.instructions[0])
    (counted,) = counts
    assert counted is not None
    return counted


@pytest.mark.parametrize("core", QUICK_CORES)
@pytest.mark.parametrize("file", QUICK)
def test_instructions_of_each_core(file: str, core: str, shared_data: Path, tmp_path: Path) -> None:
    counted = instructions(BY_FILE[file], core, shared_data, tmp_path / "fw", 1)
    baselines.hold(BASELINES, f"{file} {core}", counted)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("file", "core"),
    [*((file, core) for file in LONG for core in OTHERS), *((file, "m7") for file in QUICK)],
)
def test_long_models_on_each_core(file: str, core: str, shared_data: Path, tmp_path: Path) -> None:
    counted = instructions(BY_FILE[file], core, shared_data, tmp_path / "fw", 3)
    if file not in VIBRATION:
        baselines.hold(BASELINES, f"{file} {core}", counted)
