"""conv2d: 2D convolution with groups, dilation and explicit padding. 1D is 2D with height 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops import (
    conv2d_dsp,
    conv2d_planes,
    convolution,
    folding,
    intervals,
    mve,
    plain_kernels,
    row_product,
    wide_dsp,
    winograd,
)
from tinygen.ops.base import Kernel, Op, clamp_real, free
from tinygen.ops.coupling import (
    Kept,
    Labels,
    Layout,
    mixed_channels,
    passed_channels,
    written,
    written_linear,
)
from tinygen.ops.intervals import Interval, Shares
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
    """stride, dilation: (height, width). groups: input and output channels are split into this many."""

    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = VALID
    groups: int = 1
    activation: str = "none"


# ---- constraints


def whole_groups(b: BoundNode) -> bool:
    """groups must divide input and output channels, and the weights must hold input channels / groups"""
    x, weights, groups = b.inputs[0], b.inputs[1], b.attrs.groups
    return bool(groups > 0 and weights.shape[0] % groups == 0 and weights.shape[3] * groups == x.shape[2])


# ---- Keras


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Conv2D, Conv1D: weights go from (KH, KW, I, O) to (O, KH, KW, I)."""
    from tinygen.ops.keras_common import activation, as_2d, bias_of, from_2d

    two_d = as_2d(layer, inputs[0], builder)
    kernel = np.asarray(layer.kernel)
    kernel = kernel[np.newaxis] if kernel.ndim == 3 else kernel
    padding = keras_padding(layer.padding, two_d.shape, kernel.shape[:2], two_d.strides, two_d.dilation)
    attrs = Attrs(two_d.strides, two_d.dilation, padding, layer.groups)
    weights = builder.constant(f"{layer.name}/weights", np.transpose(kernel, (3, 0, 1, 2)))
    bias = builder.constant(f"{layer.name}/bias", bias_of(layer, kernel.shape[3]))
    output = builder.add("conv2d", layer.name, (two_d.tensor, weights, bias), attrs)
    return activation(layer, from_2d(layer, output, builder), builder)


def keras_config(layer: Any, kept: Kept) -> Mapping[str, Any]:
    """Groups of one input channel are removed whole; larger ones all become smaller."""
    filters, groups = len(kept("weights", 0)), layer.groups
    if groups > 1 and layer.kernel.shape[-2] == 1:
        groups = groups * filters // layer.filters
    return {"filters": filters, "groups": groups}


KERAS_LAYOUT = Layout(
    {"kernel": {-2: ("weights", 3), -1: ("weights", 0)}, "bias": {0: ("bias", 0)}},
    keras_config,
    written_linear(lambda layer, weights: weights.transpose(1, 2, 3, 0)),
)


# ---- shapes


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(H, W, I), weights (O, KH, KW, I / groups), bias (O,) -> (OH, OW, O)."""
    channels, kernel_h, kernel_w, _ = shapes[1]
    kernel = kernel_h, kernel_w
    return *output_size(shapes[0], kernel, attrs.stride, attrs.dilation, attrs.padding), channels


def input_axis(b: BoundNode) -> int | None:
    """The last one; in groups one weight belongs to several input channels."""
    return 3 if b.attrs.groups == 1 else None


def channels(b: BoundNode) -> tuple[Labels, ...]:
    """Groups of one input channel go with it; of larger groups the same channels go in all, so that they stay equal."""
    groups, (filters, _, _, depth) = b.attrs.groups, b.inputs[1].shape
    if groups == 1:
        return mixed_channels(input_axis=3, output_axis=0)(b)
    if depth == 1:
        return passed_channels(groups, filters, output_axis=0)
    inputs = tuple(range(depth))
    outputs = tuple(depth + o for o in range(filters // groups))
    return (
        Labels(0, -1, inputs * groups),
        Labels(1, 3, inputs, reads=True),
        *written(0, outputs * groups),
    )


def narrowed(b: BoundNode, shape: Shape) -> Attrs:
    """Groups of one input channel go with it; larger ones all become smaller."""
    attrs: Attrs = b.attrs
    single = attrs.groups > 1 and b.inputs[1].shape[3] == 1
    return replace(attrs, groups=attrs.groups * shape[-1] // b.output.shape[-1]) if single else attrs


# ---- float evaluation


def accumulate(x: Array, weights: Array, bias: Array, attrs: Attrs) -> Array:
    """Sum of products plus bias. Padding adds 0: integer callers subtract the zero_point from x before."""
    kernel: Pair = (weights.shape[1], weights.shape[2])
    view = windows(x, kernel, attrs.stride, attrs.dilation, attrs.padding, 0)
    n, out_h, out_w = view.shape[:3]
    parts = []
    for view_g, weights_g in zip(
        np.split(view, attrs.groups, axis=3), np.split(weights, attrs.groups, axis=0), strict=True
    ):
        columns = view_g.transpose(0, 1, 2, 4, 5, 3).reshape(n * out_h * out_w, -1)
        parts.append(columns @ weights_g.reshape(weights_g.shape[0], -1).T)
    return np.concatenate(parts, axis=1).reshape(n, out_h, out_w, -1) + bias


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The convolution in floating point."""
    return clamp_real(accumulate(arrays[0], arrays[1], arrays[2], b.attrs), b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The convolution: one per group."""
    tf = tensorflow()
    x, weights, bias = xs
    kernel = dilated(tf.transpose(weights, (1, 2, 3, 0)), b.attrs.dilation)
    inputs = tf.split(padded(x, b.attrs.padding), b.attrs.groups, axis=3)
    kernels = tf.split(kernel, b.attrs.groups, axis=3)
    parts = [tf.nn.conv2d(x, k, b.attrs.stride, "VALID") for x, k in zip(inputs, kernels, strict=True)]
    return clamp(tf.concat(parts, axis=3) + bias, b.attrs.activation)


# ---- int8 definition


def params(b: BoundNode) -> convolution.Params:
    """Numbers of one quantized node."""
    weights = b.inputs[1]
    return convolution.params(b, (weights.shape[1], weights.shape[2]), b.attrs.groups)


def params_f32(b: BoundNode) -> convolution.RealParams:
    """Numbers of one float node."""
    weights = b.inputs[1]
    return convolution.real_params(b, (weights.shape[1], weights.shape[2]), b.attrs.groups)


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(output_zero_point + requant(bias + sum((in - input_zero_point) * weights)));
    padding adds 0.

    LiteRT rounds convolutions doubly: `rounding` does not matter here. Float64 sums, exact below 2**53. int16: 16x8.
    """
    p = params(b)
    x = arrays[0].astype(np.float64) - p.input_zero_point
    sums = accumulate(x, arrays[1].astype(np.float64), arrays[2].astype(np.float64), b.attrs)
    return p.requant.apply(sums.astype(np.int64))


def sources(b: BoundNode) -> Array:
    """(O, I): the input channel that each weight of an output channel reads."""
    filters, depth = b.inputs[1].shape[0], b.inputs[1].shape[3]
    group = np.arange(filters) // (filters // b.attrs.groups)
    return np.asarray(group[:, np.newaxis] * depth + np.arange(depth))


def bounds(b: BoundNode, inputs: Sequence[Interval | None]) -> Interval:
    """Per tap the least and greatest sum over the input channels; then as an image of ones, padded with 0, has it."""
    (x, weights, bias), own = b.inputs, inputs[0]
    assert own is not None and weights.data is not None and bias.data is not None
    centred, source = own.moved(-x.zero_point), sources(b)[:, np.newaxis, np.newaxis]
    taps = intervals.products(weights.data, Interval(centred.low[source], centred.high[source]))
    inside = np.ones((1, *x.shape[:2], b.attrs.groups))
    low, high = (accumulate(inside, t.sum(axis=3, keepdims=True), bias.data, b.attrs) for t in taps)
    return intervals.requantized(b, low, high)


def shares(b: BoundNode, x: Interval) -> Shares:
    """Into the bias; at the borders only what is 0 anyway."""
    weights = b.inputs[1].data
    assert weights is not None
    rows = weights.reshape(len(weights), -1, weights.shape[3])
    return intervals.shares(b, x, rows, sources(b), everywhere=not params(b).overhang.any)


def rows(b: BoundNode, first: int, end: int) -> tuple[Pair, Attrs] | None:
    """The input rows of some output rows, and the padding that is left."""
    attrs: Attrs = b.attrs
    window = b.inputs[1].shape[1], attrs.stride[0], attrs.dilation[0]
    found = band(first, end, b.inputs[0].shape[0], *window, attrs.padding)
    return found and (found[0], replace(attrs, padding=found[1]))


def macs(b: BoundNode) -> int:
    """Outputs times products per output (padding counted)."""
    return b.output.elements * int(np.prod(b.inputs[1].shape[1:]))


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """CONV_2D; padding that TFLite has no name for becomes a PAD in front."""
    _, weights, bias = b.inputs
    source, options = convolution.export_window(b, (weights.shape[1], weights.shape[2]), writer)
    inputs = [source, writer.constant(weights), writer.constant(bias)]
    writer.add("CONV_2D", inputs, writer.activation(b.output), "Conv2DOptions", options, version=3)


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """CONV_2D with its own quantization."""
    x, weights = of_rank(op, builder, 3), op.tensor(1)
    shape = builder.shape(x)
    window = convolution.import_window(op, shape, (weights.shape[1], weights.shape[2]))
    groups = shape[2] // weights.shape[3]
    attrs = Attrs(*window, groups, op.fused(op.options.fusedActivationFunction))
    inputs = (x, op.constant(1), op.bias(2, weights.shape[0]))
    return builder.add("conv2d", op.name, inputs, attrs, op.output_qparams())


# ---- kernels


def cost_portable(b: BoundNode) -> float:
    """Plain C: about 9 cycles a multiply-accumulate, 40 an output."""
    return 9.0 * macs(b) + 40.0 * b.output.elements


def cost_wide(b: BoundNode) -> float:
    """Plain C: about 10 cycles a multiply-accumulate of 64 bits, 30 an output."""
    return 10.0 * macs(b) + 30.0 * b.output.elements


def cost_f32(b: BoundNode) -> float:
    """Plain C with an FPU: about 7 cycles a multiply-accumulate, 25 an output."""
    return 7.0 * macs(b) + 25.0 * b.output.elements


KERNELS = (
    Kernel("tg_conv2d_s8", cost_portable, constants=constants, template="tg_conv2d"),
    Kernel("tg_conv2d_s16", cost_wide, constants=constants, dtype="int16", template="tg_conv2d"),
    Kernel("tg_conv2d_f32", cost_f32, constants=constants_f32, dtype="float32", params=params_f32),
    *conv2d_dsp.KERNELS,
    wide_dsp.CONV2D,
    *conv2d_planes.KERNELS,
    *row_product.kernels("conv2d"),
    winograd.KERNEL,
    plain_kernels.CONV2D,
    mve.CONV2D,
)

OP = Op(
    name="conv2d",
    summary="2D (and 1D) convolution with stride, dilation, groups and any padding",
    attrs=Attrs,
    inputs=("input", "weights", "bias"),
    infer=infer,
    real=real,
    differentiable=differentiable,
    scaling=free,
    quantize=per_output_channel(0),
    params=params,
    reference=reference,
    macs=macs,
    kernels=KERNELS,
    constraints=(convolution.window_fits, whole_groups, bounded_accumulator),
    keras={"Conv1D": from_keras, "Conv2D": from_keras},
    keras_notes={"SeparableConv1D": "pointwise part", "SeparableConv2D": "pointwise part"},
    to_tflite=to_tflite,
    output_axis=0,
    input_axis=input_axis,
    absorb_input=folding.conv2d,
    pads_with_zero=True,
    from_tflite={"CONV_2D": from_tflite},
    channels=channels,
    narrowed=narrowed,
    layouts={"Conv1D": KERAS_LAYOUT, "Conv2D": KERAS_LAYOUT},
    bounds=bounds,
    rows=rows,
    shares=shares,
)
