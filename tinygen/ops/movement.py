"""What the data-moving operators share: refusing layouts, same-scale rule, and copies of strided boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.errors import UnsupportedLayerError
from tinygen.graph import BoundNode, GraphBuilder, Shape

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator

Span = tuple[int, int]
"""Elements before and behind along one axis."""


def one_scale(b: BoundNode) -> bool:
    """all inputs and the output must share one scale and zero point"""
    quantized = [t.qparams for t in (*b.activations, b.output)]
    return None in quantized or len(set(quantized)) == 1


def channels_last(layer: Any) -> None:
    """Raise UnsupportedLayerError for a Keras layer with data_format='channels_first'."""
    if getattr(layer, "data_format", None) == "channels_first":
        raise UnsupportedLayerError(
            layer.name,
            type(layer).__name__,
            "data_format='channels_first'; only 'channels_last' (height, width, channels) is known",
            "rebuild the model with data_format='channels_last'",
        )


def of_rank(op: TfliteOperator, builder: GraphBuilder, rank: int) -> str:
    """The first input of a TFLite operator, refused unless it has `rank` dimensions besides the batch."""
    tensor = op.activation(0)
    if len(builder.shape(tensor)) != rank:
        raise op.error(f"its input has {len(builder.shape(tensor)) + 1} dimensions, {rank + 1} are allowed")
    return tensor


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
    """A copy of a box: for all turns of `loops` (outermost first), `run` contiguous elements."""

    loops: tuple[Loop, ...]
    run: int
    source: int
    target: int


def strides(shape: Shape) -> tuple[int, ...]:
    """Elements between neighbours along each axis of a contiguous array."""
    return tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))


def box_copy(
    box: Shape, source: Sequence[int], target: Sequence[int], source_offset: int = 0, target_offset: int = 0
) -> Copy:
    """The fewest loops that copy a box between two arrays with these strides; offsets are those of its first element."""
    loops: list[Loop] = []
    for loop in (Loop(*axis) for axis in zip(box, source, target, strict=True) if axis[0] > 1):
        if loops and _continues(loops[-1], loop):
            loop = Loop(loops.pop().size * loop.size, loop.source, loop.target)
        loops.append(loop)
    run = 1
    if loops and loops[-1].source == loops[-1].target == 1:
        run = loops.pop().size
    return Copy(tuple(loops), run, source_offset, target_offset)


def _continues(outer: Loop, inner: Loop) -> bool:
    """True when one loop can do the work of both."""
    return (outer.source, outer.target) == (inner.source * inner.size, inner.target * inner.size)
