"""maximum and minimum but for their function: two inputs and the output share one QParams, so integers compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, QParams, Tensor
from tinygen.ops import binary
from tinygen.ops.base import SAME, Kernel, Op, Scaling, no_macs
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import corners
from tinygen.ops.tensors import Tensors, aligned, tensorflow

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator


@dataclass(frozen=True)
class NoAttrs:
    """There is nothing to set."""


def scaling(b: BoundNode) -> Scaling:
    """Inputs and output share one QParams, so that the integers themselves are compared."""
    return SAME


def quantize(b: BoundNode, inputs: tuple[QParams, ...], output: QParams) -> tuple[Tensor, ...]:
    """A constant is quantized as the activations are."""
    return binary.quantized_constants(b, output)


@dataclass(frozen=True)
class Params:
    """Loops only: the integers are compared as they are."""

    loops: binary.Broadcast


def params(b: BoundNode) -> Params:
    """The loops of one node."""
    return Params(binary.broadcast(b))


def cost(b: BoundNode) -> float:
    """Two loads, a comparison, a store."""
    return 10.0 * b.output.elements


def import_as(name: str) -> Callable[[TfliteOperator, GraphBuilder], str]:
    """from_tflite; refused when the tensors' quantizations differ."""

    def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
        output = op.output_qparams()
        if any(op.tensor(i).qparams != output for i in (0, 1)):
            raise op.error("its inputs and its output must have the same scale and zero point")
        return builder.add(name, op.name, binary.operands(op, builder), NoAttrs(), output)

    return from_tflite


def comparison(name: str, compare: np.ufunc, keras: str, tflite: str) -> Op:
    """The operator. compare: its function, of real numbers and of int8 alike; keras, tflite: its name there."""

    def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
        return np.asarray(compare(*binary.aligned(b, arrays)))

    def differentiable(b: BoundNode, xs: Tensors) -> Any:
        return getattr(tensorflow(), name)(*aligned(b, xs))

    def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
        return real(b, arrays)

    return Op(
        name=name,
        summary=f"elementwise {name}, with broadcasting",
        attrs=NoAttrs,
        inputs=("input1", "input2"),
        infer=binary.infer,
        real=real,
        differentiable=differentiable,
        scaling=scaling,
        quantize=quantize,
        params=params,
        reference=reference,
        macs=no_macs,
        kernels=(
            Kernel(
                f"tg_{name}_s8",
                cost,
                constants=binary.constants,
                in_place=binary.in_place,
                template=f"tg_{name}",
            ),
            binary.kernel_f32(name, f"tg_{name}"),
        ),
        constraints=(binary.one_activation,),
        keras={keras: binary.chain(name, NoAttrs())},
        passes_factors=binary.alike,
        to_tflite=binary.export(tflite, "MaximumMinimumOptions"),
        from_tflite={tflite: import_as(name)},
        channels=same_channels,
        rows=binary.rows,
        bounds=corners(reference),
    )
