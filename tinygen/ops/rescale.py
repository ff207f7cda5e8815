"""rescale: y = factor * x by changing the scale alone. No int8 code runs: the output is the input's bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, QParams, Shape
from tinygen.ops.base import Kernel, Op, Scaling, Share, no_macs, no_quantize
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import rising
from tinygen.ops.tensors import Tensors

if TYPE_CHECKING:
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """factor > 0."""

    factor: float


def usable_factor(b: BoundNode) -> bool:
    """the factor must be a finite number above 0"""
    return bool(0 < b.attrs.factor < float("inf"))


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """The input's shape."""
    return shapes[0]


def scaling(b: BoundNode) -> Scaling:
    """Output scale = factor * input scale, same zero_point."""
    factor = b.attrs.factor

    def derive(inputs: tuple[QParams, ...]) -> QParams:
        tiny, largest = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
        scale = min(max(inputs[0].scale[0] * factor, tiny), largest)
        return QParams.per_tensor(scale, inputs[0].zero_point[0])

    return Scaling(Share.DERIVED, derive=derive)


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """factor * x in floating point."""
    return np.asarray(arrays[0] * arrays[0].dtype.type(b.attrs.factor))


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """factor * x."""
    return xs[0] * b.attrs.factor


@dataclass(frozen=True)
class Params:
    """Nothing to compute."""


def params(b: BoundNode) -> Params:
    """Nothing to compute."""
    return Params()


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """The same integers."""
    return arrays[0]


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """MUL by the constant 1 at scale `output scale / input scale`: the multiplier is 1, the integers stay."""
    x = b.inputs[0]
    one = QParams.per_tensor(b.output.scale / x.scale, 0)
    constant = writer.raw(f"{b.name}/factor", np.ones(1, np.int8), one)
    inputs, options = [writer.activation(x), constant], {"fusedActivationFunction": writer.fused("none")}
    writer.add("MUL", inputs, writer.activation(b.output), "MulOptions", options, version=2)


@dataclass(frozen=True)
class RealParams:
    """Numbers of one float32 node, whose elements are multiplied. size: elements."""

    size: int
    factor: float


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node."""
    return RealParams(b.output.elements, b.attrs.factor)


def cost_f32(b: BoundNode) -> float:
    """About 6 cycles an element."""
    return 6.0 * b.output.elements


OP = Op(
    name="rescale",
    summary="multiplication by a positive number, by changing the scale alone",
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
        Kernel("tg_rescale_s8", lambda b: 0.0, alias=True),
        Kernel("tg_rescale_f32", cost_f32, in_place=lambda b: (0,), dtype="float32", params=params_f32),
    ),
    constraints=(usable_factor,),
    keras_notes={"Average": "division of the sum"},
    to_tflite=to_tflite,
    elementwise=True,
    channels=same_channels,
    bounds=rising(reference),
)
