"""conv2d_transpose: every input pixel adds its filter, scaled, to the output. 1D is 2D with height 1.

Dilation is expressed in the weights (zeros between the taps), as TFLite's TRANSPOSE_CONV knows none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.errors import UnsupportedLayerError
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops import folding, intervals
from tinygen.ops.base import Clamp, Kernel, Op, clamp_f32, clamp_real, free
from tinygen.ops.coupling import Layout, counted_outputs, mixed_channels, written_linear
from tinygen.ops.intervals import Interval, Shares
from tinygen.ops.movement import of_rank
from tinygen.ops.requant import (
    Requant,
    bounded_accumulator,
    constants,
    constants_f32,
    per_output_channel,
    requant_of,
)
from tinygen.ops.tensors import Tensors, clamp, tensorflow
from tinygen.ops.windows import Pair, dilated, full_size, same_size, tf_offset

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """Pairs are (height, width). offset: rows and columns cut from the top and left of the full result,
    whose size is (input - 1) * stride + kernel. output: the size to keep from there; what reaches beyond the
    full result is bias only.
    """

    output: Pair
    stride: Pair = (1, 1)
    offset: Pair = (0, 0)
    activation: str = "none"


# ---- constraints


def positive_output(b: BoundNode) -> bool:
    """the output must have at least one row and one column"""
    return min(b.output.shape) > 0


def within_reach(b: BoundNode) -> bool:
    """the output must end less than one stride behind the full result, (input - 1) * stride + kernel"""
    attrs = b.attrs
    full = full_size(b.inputs[0].shape, b.inputs[1].shape[1:3], attrs.stride)
    spans = zip(attrs.offset, attrs.output, full, attrs.stride, strict=True)
    return all(cut >= 0 and cut + kept < size + step for cut, kept, size, step in spans)


def matching_depth(b: BoundNode) -> bool:
    """the input's channels must be those of the weights"""
    return b.inputs[0].shape[2] == b.inputs[1].shape[3]


# ---- Keras


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Conv2DTranspose, Conv1DTranspose: weights go from ([KH,] KW, O, I) to (O, KH, KW, I)."""
    from tinygen.ops.keras_common import activation, as_2d, bias_of, from_2d

    two_d = as_2d(layer, inputs[0], builder)
    kernel = np.asarray(layer.kernel)
    kernel = kernel[np.newaxis] if kernel.ndim == 3 else kernel
    data = dilated(np.transpose(kernel, (2, 0, 1, 3)), two_d.dilation)
    size = tuple(int(n) for n in layer.compute_output_shape((1, *builder.shape(inputs[0])))[1:-1])
    output: Pair = (1, size[0]) if len(size) == 1 else (size[0], size[1])
    offset = _keras_offset(layer, two_d.shape, data.shape[1:3], two_d.strides, output)
    weights = builder.constant(f"{layer.name}/weights", data)
    bias = builder.constant(f"{layer.name}/bias", bias_of(layer, data.shape[0]))
    attrs = Attrs(output, two_d.strides, offset)
    result = builder.add("conv2d_transpose", layer.name, (two_d.tensor, weights, bias), attrs)
    return activation(layer, from_2d(layer, result, builder), builder)


def _keras_offset(layer: Any, shape: Shape, kernel: Shape, stride: Pair, output: Pair) -> Pair:
    """tf_offset of the layer, refusing what TensorFlow itself refuses to run."""
    size = same_size(output, stride)
    if layer.padding == "same" and size != shape[:2]:
        why = (
            f"its output_padding makes {output[0]} x {output[1]} outputs, from which 'same' gives "
            f"{size[0]} x {size[1]} inputs, not {shape[0]} x {shape[1]}: TensorFlow cannot run it either"
        )
        raise UnsupportedLayerError(layer.name, type(layer).__name__, why, "leave output_padding out")
    return tf_offset(layer.padding, shape, kernel, stride, output)


def write_kernel(layer: Any, weights: Array) -> Array:
    """Without the rows and columns that dilation has put between."""
    from tinygen.ops.keras_common import pair

    down, right = pair(layer.dilation_rate)
    return weights[:, ::down, ::right].transpose(1, 2, 0, 3)


KERAS_LAYOUT = Layout(
    {"kernel": {-1: ("weights", 3), -2: ("weights", 0)}, "bias": {0: ("bias", 0)}},
    counted_outputs("filters"),
    written_linear(write_kernel),
)


# ---- shapes


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(H, W, I), weights (O, KH, KW, I), bias (O,) -> (*attrs.output, O)."""
    return (*attrs.output, shapes[1][0])


# ---- float evaluation


def accumulate(x: Array, weights: Array, bias: Array, attrs: Attrs) -> Array:
    """Sum of products plus bias; integer callers subtract the zero_point from x before."""
    n, height, width, _ = x.shape
    channels, kernel_h, kernel_w, _ = weights.shape
    (stride_h, stride_w), (top, left), (out_h, out_w) = attrs.stride, attrs.offset, attrs.output
    full_h = max((height - 1) * stride_h + kernel_h, top + out_h)
    full_w = max((width - 1) * stride_w + kernel_w, left + out_w)
    full = np.zeros((n, full_h, full_w, channels), x.dtype)
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            rows = slice(ky, ky + (height - 1) * stride_h + 1, stride_h)
            columns = slice(kx, kx + (width - 1) * stride_w + 1, stride_w)
            full[:, rows, columns] += x @ weights[:, ky, kx].T
    return np.asarray(full[:, top : top + out_h, left : left + out_w] + bias)


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The transposed convolution in floating point."""
    return clamp_real(accumulate(arrays[0], arrays[1], arrays[2], b.attrs), b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The full result, of which the output is a part."""
    tf = tensorflow()
    x, weights, bias = xs
    (height, width, _), (channels, kernel_h, kernel_w, _) = b.inputs[0].shape, b.inputs[1].shape
    (stride_h, stride_w), (top, left), (out_h, out_w) = b.attrs.stride, b.attrs.offset, b.attrs.output
    full_h, full_w = (height - 1) * stride_h + kernel_h, (width - 1) * stride_w + kernel_w
    full = tf.nn.conv2d_transpose(
        x,
        tf.transpose(weights, (1, 2, 0, 3)),
        (tf.shape(x)[0], full_h, full_w, channels),
        b.attrs.stride,
        "VALID",
    )
    beyond = [[0, 0], [0, max(0, top + out_h - full_h)], [0, max(0, left + out_w - full_w)], [0, 0]]
    kept = tf.pad(full, beyond)[:, top : top + out_h, left : left + out_w]
    return clamp(kept + bias, b.attrs.activation)


# ---- int8 definition


@dataclass(frozen=True)
class Geometry:
    """Input, filter, output, and how they lie to each other."""

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
    offset_y: int
    offset_x: int


@dataclass(frozen=True)
class Params(Geometry):
    """The numbers that the int8 template and the reference both use."""

    input_zero_point: int
    requant: Requant


@dataclass(frozen=True)
class RealParams(Geometry):
    """The numbers that the float32 template uses."""

    clamp: Clamp


def params(b: BoundNode) -> Params:
    """Numbers of one quantized node."""
    return Params(**vars(geometry(b)), input_zero_point=b.inputs[0].zero_point, requant=requant_of(b))


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node."""
    return RealParams(**vars(geometry(b)), clamp=clamp_f32(b.attrs.activation))


def geometry(b: BoundNode) -> Geometry:
    """How one node's input, filter and output lie to each other."""
    attrs, (x, weights, _) = b.attrs, b.inputs
    in_h, in_w, in_c = x.shape
    out_h, out_w, out_c = b.output.shape
    return Geometry(
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
        offset_y=attrs.offset[0],
        offset_x=attrs.offset[1],
    )


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(output_zero_point + requant(bias + sum((in - input_zero_point) * weights))).

    LiteRT rounds these doubly: `rounding` does not matter here. Float64 sums, exact below 2**53.
    """
    p = params(b)
    x = arrays[0].astype(np.float64) - p.input_zero_point
    sums = accumulate(x, arrays[1].astype(np.float64), arrays[2].astype(np.float64), b.attrs)
    return p.requant.apply(sums.astype(np.int64))


def bounds(b: BoundNode, inputs: Sequence[Interval | None]) -> Interval:
    """Per tap the least and greatest sum over the input channels; then as an image of ones has it."""
    (x, weights, bias), own = b.inputs, inputs[0]
    assert own is not None and weights.data is not None and bias.data is not None
    inside = np.ones((1, *x.shape[:2], 1))
    taps = intervals.products(weights.data, own.moved(-x.zero_point))
    low, high = (accumulate(inside, t.sum(axis=3, keepdims=True), bias.data, b.attrs) for t in taps)
    return intervals.requantized(b, low, high)


def shares(b: BoundNode, x: Interval) -> Shares:
    """Outputs differ in how many input pixels reach them: only what is 0 goes."""
    weights = b.inputs[1].data
    assert weights is not None
    filters, _, _, depth = weights.shape
    source = np.broadcast_to(np.arange(depth), (filters, depth))
    return intervals.shares(b, x, weights.reshape(filters, -1, depth), source, everywhere=False)


def macs(b: BoundNode) -> int:
    """Input elements times filter taps times output channels (what is cut away counted)."""
    x, weights = b.inputs[:2]
    return x.elements * weights.elements // x.shape[2]


# ---- TFLite


def tflite_padding(b: BoundNode) -> str | None:
    """'VALID' or 'SAME' when TFLite derives input size and offset from the output by that name, else None."""
    attrs, size, kernel = b.attrs, b.inputs[0].shape[:2], b.inputs[1].shape[1:3]
    if size == same_size(attrs.output, attrs.stride) and attrs.offset == tf_offset(
        "same", size, kernel, attrs.stride, attrs.output
    ):
        return "SAME"
    full = full_size(size, kernel, attrs.stride)
    whole = all(kept >= reach for kept, reach in zip(attrs.output, full, strict=True))
    return "VALID" if attrs.offset == (0, 0) and whole else None


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """TRANSPOSE_CONV; an offset that TFLite has no name for becomes the full result and a SLICE."""
    attrs, (x, weights, bias) = b.attrs, b.inputs
    name, result = tflite_padding(b), writer.activation(b.output)
    size = attrs.output
    target = result
    if name is None:
        size = _uncut(b)
        target = writer.temp(f"{b.name}/full", (*size, weights.shape[0]), "int8", b.output.q)
    shape = writer.raw(f"{b.name}/output_shape", np.array([1, *size, weights.shape[0]], np.int32))
    options = {
        "padding": writer.padding(name or "VALID"),
        "strideH": attrs.stride[0],
        "strideW": attrs.stride[1],
        "fusedActivationFunction": writer.fused(attrs.activation),
    }
    inputs = [shape, writer.constant(weights), writer.activation(x), writer.constant(bias)]
    writer.add("TRANSPOSE_CONV", inputs, target, "TransposeConvOptions", options, version=4)
    if name is None:
        begin = writer.raw(f"{b.name}/begin", np.array([0, *attrs.offset, 0], np.int32))
        kept = writer.raw(f"{b.name}/size", np.array([1, *b.output.shape], np.int32))
        writer.add("SLICE", [target, begin, kept], result, "SliceOptions", {}, version=2)


def _uncut(b: BoundNode) -> Pair:
    """Size of the full result, or of what is kept where that reaches further."""
    attrs = b.attrs
    full = full_size(b.inputs[0].shape, b.inputs[1].shape[1:3], attrs.stride)
    height, width = (max(n, a + m) for n, a, m in zip(full, attrs.offset, attrs.output, strict=True))
    return height, width


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """TRANSPOSE_CONV with its own quantization: the inputs are output shape, weights, activation, bias."""
    weights, x, options = op.tensor(1), of_rank(op, builder, 3, index=2), op.options
    if len(op.output_shape()) != 3:
        raise op.error(f"its output is {list(op.output_shape())}, it must be (height, width, channels)")
    stride: Pair = (options.strideH, options.strideW)
    output: Pair = (op.output_shape()[0], op.output_shape()[1])
    size = same_size(output, stride)
    offset = tf_offset(op.padding(options.padding), size, weights.shape[1:3], stride, output)
    attrs = Attrs(output, stride, offset, op.fused(options.fusedActivationFunction))
    inputs = (x, op.constant(1), op.bias(3, weights.shape[0]))
    return builder.add("conv2d_transpose", op.name, inputs, attrs, op.output_qparams())


# ---- kernels


def cost_portable(b: BoundNode) -> float:
    """Plain C: about 9 cycles a multiply-accumulate, 60 an output."""
    return 9.0 * macs(b) + 60.0 * b.output.elements


def cost_f32(b: BoundNode) -> float:
    """Plain C with an FPU: about 7 cycles a multiply-accumulate, 35 an output."""
    return 7.0 * macs(b) + 35.0 * b.output.elements


KERNELS = (
    Kernel("tg_conv2d_transpose_s8", cost_portable, constants=constants),
    Kernel("tg_conv2d_transpose_f32", cost_f32, constants=constants_f32, dtype="float32", params=params_f32),
)

OP = Op(
    name="conv2d_transpose",
    summary="2D (and 1D) transposed convolution with stride, any padding and output padding",
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
    constraints=(positive_output, matching_depth, within_reach, bounded_accumulator),
    keras={"Conv1DTranspose": from_keras, "Conv2DTranspose": from_keras},
    to_tflite=to_tflite,
    output_axis=0,
    absorb_input=folding.conv2d_transpose,
    from_tflite={"TRANSPOSE_CONV": from_tflite},
    channels=mixed_channels(input_axis=3, output_axis=0),
    layouts={"Conv1DTranspose": KERAS_LAYOUT, "Conv2DTranspose": KERAS_LAYOUT},
    bounds=bounds,
    shares=shares,
)
