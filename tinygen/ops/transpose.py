"""transpose: axes in another order (Keras Permute)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops.base import SAME, Kernel, Op, Scaling, no_macs, no_quantize
from tinygen.ops.coupling import Labels, same_channels
from tinygen.ops.intervals import rising
from tinygen.ops.movement import Copied, box_copy, constant_ints, few_axes, moving_kernels, one_scale, strides
from tinygen.ops.tensors import Tensors, tensorflow

if TYPE_CHECKING:
    from tinygen.boards import Board
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """perm: axis perm[a] of the input becomes axis a of the output; axes without the batch, from 0."""

    perm: tuple[int, ...]


# ---- constraints


def is_permutation(b: BoundNode) -> bool:
    """every axis of the input must appear exactly once in the output, the batch staying first"""
    return sorted(b.attrs.perm) == list(range(len(b.inputs[0].shape)))


# ---- Keras


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Permute counts axes from 1."""
    attrs = Attrs(tuple(int(d) - 1 for d in layer.dims))
    return builder.add("transpose", layer.name, (inputs[0],), attrs)


# ---- shapes, evaluation


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """The input's sizes in the new order."""
    return tuple(shapes[0][axis] for axis in attrs.perm)


def channels(b: BoundNode) -> tuple[Labels, ...]:
    """Each channel keeps its place where the last axis stays the last; else all are frozen."""
    perm = b.attrs.perm
    return same_channels(b) if perm[-1] == len(perm) - 1 else ()


def scaling(b: BoundNode) -> Scaling:
    """The bytes only move."""
    return SAME


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The numbers in their new places."""
    return np.transpose(arrays[0], (0, *(axis + 1 for axis in b.attrs.perm)))


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The numbers in their new places."""
    return tensorflow().transpose(xs[0], (0, *(axis + 1 for axis in b.attrs.perm)))


def params(b: BoundNode) -> Copied:
    """The copy that fills the output front to back."""
    source = strides(b.inputs[0].shape)
    target = strides(b.output.shape)
    return Copied(
        box_copy(b.output.shape, [source[axis] for axis in b.attrs.perm], target, b.output.itemsize)
    )


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """The bytes in their new places."""
    return real(b, arrays)


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """TRANSPOSE."""
    perm = np.array([0, *(axis + 1 for axis in b.attrs.perm)], np.int32)
    inputs = [writer.activation(b.inputs[0]), writer.raw(f"{b.name}/perm", perm)]
    writer.add("TRANSPOSE", inputs, writer.activation(b.output), "TransposeOptions", {}, version=2)


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """TRANSPOSE that leaves the batch in front."""
    perm = constant_ints(op, 1)
    if sorted(perm) != list(range(len(builder.shape(op.activation(0))) + 1)) or perm[0] != 0:
        raise op.error(f"its permutation {list(perm)} must hold every axis once, the batch (0) first")
    attrs = Attrs(tuple(axis - 1 for axis in perm[1:]))
    return builder.add("transpose", op.name, (op.activation(0),), attrs, op.output_qparams())


# ---- kernels


def moves_nothing(b: BoundNode, board: Board | None) -> bool:
    """Only axes of size 1 change places: the bytes stay in order."""
    return not params(b).copy.loops


def cost_free(b: BoundNode) -> float:
    """Nothing is executed."""
    return 0.0


KERNELS = (
    *moving_kernels("transpose"),
    Kernel("tg_transpose_s8_alias", cost_free, supports=moves_nothing, alias=True),
    Kernel("tg_transpose_f32_alias", cost_free, supports=moves_nothing, alias=True, dtype="float32"),
)

OP = Op(
    name="transpose",
    summary="axes in another order, the batch excepted",
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
    kernels=KERNELS,
    constraints=(is_permutation, few_axes, one_scale),
    keras={"Permute": from_keras},
    to_tflite=to_tflite,
    passes_clamp=True,
    from_tflite={"TRANSPOSE": from_tflite},
    channels=channels,
    bounds=rising(reference),
)
