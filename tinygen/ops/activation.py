"""activation: a function of one variable, elementwise, as a 256-entry int8 table made at compile time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.errors import UnsupportedLayerError
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, QParams, Shape
from tinygen.heavy import import_keras
from tinygen.ops import unary_dsp
from tinygen.ops.base import FREE, Kernel, Op, Scaling, Share, no_macs, no_quantize
from tinygen.ops.coupling import same_channels
from tinygen.ops.functions import FUNCTIONS
from tinygen.ops.interpolation import argument_factor, scaled_argument, sigmoid, sigmoid_table, tanh
from tinygen.ops.intervals import Interval, looked_up
from tinygen.ops.table import exact_table, look_up
from tinygen.ops.tensors import Tensors, elementwise
from tinygen.ops.tflite_activations import BUILTINS, FIXED_OUTPUT, equal_builtin

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """function: a name in functions.FUNCTIONS. parameters: a number for each of the function's parameters.

    tflite: name of the TFLite operator whose own arithmetic fills the table (imported files, see
    tflite_activations.BUILTINS); "" for the correctly rounded function.
    """

    function: str
    parameters: tuple[float, ...] = ()
    tflite: str = ""

    def __post_init__(self) -> None:
        assert self.function in FUNCTIONS, self.function
        assert len(self.parameters) == len(FUNCTIONS[self.function].parameters), self


def attrs_of(function: str, **parameters: float) -> Attrs:
    """Attributes with the function's defaults for parameters that are not given."""
    defaults = FUNCTIONS[function].parameters
    assert set(parameters) <= set(defaults), (function, parameters)
    return Attrs(function, tuple(float(parameters.get(name, default)) for name, default in defaults.items()))


def fusable_name(attrs: Attrs) -> str | None:
    """The name in base.FUSED that is exactly this function, so that clamping can replace it; else None."""
    if attrs.function == "hard_tanh":
        return "relu_n1_to_1"
    if attrs.function != "relu" or (attrs.parameters[0], attrs.parameters[2]) != (0.0, 0.0):
        return None
    return {math.inf: "relu", 6.0: "relu6", 1.0: "relu_0_to_1"}.get(attrs.parameters[1])


# ---- constraints


def finite_parameters(b: BoundNode) -> bool:
    """the parameters of the activation function must be finite numbers (max_value may be absent)"""
    names = FUNCTIONS[b.attrs.function].parameters
    values = zip(names, b.attrs.parameters, strict=True)
    return all(math.isfinite(v) or (name == "max_value" and v == math.inf) for name, v in values)


def usable_parameters(b: BoundNode) -> bool:
    """alpha of celu must not be 0, b of squareplus not negative, alpha of a TFLite LEAKY_RELU 0 to 1,000"""
    if b.attrs.tflite == "LEAKY_RELU":
        return bool(0 <= b.attrs.parameters[0] <= 1000)
    if b.attrs.function == "celu":
        return bool(b.attrs.parameters[0] != 0)
    return b.attrs.function != "squareplus" or bool(b.attrs.parameters[0] >= 0)


# ---- Keras

_KERAS_NAMES = {"leaky_relu": "relu", "relu6": "relu", "swish": "silu", "hard_swish": "hard_silu"}
_KERAS_PARAMETERS: Mapping[str, Mapping[str, float]] = {
    "leaky_relu": {"negative_slope": 0.2},
    "relu6": {"max_value": 6.0},
}


def append(attrs: Attrs, name: str, tensor: str, builder: GraphBuilder) -> str:
    """Append the function as a node of its own."""
    return builder.add("activation", name, (tensor,), attrs)


def append_keras(layer: Any, tensor: str, builder: GraphBuilder) -> str:
    """Append `layer.activation`: nothing for linear, the operator softmax for softmax, else a table."""
    function = getattr(layer, "activation", None)
    if function is None:
        return tensor
    return append_function(layer, function, f"{layer.name}/{_name(function)}", tensor, builder)


def append_function(layer: Any, function: Any, name: str, tensor: str, builder: GraphBuilder) -> str:
    """Append a function of keras.activations, or an activation layer, under the node name `name`."""
    from tinygen.ops import softmax

    if isinstance(function, import_keras().layers.Layer):
        return _append_layer(layer, function, name, tensor, builder)
    _check_own(layer, function)
    kind = _name(function)
    if kind == "linear":
        return tensor
    if kind == "softmax":
        return softmax.append(layer, -1, name, tensor, builder)
    attrs = attrs_of(_KERAS_NAMES.get(kind, kind), **_KERAS_PARAMETERS.get(kind, {}))
    return append(attrs, name, tensor, builder)


def _append_layer(owner: Any, layer: Any, name: str, tensor: str, builder: GraphBuilder) -> str:
    """Append the layer object that stands as `activation=` of its owner; it must be one without weights."""
    from tinygen.ops import softmax

    kind = _own_layer(owner, layer)
    if kind == "Activation":
        return append_function(owner, layer.activation, name, tensor, builder)
    if kind == "Softmax":
        return softmax.append(owner, layer.axis, name, tensor, builder)
    return append(_LAYERS[kind](layer), name, tensor, builder)


def _own_layer(owner: Any, layer: Any) -> str:
    """The class name of a layer that can stand as `activation=`; refuses every other, and classes not of Keras."""
    kind = type(layer).__name__
    known = ("Activation", "Softmax", *_LAYERS)
    if kind not in known or getattr(import_keras().layers, kind, None) is not type(layer):
        raise UnsupportedLayerError(
            owner.name,
            type(owner).__name__,
            f"its activation is the layer '{layer.name}' of class {kind}",
            f"put it behind '{owner.name}' as a layer of its own; {', '.join(known)} can be given as activation",
        )
    return kind


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _check_own(layer: Any, function: Any) -> None:
    """Refuse what is not a function of keras.activations that has a table."""
    keras = import_keras()
    kind = _name(function)
    known = kind in ("linear", "softmax") or _KERAS_NAMES.get(kind, kind) in FUNCTIONS
    if not known or getattr(keras.activations, kind, None) is not function:
        names = ", ".join(sorted({*FUNCTIONS, *_KERAS_NAMES, "softmax"}))
        raise UnsupportedLayerError(
            layer.name, type(layer).__name__, f"activation '{kind}' is unknown", f"use one of {names}"
        )


def from_keras_activation(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """Activation('relu') and its like: the node bears the layer's name."""
    return append_function(layer, layer.activation, layer.name, inputs[0], builder)


def _relu(layer: Any) -> Attrs:
    limit = math.inf if layer.max_value is None else float(layer.max_value)
    slope, threshold = float(layer.negative_slope), float(layer.threshold)
    return attrs_of("relu", negative_slope=slope, max_value=limit, threshold=threshold)


_LAYERS: Mapping[str, Callable[[Any], Attrs]] = {
    "ReLU": _relu,
    "ReLU6": lambda layer: attrs_of("relu", max_value=6.0),
    "LeakyReLU": lambda layer: attrs_of("relu", negative_slope=float(layer.negative_slope)),
    "ELU": lambda layer: attrs_of("elu", alpha=float(layer.alpha)),
}
"""Keras layers that are one function -> its attributes."""


def from_keras_layer(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """ReLU(max_value, negative_slope, threshold), ReLU6(), LeakyReLU(negative_slope), ELU(alpha)."""
    return append(_LAYERS[type(layer).__name__](layer), layer.name, inputs[0], builder)


# ---- shapes and scales


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """The input's shape."""
    return shapes[0]


WIDE_OUTPUT = QParams.int16(1 / 32768)
SIGMOID = Scaling(Share.FIXED, FIXED_OUTPUT["LOGISTIC"], wide=WIDE_OUTPUT)
TANH = Scaling(Share.FIXED, FIXED_OUTPUT["TANH"], wide=WIDE_OUTPUT)


def scaling(b: BoundNode) -> Scaling:
    """Sigmoid and tanh have TFLite's fixed output scales; every other function has its own range."""
    fixed = {"sigmoid": SIGMOID, "tanh": TANH}
    return fixed.get(b.attrs.function, FREE)


# ---- evaluation


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The function in floating point."""
    x = arrays[0]
    with np.errstate(over="ignore", under="ignore"):
        y = FUNCTIONS[b.attrs.function].real(x, *b.attrs.parameters)
        return np.asarray(y, x.dtype)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The function, by its floating-point form."""
    function, parameters = FUNCTIONS[b.attrs.function].real, b.attrs.parameters
    return elementwise(lambda x: function(x, *parameters), xs[0])


@dataclass(frozen=True)
class Params:
    """size: elements."""

    size: int


def params(b: BoundNode) -> Params:
    """Numbers of one node; the table itself is a constant of the kernel."""
    return Params(b.output.elements)


@dataclass(frozen=True)
class RealParams:
    """Numbers of one float32 node. function: tg_<function> of tg_float.h, called with the parameters behind x."""

    size: int
    function: str
    parameters: tuple[float, ...]


def params_f32(b: BoundNode) -> RealParams:
    """Numbers of one float node."""
    return RealParams(b.output.elements, b.attrs.function, b.attrs.parameters)


WIDE: Mapping[str, Callable[[Array], Array]] = {"sigmoid": sigmoid, "tanh": tanh}
"""Functions with an int16 form."""


@dataclass(frozen=True)
class WideParams:
    """Numbers of one int16 node. multiplier, shift, half: input -> argument of the function, rounded."""

    size: int
    function: str
    multiplier: int
    shift: int
    half: int


def wide_params(b: BoundNode) -> WideParams:
    """Numbers of one int16 node."""
    multiplier, shift = argument_factor(b.inputs[0].scale)
    half = 1 << (shift - 1) if shift else 0
    return WideParams(b.output.elements, b.attrs.function, multiplier, shift, half)


def table(b: BoundNode) -> Array:
    """The 256 outputs for inputs -128 ... 127."""
    attrs, x, y = b.attrs, b.inputs[0].q, b.output.q
    if attrs.tflite:
        return BUILTINS[attrs.tflite].fill(attrs.parameters, x, y)
    return exact_table(attrs.function, attrs.parameters, x, y)


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = table[in + 128]; all rounding is done when the table is made: `rounding` does not matter.

    int16: sigmoid and tanh as TFLite has them (interpolation.py).
    """
    if b.output.q.bits == 16:
        p = wide_params(b)
        return WIDE[p.function](scaled_argument(arrays[0], p.multiplier, p.shift))
    return look_up(table(b), arrays[0])


def bounds(b: BoundNode, inputs: Sequence[Interval | None]) -> Interval:
    """What stands in the table between both ends."""
    assert inputs[0] is not None
    return looked_up(table(b), inputs[0])


# ---- TFLite

INT8, INT32 = 9, 2
"""Values of TFLite's enum TensorType."""


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """The operator that the node came from or that provably computes our table; else an exact look-up."""
    attrs, x, y = b.attrs, b.inputs[0].q, b.output.q
    if y.bits == 16:
        kind = {"sigmoid": "LOGISTIC", "tanh": "TANH"}[attrs.function]
        writer.add(kind, [writer.activation(b.inputs[0])], writer.activation(b.output), None, None, 3)
        return
    name = attrs.tflite or equal_builtin(attrs.function, attrs.parameters, x, y)
    if name is None:
        _export_look_up(b, writer)
        return
    builtin = BUILTINS[name]
    inputs, output = [writer.activation(b.inputs[0])], writer.activation(b.output)
    writer.add(
        name, inputs, output, builtin.options or None, builtin.write(attrs.parameters), builtin.version
    )


def _export_look_up(b: BoundNode, writer: TfliteWriter) -> None:
    """CAST to int32, ADD 128, GATHER from the table: integers only, so exact for every function."""
    shape, x = b.output.shape, writer.activation(b.inputs[0])
    wide = writer.temp(f"{b.name}/cast", shape, "int32", None)
    index = writer.temp(f"{b.name}/index", shape, "int32", None)
    offset = writer.raw(f"{b.name}/offset", np.full(1, 128, np.int32))
    entries = writer.raw(f"{b.name}/table", table(b), b.output.q)
    writer.add("CAST", [x], wide, "CastOptions", {"inDataType": INT8, "outDataType": INT32})
    writer.add("ADD", [wide, offset], index, "AddOptions", {"fusedActivationFunction": writer.fused("none")})
    writer.add("GATHER", [entries, index], writer.activation(b.output), "GatherOptions", {"axis": 0})


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """An activation operator of a file: its own arithmetic fills the table."""
    builtin, output = BUILTINS[op.kind], op.output_qparams()
    if output.bits == 16 and (builtin.function not in WIDE or output != WIDE_OUTPUT):
        raise op.error("in int16 only LOGISTIC and TANH with an output scale of 1/32,768 are supported")
    if output.bits == 8 and FIXED_OUTPUT.get(op.kind, output) != output:
        fixed = FIXED_OUTPUT[op.kind]
        raise op.error(f"its output must have scale {fixed.scale[0]} and zero point {fixed.zero_point[0]}")
    kind = op.kind if output.bits == 8 else ""
    attrs = Attrs(builtin.function, builtin.parameters(lambda: op.options), kind)
    return builder.add("activation", op.name, (op.activation(0),), attrs, output)


# ---- kernels


def constants(b: BoundNode) -> Mapping[str, Array]:
    """The table."""
    return {"table": table(b)}


def cost(b: BoundNode) -> float:
    """About 7 cycles a look-up."""
    return 7.0 * b.output.elements


def cost_wide(b: BoundNode) -> float:
    """About 25 cycles an interpolation."""
    return 25.0 * b.output.elements


def cost_f32(b: BoundNode) -> float:
    """About 60 cycles for most functions, 10 for those that only compare."""
    return 60.0 * b.output.elements


KERNELS = (
    Kernel("tg_activation_s8", cost, constants=constants, in_place=lambda b: (0,)),
    unary_dsp.activation_kernel(constants),
    Kernel(
        "tg_activation_s16",
        cost_wide,
        supports=lambda b, board: b.attrs.function in WIDE and not b.attrs.tflite,
        constants=lambda b: {"sigmoids": sigmoid_table()},
        in_place=lambda b: (0,),
        dtype="int16",
        params=wide_params,
    ),
    Kernel("tg_activation_f32", cost_f32, in_place=lambda b: (0,), dtype="float32", params=params_f32),
)

OP = Op(
    name="activation",
    summary="a function of one variable as a table: " + ", ".join(FUNCTIONS),
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
    constraints=(finite_parameters, usable_parameters),
    keras={"Activation": from_keras_activation, **dict.fromkeys(_LAYERS, from_keras_layer)},
    to_tflite=to_tflite,
    from_tflite=dict.fromkeys(BUILTINS, from_tflite),
    elementwise=True,
    channels=same_channels,
    bounds=bounds,
)
