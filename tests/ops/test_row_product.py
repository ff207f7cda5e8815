"""Products of rows: few outputs, one or two inputs, by every kernel of theirs against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.kernels import Case, assert_kernels, find_kernel, random_case, supported
from tests.support.nodes import quantized_node
from tests.support.products import exact_node, random_constants
from tinygen.graph import Graph, QParams
from tinygen.ops import conv2d, dense
from tinygen.ops.windows import VALID, Padding

WHAT = ("dsp_dot", "dsp_pairs", "table", "dsp_wide")
pytestmark = [pytest.mark.arm]


def random_rows(seed: int) -> Graph:
    """A dense layer, a convolution by one pixel or one by the whole image: all remainders."""
    rng = np.random.default_rng(seed)
    op = ("dense", "conv2d", "conv2d")[seed % 3]
    depth = int(rng.integers(1, 3) if seed % 2 else rng.integers(1, 40))
    channels, height, width = (int(n) for n in rng.integers(1, 7, 3))
    window = () if op == "dense" else ((1, 1) if seed % 3 == 1 else (height, width))
    activation = str(rng.choice(["none", "relu", "relu6"]))
    attrs = dense.Attrs(activation) if op == "dense" else conv2d.Attrs(activation=activation)
    return quantized_node(
        op,
        attrs,
        [((height, width, depth), QParams.per_tensor(0.05, int(rng.integers(-128, 128))))],
        random_constants(seed, (channels, *window, depth), channels),
        QParams.per_tensor(float(rng.choice([0.05, 0.3, 2.0])), int(rng.integers(-128, 128))),
    )


def extreme(seed: int, depth: int) -> Graph:
    """Great sums, halves of either sign, channels that are constant."""
    rng = np.random.default_rng(seed)
    weights = rng.choice([-127, -1, 0, 1, 127], (33, depth))
    bias = rng.choice([-1, 1], 33) * 2 ** rng.integers(0, 22, 33)
    exponent = rng.uniform(-20, -1.01, 33)
    multipliers = 2.0 ** np.where(rng.random(33) < 0.5, np.floor(exponent), exponent)
    weights[29:32], bias[29:32], multipliers[29:32] = 0, [-40, -41, -42], 2.0**-3
    weights[29:32, 0] = [1, -1, 1]
    bias[::4], multipliers[::4] = 2**24, 2.0**-10
    x = QParams.per_tensor(1.0, int(rng.integers(-128, 128)))
    return exact_node("dense", dense.Attrs(), (7, depth), weights, bias, multipliers, 0, input=x, output=x)


def cases(graphs: list[Graph]) -> list[Case]:
    """Every graph by every kernel here that takes it."""
    return [
        random_case(name, g, 2, i)
        for i, g in enumerate(graphs)
        for name in (f"tg_{g.nodes[0].op}_s8_{what}" for what in WHAT)
        if supported(name, next(iter(g.bound())))
    ]


def test_random_rows() -> None:
    made = cases([random_rows(seed) for seed in range(72)])
    for op in ("conv2d", "dense"):
        counts = [sum(c.kernel == f"tg_{op}_s8_{what}" for c in made) for what in WHAT]
        assert min(counts) >= 4, counts
    assert_kernels(made)


def test_extreme_accumulators() -> None:
    made = cases([extreme(seed, depth) for seed, depth in enumerate((1, 1, 2, 2, 4, 5, 7))])
    assert len(made) == 16
    assert_kernels(made)


@pytest.mark.parametrize(
    "attrs",
    [
        conv2d.Attrs(padding=Padding(1, 0, 0, 0)),
        conv2d.Attrs(stride=(2, 1)),
        conv2d.Attrs(groups=2),
    ],
    ids=["padding", "stride", "groups"],
)
def test_only_rows_that_lie_side_by_side(attrs: conv2d.Attrs) -> None:
    constants = random_constants(0, (2, 1, 1, 8 // attrs.groups), 2)
    image = [((4, 4, 8), QParams.per_tensor(0.05, 3))]
    taken, other = (
        next(iter(quantized_node("conv2d", a, image, c, QParams.per_tensor(0.3, 0)).bound()))
        for a, c in ((conv2d.Attrs(padding=VALID), random_constants(0, (2, 1, 1, 8), 2)), (attrs, constants))
    )
    name = "tg_conv2d_s8_dsp_dot"
    assert supported(name, taken) and not supported(name, other)


def test_the_table_is_for_every_core() -> None:
    b = next(iter(extreme(0, 1).bound()))
    assert supported("tg_dense_s8_table", b, "microbit") and not supported(
        "tg_dense_s8_dsp_pairs", b, "microbit"
    )
    assert find_kernel("tg_dense_s8_table").supports(b, None)
