"""The model of what an inference reads of a layer's arrays (Kernel.reads), against the reads that Unicorn sees."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.support import pinned
from tests.support.nodes import quantized_node, random_inputs
from tinygen import evaluate
from tinygen.graph import Graph, QParams
from tinygen.ops import conv2d, dense, depthwise_conv2d
from tinygen.ops.windows import Padding, same_padding
from tinygen.selection import Optimize
from tinygen.wishes import Wishes

pytestmark = pytest.mark.arm

QP = QParams.per_tensor


def layer(kind: str) -> Graph:
    rng = np.random.default_rng(2)
    if kind == "dense":
        constants = (rng.normal(size=(20, 96)), rng.normal(size=20))
        return quantized_node("dense", dense.Attrs(), [((96,), QP(0.1, 0))], constants, QP(0.2, 1))
    shape = (20, 20, 6)
    padding = same_padding((20, 20), (3, 3), (1, 1)) if kind.endswith("padded") else Padding()
    if kind.startswith("conv2d"):
        constants = (rng.normal(size=(8, 3, 3, 6)), rng.normal(size=8))
        attrs: object = conv2d.Attrs(padding=padding)
        return quantized_node("conv2d", attrs, [(shape, QP(0.05, 3))], constants, QP(0.2, 0))
    constants = (rng.normal(size=(3, 3, 6)), rng.normal(size=6))
    attrs = depthwise_conv2d.Attrs(padding=padding)
    return quantized_node("depthwise_conv2d", attrs, [(shape, QP(0.05, 3))], constants, QP(0.2, 0))


@pytest.mark.parametrize(
    ("kind", "padded", "optimize"),
    [
        ("dense", 0.0, "portable"),
        ("dense", 0.0, "balanced"),
        ("conv2d", 0.0, "portable"),
        ("depthwise", 0.0, "portable"),
        ("conv2d padded", 0.07, "portable"),
        ("conv2d padded", 0.0, "balanced"),
        ("depthwise padded", 0.07, "portable"),
        ("depthwise padded", 0.0, "balanced"),
    ],
)
def test_reads_of_a_layer_are_as_modelled(
    kind: str, padded: float, optimize: Optimize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights: to the byte, but for taps in the padding, which portable kernels skip and the model counts. Other
    arrays: at most as modelled. On a Cortex-M0: hooks that fire inside IT blocks would disturb Unicorn."""
    graph, board = layer(kind), pinned.on_unicorn("microbit")
    built = pinned.build(graph, board, Wishes("none", "none"), tmp_path, optimize)
    arrays = {m.role: m for m in built.compiled.library.movables if not m.is_code}
    ranges = {role: built.run_range(m.symbol) for role, m in arrays.items()}
    reads: Counter[str] = Counter()
    x = random_inputs(graph, 1, seed=1)
    result = pinned.run(
        built, x, evaluate.reference(graph, x), pinned.counting_reads(ranges, reads), monkeypatch
    )
    assert result.passed, result.detail
    modelled = arrays["weights"].traffic.read
    assert modelled * (1 - padded) <= reads["weights"] <= modelled
    assert padded == 0 or reads["weights"] < modelled
    for role, movable in arrays.items():
        assert 0.9 * movable.traffic.read * (role != "weights") <= reads[role] <= movable.traffic.read
