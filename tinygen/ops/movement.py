"""What the data-moving operators share: rules, helpers of handlers, copies of boxes between arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.graph import BoundNode, GraphBuilder, Shape
from tinygen.ops.base import KerasHandler, Kernel
from tinygen.ops.keras_common import as_2d, from_2d

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator

Span = tuple[int, int]
"""Elements before and behind along one axis."""


def one_scale(b: BoundNode) -> bool:
    """all inputs and the output must share one scale and zero point"""
    quantized = [t.qparams for t in (*b.activations, b.output)]
    return None in quantized or len(set(quantized)) == 1


def few_axes(b: BoundNode) -> bool:
    """the tensor must have at most 4 dimensions besides the batch"""
    return len(b.inputs[0].shape) <= 4


@dataclass(frozen=True)
class Spans:
    """Attrs of crop and pad. spans: (before, behind) in elements, for each axis without the batch."""

    spans: tuple[Span, ...]


def keras_spans(op: str, field: str) -> KerasHandler:
    """Handler of Keras's 1D and 2D layers that cut off or add what their `field` says; nothing adds no node."""

    def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
        spans = _height_width_spans(getattr(layer, field))
        if not any(map(any, spans)):
            return inputs[0]
        two_d = as_2d(layer, inputs[0], builder)
        return from_2d(layer, builder.add(op, layer.name, (two_d.tensor,), Spans(spans)), builder)

    return from_keras


def _height_width_spans(value: Any) -> tuple[Span, Span, Span]:
    """Keras's `padding` or `cropping` of a 1D layer, (left, right), or 2D layer, per axis of (H, W, C)."""
    first, second = value
    if isinstance(first, int):
        return (0, 0), (int(first), int(second)), (0, 0)
    return (int(first[0]), int(first[1])), (int(second[0]), int(second[1])), (0, 0)


def cost_copy(b: BoundNode) -> float:
    """About 3 cycles an element: short runs cost more, long ones less."""
    return 3.0 * b.output.elements


def cost_run(b: BoundNode) -> float:
    """Of what moves in long runs; nothing where it stands already, which only the plan knows."""
    return 1.0 * b.output.size_bytes


def moving_kernels(name: str) -> tuple[Kernel, ...]:
    """The kernel of each type of an operator that only moves elements: one template, one set of params."""
    template = f"tg_{name}"
    return (
        Kernel(f"tg_{name}_s8", cost_copy, template=template),
        Kernel(f"tg_{name}_s16", cost_copy, dtype="int16", template=template),
        Kernel(f"tg_{name}_f32", cost_copy, dtype="float32", template=template),
    )


def of_rank(op: TfliteOperator, builder: GraphBuilder, rank: int, index: int = 0) -> str:
    """Input `index` of a TFLite operator, refused unless it has `rank` dimensions besides the batch."""
    tensor = op.activation(index)
    if len(builder.shape(tensor)) != rank:
        raise op.error(f"its input has {len(builder.shape(tensor)) + 1} dimensions, {rank + 1} are allowed")
    return tensor


def tflite_factor(op: TfliteOperator, shape: Shape) -> tuple[int, int]:
    """The integer factors by which a TFLite resize enlarges (H, W, C)."""
    target = constant_ints(op, 1)
    if target != op.output_shape()[:2]:
        raise op.error(f"it resizes to {target}, its output is {op.output_shape()} (height, width, channels)")
    if target[0] % shape[0] or target[1] % shape[1]:
        raise op.error(f"it resizes {shape[:2]} to {target}; only integer factors are allowed")
    return target[0] // shape[0], target[1] // shape[1]


def axis_of(op: TfliteOperator, axis: int, rank: int) -> int:
    """An axis of a tensor with `rank` dimensions, batch included, counted from 0."""
    if not -rank <= axis < rank:
        raise op.error(f"its axis {axis} is not one of the {rank} of its input")
    return axis % rank


def constant_ints(op: TfliteOperator, index: int) -> tuple[int, ...]:
    """The integers of a constant input of a TFLite operator (axes, sizes, spans), flat."""
    tensor = op.tensor(index)
    if tensor.data is None:
        raise op.error(f"its input {index} must be a constant")
    return tuple(int(v) for v in tensor.data.reshape(-1))


@dataclass(frozen=True)
class Loop:
    """One loop of a copy: `size` turns, moving by `source` and `target` elements."""

    size: int
    source: int
    target: int


@dataclass(frozen=True)
class Copy:
    """A copy of a box: for all turns of `loops` (outermost first), `run` contiguous elements of `itemsize` bytes."""

    loops: tuple[Loop, ...]
    run: int
    source: int
    target: int
    itemsize: int = 1

    @property
    def run_bytes(self) -> int:
        """Bytes of a run."""
        return self.run * self.itemsize


@dataclass(frozen=True)
class Copied:
    """Params of the operators that are one copy."""

    copy: Copy


def strides(shape: Shape) -> tuple[int, ...]:
    """Elements between neighbours along each axis of a contiguous array."""
    return tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))


def box_copy(
    box: Shape,
    source: Sequence[int],
    target: Sequence[int],
    itemsize: int,
    source_offset: int = 0,
    target_offset: int = 0,
) -> Copy:
    """The fewest loops that copy a box between two arrays with these strides and offsets, in elements of itemsize."""
    loops: list[Loop] = []
    for loop in (Loop(*axis) for axis in zip(box, source, target, strict=True) if axis[0] > 1):
        if loops and _continues(loops[-1], loop):
            loop = Loop(loops.pop().size * loop.size, loop.source, loop.target)
        loops.append(loop)
    run = 1
    if loops and loops[-1].source == loops[-1].target == 1:
        run = loops.pop().size
    return Copy(tuple(loops), run, source_offset, target_offset, itemsize)


def _continues(outer: Loop, inner: Loop) -> bool:
    """True when one loop can do the work of both."""
    return (outer.source, outer.target) == (inner.source * inner.size, inner.target * inner.size)
