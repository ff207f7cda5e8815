"""conv2d: 2D convolution with groups, dilation and explicit padding. 1D is 2D with height 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, QParams, Shape, Tensor
from tinygen.ops import folding
from tinygen.ops.base import FREE, Kernel, Op, Scaling, clamp_bounds, clamp_real
from tinygen.ops.requant import Requant, bounded_accumulator, quantize_weights_and_bias, requant
from tinygen.ops.windows import (
    VALID,
    Padding,
    Pair,
    keras_padding,
    output_size,
    overhang,
    tflite_padding,
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


def window_fits(b: BoundNode) -> bool:
    """the dilated kernel must not be larger than the padded input"""
    return min(b.output.shape) > 0


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


# ---- shapes


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(H, W, I), weights (O, KH, KW, I / groups), bias (O,) -> (OH, OW, O)."""
    (height, width, _), (channels, kernel_h, kernel_w, _) = shapes[0], shapes[1]
    pad = attrs.padding
    out_h = output_size(height, pad.vertical, kernel_h, attrs.stride[0], attrs.dilation[0])
    out_w = output_size(width, pad.horizontal, kernel_w, attrs.stride[1], attrs.dilation[1])
    return out_h, out_w, channels


def input_axis(b: BoundNode) -> int | None:
    """The last one; in groups one weight belongs to several input channels."""
    return 3 if b.attrs.groups == 1 else None


# ---- quantization


def scaling(b: BoundNode) -> Scaling:
    """The output has its own range."""
    return FREE


def quantize(b: BoundNode, inputs: tuple[QParams, ...], output: QParams) -> tuple[Tensor, ...]:
    """Weights per output channel, bias at input scale * weight scale."""
    return quantize_weights_and_bias(b, 0, inputs[0], output)


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


# ---- int8 definition


@dataclass(frozen=True)
class Params:
    """The numbers that the template and the reference both use. A group has in_c / groups input channels."""

    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    overhang: Padding
    groups: int
    input_zero_point: int
    requant: Requant


def params(b: BoundNode) -> Params:
    """Numbers of one quantized node."""
    attrs, (x, weights, _) = b.attrs, b.inputs
    in_h, in_w, in_c = x.shape
    out_h, out_w, out_c = b.output.shape
    return Params(
        in_h=in_h,
        in_w=in_w,
        in_c=in_c,
        out_h=out_h,
        out_w=out_w,
        out_c=out_c,
        kernel_h=weights.shape[1],
        kernel_w=weights.shape[2],
        stride_h=attrs.stride[0],
        stride_w=attrs.stride[1],
        dilation_h=attrs.dilation[0],
        dilation_w=attrs.dilation[1],
        pad_top=attrs.padding.top,
        pad_left=attrs.padding.left,
        overhang=overhang(
            attrs.padding,
            x.shape,
            b.output.shape,
            (weights.shape[1], weights.shape[2]),
            attrs.stride,
            attrs.dilation,
        ),
        groups=attrs.groups,
        input_zero_point=x.zero_point,
        requant=requant(x.scale, weights.q, b.output.q, out_c, clamp_bounds(attrs.activation, b.output.q)),
    )


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(output_zero_point + requant(bias + sum((in - input_zero_point) * weights)));
    padding adds 0.

    LiteRT rounds convolutions doubly: `rounding` does not matter here. Float64 sums, exact below 2**53.
    """
    p = params(b)
    x = arrays[0].astype(np.float64) - p.input_zero_point
    sums = accumulate(x, arrays[1].astype(np.float64), arrays[2].astype(np.float64), b.attrs)
    return p.requant.apply(sums.astype(np.int64))


def macs(b: BoundNode) -> int:
    """Outputs times products per output (padding counted)."""
    return b.output.elements * int(np.prod(b.inputs[1].shape[1:]))


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """CONV_2D; padding that TFLite has no name for becomes a PAD in front."""
    attrs, (x, weights, bias) = b.attrs, b.inputs
    kernel: Pair = (weights.shape[1], weights.shape[2])
    name = tflite_padding(attrs.padding, x.shape, kernel, attrs.stride, attrs.dilation)
    source = writer.activation(x) if name else writer.pad(x, attrs.padding)
    options = {
        "padding": writer.padding(name or "VALID"),
        "strideH": attrs.stride[0],
        "strideW": attrs.stride[1],
        "dilationHFactor": attrs.dilation[0],
        "dilationWFactor": attrs.dilation[1],
        "fusedActivationFunction": writer.fused(attrs.activation),
    }
    inputs = [source, writer.constant(weights), writer.constant(bias)]
    writer.add("CONV_2D", inputs, writer.activation(b.output), "Conv2DOptions", options, version=3)


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """CONV_2D with its own quantization."""
    x, weights = op.activation(0), op.tensor(1)
    options = op.options
    stride, dilation = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    shape = builder.shape(x)
    kernel: Pair = (weights.shape[1], weights.shape[2])
    padding = keras_padding(op.padding(options.padding), shape, kernel, stride, dilation)
    groups = shape[2] // weights.shape[3]
    attrs = Attrs(stride, dilation, padding, groups, op.fused(options.fusedActivationFunction))
    inputs = (x, op.constant(1), op.bias(2, weights.shape[0]))
    return builder.add("conv2d", op.name, inputs, attrs, op.output_qparams())


# ---- kernels


def constants(b: BoundNode) -> Mapping[str, Array]:
    """Weights (O, KH, KW, I / groups), bias and requantization per output channel."""
    weights, bias = b.inputs[1].data, b.inputs[2].data
    assert weights is not None and bias is not None
    return {"weights": weights, "bias": bias, **params(b).requant.arrays()}


def cost_portable(b: BoundNode) -> float:
    """Plain C: about 9 cycles a multiply-accumulate, 40 an output."""
    return 9.0 * macs(b) + 40.0 * b.output.elements


KERNELS = (Kernel("tg_conv2d_s8", cost_portable, constants=constants),)

OP = Op(
    name="conv2d",
    summary="2D (and 1D) convolution with stride, dilation, groups and any padding",
    attrs=Attrs,
    inputs=("input", "weights", "bias"),
    infer=infer,
    real=real,
    scaling=scaling,
    quantize=quantize,
    params=params,
    reference=reference,
    macs=macs,
    kernels=KERNELS,
    constraints=(window_fits, whole_groups, bounded_accumulator),
    keras={"Conv1D": from_keras, "Conv2D": from_keras},
    to_tflite=to_tflite,
    output_axis=0,
    input_axis=input_axis,
    absorb_input=folding.conv2d,
    pads_with_zero=True,
    from_tflite={"CONV_2D": from_tflite},
)
