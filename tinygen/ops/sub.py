"""sub: elementwise a - b with broadcasting: the scheme of add, subtracting at the common scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode
from tinygen.ops import add, binary, binary_dsp
from tinygen.ops.base import Kernel, Op, clamp_real, free, no_macs
from tinygen.ops.binary import Attrs
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import corners
from tinygen.ops.tensors import Tensors, aligned, clamp


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """a - b in floating point."""
    first, second = binary.aligned(b, arrays)
    return clamp_real(first - second, b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """a - b."""
    first, second = aligned(b, xs)
    return clamp(first - second, b.attrs.activation)


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(zo + requant(scale(a) - scale(b))); LiteRT rounds doubly: `rounding` does not matter."""
    p = add.params(b)
    first, second = add.scaled(b, arrays, p)
    return b.output.q.narrowed(add.finish(first - second, p))


OP = Op(
    name="sub",
    summary="elementwise difference, with broadcasting",
    attrs=Attrs,
    inputs=("input1", "input2"),
    infer=binary.infer,
    real=real,
    differentiable=differentiable,
    scaling=free,
    quantize=binary.quantize,
    params=add.params,
    reference=reference,
    macs=no_macs,
    kernels=(
        Kernel("tg_sub_s8", add.cost, constants=binary.constants, in_place=binary.in_place),
        binary_dsp.sum_kernel("sub", add.params),
        binary.kernel_f32("sub"),
    ),
    constraints=(binary.one_activation,),
    keras={"Subtract": binary.chain("sub", Attrs())},
    passes_factors=binary.alike,
    to_tflite=binary.export("SUB", "SubOptions", add.computable),
    from_tflite={"SUB": binary.import_as("sub")},
    channels=same_channels,
    rows=binary.rows,
    bounds=corners(reference),
)
