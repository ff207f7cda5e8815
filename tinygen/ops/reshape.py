"""reshape: the same elements in the same order under another shape; the output is the input's bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops.base import SAME, Kernel, Op, Scaling, always, no_macs, no_quantize
from tinygen.ops.coupling import OUTPUT, Kept, Labels, Layout
from tinygen.ops.intervals import rising
from tinygen.ops.tensors import Tensors, tensorflow

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """shape: of the output, without batch, every size known."""

    shape: Shape


# ---- constraints


def same_elements(b: BoundNode) -> bool:
    """the new shape must have as many elements as the input"""
    return b.inputs[0].elements == b.output.elements


# ---- Keras


def flatten(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Flatten."""
    return _append(layer, inputs[0], (-1,), builder)


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Reshape; one size may be -1."""
    output = _append(layer, inputs[0], tuple(layer.target_shape), builder)
    builder.record("output", output)
    return output


def keras_config(layer: Any, kept: Kept) -> Mapping[str, Any]:
    """The last size is the number of channels."""
    *sizes, last = layer.target_shape
    return {"target_shape": (*sizes, last if last == -1 else len(kept("output", -1)))}


def _append(layer: Any, tensor: str, target: Shape, builder: GraphBuilder) -> str:
    shape = resolved(target, builder.shape(tensor))
    return builder.add("reshape", layer.name, (tensor,), Attrs(shape))


def resolved(target: Shape, shape: Shape) -> Shape:
    """The target shape with its -1 (if any) replaced by what is left of the elements of `shape`."""
    known = int(np.prod([s for s in target if s != -1], dtype=np.int64))
    left = int(np.prod(shape, dtype=np.int64)) // max(known, 1)
    return tuple(left if s == -1 else int(s) for s in target)


# ---- shapes, evaluation


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """The shape asked for."""
    return attrs.shape


def channels(b: BoundNode) -> tuple[Labels, ...]:
    """Element e is channel e % I of the input and e % O of the output: what is equal modulo gcd(I, O) goes together."""
    inputs, outputs = b.inputs[0].shape[-1], b.output.shape[-1]
    period = math.gcd(inputs, outputs)
    return (
        Labels(0, -1, tuple(c % period for c in range(inputs))),
        Labels(OUTPUT, -1, tuple(c % period for c in range(outputs))),
    )


def narrowed(b: BoundNode, shape: Shape) -> Attrs:
    """The shape that is left."""
    return Attrs(shape)


def scaling(b: BoundNode) -> Scaling:
    """The bytes are the same, so are their scale and zero point."""
    return SAME


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The same numbers."""
    return arrays[0].reshape(len(arrays[0]), *b.output.shape)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The same numbers."""
    return tensorflow().reshape(xs[0], (-1, *b.output.shape))


def params(b: BoundNode) -> None:
    """No code, no numbers."""


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """The same bytes."""
    return real(b, arrays)


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """RESHAPE; -1 for the batch, so that LiteRT can run several samples at once."""
    shape = (-1, *b.output.shape)
    new_shape = writer.raw(f"{b.name}/shape", np.array(shape, np.int32))
    inputs = [writer.activation(b.inputs[0]), new_shape]
    writer.add("RESHAPE", inputs, writer.activation(b.output), "ReshapeOptions", {"newShape": list(shape)})


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: whatever the output's shape says."""
    return builder.add("reshape", op.name, (op.activation(0),), Attrs(op.output_shape()), op.output_qparams())


# ---- kernels


def cost_free(b: BoundNode) -> float:
    """Nothing is executed."""
    return 0.0


KERNELS = (
    Kernel("tg_reshape_s8", cost_free, alias=True),
    Kernel("tg_reshape_s16", cost_free, alias=True, dtype="int16"),
    Kernel("tg_reshape_f32", cost_free, alias=True, dtype="float32"),
)

OP = Op(
    name="reshape",
    summary="the same elements under another shape; executes nothing",
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
    constraints=(same_elements,),
    keras={"Flatten": flatten, "Reshape": from_keras},
    passes_factors=always,
    to_tflite=to_tflite,
    from_tflite={"RESHAPE": from_tflite, "SQUEEZE": from_tflite, "EXPAND_DIMS": from_tflite},
    channels=channels,
    bounds=rising(reference),
    narrowed=narrowed,
    layouts={"Flatten": Layout({}), "Reshape": Layout({}, keras_config)},
)
