"""mul: elementwise a * b with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.fixedpoint import Rounding, multiply_by_quantized_multiplier, quantize_multiplier
from tinygen.graph import Array, BoundNode
from tinygen.ops import binary, binary_dsp
from tinygen.ops.base import Kernel, Op, clamp_bounds, clamp_real, free, no_macs
from tinygen.ops.binary import Attrs, Broadcast
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import corners
from tinygen.ops.tensors import Tensors, aligned, clamp

LARGEST_FACTOR = 2.0**14
"""A product of two int8 differences needs 17 bits, so greater factors could overflow int32; one of 512
already saturates the output for every product but 0, so limiting the factor changes no result."""


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """a * b in floating point."""
    first, second = binary.aligned(b, arrays)
    return clamp_real(first * second, b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """a * b."""
    first, second = aligned(b, xs)
    return clamp(first * second, b.attrs.activation)


@dataclass(frozen=True)
class Params:
    """The numbers that the template and the reference both use."""

    loops: Broadcast
    zero_point1: int
    zero_point2: int
    multiplier: int
    shift: int
    output_zero_point: int
    activation_min: int
    activation_max: int


def params(b: BoundNode) -> Params:
    """One multiplier: scale1 * scale2 / output scale, in float32 as TFLite computes it."""
    (first, second), q = b.inputs, b.output.q
    with np.errstate(over="ignore", under="ignore"):
        factor = float(np.float32(first.scale) * np.float32(second.scale) / np.float32(q.scale[0]))
    factor = min(factor, LARGEST_FACTOR)
    multiplier, shift = quantize_multiplier(factor)
    bounds = clamp_bounds(b.attrs.activation, q)
    loops = binary.broadcast(b)
    return Params(loops, first.zero_point, second.zero_point, multiplier, shift, q.zero_point[0], *bounds)


def computable(b: BoundNode) -> bool:
    """TFLite's mul does not limit its factor."""
    return b.inputs[0].scale * b.inputs[1].scale <= LARGEST_FACTOR * b.output.scale


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(zo + requant((a - za) * (b - zb))); LiteRT rounds doubly: `rounding` does not matter."""
    p = params(b)
    first, second = binary.centred(b, arrays)
    scaled = multiply_by_quantized_multiplier(first * second, p.multiplier, p.shift)
    clipped = np.clip(scaled + p.output_zero_point, p.activation_min, p.activation_max)
    return np.asarray(clipped.astype(np.int8))


def cost(b: BoundNode) -> float:
    """One requantization an element."""
    return 30.0 * b.output.elements


OP = Op(
    name="mul",
    summary="elementwise product, with broadcasting",
    attrs=Attrs,
    inputs=("input1", "input2"),
    infer=binary.infer,
    real=real,
    differentiable=differentiable,
    scaling=free,
    quantize=binary.quantize,
    params=params,
    reference=reference,
    macs=no_macs,
    kernels=(
        Kernel("tg_mul_s8", cost, constants=binary.constants, in_place=binary.in_place),
        binary_dsp.product_kernel(params),
        binary.kernel_f32("mul"),
    ),
    constraints=(binary.one_activation,),
    keras={"Multiply": binary.chain("mul", Attrs())},
    to_tflite=binary.export("MUL", "MulOptions", computable),
    from_tflite={"MUL": binary.import_as("mul")},
    channels=same_channels,
    rows=binary.rows,
    bounds=corners(reference),
)
