"""depthwise_conv2d: every input channel has its own filters. 1D is 2D with height 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, QParams, Shape
from tinygen.ops import (
    conv2d,
    convolution,
    depthwise_direct,
    depthwise_dsp,
    depthwise_mve,
    depthwise_plain,
    folding,
    intervals,
)
from tinygen.ops.base import Kernel, Op, clamp_real, free
from tinygen.ops.coupling import Labels, Layout, Writing, counted_outputs, passed_channels, written_linear
from tinygen.ops.intervals import Interval
from tinygen.ops.movement import of_rank
from tinygen.ops.requant import bounded_accumulator, constants, constants_f32, per_output_channel
from tinygen.ops.tensors import Tensors, clamp, dilated, padded, tensorflow
from tinygen.ops.windows import (
    VALID,
    Padding,
    Pair,
    band,
    keras_padding,
    output_size,
    windows,
)

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """stride, dilation: (height, width). The depth multiplier is weights.shape[2] / input channels."""

    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = VALID
    activation: str = "none"


# ---- constraints


def whole_multiplier(b: BoundNode) -> bool:
    """the output channels must be a whole multiple of the input channels"""
    return b.inputs[1].shape[2] % b.inputs[0].shape[2] == 0


# ---- Keras


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """DepthwiseConv2D, DepthwiseConv1D."""
    from tinygen.ops.keras_common import activation, as_2d, bias_of, from_2d

    two_d = as_2d(layer, inputs[0], builder)
    kernel = keras_kernel(np.asarray(layer.kernel))
    padding = keras_padding(layer.padding, two_d.shape, kernel.shape[:2], two_d.strides, two_d.dilation)
    weights = builder.constant(f"{layer.name}/weights", kernel)
    bias = builder.constant(f"{layer.name}/bias", bias_of(layer, kernel.shape[2]))
    attrs = Attrs(two_d.strides, two_d.dilation, padding)
    output = builder.add("depthwise_conv2d", layer.name, (two_d.tensor, weights, bias), attrs)
    return activation(layer, from_2d(layer, output, builder), builder)


def from_keras_separable(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """SeparableConv2D, SeparableConv1D: depthwise_conv2d without bias, then 1x1 conv2d with the bias."""
    from tinygen.ops.keras_common import activation, as_2d, bias_of, from_2d

    two_d = as_2d(layer, inputs[0], builder)
    kernel = keras_kernel(np.asarray(layer.depthwise_kernel))
    padding = keras_padding(layer.padding, two_d.shape, kernel.shape[:2], two_d.strides, two_d.dilation)
    weights = builder.constant(f"{layer.name}/depthwise_weights", kernel)
    bias = builder.constant(f"{layer.name}/depthwise_bias", np.zeros(kernel.shape[2], np.float32))
    attrs = Attrs(two_d.strides, two_d.dilation, padding)
    depthwise = builder.add(
        "depthwise_conv2d", f"{layer.name}/depthwise", (two_d.tensor, weights, bias), attrs
    )
    pointwise = np.asarray(layer.pointwise_kernel).reshape(1, 1, kernel.shape[2], -1)
    weights = builder.constant(f"{layer.name}/weights", np.transpose(pointwise, (3, 0, 1, 2)))
    bias = builder.constant(f"{layer.name}/bias", bias_of(layer, pointwise.shape[3]))
    output = builder.add("conv2d", layer.name, (depthwise, weights, bias), conv2d.Attrs())
    return activation(layer, from_2d(layer, output, builder), builder)


def keras_kernel(kernel: Array) -> Array:
    """Keras's ([KH,] KW, C, M) as (KH, KW, C * M): output channel c * M + m."""
    kernel = kernel[np.newaxis] if kernel.ndim == 3 else kernel
    return kernel.reshape(*kernel.shape[:2], -1)


def write_separable(layer: Any, constants: Mapping[str, Array]) -> Mapping[str, Array]:
    """The layer has no depthwise bias: it goes through the 1x1 convolution into the one behind."""
    pointwise, depthwise_bias = constants["weights"][:, 0, 0], constants["depthwise_bias"]
    return {
        "depthwise_kernel": constants["depthwise_weights"].reshape(layer.depthwise_kernel.shape),
        "pointwise_kernel": pointwise.T.reshape(layer.pointwise_kernel.shape),
        "bias": constants["bias"] + pointwise @ depthwise_bias,
    }


DEPTHWISE = Layout(
    {"kernel": {-2: ("weights", 2)}, "bias": {0: ("bias", 0)}},
    writing=written_linear(lambda layer, weights: weights),
)
SEPARABLE = Layout(
    {
        "depthwise_kernel": {-2: ("depthwise_weights", 2)},
        "pointwise_kernel": {-2: ("weights", 3), -1: ("weights", 0)},
        "bias": {0: ("bias", 0)},
    },
    counted_outputs("filters"),
    Writing(write_separable, {"use_bias": True}),
)


# ---- shapes


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(H, W, C), weights (KH, KW, C * M), bias (C * M,) -> (OH, OW, C * M)."""
    kernel_h, kernel_w, channels = shapes[1]
    kernel = kernel_h, kernel_w
    return *output_size(shapes[0], kernel, attrs.stride, attrs.dilation, attrs.padding), channels


def channels(b: BoundNode) -> tuple[Labels, ...]:
    """Output channels c * M ... c * M + M - 1 go with input channel c."""
    return passed_channels(b.inputs[0].shape[2], b.output.shape[2], output_axis=2)


# ---- float evaluation


def accumulate(x: Array, weights: Array, bias: Array, attrs: Attrs) -> Array:
    """Sum of products plus bias. Padding adds 0: integer callers subtract the zero_point from x before."""
    kernel_h, kernel_w, channels = weights.shape
    x = np.repeat(x, channels // x.shape[3], axis=3)
    view = windows(x, (kernel_h, kernel_w), attrs.stride, attrs.dilation, attrs.padding, 0)
    sums = np.zeros(view.shape[:4], x.dtype)
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            sums += view[..., ky, kx] * weights[ky, kx]
    return np.asarray(sums + bias)


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The convolution in floating point."""
    return clamp_real(accumulate(arrays[0], arrays[1], arrays[2], b.attrs), b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The convolution; TensorFlow knows equal strides only, so others are taken from all windows."""
    tf = tensorflow()
    x, weights, bias = xs
    channels = b.inputs[0].shape[2]
    filters = tf.reshape(weights, (*b.inputs[1].shape[:2], channels, -1))
    (down, right), equal = b.attrs.stride, b.attrs.stride[0] == b.attrs.stride[1]
    strides = (1, down, right, 1) if equal else (1, 1, 1, 1)
    kernel = dilated(filters, b.attrs.dilation)
    sums = tf.nn.depthwise_conv2d(padded(x, b.attrs.padding), kernel, strides, "VALID")
    return clamp((sums if equal else sums[:, ::down, ::right]) + bias, b.attrs.activation)


# ---- int8 definition


def params(b: BoundNode) -> convolution.Params:
    """Numbers of one quantized node: a convolution with a group for each input channel."""
    weights = b.inputs[1]
    return convolution.params(b, (weights.shape[0], weights.shape[1]), b.inputs[0].shape[2])


def params_f32(b: BoundNode) -> convolution.RealParams:
    """Numbers of one float node."""
    weights = b.inputs[1]
    return convolution.real_params(b, (weights.shape[0], weights.shape[1]), b.inputs[0].shape[2])


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(output_zero_point + requant(bias + sum((in - input_zero_point) * weights)));
    padding adds 0.

    LiteRT rounds depthwise convolutions doubly: `rounding` does not matter here. Exact sums. int16: 16x8.
    """
    p = params(b)
    exact = "int32" if p.requant.bits == 8 else "int64"
    x = arrays[0].astype(exact) - np.asarray(p.input_zero_point, exact)
    return p.requant.apply(accumulate(x, arrays[1].astype(exact), arrays[2], b.attrs))


def bounds(b: BoundNode, inputs: Sequence[Interval | None]) -> Interval:
    """Per tap the least and greatest product; then as an image of ones, padded with 0, has it."""
    (x, weights, bias), own = b.inputs, inputs[0]
    assert own is not None and weights.data is not None and bias.data is not None
    centred = own.moved(-x.zero_point).repeated(weights.shape[2] // x.shape[2])
    inside, offsets = np.ones((1, *x.shape)), bias.data.astype(np.float64)
    taps = intervals.products(weights.data, centred)
    low, high = (accumulate(inside, t, offsets, b.attrs) for t in taps)
    return intervals.requantized(b, low, high)


def rows(b: BoundNode, first: int, end: int) -> tuple[Pair, Attrs] | None:
    """The input rows of some output rows, and the padding that is left."""
    attrs: Attrs = b.attrs
    window = b.inputs[1].shape[0], attrs.stride[0], attrs.dilation[0]
    found = band(first, end, b.inputs[0].shape[0], *window, attrs.padding)
    return found and (found[0], replace(attrs, padding=found[1]))


def macs(b: BoundNode) -> int:
    """Outputs times taps (padding counted)."""
    return b.output.elements * int(np.prod(b.inputs[1].shape[:2]))


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """DEPTHWISE_CONV_2D; padding that TFLite has no name for becomes a PAD in front."""
    x, weights, bias = b.inputs
    source, options = convolution.export_window(b, (weights.shape[0], weights.shape[1]), writer)
    options["depthMultiplier"] = weights.shape[2] // x.shape[2]
    stored = writer.constant(weights, shape=(1, *weights.shape), axis=3)
    inputs = [source, stored, writer.constant(bias)]
    output = writer.activation(b.output)
    writer.add("DEPTHWISE_CONV_2D", inputs, output, "DepthwiseConv2DOptions", options, version=3)


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """DEPTHWISE_CONV_2D with its own quantization; its weights are (1, KH, KW, C * M)."""
    x, stored = of_rank(op, builder, 3), op.tensor(1)
    assert stored.data is not None
    window = convolution.import_window(op, builder.shape(x), (stored.shape[1], stored.shape[2]))
    q = stored.q if stored.q.axis is None else QParams(stored.q.scale, stored.q.zero_point, 2)
    weights = builder.constant(stored.name, stored.data.reshape(stored.shape[1:]), q)
    attrs = Attrs(*window, op.fused(op.options.fusedActivationFunction))
    inputs = (x, weights, op.bias(2, stored.shape[3]))
    return builder.add("depthwise_conv2d", op.name, inputs, attrs, op.output_qparams())


# ---- kernels


def cost_portable(b: BoundNode) -> float:
    """Plain C: about 10 cycles a multiply-accumulate, 50 an output."""
    return 10.0 * macs(b) + 50.0 * b.output.elements


def cost_wide(b: BoundNode) -> float:
    """Plain C: about 12 cycles a multiply-accumulate of 64 bits, 40 an output."""
    return 12.0 * macs(b) + 40.0 * b.output.elements


def cost_f32(b: BoundNode) -> float:
    """Plain C with an FPU: about 8 cycles a multiply-accumulate, 30 an output."""
    return 8.0 * macs(b) + 30.0 * b.output.elements


KERNELS = (
    Kernel("tg_depthwise_conv2d_s8", cost_portable, constants=constants, template="tg_depthwise_conv2d"),
    Kernel(
        "tg_depthwise_conv2d_s16",
        cost_wide,
        constants=constants,
        dtype="int16",
        template="tg_depthwise_conv2d",
    ),
    Kernel("tg_depthwise_conv2d_f32", cost_f32, constants=constants_f32, dtype="float32", params=params_f32),
    *depthwise_dsp.KERNELS,
    depthwise_direct.KERNEL,
    depthwise_plain.KERNEL,
    depthwise_mve.KERNEL,
)

OP = Op(
    name="depthwise_conv2d",
    summary="2D (and 1D) depthwise convolution with depth multiplier, stride, dilation and any padding",
    attrs=Attrs,
    inputs=("input", "weights", "bias"),
    infer=infer,
    real=real,
    differentiable=differentiable,
    scaling=free,
    quantize=per_output_channel(2),
    params=params,
    reference=reference,
    macs=macs,
    kernels=KERNELS,
    constraints=(convolution.window_fits, whole_multiplier, bounded_accumulator),
    keras={
        "DepthwiseConv1D": from_keras,
        "DepthwiseConv2D": from_keras,
        "SeparableConv1D": from_keras_separable,
        "SeparableConv2D": from_keras_separable,
    },
    keras_notes={"SeparableConv1D": "depthwise part", "SeparableConv2D": "depthwise part"},
    to_tflite=to_tflite,
    output_axis=2,
    input_axis=lambda b: 2,
    input_factors_free=True,
    absorb_input=folding.depthwise_conv2d,
    pads_with_zero=True,
    from_tflite={"DEPTHWISE_CONV_2D": from_tflite},
    channels=channels,
    bounds=bounds,
    rows=rows,
    layouts={
        "DepthwiseConv1D": DEPTHWISE,
        "DepthwiseConv2D": DEPTHWISE,
        "SeparableConv1D": SEPARABLE,
        "SeparableConv2D": SEPARABLE,
    },
)
