"""Kernels for Helium against the reference: their C twin on the host under UBSan, their instructions in QEMU."""

from __future__ import annotations

import pytest

from tests.ops.test_plain import extreme, random_conv2d, random_dense
from tests.support.kernels import assert_kernels, random_case

EMULATORS = ("host-sanitized", "qemu")
DRAWN = {"conv2d": random_conv2d, "dense": random_dense}


@pytest.mark.parametrize("op", DRAWN)
def test_random_nodes(op: str) -> None:
    made = [random_case(f"tg_{op}_s8_mve", DRAWN[op](seed), 2, seed) for seed in range(32)]
    assert_kernels(made, "mps3_an547", EMULATORS)


@pytest.mark.parametrize("op", DRAWN)
def test_extreme_accumulators(op: str) -> None:
    """Powers of two among the multipliers make exact halves of both signs."""
    made = [random_case(f"tg_{op}_s8_mve", extreme(op, seed), 6, seed) for seed in range(24)]
    assert_kernels(made, "mps3_an547", EMULATORS)
