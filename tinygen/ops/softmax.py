"""softmax: along the last axis, in TFLite's fixed point (no float, no table)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.errors import UnsupportedLayerError
from tinygen.fixedpoint import (
    Rounding,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from tinygen.graph import Array, BoundNode, GraphBuilder, QParams, Shape
from tinygen.ops import transpose
from tinygen.ops.base import Kernel, Op, Scaling, Share, no_macs, no_quantize
from tinygen.ops.coupling import frozen
from tinygen.ops.interpolation import interpolated, look_up_between
from tinygen.ops.q31 import (
    EXP_FRACTION_BITS,
    exp_of_negative,
    input_radius,
    leading_zeros,
    one_over_one_plus,
)
from tinygen.ops.tensors import Tensors, tensorflow

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter

SUM_INTEGER_BITS = 12
"""Format of the sum of exponentials: Q12, so up to 4,095 terms of at most 1."""

OUTPUT = QParams.per_tensor(1 / 256, -128)
WIDE_OUTPUT = QParams.int16(1 / 32768)

EXP_RANGE = 10.0
"""Of int16: exp of less than -10 counts as exp(-10); differences of -10 ... 0 are spread over 0 ... 65,535."""


@dataclass(frozen=True)
class Attrs:
    """beta: the input is multiplied by it (1 in Keras)."""

    beta: float = 1.0


# ---- constraints


def bounded_sum(b: BoundNode) -> bool:
    """softmax must run over 1 to 4,095 elements, so that its fixed-point sum cannot overflow"""
    return len(b.inputs[0].shape) >= 1 and 1 <= b.inputs[0].shape[-1] < 1 << SUM_INTEGER_BITS


def usable_beta(b: BoundNode) -> bool:
    """beta must be a finite number above 0"""
    return bool(0 < b.attrs.beta < float("inf"))


# ---- Keras


def append(layer: Any, axis: Any, name: str, tensor: str, builder: GraphBuilder) -> str:
    """Append a softmax along `axis` (0 is the batch), with transposes around it if it is not the last."""
    rank = len(builder.shape(tensor))
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    own = axes[0] - 1 if axes[0] > 0 else axes[0] + rank
    if len(axes) != 1 or axes[0] == 0 or not 0 <= own < rank:
        why = f"softmax runs along axis {axis}, it must be one axis from 1 to {rank} (or -1 to -{rank})"
        raise UnsupportedLayerError(layer.name, type(layer).__name__, why, "reshape so that it is one axis")
    if own == rank - 1:
        return builder.add("softmax", name, (tensor,), Attrs())
    swap = tuple(rank - 1 if a == own else own if a == rank - 1 else a for a in range(rank))
    last = builder.add("transpose", f"{name}/last", (tensor,), transpose.Attrs(swap))
    middle = builder.add("softmax", f"{name}/softmax", (last,), Attrs())
    return builder.add("transpose", name, (middle,), transpose.Attrs(swap))


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Softmax(axis)."""
    return append(layer, layer.axis, layer.name, inputs[0], builder)


# ---- shapes and scales


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """The input's shape."""
    return shapes[0]


def scaling(b: BoundNode) -> Scaling:
    """Always 1/256 and -128; of int16 1/32,768."""
    return Scaling(Share.FIXED, OUTPUT, wide=WIDE_OUTPUT)


# ---- float evaluation


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """exp(beta * x) / sum of exp(beta * x), shifted by the maximum."""
    x = arrays[0] * arrays[0].dtype.type(b.attrs.beta)
    powers = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return np.asarray(powers / np.sum(powers, axis=-1, keepdims=True))


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """softmax(beta * x)."""
    return tensorflow().nn.softmax(xs[0] * b.attrs.beta)


# ---- int8 definition


@dataclass(frozen=True)
class Params:
    """The numbers that the template and the reference both use.

    left_shift, multiplier: int8 difference -> Q5 exponent. lowest: differences below count as exp = 0.
    sum_integer_bits: format of the sum.
    """

    rows: int
    depth: int
    multiplier: int
    left_shift: int
    lowest: int
    sum_integer_bits: int = SUM_INTEGER_BITS


def params(b: BoundNode) -> Params:
    """Numbers of one quantized node."""
    x = b.inputs[0]
    factor = min(max(b.attrs.beta * x.scale * 2**EXP_FRACTION_BITS, 1.0), 2.0**31 - 1)
    multiplier, left_shift = quantize_multiplier(factor)
    depth = x.shape[-1]
    return Params(
        rows=x.elements // depth,
        depth=depth,
        multiplier=multiplier,
        left_shift=left_shift,
        lowest=-input_radius(left_shift),
    )


@dataclass(frozen=True)
class RealParams:
    """The numbers that the float32 template uses."""

    rows: int
    depth: int
    beta: float


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node."""
    depth = b.inputs[0].shape[-1]
    return RealParams(b.inputs[0].elements // depth, depth, b.attrs.beta)


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(round(256 * exp(d) / sum of exp(d)) - 128), d = difference to the row's maximum.

    All in fixed point; LiteRT computes the same: `rounding` does not matter. int16: see wide_reference.
    """
    if b.output.q.bits == 16:
        return wide_reference(b, arrays[0])
    p = params(b)
    x = arrays[0].astype(np.int64)
    difference = x - x.max(axis=-1, keepdims=True)
    counts = difference >= p.lowest
    shifted = np.where(counts, difference, 0) << p.left_shift
    powers = exp_of_negative(saturating_rounding_doubling_high_mul(shifted, p.multiplier))
    terms = np.where(counts, rounding_divide_by_pot(powers, SUM_INTEGER_BITS), 0)
    total = terms.sum(axis=-1, keepdims=True)
    zeros = leading_zeros(total)
    reciprocal = one_over_one_plus((total << zeros) - (1 << 31))
    quotient = saturating_rounding_doubling_high_mul(reciprocal, powers)
    scaled = rounding_divide_by_pot(quotient, SUM_INTEGER_BITS - zeros + 31 - 8)
    return np.where(counts, np.clip(scaled - 128, -128, 127), -128).astype(np.int8)


# ---- int16 definition


@dataclass(frozen=True)
class WideParams:
    """Numbers of one int16 node. multiplier, shift: difference -> 1/65,535 of EXP_RANGE."""

    rows: int
    depth: int
    multiplier: int
    shift: int


def wide_params(b: BoundNode) -> WideParams:
    """Numbers of one int16 node. A factor of 65,536 or more saturates every difference but 0."""
    x = b.inputs[0]
    factor = min(b.attrs.beta * x.scale / (EXP_RANGE / 65535.0), WIDEST_FACTOR)
    depth = x.shape[-1]
    return WideParams(x.elements // depth, depth, *quantize_multiplier(factor))


WIDEST_FACTOR = 2.0**14
"""Differences need 17 bits; more would leave int32."""


def wide_tables(b: BoundNode) -> Mapping[str, Array]:
    """exp over -10 ... 0 and 1 / (1 + x) over 0 ... 1, as tables of 513 to interpolate in."""
    return {
        "exponential": interpolated(np.exp, -EXP_RANGE, 0.0),
        "reciprocal": interpolated(lambda x: 1.0 / (1.0 + x), 0.0, 1.0),
    }


def wide_reference(b: BoundNode, x: Array) -> Array:
    """out = clamp(round(exp(d) / sum of exp(d))), exp and 1 / (1 + x) from tables, in Q15."""
    p, tables = wide_params(b), wide_tables(b)
    difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    scaled = multiply_by_quantized_multiplier(difference, p.multiplier, p.shift)
    powers = look_up_between(tables["exponential"], np.clip(scaled + 32767, -32768, 32767))
    total = powers.sum(axis=-1, keepdims=True)
    zeros = leading_zeros(total)
    mantissa = ((total << (zeros - 1)) + (1 << 13)) >> 14
    centred = np.clip(mantissa - (1 << 15) - (1 << 16), -32768, 32767)
    reciprocal = look_up_between(tables["reciprocal"], centred)
    shift = 31 - zeros
    quotient = (powers * reciprocal + (1 << (shift - 1))) >> shift
    return b.output.q.narrowed(np.maximum(quotient, 0))


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """SOFTMAX."""
    options = {"beta": b.attrs.beta}
    inputs = [writer.activation(b.inputs[0])]
    writer.add("SOFTMAX", inputs, writer.activation(b.output), "SoftmaxOptions", options, version=2)


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """SOFTMAX with TFLite's fixed output quantization."""
    output = op.output_qparams()
    if output not in (OUTPUT, WIDE_OUTPUT):
        raise op.error(
            "the output of SOFTMAX must have scale 1/256 and zero point -128 (int16: 1/32,768 and 0)"
        )
    return builder.add("softmax", op.name, (op.activation(0),), Attrs(float(op.options.beta)), output)


# ---- kernels


def cost(b: BoundNode) -> float:
    """Two exponentials an element."""
    return 250.0 * b.output.elements


def cost_f32(b: BoundNode) -> float:
    """An exponential, a division and three passes an element."""
    return 90.0 * b.output.elements


OP = Op(
    name="softmax",
    summary="softmax along the last axis",
    attrs=Attrs,
    inputs=("input",),
    infer=infer,
    real=real,
    differentiable=differentiable,
    scaling=scaling,
    quantize=no_quantize,
    params=params,
    reference=reference,
    macs=no_macs,
    kernels=(
        Kernel("tg_softmax_s8", cost, in_place=lambda b: (0,)),
        Kernel(
            "tg_softmax_s16",
            cost,
            constants=wide_tables,
            in_place=lambda b: (0,),
            dtype="int16",
            params=wide_params,
        ),
        Kernel("tg_softmax_f32", cost_f32, in_place=lambda b: (0,), dtype="float32", params=params_f32),
    ),
    constraints=(bounded_sum, usable_beta),
    keras={"Softmax": from_keras},
    keras_notes={"Activation": "activation='softmax'"},
    to_tflite=to_tflite,
    from_tflite={"SOFTMAX": from_tflite},
    channels=frozen,
)
