"""concat: inputs behind one another along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.errors import UnsupportedLayerError
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.lifetimes import ALIGNMENT
from tinygen.ops.base import SAME, Op, Scaling, no_macs, no_quantize
from tinygen.ops.coupling import OUTPUT, Labels, same_channels
from tinygen.ops.intervals import rising
from tinygen.ops.movement import axis_of, cost_run, moving_kernels, one_scale
from tinygen.ops.tensors import Tensors, tensorflow

if TYPE_CHECKING:
    from tinygen.boards import Board
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """axis: without the batch, from 0."""

    axis: int


# ---- constraints


def shapes_agree(b: BoundNode) -> bool:
    """all inputs must have the same shape but for the axis along which they are joined"""
    axis = b.attrs.axis
    return len({(*t.shape[:axis], *t.shape[axis + 1 :]) for t in b.inputs}) == 1


# ---- Keras


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Concatenate counts axes with the batch."""
    rank = len(builder.shape(inputs[0])) + 1
    axis = int(layer.axis) % rank
    if axis == 0:
        why = f"axis={layer.axis} is the batch; samples run one at a time"
        raise UnsupportedLayerError(layer.name, "Concatenate", why, f"choose an axis from 1 to {rank - 1}")
    return builder.add("concat", layer.name, tuple(inputs), Attrs(axis - 1))


# ---- shapes, evaluation


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """The sizes along the axis add up."""
    size = sum(shape[attrs.axis] for shape in shapes)
    return (*shapes[0][: attrs.axis], size, *shapes[0][attrs.axis + 1 :])


def channels(b: BoundNode) -> tuple[Labels, ...]:
    """Joined along the channels, each input's stand behind those of the inputs before it."""
    if b.attrs.axis < len(b.output.shape) - 1:
        return same_channels(b)
    ends = np.cumsum([t.shape[-1] for t in b.inputs]).tolist()
    labels = [
        Labels(place, -1, tuple(range(end - t.shape[-1], end)))
        for place, (t, end) in enumerate(zip(b.inputs, ends, strict=True))
    ]
    return (*labels, Labels(OUTPUT, -1, tuple(range(ends[-1]))))


def scaling(b: BoundNode) -> Scaling:
    """The bytes only move: all inputs are quantized alike."""
    return SAME


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The joined numbers."""
    return np.concatenate(arrays, axis=b.attrs.axis + 1)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The joined numbers."""
    return tensorflow().concat(list(xs), axis=b.attrs.axis + 1)


@dataclass(frozen=True)
class Run:
    """Contiguous elements, and their bytes."""

    elements: int
    bytes: int


@dataclass(frozen=True)
class Params:
    """outer: indices in front of the axis. runs: what each input has contiguous for one such index."""

    outer: int
    runs: tuple[Run, ...]


def params(b: BoundNode) -> Params:
    """Numbers of one node."""
    outer = int(np.prod(b.output.shape[: b.attrs.axis], dtype=np.int64))
    return Params(outer, tuple(Run(t.elements // outer, t.size_bytes // outer) for t in b.inputs))


def whole_runs(b: BoundNode, board: Board | None) -> bool:
    """True where each input's bytes stand in the output as they are."""
    return params(b).outer == 1


def broken_runs(b: BoundNode, board: Board | None) -> bool:
    """True where inputs take turns."""
    return not whole_runs(b, board)


def places(b: BoundNode) -> tuple[tuple[int, int], ...]:
    """Where inputs stand in the output: those that begin and end at whole words, as buffers do."""
    ends = np.cumsum([t.size_bytes for t in b.inputs]).tolist()
    starts = [0, *ends[:-1]]
    last = len(ends) - 1
    return tuple(
        (i, start)
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
        if start % ALIGNMENT == 0 and (end % ALIGNMENT == 0 or i == last)
    )


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """The joined bytes."""
    return real(b, arrays)


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """CONCATENATION."""
    inputs = [writer.activation(t) for t in b.inputs]
    options = {"axis": b.attrs.axis + 1, "fusedActivationFunction": writer.fused("none")}
    writer.add(
        "CONCATENATION", inputs, writer.activation(b.output), "ConcatenationOptions", options, version=2
    )


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """CONCATENATION of activations."""
    inputs = tuple(op.activation(i) for i in range(max(op.inputs, 1)))
    rank = len(builder.shape(inputs[0])) + 1
    axis = axis_of(op, op.options.axis, rank)
    if axis == 0 or any(len(builder.shape(i)) + 1 != rank for i in inputs):
        raise op.error(
            f"its axis {op.options.axis} must not be the batch, and its inputs must have equal ranks"
        )
    if op.fused(op.options.fusedActivationFunction) != "none":
        raise op.error("a fused activation; put the activation behind it")
    return builder.add("concat", op.name, inputs, Attrs(axis - 1), op.output_qparams())


OP = Op(
    name="concat",
    summary="inputs behind one another along any axis but the batch",
    attrs=Attrs,
    inputs=("inputs*",),
    infer=infer,
    real=real,
    differentiable=differentiable,
    scaling=scaling,
    quantize=no_quantize,
    params=params,
    reference=reference,
    macs=no_macs,
    kernels=(
        *(replace(k, supports=broken_runs) for k in moving_kernels("concat")),
        *(replace(k, cost=cost_run, supports=whole_runs, joins=places) for k in moving_kernels("join")),
    ),
    constraints=(shapes_agree, one_scale),
    keras={"Concatenate": from_keras},
    to_tflite=to_tflite,
    from_tflite={"CONCATENATION": from_tflite},
    channels=channels,
    bounds=rising(reference),
)
