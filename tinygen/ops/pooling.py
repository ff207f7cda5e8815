"""What max_pool2d and average_pool2d share: geometry, Keras and TFLite handlers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops.base import SAME, Clamp, KerasHandler, Scaling, clamp_bounds, clamp_f32
from tinygen.ops.keras_common import as_2d, from_2d, pair
from tinygen.ops.movement import of_rank
from tinygen.ops.windows import VALID, Padding, Pair, keras_padding, output_size, tflite_padding, windows

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """window, stride: (height, width) in elements. Elements of the padding never take part in the result."""

    window: Pair
    stride: Pair
    padding: Padding = VALID
    activation: str = "none"


# ---- constraints


def window_fits(b: BoundNode) -> bool:
    """the pooling window must not be larger than the padded input"""
    return min(b.output.shape) > 0


def window_sees_input(b: BoundNode) -> bool:
    """the padding must be smaller than the pooling window"""
    attrs: Attrs = b.attrs
    pad = attrs.padding
    return max(pad.top, pad.bottom) < attrs.window[0] and max(pad.left, pad.right) < attrs.window[1]


# ---- Keras


def keras_handler(op: str) -> KerasHandler:
    """The handler of Max/AveragePooling 1D/2D."""

    def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
        two_d = as_2d(layer, inputs[0], builder)
        window = pair(layer.pool_size)
        attrs = Attrs(window, two_d.strides, keras_padding(layer.padding, two_d.shape, window, two_d.strides))
        return from_2d(layer, builder.add(op, layer.name, (two_d.tensor,), attrs), builder)

    return from_keras


# ---- shapes, evaluation


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(H, W, C) -> (OH, OW, C)."""
    return *output_size(shapes[0], attrs.window, attrs.stride, (1, 1), attrs.padding), shapes[0][2]


def scaling(b: BoundNode) -> Scaling:
    """The output lies in the input's range."""
    return SAME


def window_view(x: Array, attrs: Attrs, fill: float) -> Array:
    """The windows of x (N, H, W, C) as (N, OH, OW, C, KH, KW); padding holds `fill`."""
    return windows(x, attrs.window, attrs.stride, (1, 1), attrs.padding, fill)


def counts(attrs: Attrs, shape: Shape) -> Array:
    """Elements of the input in each window, (1, OH, OW, 1) int64."""
    ones = np.ones((1, shape[0], shape[1], 1), np.int64)
    inside: Array = window_view(ones, attrs, 0).sum(axis=(4, 5))
    return inside


@dataclass(frozen=True)
class Geometry:
    """The window and what it slides over; sizes in elements."""

    in_h: int
    in_w: int
    channels: int
    out_h: int
    out_w: int
    window_h: int
    window_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int


@dataclass(frozen=True)
class Params(Geometry):
    """Numbers of one int8 node. The output is clamped to [activation_min, activation_max].

    accumulator: C type in which elements are compared; lowest: no element is below it, as C.
    """

    activation_min: int
    activation_max: int
    lowest: str
    accumulator: str = "int32_t"


@dataclass(frozen=True)
class RealParams(Geometry):
    """Numbers of one float32 node."""

    clamp: Clamp
    accumulator: str = "float"
    lowest: str = "-INFINITY"


def params(b: BoundNode) -> Params:
    """Numbers of one quantized node."""
    low, high = clamp_bounds(b.attrs.activation, b.output.q)
    return Params(**vars(geometry(b)), activation_min=low, activation_max=high, lowest=str(b.output.q.low))


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node."""
    return RealParams(**vars(geometry(b)), clamp=clamp_f32(b.attrs.activation))


def geometry(b: BoundNode) -> Geometry:
    """The window of one node."""
    attrs: Attrs = b.attrs
    (height, width, channels), (out_h, out_w, _) = b.inputs[0].shape, b.output.shape
    origin = attrs.padding.top, attrs.padding.left
    return Geometry(height, width, channels, out_h, out_w, *attrs.window, *attrs.stride, *origin)


def cost_portable(b: BoundNode) -> float:
    """Plain C: about 6 cycles an element of a window, 30 an output."""
    attrs: Attrs = b.attrs
    return b.output.elements * (6.0 * attrs.window[0] * attrs.window[1] + 30.0)


# ---- TFLite


def tflite_writer(kind: str) -> Callable[[BoundNode, TfliteWriter], None]:
    """Appends MAX_POOL_2D or AVERAGE_POOL_2D."""

    def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
        attrs: Attrs = b.attrs
        name = tflite_padding(attrs.padding, b.inputs[0].shape, attrs.window, attrs.stride)
        assert name is not None, f"'{b.name}': TFLite has no name for the padding {attrs.padding}"
        options = {
            "padding": writer.padding(name),
            "strideH": attrs.stride[0],
            "strideW": attrs.stride[1],
            "filterHeight": attrs.window[0],
            "filterWidth": attrs.window[1],
            "fusedActivationFunction": writer.fused(attrs.activation),
        }
        inputs = [writer.activation(b.inputs[0])]
        writer.add(kind, inputs, writer.activation(b.output), "Pool2DOptions", options, version=2)

    return to_tflite


def tflite_reader(name: str) -> Callable[[TfliteOperator, GraphBuilder], str]:
    """Reads MAX_POOL_2D or AVERAGE_POOL_2D as the operator `name`."""

    def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
        x, options = of_rank(op, builder, 3), op.options
        window, stride = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
        padding = keras_padding(op.padding(options.padding), builder.shape(x), window, stride)
        attrs = Attrs(window, stride, padding, op.fused(options.fusedActivationFunction))
        return builder.add(name, op.name, (x,), attrs, op.output_qparams())

    return from_tflite
