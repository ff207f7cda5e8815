"""prelu: x above 0, alpha * x below, with a learned alpha per channel, per element, or shared along axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding, multiply_by_quantized_multiplier, quantize_multiplier
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops import binary, intervals
from tinygen.ops.base import Kernel, Op, free, no_macs
from tinygen.ops.binary import Broadcast
from tinygen.ops.coupling import Layout, Writing, same_channels
from tinygen.ops.intervals import Interval
from tinygen.ops.tensors import Tensors, tensorflow

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter

LARGEST_FACTOR = 2.0**14
"""Inputs times alpha need 17 bits, so greater factors could overflow int32; one of 512 already saturates."""


@dataclass(frozen=True)
class Attrs:
    """Nothing to set: alpha is the second input, int8 with one scale and zero_point of its own range."""


# ---- constraints


def constant_alpha(b: BoundNode) -> bool:
    """alpha must be a constant whose shape broadcasts to the input's shape"""
    if not b.inputs[1].is_constant:
        return False
    try:
        return np.broadcast_shapes(b.inputs[0].shape, b.inputs[1].shape) == b.inputs[0].shape
    except ValueError:
        return False


# ---- Keras


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """PReLU(shared_axes): shared axes have size 1 in alpha."""
    alpha = builder.constant(f"{layer.name}/alpha", np.asarray(layer.alpha))
    return builder.add("prelu", layer.name, (inputs[0], alpha), Attrs())


# ---- shapes and quantization


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """The input's shape."""
    return shapes[0]


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """x above 0, alpha * x below."""
    x, alpha = arrays
    return np.where(x > 0, x, alpha * x)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """x above 0, alpha * x below."""
    x, alpha = xs
    return tensorflow().where(x > 0, x, alpha * x)


# ---- int8 definition


@dataclass(frozen=True)
class Params:
    """The numbers that the template and the reference both use: *1 for inputs above 0, *2 for those below."""

    loops: Broadcast
    input_zero_point: int
    alpha_zero_point: int
    multiplier1: int
    shift1: int
    multiplier2: int
    shift2: int
    output_zero_point: int


def params(b: BoundNode) -> Params:
    """Multipliers: input scale / output scale and that times alpha's scale, in float32 as TFLite."""
    (x, alpha), q = b.inputs, b.output.q
    input_scale, output_scale = np.float32(x.scale), np.float32(q.scale[0])
    with np.errstate(over="ignore", under="ignore"):
        factor = float(input_scale / output_scale)
        alpha_factor = float(input_scale * np.float32(alpha.scale) / output_scale)
    positive = quantize_multiplier(min(factor, LARGEST_FACTOR))
    negative = quantize_multiplier(min(alpha_factor, LARGEST_FACTOR))
    zero_points = x.zero_point, alpha.zero_point
    return Params(binary.broadcast(b), *zero_points, *positive, *negative, q.zero_point[0])


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(zo + requant1(in - zi)), below 0 requant2((in - zi) * (alpha - za)).

    LiteRT rounds doubly here: `rounding` does not matter.
    """
    p = params(b)
    x, alpha = binary.centred(b, arrays)
    above = multiply_by_quantized_multiplier(x, p.multiplier1, p.shift1)
    below = multiply_by_quantized_multiplier(x * alpha, p.multiplier2, p.shift2)
    total = np.where(x >= 0, above, below) + p.output_zero_point
    return np.asarray(np.clip(total, -128, 127).astype(np.int8))


def bounds(b: BoundNode, inputs: Sequence[Interval | None]) -> Interval:
    """It rises from the zero_point on and rises or falls below: the extremes are at the ends of both parts."""
    (x, alpha), own = b.inputs, inputs[0]
    assert own is not None and alpha.data is not None
    inner = [np.clip(end, own.low, own.high) for end in (x.zero_point - 1, x.zero_point)]
    samples = [intervals.filled(values, x.shape) for values in (own.low, *inner, own.high)]
    outputs = (reference(b, [sample, alpha.data], Rounding.DOUBLE) for sample in samples)
    return intervals.over_positions(*outputs)


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """PRELU."""
    inputs = [writer.activation(b.inputs[0]), writer.constant(b.inputs[1])]
    writer.add("PRELU", inputs, writer.activation(b.output))


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """PRELU with a constant alpha."""
    if not op.tensor(1).is_constant:
        raise op.error("alpha must be a constant")
    inputs = op.activation(0), binary.operand(op, 1, builder)
    return builder.add("prelu", op.name, inputs, Attrs(), op.output_qparams())


# ---- kernels


def constants(b: BoundNode) -> Mapping[str, Array]:
    """alpha."""
    alpha = b.inputs[1].data
    assert alpha is not None
    return {"alpha": alpha}


def cost(b: BoundNode) -> float:
    """One requantization an element."""
    return 35.0 * b.output.elements


OP = Op(
    name="prelu",
    summary="x above 0, alpha * x below, with learned alpha",
    attrs=Attrs,
    inputs=("input", "alpha"),
    infer=infer,
    real=real,
    differentiable=differentiable,
    scaling=free,
    quantize=binary.quantize,
    params=params,
    reference=reference,
    macs=no_macs,
    kernels=(
        Kernel("tg_prelu_s8", cost, constants=constants, in_place=lambda b: (0,)),
        Kernel(
            "tg_prelu_f32",
            binary.cost_f32,
            constants=constants,
            in_place=lambda b: (0,),
            dtype="float32",
            params=binary.params_f32,
        ),
    ),
    constraints=(constant_alpha,),
    keras={"PReLU": from_keras},
    to_tflite=to_tflite,
    from_tflite={"PRELU": from_tflite},
    channels=same_channels,
    bounds=bounds,
    layouts={
        "PReLU": Layout({"alpha": {-1: ("alpha", -1)}}, writing=Writing(lambda layer, constants: constants))
    },
)
