"""maximum: elementwise maximum of two inputs with broadcasting; all share one QParams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder
from tinygen.ops import binary
from tinygen.ops.base import Kernel, Op, no_macs
from tinygen.ops.binary import NoAttrs

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The greater of a and b, in floating point."""
    first, second = binary.aligned(b, arrays)
    return np.asarray(np.maximum(first, second))


def params(b: BoundNode) -> binary.Compared:
    """Loops only: the integers are compared as they are."""
    return binary.Compared(binary.broadcast(b))


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = max(a, b) of the int8 values."""
    first, second = binary.aligned(b, arrays)
    return np.asarray(np.maximum(first, second))


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """MAXIMUM; all three tensors must have the same quantization."""
    return binary.import_same("maximum", op, builder)


OP = Op(
    name="maximum",
    summary="elementwise maximum, with broadcasting",
    attrs=NoAttrs,
    inputs=("input1", "input2"),
    infer=binary.infer,
    real=real,
    scaling=binary.same,
    quantize=binary.quantize_same,
    params=params,
    reference=reference,
    macs=no_macs,
    kernels=(
        Kernel("tg_maximum_s8", binary.cost_compare, constants=binary.constants, in_place=binary.in_place),
    ),
    constraints=(binary.one_activation,),
    keras={"Maximum": binary.chain("maximum", NoAttrs())},
    passes_factors=binary.alike,
    to_tflite=binary.export("MAXIMUM", "MaximumMinimumOptions"),
    from_tflite={"MAXIMUM": from_tflite},
)
