"""dense: fully connected on the last axis; leading axes are so many independent rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops import dense_dsp, folding, intervals, mve, plain_kernels, row_product, wide_dsp
from tinygen.ops.base import Clamp, Kernel, Op, clamp_f32, clamp_real, free
from tinygen.ops.coupling import Layout, counted_outputs, mixed_channels, written_linear
from tinygen.ops.intervals import Interval, Shares
from tinygen.ops.requant import (
    Requant,
    bounded_accumulator,
    constants,
    constants_f32,
    per_output_channel,
    requant_of,
)
from tinygen.ops.tensors import Tensors, clamp, tensorflow

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """activation: fused clamp of the output."""

    activation: str = "none"


# ---- constraints


def matching_depth(b: BoundNode) -> bool:
    """the last axis of the input must be as long as a row of the weights"""
    return b.inputs[0].shape[-1] == b.inputs[1].shape[1]


# ---- Keras


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Dense: weights go from (K, N) to (N, K)."""
    from tinygen.ops.keras_common import activation, bias_of

    kernel = np.asarray(layer.kernel)
    weights = builder.constant(f"{layer.name}/weights", kernel.T)
    bias = builder.constant(f"{layer.name}/bias", bias_of(layer, kernel.shape[1]))
    output = builder.add("dense", layer.name, (inputs[0], weights, bias), Attrs())
    return activation(layer, output, builder)


KERAS_LAYOUT = Layout(
    {"kernel": {0: ("weights", 1), 1: ("weights", 0)}, "bias": {0: ("bias", 0)}},
    counted_outputs("units"),
    written_linear(lambda layer, weights: weights.T),
)


# ---- shapes


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(..., K), weights (N, K), bias (N,) -> (..., N)."""
    return (*shapes[0][:-1], shapes[1][0])


# ---- float evaluation


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The matrix product in floating point."""
    x, weights, bias = arrays
    return clamp_real(x @ weights.T + bias, b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The matrix product over the last axis."""
    x, weights, bias = xs
    return clamp(tensorflow().einsum("...k,nk->...n", x, weights) + bias, b.attrs.activation)


# ---- int8 definition


@dataclass(frozen=True)
class Params:
    """The numbers that the template and the reference both use: rows of in_c values become rows of out_c."""

    rows: int
    in_c: int
    out_c: int
    input_zero_point: int
    requant: Requant


def params(b: BoundNode) -> Params:
    """Numbers of one quantized node."""
    x, weights, _ = b.inputs
    out_c, in_c = weights.shape
    return Params(x.elements // in_c, in_c, out_c, x.zero_point, requant_of(b))


@dataclass(frozen=True)
class RealParams:
    """The numbers that the float32 template uses."""

    rows: int
    in_c: int
    out_c: int
    clamp: Clamp


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node."""
    out_c, in_c = b.inputs[1].shape
    return RealParams(b.inputs[0].elements // in_c, in_c, out_c, clamp_f32(b.attrs.activation))


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(output_zero_point + requant(bias + sum((in - input_zero_point) * weights))).

    rounding: DOUBLE is what C computes; LiteRT's dense layers round singly (in 16x8 as C). Float64 sums, exact below
    2**53.
    """
    p = params(b)
    x = arrays[0].astype(np.float64) - p.input_zero_point
    sums = x @ arrays[1].astype(np.float64).T + arrays[2]
    return p.requant.apply(sums.astype(np.int64), rounding)


def bounds(b: BoundNode, inputs: Sequence[Interval | None]) -> Interval:
    """The least and greatest sums of products."""
    (x, weights, bias), own = b.inputs, inputs[0]
    assert own is not None and weights.data is not None
    low, high = intervals.products(weights.data, own.moved(-x.zero_point))
    return intervals.requantized(b, low.sum(axis=1) + bias.data, high.sum(axis=1) + bias.data)


def shares(b: BoundNode, x: Interval) -> Shares:
    """Into the bias."""
    weights = b.inputs[1].data
    assert weights is not None
    source = np.broadcast_to(np.arange(weights.shape[1]), weights.shape)
    return intervals.shares(b, x, weights[:, np.newaxis], source, everywhere=True)


def macs(b: BoundNode) -> int:
    """Outputs times the length of a row."""
    return b.output.elements * b.inputs[1].shape[1]


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """FULLY_CONNECTED; leading axes are kept."""
    x, weights, bias = b.inputs
    options = {
        "fusedActivationFunction": writer.fused(b.attrs.activation),
        "keepNumDims": len(x.shape) > 1,
    }
    inputs = [writer.activation(x), writer.constant(weights), writer.constant(bias)]
    output = writer.activation(b.output)
    writer.add("FULLY_CONNECTED", inputs, output, "FullyConnectedOptions", options, version=5)


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """FULLY_CONNECTED with its own quantization. Without keep_num_dims it flattens into rows of K."""
    from tinygen.ops.keras_common import reshape

    x, (channels, depth), options = op.activation(0), op.tensor(1).shape, op.options
    rows = int(np.prod(builder.shape(x), dtype=np.int64)) // depth
    if builder.shape(x)[-1] != depth or not (options.keepNumDims or len(builder.shape(x)) == 1):
        x = reshape(f"{op.name}/flatten", x, (depth,) if rows == 1 else (rows, depth), builder)
    attrs = Attrs(op.fused(options.fusedActivationFunction))
    output = builder.add(
        "dense", op.name, (x, op.constant(1), op.bias(2, channels)), attrs, op.output_qparams()
    )
    return reshape(f"{op.name}/shape", output, op.output_shape(), builder)


# ---- kernels


def cost_portable(b: BoundNode) -> float:
    """Plain C: about 8 cycles a multiply-accumulate, 40 an output."""
    return 8.0 * macs(b) + 40.0 * b.output.elements


def cost_wide(b: BoundNode) -> float:
    """Plain C: about 9 cycles a multiply-accumulate of 64 bits, 30 an output."""
    return 9.0 * macs(b) + 30.0 * b.output.elements


def cost_f32(b: BoundNode) -> float:
    """Plain C with an FPU: about 6 cycles a multiply-accumulate, 20 an output."""
    return 6.0 * macs(b) + 20.0 * b.output.elements


KERNELS = (
    Kernel("tg_dense_s8", cost_portable, constants=constants, template="tg_dense"),
    Kernel("tg_dense_s16", cost_wide, constants=constants, dtype="int16", template="tg_dense"),
    Kernel("tg_dense_f32", cost_f32, constants=constants_f32, dtype="float32", params=params_f32),
    dense_dsp.KERNEL,
    wide_dsp.DENSE,
    *row_product.kernels("dense"),
    plain_kernels.DENSE,
    mve.DENSE,
)

OP = Op(
    name="dense",
    summary="Fully connected layer on the last axis",
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
    constraints=(matching_depth, bounded_accumulator),
    keras={"Dense": from_keras},
    to_tflite=to_tflite,
    output_axis=0,
    input_axis=lambda b: 1,
    absorb_input=folding.dense,
    from_tflite={"FULLY_CONNECTED": from_tflite},
    channels=mixed_channels(input_axis=1, output_axis=0),
    layouts={"Dense": KERAS_LAYOUT},
    bounds=bounds,
    shares=shares,
)
