"""Shared fixtures. Tests are grouped by what they need: markers arm, qemu, tensorflow, shared, slow."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

SHARED = Path(__file__).resolve().parents[2] / "shared"

settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")

NEEDS = {
    "arm": (lambda: shutil.which("arm-none-eabi-gcc"), "arm-none-eabi-gcc is not installed (make setup)"),
    "qemu": (lambda: shutil.which("qemu-system-arm"), "qemu-system-arm is not installed (make setup)"),
    "cmake": (
        lambda: shutil.which("cmake") and shutil.which("make") and shutil.which("g++"),
        "cmake, make or g++ is not installed (make setup)",
    ),
    "chromium": (
        lambda: shutil.which("chromium") and shutil.which("chromedriver"),
        "chromium or chromedriver is not installed (make setup)",
    ),
    "shared": (lambda: (SHARED / "data").is_dir(), "../shared/data is absent"),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs something absent; on CI a missing tool fails instead: there the set-up must have made it."""
    if os.environ.get("TINYGEN_REQUIRE_TOOLS"):
        return
    for marker, (present, reason) in NEEDS.items():
        if present():
            continue
        for item in items:
            if marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """../shared/data: real models and data; skips the test where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("../shared/data is absent")
    return SHARED / "data"
