"""One node of every int8 operator, drawn by a number: what is compiled in every way (tests/ops/test_compilers.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.ops import (
    test_binary_dsp,
    test_depthwise_dsp,
    test_mve,
    test_plain,
    test_pooling_dsp,
    test_products_dsp,
    test_resize,
    test_row_product,
    test_softmax,
    test_unary_dsp,
    test_winograd,
)
from tests.support.layers import QP
from tests.support.nodes import quantized_node
from tests.support.products import random_constants
from tinygen.graph import Graph, QParams, Shape
from tinygen.ops import affine, concat, conv2d_transpose, crop, pad, prelu, transpose
from tinygen.ops.activation import attrs_of
from tinygen.ops.comparison import NoAttrs

OUTPUT = QParams.per_tensor(0.09, 11)


def _shape(seed: int) -> tuple[int, int, int]:
    return 1 + seed % 5, 2 + seed % 4, 1 + seed % 7


def _depthwise(seed: int) -> Graph:
    """Every third one by 3x3 and stride 1, as two rows at a time want it."""
    drawn = test_depthwise_dsp.random_node
    return drawn(seed, stride=1, least=3) if seed % 3 == 0 else test_plain.random_depthwise(seed)


def _add(seed: int) -> Graph:
    return test_mve.random_add(seed) if seed % 2 else _binary("add")(seed)


def _binary(op: str) -> Callable[[int], Graph]:
    shapes = (((5, 3), (5, 3)), ((4, 3), (3,)), ((2, 8), (2, 8)), ((1,), (1,)))
    scales = test_binary_dsp.SCALES
    return lambda seed: test_binary_dsp.node(op, scales[seed % len(scales)], shapes[seed % 4], seed)


def _compared(op: str) -> Callable[[int], Graph]:
    return lambda seed: quantized_node(op, NoAttrs(), [(_shape(seed), QP), (_shape(seed)[2:], QP)])


def _transposed(seed: int) -> Graph:
    height, width, depth = _shape(seed)
    constants = random_constants(seed, (3, 3, 2, depth), 3)
    stride = 1 + seed % 3
    attrs = conv2d_transpose.Attrs(((height - 1) * stride + 3, 2 * width), (stride, 2))
    return quantized_node("conv2d_transpose", attrs, [((height, width, depth), QP)], constants, OUTPUT)


def _with_constants(op: str, attrs: Any, count: int) -> Callable[[int], Graph]:
    """The constants have one element per channel."""

    def drawn(seed: int) -> Graph:
        constants = np.random.default_rng(seed).normal(size=(count, _shape(seed)[2]))
        return quantized_node(op, attrs, [(_shape(seed), QP)], list(constants), OUTPUT)

    return drawn


def _activation(seed: int) -> Graph:
    attrs = attrs_of(("sigmoid", "tanh", "mish")[seed % 3])
    return quantized_node("activation", attrs, [((257 + seed,), QP)], output=OUTPUT)


def _convolution(seed: int) -> Graph:
    """Any window; a pixel or the whole image; 3x3 with stride 1, as Winograd wants it; one channel."""
    draws = (
        test_plain.random_conv2d,
        test_products_dsp.random_convolution,
        lambda s: test_row_product.random_rows(3 * s + 1 + s % 2),
        test_winograd.random_node,
        lambda s: test_products_dsp.random_convolution(s, inputs=1),
    )
    return draws[seed % len(draws)](seed)


def _dense(seed: int) -> Graph:
    draws = (
        test_plain.random_dense,
        test_products_dsp.random_dense,
        lambda s: test_row_product.random_rows(3 * s),
    )
    return draws[seed % len(draws)](seed)


def _joined(seed: int, size: int) -> tuple[Shape, QParams]:
    """An input of a concatenation along axis 0 (whole runs) or 1 (rows of all inputs take turns)."""
    return ((2, size) if seed % 2 else (size, 2)), QP


NODES: Mapping[str, Callable[[int], Graph]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _depthwise,
    "conv2d_transpose": _transposed,
    "dense": _dense,
    "affine": _with_constants("affine", affine.Attrs(), 2),
    "average_pool2d": lambda s: test_pooling_dsp.random_pool("average_pool2d", s),
    "max_pool2d": lambda s: test_pooling_dsp.random_pool("max_pool2d", s),
    "mean": lambda s: test_pooling_dsp.of_mean(_shape(s), (1.0, 0.3, 2.7)[s % 3], 4),
    "add": _add,
    "sub": _binary("sub"),
    "mul": _binary("mul"),
    "maximum": _compared("maximum"),
    "minimum": _compared("minimum"),
    "requantize": lambda s: test_unary_dsp.rescaling(test_unary_dsp.RATIOS[s % 10], s, size=5 + s),
    "activation": _activation,
    "prelu": _with_constants("prelu", prelu.Attrs(), 1),
    "softmax": lambda s: test_softmax.node(3 + 5 * s, 0.1, rows=2),
    "concat": lambda s: quantized_node("concat", concat.Attrs(s % 2), [_joined(s, 1 + s), _joined(s, 3)]),
    "pad": lambda s: quantized_node("pad", pad.Attrs(((1, s % 3), (0, 2), (1, 1))), [(_shape(s), QP)]),
    "crop": lambda s: quantized_node("crop", crop.Attrs(((1, s % 3), (s % 2, 0))), [((4 + s, 4), QP)]),
    "transpose": lambda s: quantized_node("transpose", transpose.Attrs((2, 0, 1)), [((3, 2, 2 + s), QP)]),
    "resize_nearest": lambda s: test_resize.nearest(_shape(s), (2, 1 + s % 3)),
    "resize_bilinear": lambda s: test_resize.bilinear(_shape(s), (2, 1 + s % 3)),
}
