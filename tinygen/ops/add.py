"""add: elementwise a + b with broadcasting. The scheme is shared with sub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding, multiply_by_quantized_multiplier, quantize_multiplier
from tinygen.graph import Array, BoundNode, GraphBuilder
from tinygen.ops import binary, binary_dsp, mve
from tinygen.ops.base import Kernel, Op, clamp_bounds, clamp_real, free, no_macs
from tinygen.ops.binary import Attrs, Broadcast
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import corners
from tinygen.ops.tensors import Tensors, aligned, clamp

if TYPE_CHECKING:
    from tinygen.boards import Board

LEFT_SHIFT = {8: 20, 16: 15}
"""Bits -> fraction bits that both inputs gain before they meet: |q - zero_point| <= 255 or 32,768, so 28 or 30 bits
are used."""


# ---- Keras


def from_keras_average(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Average: the sum, then an exact division of its scale."""
    from tinygen.ops import rescale

    total = binary.append_chain("add", Attrs(), f"{layer.name}/sum", inputs, builder)
    return builder.add("rescale", layer.name, (total,), rescale.Attrs(1 / len(inputs)))


# ---- float evaluation


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """a + b in floating point."""
    first, second = binary.aligned(b, arrays)
    return clamp_real(first + second, b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """a + b."""
    first, second = aligned(b, xs)
    return clamp(first + second, b.attrs.activation)


# ---- int8 definition


@dataclass(frozen=True)
class Params:
    """The numbers that the templates of add and sub and their references use."""

    loops: Broadcast
    zero_point1: int
    zero_point2: int
    left_shift: int
    multiplier1: int
    shift1: int
    multiplier2: int
    shift2: int
    output_multiplier: int
    output_shift: int
    output_zero_point: int
    activation_min: int
    activation_max: int


def params(b: BoundNode) -> Params:
    """Both inputs are brought to twice the larger scale / 2**20 (int16: 2**15), then the result to the output's scale.

    Where the output's scale is below that of the inputs' meeting, 1 stands in for the multiplier.
    """
    (first, second), q = b.inputs, b.output.q
    twice_largest = 2 * max(first.scale, second.scale)
    multiplier1, shift1 = quantize_multiplier(first.scale / twice_largest)
    multiplier2, shift2 = quantize_multiplier(second.scale / twice_largest)
    left_shift = LEFT_SHIFT[q.bits]
    output = quantize_multiplier(min(twice_largest / (2**left_shift * q.scale[0]), 1.0))
    return Params(
        loops=binary.broadcast(b),
        zero_point1=first.zero_point,
        zero_point2=second.zero_point,
        left_shift=left_shift,
        multiplier1=multiplier1,
        shift1=shift1,
        multiplier2=multiplier2,
        shift2=shift2,
        output_multiplier=output[0],
        output_shift=output[1],
        output_zero_point=q.zero_point[0],
        activation_min=clamp_bounds(b.attrs.activation, q)[0],
        activation_max=clamp_bounds(b.attrs.activation, q)[1],
    )


def computable(b: BoundNode) -> bool:
    """TFLite's add and sub need an output multiplier below 1 (without the limit that params sets)."""
    return bool(2 * max(t.scale for t in b.inputs) < 2 ** LEFT_SHIFT[b.output.q.bits] * b.output.scale)


def scaled(b: BoundNode, arrays: Sequence[Array], p: Params) -> tuple[Array, Array]:
    """Both inputs at the common scale."""
    first, second = binary.centred(b, arrays)
    return (
        multiply_by_quantized_multiplier(first << p.left_shift, p.multiplier1, p.shift1),
        multiply_by_quantized_multiplier(second << p.left_shift, p.multiplier2, p.shift2),
    )


def finish(total: Array, p: Params) -> Array:
    """Common scale -> output, clamped."""
    rescaled = multiply_by_quantized_multiplier(total, p.output_multiplier, p.output_shift)
    return np.asarray(np.clip(rescaled + p.output_zero_point, p.activation_min, p.activation_max))


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(zo + requant(scale(a) + scale(b))); LiteRT rounds doubly: `rounding` does not matter."""
    p = params(b)
    first, second = scaled(b, arrays, p)
    return b.output.q.narrowed(finish(first + second, p))


# ---- kernels


def cost(b: BoundNode) -> float:
    """Three requantizations an element."""
    return 61.0 * b.output.elements


@dataclass(frozen=True)
class Flat(Params):
    """The same for inputs and output of one shape, with so many elements."""

    elements: int


def flat(b: BoundNode) -> Flat:
    """Numbers of a node without broadcasting."""
    return Flat(**vars(params(b)), elements=b.output.elements)


def takes_mve(b: BoundNode, board: Board | None) -> bool:
    """Two activations of the output's shape, and no shift to the left."""
    alike = len(b.activations) == 2 and all(t.shape == b.output.shape for t in b.inputs)
    if not (mve.helium(b, board) and alike and b.output.dtype == "int8"):
        return False
    p = params(b)
    return max(p.shift1, p.shift2, p.output_shift) <= 0


OP = Op(
    name="add",
    summary="elementwise sum, with broadcasting",
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
        Kernel("tg_add_s8", cost, constants=binary.constants, in_place=binary.in_place, template="tg_add"),
        Kernel(
            "tg_add_s16",
            cost,
            constants=binary.constants,
            in_place=binary.in_place,
            dtype="int16",
            template="tg_add",
        ),
        binary_dsp.sum_kernel("add", params),
        Kernel(
            "tg_add_s8_mve",
            lambda b: 7.0 * b.output.elements + 20.0,
            takes_mve,
            in_place=binary.in_place,
            params=flat,
            header="tg_mve.h",
        ),
        binary.kernel_f32("add"),
    ),
    constraints=(binary.one_activation,),
    keras={"Add": binary.chain("add", Attrs()), "Average": from_keras_average},
    keras_notes={"Average": "sum"},
    passes_factors=binary.alike,
    to_tflite=binary.export("ADD", "AddOptions", computable, {"potScaleInt16": False}),
    from_tflite={"ADD": binary.import_as("add")},
    channels=same_channels,
    rows=binary.rows,
    bounds=corners(reference),
)
