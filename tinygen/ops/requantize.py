"""requantize: int8 or int16 at one scale -> int8 or int16 at another, with an optional clamping activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding, multiply_by_quantized_multiplier, quantize_multiplier
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops import unary_dsp
from tinygen.ops.base import Kernel, Op, clamp_bounds, clamp_real, free, no_macs, no_quantize
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import rising
from tinygen.ops.tensors import Tensors, clamp

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter

LARGEST_FACTOR = {8: 2.0**20, 16: 2.0**14}
"""Bits of the input -> greatest factor: inputs need 9 or 16 bits, so greater ones could overflow int32."""

TYPES = {8: "int8_t", 16: "int16_t"}


@dataclass(frozen=True)
class Attrs:
    """activation: a name in base.FUSED, applied by clamping the output."""

    activation: str = "none"


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """The input's shape."""
    return shapes[0]


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The input, clamped."""
    return clamp_real(arrays[0], b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The input, clamped."""
    return clamp(xs[0], b.attrs.activation)


@dataclass(frozen=True)
class Params:
    """The numbers that the template and the reference both use. size: elements.

    what: types, for the comment. input_type: in C.
    """

    what: str
    input_type: str
    size: int
    input_zero_point: int
    multiplier: int
    shift: int
    output_zero_point: int
    activation_min: int
    activation_max: int


def params(b: BoundNode) -> Params:
    """One multiplier: input scale / output scale."""
    x, q = b.inputs[0], b.output.q
    multiplier, shift = quantize_multiplier(min(x.scale / q.scale[0], LARGEST_FACTOR[x.q.bits]))
    bounds = clamp_bounds(b.attrs.activation, q)
    what = q.dtype if x.q.bits == q.bits else f"{x.q.dtype} to {q.dtype}"
    return Params(
        what, TYPES[x.q.bits], b.output.elements, x.zero_point, multiplier, shift, q.zero_point[0], *bounds
    )


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(zo + requant(in - zi)); LiteRT rounds doubly here: `rounding` does not matter."""
    p = params(b)
    centred = arrays[0].astype(np.int64) - p.input_zero_point
    scaled = multiply_by_quantized_multiplier(centred, p.multiplier, p.shift)
    clipped = np.clip(scaled + p.output_zero_point, p.activation_min, p.activation_max)
    return b.output.q.narrowed(clipped)


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """QUANTIZE, then the clamp as MAXIMUM and MINIMUM with a constant where there is one."""
    x, q = b.inputs[0], b.output.q
    low, high = clamp_bounds(b.attrs.activation, q)
    bounds = [(k, v) for k, v, free in (("MAXIMUM", low, q.low), ("MINIMUM", high, q.high)) if v != free]
    steps = ["QUANTIZE", *(kind for kind, _ in bounds)]
    tensor = writer.activation(x)
    for i, kind in enumerate(steps):
        last = i == len(steps) - 1
        out = (
            writer.activation(b.output) if last else writer.temp(f"{b.name}/{i}", b.output.shape, q.dtype, q)
        )
        if kind == "QUANTIZE":
            writer.add(kind, [tensor], out, "QuantizeOptions", {}, version=2)
        else:
            limit = writer.raw(f"{b.name}/{kind.lower()}", np.full(1, dict(bounds)[kind], q.dtype), q)
            writer.add(kind, [tensor, limit], out, "MaximumMinimumOptions", {}, version=2)
        tensor = out


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """QUANTIZE from int8 or int16 to int8 or int16."""
    if op.tensor(0).dtype not in ("int8", "int16"):
        raise op.error("only QUANTIZE between int8 and int16 is supported")
    return builder.add("requantize", op.name, (op.activation(0),), Attrs(), op.output_qparams())


def same_size(b: BoundNode) -> tuple[int, ...]:
    """The output may overwrite an input whose elements are as large as its own."""
    return (0,) if b.inputs[0].itemsize == b.output.itemsize else ()


def cost(b: BoundNode) -> float:
    """One requantization an element."""
    return 25.0 * b.output.elements


OP = Op(
    name="requantize",
    summary="int8 or int16 at one scale to int8 or int16 at another",
    attrs=Attrs,
    inputs=("input",),
    infer=infer,
    real=real,
    differentiable=differentiable,
    scaling=free,
    quantize=no_quantize,
    params=params,
    reference=reference,
    macs=no_macs,
    kernels=(
        Kernel("tg_requantize_s8", cost, in_place=same_size, template="tg_requantize"),
        unary_dsp.requantize_kernel(params, same_size),
        Kernel("tg_requantize_s16", cost, in_place=same_size, dtype="int16", template="tg_requantize"),
    ),
    to_tflite=to_tflite,
    elementwise=True,
    from_tflite={"QUANTIZE": from_tflite},
    channels=same_channels,
    bounds=rising(reference),
)
