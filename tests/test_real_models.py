"""Every model of ../shared/data, compiled for the emulated Cortex-M4, runs bit for bit in QEMU and in Unicorn;
the same code runs on the host under ASan and UBSan.

Instructions per inference of the published int8 files (their quantization is fixed, so their counts are exact) are
kept in tests/baselines/instructions.json: they fall by being recorded, and never rise silently (docs/testing.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest

import tinygen
from benchmarks.real_models import REAL_MODELS, RealModel
from tests.support import baselines
from tinygen.judge import Outcome

BASELINES = baselines.FOLDER / "instructions.json"

pytestmark = [pytest.mark.shared, pytest.mark.arm, pytest.mark.qemu, pytest.mark.tensorflow]


def long_where_twins_run(model: RealModel) -> object:
    """The graph of a Keras 2 file is that of its .keras twin (test_frontend_keras.py), which is run here."""
    marks = [pytest.mark.slow] if model.file.endswith(".h5") else []
    return pytest.param(model, id=model.file, marks=marks)


@pytest.mark.parametrize("model", [long_where_twins_run(m) for m in REAL_MODELS])
def test_device_equals_reference(model: RealModel, shared_data: Path, tmp_path: Path) -> None:
    build = tinygen.compile(
        shared_data / "models" / model.file,
        representative=shared_data / model.train,
        samples=model.options,
        board="mps2_an386",
        out=tmp_path / "fw",
    )
    plan = build.compiled.plan
    assert plan.arena_bytes <= 1.02 * plan.lower_bound
    counts = {}
    for emulator in ("qemu", "unicorn"):
        ran = tinygen.run(
            tmp_path / "fw", inputs=shared_data / model.eval, emulator=emulator, count=model.count
        )
        assert (ran.result.outcome, ran.result.detail) == (Outcome.PASSED, ran.result.detail)
        assert len(ran.result.outputs[0]) == model.count
        counts[emulator] = ran.result.instructions[0]
    assert counts["qemu"] == counts["unicorn"] is not None
    sanitized = tinygen.run(
        tmp_path / "fw", inputs=shared_data / model.eval, emulator="host-sanitized", count=2
    )
    assert (sanitized.result.outcome, sanitized.result.detail) == (Outcome.PASSED, sanitized.result.detail)
    if model.file.endswith(".tflite"):
        baselines.hold(BASELINES, model.file, counts["qemu"] or 0)
