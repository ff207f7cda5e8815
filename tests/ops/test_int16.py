"""int16 forms (16x8): every operator against LiteRT's kernels, C on the host and real arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nodes import (
    assert_agree,
    assert_equals_c,
    assert_equals_litert,
    quantized_node,
    random_inputs,
)
from tinygen import evaluate
from tinygen.errors import UnsupportedLayerError
from tinygen.fixedpoint import multiply_wide, quantize_multiplier, reduced_multiplier
from tinygen.graph import Array, Graph, QParams
from tinygen.ops import (
    activation,
    add,
    concat,
    conv2d,
    crop,
    dense,
    depthwise_conv2d,
    mean,
    pad,
    pooling,
    requantize,
    reshape,
    softmax,
    transpose,
)
from tinygen.ops.interpolation import look_up_between, sigmoid_table
from tinygen.ops.windows import same_padding

scales = st.sampled_from([2.0**-15, 7e-5, 2.0**-12, 3e-4, 0.01])
fused = st.sampled_from(["none", "relu", "relu6", "relu_n1_to_1"])
sizes = st.integers(2, 6)
seeds = st.integers(0, 10**6)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def wide(scale: float) -> QParams:
    return QParams.int16(scale)


def output_for(x: float, products: int) -> float:
    """A scale at which a sum of that many products of normal weights sometimes saturates."""
    return x * 1.5 * products**0.5


@st.composite
def convolutions(draw: st.DrawFn) -> Graph:
    """1D (height 1) and 2D, grouped, strided, dilated, 'same' or 'valid'."""
    groups, depth, each = draw(st.sampled_from([1, 1, 2])), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, kernel_h = (1, 1) if draw(st.booleans()) else (draw(sizes), draw(st.integers(1, 2)))
    shape, kernel = (height, draw(sizes) + 3, groups * depth), (kernel_h, draw(st.integers(1, 3)))
    stride = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    padding = same_padding(shape[:2], kernel, stride) if draw(st.booleans()) else conv2d.VALID
    seed, scale = draw(seeds), draw(scales)
    attrs = conv2d.Attrs(stride, (1, 1), padding, groups, draw(fused))
    constants = [normal(seed, groups * each, *kernel, depth), 100 * scale * normal(seed + 1, groups * each)]
    y = output_for(scale, kernel[0] * kernel[1] * depth)
    return quantized_node("conv2d", attrs, [(shape, wide(scale))], constants, wide(y))


@st.composite
def depthwise(draw: st.DrawFn) -> Graph:
    depth, kernel = draw(st.integers(1, 3)), (draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    shape, stride = (draw(sizes), draw(sizes) + 1, depth), draw(st.sampled_from([(1, 1), (2, 2)]))
    padding = same_padding(shape[:2], kernel, stride) if draw(st.booleans()) else conv2d.VALID
    channels, seed, scale = depth * draw(st.integers(1, 2)), draw(seeds), draw(scales)
    constants = [normal(seed, *kernel, channels), 100 * scale * normal(seed + 1, channels)]
    attrs = depthwise_conv2d.Attrs(stride, (1, 1), padding, draw(fused))
    y = output_for(scale, kernel[0] * kernel[1])
    return quantized_node("depthwise_conv2d", attrs, [(shape, wide(scale))], constants, wide(y))


@st.composite
def dense_layers(draw: st.DrawFn) -> Graph:
    depth, channels, seed, scale = (
        draw(st.integers(1, 700)),
        draw(st.integers(1, 9)),
        draw(seeds),
        draw(scales),
    )
    leading = draw(st.lists(st.integers(1, 3), max_size=1))
    constants = [normal(seed, channels, depth), 100 * scale * normal(seed + 1, channels)]
    y = wide(output_for(scale, depth))
    return quantized_node("dense", dense.Attrs(draw(fused)), [((*leading, depth), wide(scale))], constants, y)


@st.composite
def sums(draw: st.DrawFn) -> Graph:
    x, y = draw(scales), draw(scales)
    inputs = [((3, 4), wide(x)), ((3, 4), wide(draw(scales)))]
    constants = [normal(draw(seeds), 4)] if draw(st.booleans()) else []
    return quantized_node(
        "add", add.Attrs(draw(fused)), inputs[: 2 - len(constants)], constants, wide(max(x, y))
    )


@st.composite
def pools(draw: st.DrawFn) -> Graph:
    shape, window = (draw(sizes), draw(sizes), 2), (2, draw(st.integers(1, 2)))
    stride = draw(st.sampled_from([(1, 1), (2, 2)]))
    padding = same_padding(shape[:2], window, stride) if draw(st.booleans()) else conv2d.VALID
    attrs = pooling.Attrs(window, stride, padding, draw(fused))
    return quantized_node(
        draw(st.sampled_from(["max_pool2d", "average_pool2d"])), attrs, [(shape, wide(draw(scales)))]
    )


@st.composite
def means(draw: st.DrawFn) -> Graph:
    x = draw(scales)
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 40)), 2)
    return quantized_node(
        "mean", mean.Attrs(True), [(shape, wide(x))], [], wide(x * draw(st.sampled_from([0.3, 1, 2])))
    )


@settings(max_examples=30, deadline=None)
@given(st.one_of(convolutions(), depthwise(), dense_layers()), seeds)
def test_products(graph: Graph, seed: int) -> None:
    """The reduced multiplier has 15 bits: up to 2 steps of 2**16 lie between it and real arithmetic."""
    assert_agree(graph, samples=4, seed=seed, lsb=3.0)


@settings(max_examples=20, deadline=None)
@given(st.one_of(pools(), means()), seeds)
def test_pools_and_means(graph: Graph, seed: int) -> None:
    assert_agree(graph, samples=4, seed=seed)


@settings(max_examples=25, deadline=None)
@given(sums(), seeds)
def test_sums(graph: Graph, seed: int) -> None:
    """15 fraction bits: each input may be half a step of the larger scale off."""
    assert_agree(graph, samples=4, seed=seed, lsb=2.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), scales, st.sampled_from([0.5, 1.0]), seeds)
def test_softmax(rows: int, depth: int, scale: float, beta: float, seed: int) -> None:
    graph = quantized_node("softmax", softmax.Attrs(beta), [((rows, depth), wide(scale))])
    inputs = random_inputs(graph, samples=4, seed=seed)
    assert_equals_c(graph, inputs)
    assert_equals_litert(graph, inputs)
    (got,) = evaluate.reference(graph, inputs)
    low, high = softmax_bounds(beta * scale * inputs[0].astype(np.float64))
    assert (got >= np.minimum(low, 32767)).all() and (got <= high).all()


def softmax_bounds(x: Array) -> tuple[Array, Array]:
    """Least and largest output, in steps of 1/32,768, that the method allows for real inputs x along the last axis.

    A power errs by what its table errs at worst (measured at all 65,536 inputs), by a rounded argument (one step: twice
    half, once of the product, once of the shift) and by 65,535 in place of 65,536 steps; below -10 it is exp(-10)'s. So
    the quotient lies between those of the powers' ends. The reciprocal adds its table's error and a rounded sum, the
    output half a step.
    """
    step, tables = softmax.EXP_RANGE / 65536, {n: t.astype(np.int64) for n, t in softmax_tables().items()}
    every = np.arange(-32768, 32768)
    argument = (every - 32768) * step
    off = np.abs(look_up_between(tables["exponential"], every) / 32768 - np.exp(argument)).max()
    parts = 1 + (every + 32768) / 65536
    ratio = np.abs(look_up_between(tables["reciprocal"], every) / 32768 * parts - 1).max() + 2.0**-16
    d = np.maximum(x - x.max(axis=-1, keepdims=True), -softmax.EXP_RANGE)
    power = np.exp(d)
    err = off + power * np.expm1(step - d / 65536)
    least, most = np.maximum(power - err, 0), power + err
    low = least / (least + most.sum(axis=-1, keepdims=True) - most)
    high = most / (most + least.sum(axis=-1, keepdims=True) - least)
    return 32768 * low * (1 - ratio) - 0.5, 32768 * high * (1 + ratio) + 0.5


def softmax_tables() -> dict[str, Array]:
    """exp and 1 / (1 + x), as the kernel has them."""
    graph = quantized_node("softmax", softmax.Attrs(), [((1, 2), wide(1e-3))])
    return dict(softmax.wide_tables(graph.bound()[0]))


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
@pytest.mark.parametrize("scale", [1e-5, 2.0**-12, 2.0**-11, 3e-4, 0.01, 4.0])
def test_sigmoid_and_tanh_of_every_input(function: str, scale: float) -> None:
    graph = quantized_node("activation", activation.Attrs(function), [((256, 256), wide(scale))])
    every = [np.arange(-32768, 32768).astype(np.int16).reshape(1, 256, 256)]
    assert_equals_litert(graph, every)
    assert_equals_c(graph, every)


def test_table_of_sigmoids() -> None:
    """Fixed points of the function, and never a falling step."""
    table = sigmoid_table().astype(np.int64)
    assert table[0] == 32768 and table[24] == round(65536 / (1 + np.exp(-1))) and table[255] == 65535
    assert (np.diff(table) >= 0).all()


INT8 = QParams.per_tensor(0.1, 3)
BORDERS = [
    (INT8, wide(0.1 / 128), "none"),
    (INT8, wide(3e-4), "relu6"),
    (wide(3e-4), QParams.per_tensor(0.02, -5), "relu"),
    (wide(3e-4), wide(2e-4), "none"),
    (wide(3e-4), QParams.per_tensor(1e-9, 0), "none"),
]


@pytest.mark.parametrize(("x", "y", "clamp"), BORDERS)
def test_requantize(x: QParams, y: QParams, clamp: str) -> None:
    graph = quantized_node("requantize", requantize.Attrs(clamp), [((5, 7), x)], [], y)
    assert_agree(
        graph, litert=y.scale[0] > 1e-8
    )  # LiteRT overflows with a factor of 300,000; ours is limited


def test_widening_is_exact() -> None:
    """int8 to int16 at 1/128 of the scale loses nothing."""
    graph = quantized_node("requantize", requantize.Attrs(), [((256,), INT8)], [], wide(0.1 / 128))
    x = np.arange(-128, 128).astype(np.int8)[np.newaxis]
    (got,) = evaluate.reference(graph, [x])
    np.testing.assert_array_equal(got, (x.astype(np.int64) - 3) * 128)


Q = wide(3e-4)
MOVES = {
    "pad": quantized_node("pad", pad.Attrs(((1, 0), (0, 2), (0, 0))), [((3, 4, 2), Q)]),
    "crop": quantized_node("crop", crop.OP.attrs(((1, 0), (0, 2), (0, 0))), [((3, 4, 2), Q)]),
    "concat": quantized_node("concat", concat.Attrs(1), [((3, 4, 2), Q), ((3, 2, 2), Q)]),
    "transpose": quantized_node("transpose", transpose.Attrs((1, 0, 2)), [((3, 4, 2), Q)]),
    "reshape": quantized_node("reshape", reshape.Attrs((4, 6)), [((3, 4, 2), Q)]),
}


@pytest.mark.parametrize("op", MOVES)
def test_elements_move_whole(op: str) -> None:
    assert_agree(MOVES[op], lsb=0.0)


def test_extreme_accumulators() -> None:
    """A dense layer whose sums leave int32 by far, at both ends, with biases at their limit."""
    weights, bias = np.ones((6, 4000)), np.array([0, 1e5, -1e5, 1e12, -1e12, 3.3])
    graph = quantized_node("dense", dense.Attrs(), [((4000,), wide(3e-2))], [weights, bias], wide(0.12 * 30))
    assert_agree(graph, lsb=3.0)


def test_huge_multipliers_are_lowered() -> None:
    """An output scale far too small for its layer saturates as it must, and the 48-bit bound holds."""
    graph = quantized_node(
        "conv2d",
        conv2d.Attrs(),
        [((1, 1, 4), wide(3e-4))],
        [normal(1, 6, 1, 1, 4), 1e9 * normal(2, 6)],
        wide(5e-9),
    )
    assert max(conv2d.params(graph.bound()[0]).requant.shift) <= 7
    assert_equals_c(graph, [np.full((1, 1, 1, 4), 32767, np.int16)])
    assert_equals_litert(graph, [np.full((1, 1, 1, 4), 32767, np.int16)])


@pytest.mark.parametrize("shift", [-31, -8, 0, 7])
def test_reduced_multiplier(shift: int) -> None:
    """By hand in Python's integers, ties and the largest accumulators included."""
    x = np.array([0, 1, -1, 2**15, -(2**15), 3 * 2**14, 2**30, -(2**30)]) >> max(shift, 0)
    for multiplier in (2**30, 2**30 + 2**15, 2**31 - 1, 0x7FFEFFFF):
        reduced = min((multiplier + 2**15) // 2**16, 32767)
        assert int(reduced_multiplier(multiplier)) == reduced
        want = [(int(v) * reduced * 2 + 2 ** (15 - shift)) // 2 ** (16 - shift) for v in x]
        assert multiply_wide(x, multiplier, shift).tolist() == want
    assert quantize_multiplier(0.5) == (2**30, 0)


def test_too_many_pixels_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="65,536"):
        big = quantized_node(
            "mean", mean.Attrs(), [((256, 256, 1), QParams.per_tensor(1, 0))], [], QParams.per_tensor(1, 0)
        )
        b = big.bound()[0]
        from dataclasses import replace

        mean.OP.check(replace(b, output=replace(b.output, dtype="int16", qparams=wide(1.0))))
