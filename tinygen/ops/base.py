"""What an operator is: the frozen record every module of tinygen/ops fills in, and helpers they share.

A module of tinygen/ops holds everything the compiler knows of one operator, in this order: attributes,
constraints, from_keras and layouts, infer, channels, scaling and quantize, real, params, reference, macs, TFLite,
KERNELS, OP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from tinygen.errors import UnsupportedLayerError
from tinygen.fixedpoint import INT32_MAX, Rounding
from tinygen.graph import Array, BoundNode, DType, GraphBuilder, QParams, Shape, Tensor
from tinygen.ops import coupling

if TYPE_CHECKING:
    from tinygen.boards import Board
    from tinygen.ops.intervals import Bounds, Interval, Shares
    from tinygen.ops.windows import Pair
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter

Constraint = Callable[[BoundNode], bool]
"""True when the node obeys the rule that the docstring states: the docstring is the user's message and its docs."""

KerasHandler = Callable[[Any, Sequence[str], GraphBuilder], str]
"""(keras layer, names of its input tensors, builder) -> name of its output tensor; appends nodes to the builder."""


class Share(Enum):
    """Where the output's QParams come from."""

    FREE = "free"  # from the calibrated range of the output
    SAME = "same"  # all activation inputs and the output share one QParams
    FIXED = "fixed"  # always `qparams`, in 16 bits `wide`
    DERIVED = "derived"  # computed from the inputs' QParams by `derive`


@dataclass(frozen=True)
class Scaling:
    """The rule that an operator puts on the QParams of its output."""

    share: Share
    qparams: QParams | None = None
    derive: Callable[[tuple[QParams, ...]], QParams] | None = None
    wide: QParams | None = None

    def fixed(self, bits: int) -> QParams | None:
        """The QParams that are given, in so many bits."""
        return self.qparams if bits == 8 else self.wide


FREE = Scaling(Share.FREE)
SAME = Scaling(Share.SAME)


def no_scratch(b: BoundNode) -> int:
    """The kernel needs no scratch memory."""
    return 0


def no_constants(b: BoundNode) -> Mapping[str, Array]:
    """The kernel reads no constant arrays."""
    return {}


def never_in_place(b: BoundNode) -> tuple[int, ...]:
    """The output needs a buffer of its own."""
    return ()


def nothing_joined(b: BoundNode) -> tuple[tuple[int, int], ...]:
    """All inputs are read wherever they are."""
    return ()


def no_view(b: BoundNode) -> int | None:
    """The output has to be written."""
    return None


def always(b: BoundNode) -> bool:
    """Every node."""
    return True


def same_attrs(b: BoundNode, shape: Shape) -> Any:
    """Nothing in the attributes depends on the number of channels."""
    return b.attrs


def never(b: BoundNode) -> bool:
    """No node."""
    return False


def everything(b: BoundNode, board: Board | None) -> bool:
    """Every node, on every core."""
    return True


def reads_portable(b: BoundNode, role: str, values: Array, macs: int) -> int:
    """Bytes of a constant that a plain kernel reads in one inference: weights at every multiply-accumulate, all else
    once per output element."""
    times = macs if role == "weights" else b.output.elements
    return times * int(values.itemsize)


def reads_per(times: Callable[[BoundNode], int]) -> Callable[[BoundNode, str, Array, int], int]:
    """`Kernel.reads` of a kernel that streams all its constants so many times."""

    def reads(b: BoundNode, role: str, values: Array, macs: int) -> int:
        return times(b) * int(values.nbytes)

    return reads


@dataclass(frozen=True)
class Kernel:
    """One C implementation of an operator.

    name: `tg_<op>_s8[_<variant>]`, `_s16` for int16, `_f32` for float32; templates/kernels/<name>.c.j2 renders it. The
    template sees `p` (its params), `fn` (the C function's name), `precision` (`dtype`), `T` (its C type) and defines
    `TG_KERNEL void {{ fn }}(activation inputs in order as const T *, then one const pointer per entry of `constants`
    in its order, then T *output[, scratch])`.
    cost: estimated Cortex-M4 cycles for the node; the cheapest kernel that supports a node wins.
    scratch: bytes of working memory for the node, planned like a tensor (void *scratch is the last argument if > 0).
    in_place: indices into the node's activation inputs whose buffer the output may overwrite.
    joins: (index into the activation inputs, bytes from the output's first) of inputs that the kernel leaves alone
    where they stand there already.
    view: where the output stands in the first input, in bytes from that one's first: the kernel writes nothing where
    both are the same bytes. None: it always writes.
    alias: the output IS the first input's bytes (reshape): no function is emitted or called.
    reads: (bound node, role of a constant, its values, multiply-accumulates) -> bytes of it read in one inference.
    dtype: of the activations that it takes and gives; a kernel of another type is never chosen.
    params: what the template sees as `p`; None: what the operator's `params` gives.
    template: its template's name, for kernels that only move elements and share one; "": the kernel's own name.
    header: of templates/kernels, included beside that of the type ("tg_dsp.h").
    """

    name: str
    cost: Callable[[BoundNode], float]
    supports: Callable[[BoundNode, Board | None], bool] = everything
    constants: Callable[[BoundNode], Mapping[str, Array]] = no_constants
    scratch: Callable[[BoundNode], int] = no_scratch
    in_place: Callable[[BoundNode], tuple[int, ...]] = never_in_place
    joins: Callable[[BoundNode], tuple[tuple[int, int], ...]] = nothing_joined
    view: Callable[[BoundNode], int | None] = no_view
    alias: bool = False
    reads: Callable[[BoundNode, str, Array, int], int] = reads_portable
    dtype: DType = "int8"
    params: Callable[[BoundNode], Any] | None = None
    template: str = ""
    header: str = ""

    @property
    def portable(self) -> bool:
        """True for a kernel that is no variant of another: its name ends with the type."""
        return self.alias or self.name.rpartition("_")[2] in ("s8", "s16", "f32")


def dsp(b: BoundNode, board: Board | None) -> bool:
    """Cores with the DSP extension: M4, M7, M33."""
    return board is not None and "dsp" in board.isa


@dataclass(frozen=True)
class Op:
    """Everything the compiler knows of one operator. See the docs of each field's type above.

    inputs: roles of the inputs in order, e.g. ("input", "weights", "bias"); ("inputs*",) for any number.
    infer: (attrs, input shapes) -> output shape; shapes without batch.
    real: float evaluation: (bound node, arrays: activations (N, *shape), constants unbatched) -> (N, *output shape).
    differentiable: the same on TensorFlow tensors, for gradients (tensors.py).
    scaling: rule on the output's QParams. May look at attrs and shapes.
    quantize: (float bound node, QParams of each activation input, QParams of the output) -> the int8/int32 tensors
        that replace the node's constant inputs, in order. For operators without constants: returns ().
    params: the numbers that the template and the reference both use: a frozen dataclass.
    reference: THE definition: (bound node, int arrays as in `real`, rounding) -> array (N, *output shape) of the
        output's type. An operator with int16 kernels, too, defines both: the type of the bound tensors says which.
    macs: multiply-accumulates of one inference.
    to_tflite: appends the operator to a TFLite writer. None: export refuses it by name.
    from_tflite: BuiltinOperator name -> handler(op, builder) -> output tensor name.
    keras: Keras class name -> handler.
    keras_notes: Keras class name -> under which option, or for which part of the layer, it becomes this operator; also
        for classes whose handler is another operator's.
    output_axis: set for operators that are linear in (inputs[1] weights, inputs[2] bias): the axis of the weights that
        is the output channel, so that a factor per output channel can be multiplied into weights and bias.
    input_axis: set beside output_axis for operators that equalization may rewrite: (bound node) -> the axis of the
        weights that is the input channel, so that a factor per input channel can be taken into them; None where the
        node cannot take one.
    input_factors_free: factors per input channel only change the scales of the weights, at no cost of precision.
    passes_factors: (bound node) -> True when positive factors per channel (the last axis) on every activation input
        come out of the node as the same factors on its output, but for a fused activation.
    absorb_input: (bound node, scale, offset per input channel) -> (weights, bias) with which the node computes from x
        what it computed from x * scale + offset, or None where that is not exact. See folding.py.
    pads_with_zero: attrs.padding surrounds the input with real zeros, so that a `pad` in front can be merged into it.
    elementwise: one input, and each output element depends on the same input element only, wherever it stands.
    channels: which channels of inputs, constants and output must go together (coupling.py); by default all must stay.
    narrowed: (bound node, its output's shape with fewer channels) -> the attributes that the node then has.
    layouts: Keras class name -> where its layers keep the constants; classes without constants of their own, or whose
        config does not depend on the number of channels, need none.
    passes_clamp: the operator gives the same result whether a clamp (base.FUSED) stands in front of it or behind it.
    bounds: what values each channel of the int8 output can take (intervals.py); None: all that the clamp lets through.
    shares: set for operators whose `channels` have `reads`: (int8 node, interval of its input) -> what each input
        channel adds to the bias, where that is known.
    rows: (bound node, first, end) -> rows [first, end) of the input that rows [first, end) of the output need, and the
        attributes with which the node makes these from those alone; None where it cannot (bands.py). Left out: never.
    """

    name: str
    summary: str
    attrs: type
    inputs: tuple[str, ...]
    infer: Callable[[Any, tuple[Shape, ...]], Shape]
    real: Callable[[BoundNode, Sequence[Array]], Array]
    differentiable: Callable[[BoundNode, Sequence[Any]], Any]
    scaling: Callable[[BoundNode], Scaling]
    quantize: Callable[[BoundNode, tuple[QParams, ...], QParams], tuple[Tensor, ...]]
    params: Callable[[BoundNode], Any]
    reference: Callable[[BoundNode, Sequence[Array], Rounding], Array]
    macs: Callable[[BoundNode], int]
    kernels: tuple[Kernel, ...]
    constraints: tuple[Constraint, ...] = ()
    keras: Mapping[str, KerasHandler] = field(default_factory=dict)
    keras_notes: Mapping[str, str] = field(default_factory=dict)
    to_tflite: Callable[[BoundNode, TfliteWriter], None] | None = None
    from_tflite: Mapping[str, Callable[[TfliteOperator, GraphBuilder], str]] = field(default_factory=dict)
    output_axis: int | None = None
    input_axis: Callable[[BoundNode], int | None] | None = None
    input_factors_free: bool = False
    passes_factors: Callable[[BoundNode], bool] = never
    absorb_input: Callable[[BoundNode, Array, Array], tuple[Array, Array] | None] | None = None
    pads_with_zero: bool = False
    elementwise: bool = False
    passes_clamp: bool = False
    channels: coupling.Channels = coupling.frozen
    narrowed: Callable[[BoundNode, Shape], Any] = same_attrs
    layouts: Mapping[str, coupling.Layout] = field(default_factory=dict)
    bounds: Bounds | None = None
    shares: Callable[[BoundNode, Interval], Shares] | None = None
    rows: Callable[[BoundNode, int, int], tuple[Pair, Any] | None] | None = None

    def has(self, dtype: DType, b: BoundNode) -> bool:
        """True when there is a kernel for the node with activations of this type."""
        return any(k.dtype == dtype and k.supports(b, None) for k in self.kernels)

    def check(self, b: BoundNode) -> None:
        """Raise UnsupportedLayerError naming the first constraint that the node breaks."""
        for constraint in self.constraints:
            if not constraint(b):
                rule = " ".join((constraint.__doc__ or "").split())
                raise UnsupportedLayerError(b.name, self.name, rule)


def no_macs(b: BoundNode) -> int:
    """Nothing is multiplied."""
    return 0


def free(b: BoundNode) -> Scaling:
    """The output has its own range."""
    return FREE


def no_quantize(b: BoundNode, inputs: tuple[QParams, ...], output: QParams) -> tuple[Tensor, ...]:
    """The operator has no constants."""
    return ()


# ---- fused activations -------------------------------------------------------------------------------------------

FUSED: Mapping[str, tuple[float, float]] = {
    "none": (float("-inf"), float("inf")),
    "relu": (0.0, float("inf")),
    "relu6": (0.0, 6.0),
    "relu_0_to_1": (0.0, 1.0),
    "relu_n1_to_1": (-1.0, 1.0),
}
"""Activations that an operator can apply by clamping its own output: name -> (low, high) in real numbers."""


def clamp_real(x: Array, activation: str) -> Array:
    """Apply a fused activation to real numbers."""
    low, high = FUSED[activation]
    return x if activation == "none" else np_clip(x, low, high)


@dataclass(frozen=True)
class Clamp:
    """A fused activation for float kernels: the limits that its name has, None where there is none."""

    low: float | None
    high: float | None


def clamp_f32(activation: str) -> Clamp:
    """The limits of a fused activation."""
    low, high = FUSED[activation]
    return Clamp(low if math.isfinite(low) else None, high if math.isfinite(high) else None)


def np_clip(x: Array, low: float, high: float) -> Array:
    """numpy.clip that keeps the array's dtype."""
    import numpy as np

    return np.clip(x, x.dtype.type(low), x.dtype.type(high))


def clamp_bounds(activation: str, q: QParams) -> tuple[int, int]:
    """(activation_min, activation_max) of a fused activation, integers for an output with QParams q.

    The quotient limit / scale is a float32 division, as in TFLite: 6 / 0.8 is 7.5 there and not below it.
    """
    import numpy as np

    low, high = FUSED[activation]
    scale, zero_point = np.float32(q.scale[0]), q.zero_point[0]

    def quantized(real: float) -> int:
        with np.errstate(over="ignore"):
            quotient = np.float32(real) / scale
        return zero_point + int(round_half_away(float(np.clip(quotient, 4 * q.low, 4 * q.high))))

    activation_min = q.low if low == float("-inf") else max(q.low, quantized(low))
    activation_max = q.high if high == float("inf") else min(q.high, quantized(high))
    return activation_min, activation_max


def clamp_fits_int32(activation: str, q: QParams) -> bool:
    """True when LiteRT, which computes the bounds of a clamp as int32, can compute those of this one."""
    largest = max((abs(limit) for limit in FUSED[activation] if math.isfinite(limit)), default=0.0)
    return largest / q.scale[0] < INT32_MAX - 256


def round_half_away(x: float) -> float:
    """Nearest integer, halves away from zero (C's round)."""
    import math

    return math.copysign(math.floor(abs(x) + 0.5), x)
