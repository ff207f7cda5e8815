"""What the reader demands of activations and of the quantization that a file brings along."""

from __future__ import annotations

from collections.abc import Callable

from tinygen import ops
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.graph import BoundNode, Graph, QParams, Shape
from tinygen.ops.base import Share
from tinygen.tflite.parsing import TensorRecord

FIXED = "export the model with fixed sizes, the batch included: keras.Input(shape, batch_size=1)"


def shifted(signed: QParams | None, unsigned: QParams | None) -> bool:
    """True when both stand for the same real numbers, 128 apart."""
    if signed is None or unsigned is None or signed.axis is not None or unsigned.axis is not None:
        return False
    return signed.scale == unsigned.scale and signed.zero_point[0] == unsigned.zero_point[0] - 128


def checked_qparams(record: TensorRecord, error: Callable[[str], ModelError]) -> QParams:
    """QParams of an int8 or int16 activation: per tensor, zero point in int8, of int16 0."""
    q = record.qparams
    if record.kind not in ("int8", "int16") or q is None:
        raise error(
            f"tensor '{record.name[:60]}' is {record.kind}{'' if q else ' without a scale'}: it must be int8"
        )
    if record.kind == "int16":
        if q.axis is not None or q.zero_point[0] != 0:
            raise error(f"tensor '{record.name[:60]}' is int16: it must have one scale and the zero point 0")
        return QParams.int16(q.scale[0])
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


def _check_types(b: BoundNode) -> None:
    """Raise UnsupportedLayerError where int8 and int16 meet in one operator, or there is no int16 form."""
    operator = ops.get(b.node.op)
    if b.node.op != "requantize" and any(t.dtype != b.output.dtype for t in b.activations):
        raise UnsupportedLayerError(
            b.name, b.node.op, "its inputs and its output must be of one type, int8 or int16"
        )
    if not operator.has(b.output.dtype, b):
        raise UnsupportedLayerError(b.name, b.node.op, f"it has no form in {b.output.dtype}")


def check_scaling(graph: Graph) -> None:
    """Raise UnsupportedLayerError where the file's QParams break an operator's own rule."""
    for b in graph.bound():
        rule = ops.get(b.node.op).scaling(b)
        if rule.share is Share.FIXED and b.output.q != (fixed := rule.fixed(b.output.q.bits)):
            raise UnsupportedLayerError(
                b.name, b.node.op, f"its output has {b.output.q}, it must have {fixed}"
            )
        _check_types(b)
        if rule.share is Share.SAME and any(t.q != b.output.q for t in b.activations):
            raise UnsupportedLayerError(
                b.name, b.node.op, "its inputs and its output must have the same quantization"
            )
