"""Kernels for Helium against the reference: their C twin on the host under UBSan, their instructions in QEMU."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.test_plain import every_input, extreme, random_conv2d, random_dense, random_depthwise
from tests.support.kernels import assert_kernels, random_case, supported
from tests.support.nodes import quantized_node
from tinygen.graph import Graph, QParams
from tinygen.ops.binary import Attrs

EMULATORS = ("host-sanitized", "qemu")
DRAWN = {"conv2d": random_conv2d, "dense": random_dense, "depthwise_conv2d": random_depthwise}


@pytest.mark.parametrize("op", DRAWN)
def test_random_nodes(op: str) -> None:
    name, drawn = f"tg_{op}_s8_mve", [DRAWN[op](seed) for seed in range(40)]
    taken = [g for g in drawn if supported(name, next(iter(g.bound())), "mps3_an547")]
    assert len(taken) >= 20
    made = [random_case(name, g, 2, i) for i, g in enumerate(taken)]
    assert_kernels(made, "mps3_an547", EMULATORS)


@pytest.mark.parametrize("op", DRAWN)
def test_extreme_accumulators(op: str) -> None:
    """Powers of two among the multipliers make exact halves of both signs."""
    made = [random_case(f"tg_{op}_s8_mve", extreme(op, seed), 6, seed) for seed in range(24)]
    assert_kernels(made, "mps3_an547", EMULATORS)


def random_add(seed: int) -> Graph:
    """Equal shapes, every remainder of elements by four, scales far apart or powers of two (exact halves)."""
    rng = np.random.default_rng(seed)
    scales = 0.05 * 2.0 ** (rng.integers(-3, 4, 3) if seed % 2 else rng.uniform(-6, 6, 3))
    a, b, y = (QParams.per_tensor(float(s), int(rng.integers(-128, 128))) for s in scales)
    shape = (1, 1 + seed % 3, 5 + seed % 7)
    return quantized_node("add", Attrs(str(rng.choice(["none", "relu"]))), [(shape, a), (shape, b)], (), y)


def test_add() -> None:
    drawn = [random_add(seed) for seed in range(40)]
    made = [g for g in drawn if supported("tg_add_s8_mve", next(iter(g.bound())), "mps3_an547")]
    assert len(made) >= 20
    cases = [random_case("tg_add_s8_mve", g, 6, i) for i, g in enumerate(made)]
    assert_kernels(cases, "mps3_an547", EMULATORS)


def test_halves() -> None:
    """Exhaustive: every input under every shift, halves of either sign."""
    assert_kernels([every_input("tg_conv2d_s8_mve")], "mps3_an547", EMULATORS)
