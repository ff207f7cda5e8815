"""conv2d by Winograd's F(4x4, 3x3) on DSP cores: against the reference, on the host under UBSan and in Unicorn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tinygen
from tests.support.kernels import Case, assert_kernels, find_kernel, forced, random_case, supported
from tests.support.nodes import quantized_node
from tests.support.products import exact_node, random_constants
from tinygen import pipeline
from tinygen.boards import load_board
from tinygen.errors import BoardError
from tinygen.flash import limited
from tinygen.graph import Graph, QParams
from tinygen.judge import Outcome
from tinygen.ops import conv2d, winograd
from tinygen.ops.windows import Padding, output_size, same_padding
from tinygen.planning import plan
from tinygen.selection import Optimize
from tinygen.wishes import Wishes

KERNEL = "tg_conv2d_s8_dsp_winograd"
pytestmark = [pytest.mark.arm]


def random_node(seed: int, most_channels: int = 11) -> Graph:
    """Heights and widths of every remainder, any padding, channels of every remainder, clamp, zero points."""
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 11, 2).tolist())
    depth, channels = (int(n) for n in rng.integers(1, most_channels + 1, 2))
    padding = Padding(*map(int, rng.integers(0, 3, 4)))
    if rng.integers(2):
        padding = same_padding(size, (3, 3), (1, 1))
    if min(output_size((*size, depth), (3, 3), (1, 1), (1, 1), padding)) < 1:
        return random_node(seed + 1000, most_channels)
    return quantized_node(
        "conv2d",
        conv2d.Attrs(padding=padding, activation=str(rng.choice(["none", "relu", "relu6"]))),
        [((*size, depth), QParams.per_tensor(0.05, int(rng.integers(-128, 128))))],
        random_constants(seed, (channels, 3, 3, depth), channels),
        QParams.per_tensor(float(rng.choice([0.05, 0.3, 2.0])), int(rng.integers(-128, 128))),
    )


def cases(graphs: list[Graph]) -> list[Case]:
    """All of them: the kernel must take them."""
    assert all(supported(KERNEL, next(iter(g.bound()))) for g in graphs)
    return [random_case(KERNEL, g, 2, i) for i, g in enumerate(graphs)]


def test_random_nodes() -> None:
    made = cases([random_node(seed) for seed in range(14)])
    shapes = [c.graph.output_tensors[0].shape for c in made]
    depths = {c.inputs[0].shape[3] % 4 for c in made}
    assert (
        {s[0] % 4 for s in shapes} == {s[1] % 4 for s in shapes} == {s[2] % 4 for s in shapes} == {0, 1, 2, 3}
    )
    assert depths == {0, 1, 2, 3}
    assert_kernels(made)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_more_nodes(block: int) -> None:
    assert_kernels(cases([random_node(100 + 30 * block + i, 24) for i in range(30)]))


def extreme(seed: int, depth: int) -> Graph:
    """A tile of its own whose channels have weights of +-127 only, a sum of products just below the bound, halves that
    are exact, biases that need adding apart, and a channel that is constant."""
    rng = np.random.default_rng(seed)
    signs = np.sign(np.einsum("iy,jx->ijyx", winograd.WEIGHTS, winograd.WEIGHTS)).reshape(-1, 3, 3)
    signs = np.where(signs == 0, 1, signs)[[7, 8, 13, 14, *rng.permutation(36)[:5]]]
    weights = np.repeat(127 * signs[..., np.newaxis], depth, axis=3)
    exponent = rng.uniform(-19, -12, 9)
    multipliers = 2.0 ** np.where(rng.random(9) < 0.5, np.floor(exponent), exponent)
    bias = rng.integers(-(2**20), 2**20, 9)
    if seed % 2:
        bias[1::2], multipliers[1::2] = 2**26 - 2**25 // 3, 2.0**-20
    weights[8], weights[8, 1, 1, 0], bias[8], multipliers[8] = 0, 1, rng.integers(-3, 4), 2.0**-2
    bias[4], multipliers[4] = 2**27, 2.0**-10
    x, y = (QParams.per_tensor(1.0, int(rng.integers(-128, 128))) for _ in range(2))
    return exact_node(
        "conv2d", conv2d.Attrs(), (6, 6, depth), weights, bias, multipliers, 0, input=x, output=y
    )


INPUTS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
"""The transform of the input: its rows, for the tiles that make it greatest."""


def greatest_tiles(depth: int) -> np.ndarray:
    """(72, 6, 6, depth): for each of the 36 points the input that makes it greatest, then the least one. Every second
    channel has the other extreme, so that a lane's neighbour has the other sign."""
    signs = np.einsum("iy,jx->ijyx", INPUTS, INPUTS).reshape(36, 6, 6, 1) > 0
    tiles = np.where(np.concatenate([signs, ~signs]), 127, -128).astype(np.int8)
    even = np.arange(depth) % 4 < 2
    return np.where(even, tiles, ~tiles)


def test_extreme_products() -> None:
    """Transformed inputs up to 12,750, weights up to 18,288, sums over the channels up to 2**23."""
    made = [
        Case(KERNEL, extreme(seed, depth), (greatest_tiles(depth),)) for seed, depth in enumerate((56, 2))
    ]
    most = [
        np.abs(winograd.transformed(c.graph.tensors["weights"].data.astype(np.int64))).max() for c in made
    ]
    assert most == [18288, 18288]
    assert [float(int(INPUTS[0].clip(0).sum()) ** 2 * 255 * 2) for _ in made] == [12750.0] * 2
    assert_kernels(made + cases([extreme(seed, 7) for seed in range(2, 8)]))


def test_what_cannot_be_proved_is_not_taken() -> None:
    def taken(weight: int, bias: int, multiplier: float, **attrs: object) -> bool:
        weights = np.full((2, 3, 3, 57), weight)
        values = (weights, np.array([bias, 0]), np.full(2, multiplier))
        x = QParams.per_tensor(1.0, 0)
        g = exact_node("conv2d", conv2d.Attrs(**attrs), (7, 7, 57), *values, 0, input=x, output=x)
        return supported(KERNEL, next(iter(g.bound())))

    assert taken(127, 0, 2.0**-12)  # 128 * 127 * 513 < 2**23
    assert not taken(-128, 0, 2.0**-12)
    assert not taken(1, 0, 0.75)  # no shift to the right
    assert not taken(1, 0, 0.1, stride=(1, 2)) and not taken(1, 0, 0.1, dilation=(2, 1))
    assert taken(1, 0, 0.1)
    (b,) = random_node(0).bound()
    assert supported(KERNEL, b) and not supported(KERNEL, b, "mps3_an547")  # Helium takes half the cycles


def few() -> list[Case]:
    """Several turns of the inner loop with a rest, odd numbers of everything, and nothing odd."""
    x, y = QParams.per_tensor(0.05, -7), QParams.per_tensor(0.4, 4)
    shapes = (((4, 5, 91), 5), ((8, 8, 44), 8), ((6, 18, 16), 4))
    made = []
    for size, channels in shapes:
        attrs = conv2d.Attrs(padding=Padding(1, 1, 1, 1))
        constants = random_constants(3, (channels, 3, 3, size[2]), channels)
        made.append(quantized_node("conv2d", attrs, [(size, x)], constants, y))
    return cases([*made, *(random_node(seed) for seed in range(4))])


def test_turns_of_the_inner_loop() -> None:
    made = few()
    numbers = [winograd.winograd(next(iter(c.graph.bound()))) for c in made]
    assert any(p.turns > 1 and p.left for p in numbers) and any(p.turns > 1 and not p.left for p in numbers)
    assert_kernels(made)


def test_in_place() -> None:
    """The planner lets the output overwrite the input wherever the ring is ahead of it."""
    q, y = QParams.per_tensor(0.05, -7), QParams.per_tensor(0.1, 4)
    graphs, ahead = [], []
    for padding, channels in ((Padding(1, 1, 1, 1), 8), (Padding(6, 0, 1, 1), 8), (Padding(1, 1, 1, 1), 12)):
        constants = random_constants(channels, (channels, 3, 3, 8), channels)
        attrs = conv2d.Attrs(padding=padding)
        graphs.append(quantized_node("conv2d", attrs, [((18, 9, 8), q)], constants, y))
        (b,) = graphs[-1].bound()
        ahead.append(find_kernel(KERNEL).in_place(b))
    assert ahead == [(0,), (), ()]
    program = forced(graphs[0], KERNEL, load_board("mps2_an386"))
    (b,) = graphs[0].bound()
    assert plan(program).arena_bytes <= b.inputs[0].size_bytes + winograd.scratch(b) + 8
    assert_kernels(cases(graphs))


def test_where_speed_takes_too_much_flash_balanced_is_named() -> None:
    """Transformed weights take eight times the bytes."""
    attrs = conv2d.Attrs(padding=Padding(1, 1, 1, 1))
    q, constants = QParams.per_tensor(0.05, 0), random_constants(1, (64, 3, 3, 64), 64)
    graph = quantized_node("conv2d", attrs, [((8, 8, 64), q)], constants, QParams.per_tensor(4.0, 0))
    board = load_board("nucleo_l4r5zi")

    def compiled(optimize: Optimize, flash: int) -> pipeline.Compiled:
        options = pipeline.Options(optimize=optimize, wishes=Wishes(budget_flash=flash))
        return pipeline.lower_int8(graph, [limited(board, flash)], options)[0]

    assert compiled("speed", 400_000).program.steps[0].kernel.name == KERNEL
    assert compiled("balanced", 100_000).program.steps[0].kernel.name != KERNEL
    with pytest.raises(BoardError, match="or take --optimize balanced, with which it fits"):
        compiled("speed", 100_000)
    with pytest.raises(BoardError) as refused:
        compiled("speed", 20_000)
    assert "--optimize" not in str(refused.value)


@pytest.mark.shared
def test_the_published_resnet(shared_data: Path, tmp_path: Path) -> None:
    """Four of its nine convolutions, and every output element as the reference has it: in half the instructions of
    SMLAD without Winograd (13 million)."""
    model = shared_data / "models" / "ic_resnet8_int8.tflite"
    build = tinygen.compile(model, board="mps2_an386", optimize="speed", out=tmp_path / "fw")
    assert [step.kernel.name for step in build.compiled.program.steps].count(KERNEL) == 4
    for emulator in ("unicorn", "host-sanitized"):
        samples = shared_data / "cifar10_eval.npz"
        ran = tinygen.run(tmp_path / "fw", inputs=samples, emulator=emulator, count=4)
        assert (ran.result.outcome, ran.result.detail) == (Outcome.PASSED, ran.result.detail)
        if emulator == "unicorn":
            assert max(n or 0 for n in ran.result.instructions) < 7_600_000
