"""What the elementwise operators of two inputs share: broadcasting, Keras chains, TFLite's form.

The inputs are two activations, or one activation and one constant on either side. Shapes broadcast as in
numpy, without the batch dimension: (4,) and (3, 4) give (3, 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.errors import ModelError
from tinygen.graph import Array, BoundNode, GraphBuilder, QParams, Shape, Tensor
from tinygen.ops.base import Clamp, Kernel, clamp_f32
from tinygen.ops.windows import Pair

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """activation: a name in base.FUSED, applied by clamping the output."""

    activation: str = "none"


# ---- constraints


def one_activation(b: BoundNode) -> bool:
    """at most one of the two inputs may be a constant"""
    return len(b.activations) >= 1


# ---- shapes


def infer(attrs: Any, shapes: tuple[Shape, ...]) -> Shape:
    """Both shapes broadcast; raises ValueError when they do not."""
    return tuple(np.broadcast_shapes(*shapes))


def aligned(b: BoundNode, arrays: Sequence[Array]) -> tuple[Array, Array]:
    """Both arrays with the output's rank, so that numpy broadcasts them behind the batch dimension."""
    rank = len(b.output.shape)

    def align(tensor: Tensor, array: Array) -> Array:
        batch = () if tensor.is_constant else array.shape[:1]
        return array.reshape(*batch, *(1,) * (rank - len(tensor.shape)), *tensor.shape)

    return align(b.inputs[0], arrays[0]), align(b.inputs[1], arrays[1])


@dataclass(frozen=True)
class Broadcast:
    """The loops of a kernel. sizes: iterations, outer loop first; adjacent axes that walk alike are one loop.

    index1, index2: C expressions over i0, i1, ... of the element of each input. arguments: names of the
    C function's first two parameters: activations come before constants, so they may be swapped.
    """

    sizes: tuple[int, ...]
    index1: str
    index2: str
    arguments: tuple[str, str]


def broadcast(b: BoundNode) -> Broadcast:
    """The loops for the node's shapes."""
    sizes, strides1, strides2 = _merged(b.output.shape, b.inputs[0].shape, b.inputs[1].shape)
    swapped = b.inputs[0].is_constant
    arguments = ("input2", "input1") if swapped else ("input1", "input2")
    return Broadcast(sizes, _index(strides1), _index(strides2), arguments)


def alike(b: BoundNode) -> bool:
    """Two activations of the output's shape: a factor of the channels of both is one of the output's."""
    return len(b.activations) == 2 and all(t.shape == b.output.shape for t in b.activations)


def _strides(shape: Shape, rank: int) -> list[int]:
    """Elements from one index to the next along each output axis; 0 where the input repeats."""
    full = (1,) * (rank - len(shape)) + shape
    return [0 if size == 1 else int(np.prod(full[axis + 1 :])) for axis, size in enumerate(full)]


def _merged(output: Shape, shape1: Shape, shape2: Shape) -> tuple[Shape, Shape, Shape]:
    """Sizes and strides of the fewest loops, outer first."""
    rank = len(output)
    axes = zip(output, _strides(shape1, rank), _strides(shape2, rank), strict=True)
    loops: list[tuple[int, int, int]] = []
    for size, stride1, stride2 in axes:
        if size == 1:
            continue
        if loops and loops[-1][1] == size * stride1 and loops[-1][2] == size * stride2:
            loops[-1] = (loops[-1][0] * size, stride1, stride2)
        else:
            loops.append((size, stride1, stride2))
    sizes, strides1, strides2 = zip(*(loops or [(1, 0, 0)]), strict=True)
    return sizes, strides1, strides2


def _index(strides: Shape) -> str:
    terms = [f"i{i} * {s}" if s > 1 else f"i{i}" for i, s in enumerate(strides) if s]
    return " + ".join(terms) or "0"


# ---- quantization


def constant_qparams(data: Array) -> QParams:
    """Asymmetric int8 over [min, max] of the constant and 0."""
    low, high = float(data.min(initial=0)), float(data.max(initial=0))
    if low == high:
        return QParams.per_tensor(1.0, 0)
    scale = float(np.float32(max((high - low) / 255, float(np.finfo(np.float32).tiny))))
    return QParams.per_tensor(scale, max(min(round(-128 - low / scale), 127), -128))


def symmetric_scale(data: Array) -> float:
    """The scale by which int16 holds the constant; 1 for zeros."""
    largest = float(np.max(np.abs(data), initial=0.0))
    return max(largest / 32767, float(np.finfo(np.float32).tiny)) if largest > 0 else 1.0


def quantized_constants(b: BoundNode, qparams: QParams | None = None) -> tuple[Tensor, ...]:
    """The constant input in int8, with `qparams` or those of its own range; () when both are activations."""
    return tuple(_quantized(t, f"{b.name}/constant", qparams) for t in b.inputs if t.data is not None)


def _quantized(tensor: Tensor, name: str, qparams: QParams | None) -> Tensor:
    assert tensor.data is not None
    q = qparams or constant_qparams(tensor.data)
    return Tensor(name, tensor.shape, q.dtype, q, q.quantize(tensor.data))


def quantize(b: BoundNode, inputs: tuple[QParams, ...], output: QParams) -> tuple[Tensor, ...]:
    """A constant gets the QParams of its own range."""
    constants = [t.data for t in b.inputs if t.data is not None]
    wide = [QParams.int16(symmetric_scale(data)) for data in constants if output.bits == 16]
    return quantized_constants(b, *wide)


def centred(b: BoundNode, arrays: Sequence[Array]) -> tuple[Array, Array]:
    """Both inputs as int64 minus their zero_points."""
    first, second = aligned(b, arrays)
    return first.astype(np.int64) - b.inputs[0].zero_point, second.astype(np.int64) - b.inputs[1].zero_point


# ---- kernels


@dataclass(frozen=True)
class RealParams:
    """Numbers of a float32 node."""

    loops: Broadcast
    clamp: Clamp


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node; operators without a fused activation clamp nothing."""
    return RealParams(broadcast(b), clamp_f32(getattr(b.attrs, "activation", "none")))


def cost_f32(b: BoundNode) -> float:
    """Two loads, an operation, a store."""
    return 10.0 * b.output.elements


def kernel_f32(name: str, template: str = "") -> Kernel:
    """The float32 kernel of an elementwise operator of two inputs. template: as in Kernel."""
    return Kernel(
        f"tg_{name}_f32",
        cost_f32,
        constants=constants,
        in_place=in_place,
        dtype="float32",
        params=params_f32,
        template=template,
    )


def constants(b: BoundNode) -> Mapping[str, Array]:
    """The constant input, if any."""
    for tensor in b.inputs:
        if tensor.data is not None:
            return {"constant": tensor.data}
    return {}


def in_place(b: BoundNode) -> tuple[int, ...]:
    """The output may overwrite an input that does not repeat: element i is read before it is written."""
    return tuple(i for i, t in enumerate(b.activations) if t.elements == b.output.elements)


def rows(b: BoundNode, first: int, end: int) -> tuple[Pair, Any] | None:
    """The same rows of both inputs, where none is repeated along them; a constant has no rows of its own."""
    whole = [t.data is None and t.shape == b.output.shape for t in b.inputs]
    alike = [t.data is not None and (len(t.shape) < 3 or t.shape[0] == 1) for t in b.inputs]
    if not all(w or a for w, a in zip(whole, alike, strict=True)):
        return None
    return (first, end), b.attrs


# ---- Keras


def chain(op: str, attrs: Any) -> Callable[[Any, Sequence[str], GraphBuilder], str]:
    """Handler of a Keras merge layer: ((a + b) + c) + ... for its inputs; the last node bears its name."""

    def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
        return append_chain(op, attrs, layer.name, inputs, builder)

    return from_keras


def append_chain(op: str, attrs: Any, name: str, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Append len(inputs) - 1 nodes."""
    total = inputs[0]
    for i, tensor in enumerate(inputs[1:], start=1):
        last = i == len(inputs) - 1
        total = builder.add(op, name if last else f"{name}/{i}", (total, tensor), attrs)
    return total


# ---- TFLite


def export(
    builtin: str,
    options: str,
    computable: Callable[[BoundNode], bool] | None = None,
    wide: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[[BoundNode, TfliteWriter], None]:
    """to_tflite of an operator whose only option, if any, is the fused activation.

    computable: False where TFLite's own kernel would overflow; such a node is refused by name. wide: options of int16.
    """

    def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
        if computable is not None and not computable(b):
            scales = " and ".join(f"{t.scale:.3g}" for t in b.inputs)
            raise ModelError(
                f"layer '{b.name}' ({b.node.op}) cannot be exported: its output's scale {b.output.scale:.3g} is so "
                f"small beside its inputs' ({scales}) that TFLite's kernel would overflow\n"
                "  the generated C computes it; look for a layer whose values cancel or explode"
            )
        inputs = [writer.constant(t) if t.is_constant else writer.activation(t) for t in b.inputs]
        fused = getattr(b.attrs, "activation", None)
        fields = {} if fused is None else {"fusedActivationFunction": writer.fused(fused)}
        fields |= wide if b.output.q.bits == 16 else {}
        writer.add(builtin, inputs, writer.activation(b.output), options, fields, version=2)

    return to_tflite


def operands(op: TfliteOperator, builder: GraphBuilder) -> tuple[str, str]:
    """Builder names of both inputs of a TFLite operator; refused when their shapes do not fit."""
    names = operand(op, 0, builder), operand(op, 1, builder)
    shapes = builder.shape(names[0]), builder.shape(names[1])
    try:
        fits = np.broadcast_shapes(*shapes) == op.output_shape()
    except ValueError:
        fits = False
    if not fits:
        raise op.error(f"its inputs {shapes[0]} and {shapes[1]} do not broadcast to {op.output_shape()}")
    return names


def operand(op: TfliteOperator, i: int, builder: GraphBuilder) -> str:
    """Builder name of input i. A constant of the output's rank with batch loses its leading 1."""
    tensor = op.tensor(i)
    if tensor.data is None:
        return op.activation(i)
    if tensor.dtype != op.output_qparams().dtype or tensor.q.axis is not None:
        raise op.error(f"its constant input {i} must be {op.output_qparams().dtype} with one scale")
    shape = tensor.shape
    while len(shape) > len(op.output_shape()) and shape[0] == 1:
        shape = shape[1:]
    return builder.constant(tensor.name, tensor.data.reshape(shape), tensor.q)


def import_as(name: str) -> Callable[[TfliteOperator, GraphBuilder], str]:
    """from_tflite of an operator with a fused activation."""

    def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
        attrs = Attrs(op.fused(op.options.fusedActivationFunction))
        return builder.add(name, op.name, operands(op, builder), attrs, op.output_qparams())

    return from_tflite
