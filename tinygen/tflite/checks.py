"""What the reader demands of activations and of the quantization that a file brings along."""

from __future__ import annotations

from collections.abc import Callable

from tinygen import ops
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.graph import Graph, QParams, Shape
from tinygen.ops.base import Share
from tinygen.tflite.parsing import TensorRecord

FIXED = "export the model with fixed sizes, the batch included: keras.Input(shape, batch_size=1)"


def shifted(signed: QParams | None, unsigned: QParams | None) -> bool:
    """True when both stand for the same real numbers, 128 apart."""
    if signed is None or unsigned is None or signed.axis is not None or unsigned.axis is not None:
        return False
    return signed.scale == unsigned.scale and signed.zero_point[0] == unsigned.zero_point[0] - 128


def checked_qparams(record: TensorRecord, error: Callable[[str], ModelError]) -> QParams:
    """QParams of an int8 activation: per tensor, zero point in int8."""
    q = record.qparams
    if record.kind != "int8" or q is None:
        raise error(
            f"tensor '{record.name[:60]}' is {record.kind}{'' if q else ' without a scale'}: it must be int8"
        )
    if q.axis is not None or not -128 <= q.zero_point[0] <= 127:
        raise error(f"tensor '{record.name[:60]}' must have one scale and a zero point in -128..127")
    return q


def checked_shape(record: TensorRecord, error: Callable[[str], ModelError]) -> Shape:
    """Shape of an activation without its batch of 1."""
    if record.unknown:
        raise error(f"tensor '{record.name[:60]}' has a dynamic shape: {FIXED}")
    if len(record.shape) < 2 or record.shape[0] != 1 or 0 in record.shape:
        raise error(
            f"tensor '{record.name[:60]}' has the shape {list(record.shape)}: it must be [1, ...] (batch 1)"
        )
    return record.shape[1:]


def check_scaling(graph: Graph) -> None:
    """Raise UnsupportedLayerError where the file's QParams break an operator's own rule."""
    for b in graph.bound():
        rule = ops.get(b.node.op).scaling(b)
        if rule.share is Share.FIXED and b.output.q != rule.qparams:
            raise UnsupportedLayerError(
                b.name, b.node.op, f"its output has {b.output.q}, it must have {rule.qparams}"
            )
        if rule.share is Share.SAME and any(t.q != b.output.q for t in b.activations):
            raise UnsupportedLayerError(
                b.name, b.node.op, "its inputs and its output must have the same quantization"
            )
