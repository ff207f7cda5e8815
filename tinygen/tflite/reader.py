"""One operator of a .tflite file as the operator modules see it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.errors import UnsupportedLayerError
from tinygen.graph import QParams, Shape, Tensor
from tinygen.tflite import schema
from tinygen.tflite.checks import checked_qparams
from tinygen.tflite.parsing import OperatorRecord, TensorRecord
from tinygen.tflite.writer import FUSED_NAMES

if TYPE_CHECKING:
    from tinygen.tflite.walk import Reading

WEIGHTS = {
    "CONV_2D": (4, 0),
    "DEPTHWISE_CONV_2D": (4, 3),
    "TRANSPOSE_CONV": (4, 0),
    "FULLY_CONNECTED": (2, 0),
}
"""Kinds whose input 1 holds weights -> how many dimensions these have, which one is the output channels."""

GEOMETRY = ("strideH", "strideW", "dilationHFactor", "dilationWFactor", "filterHeight", "filterWidth")
"""Options that count elements."""

MAX_GEOMETRY = 1024


class TfliteOperator:
    """One operator of a file. Indices `i` count the operator's inputs. Constants have their stored shape."""

    def __init__(self, reading: Reading, record: OperatorRecord, name: str) -> None:
        self._reading, self._record = reading, record
        self.name, self.kind = name, record.kind

    @property
    def inputs(self) -> int:
        """How many inputs there are, absent optional ones included."""
        return len(self._record.inputs)

    @cached_property
    def options(self) -> Any:
        """The options object; fields as in the schema."""
        options = self._reading.file.options(self._record)
        if options is None:
            raise self.error("its attributes are missing in the file")
        if type(options).__name__ != schema.options_name(self.kind):
            raise self.error(f"its attributes are those of another operator ({type(options).__name__[:-1]})")
        for field in GEOMETRY:
            value = getattr(options, field, 1)
            if not 1 <= value <= MAX_GEOMETRY:
                raise self.error(f"its {field} is {value}, it must be 1 to {MAX_GEOMETRY}")
        return options

    def has(self, i: int) -> bool:
        """True when input i is present."""
        return i < self.inputs and self._record.inputs[i] >= 0

    def activation(self, i: int) -> str:
        """Name of input i in the builder; it must be an int8 activation."""
        record = self._input(i)
        if record.data is not None:
            raise self.error(f"its input {i} is a constant, an activation is expected")
        return self._reading.activation(record, self)

    def tensor(self, i: int) -> Tensor:
        """Input i: an activation of the builder (without batch), or a constant as stored."""
        record = self._input(i)
        if i == 1 and self.kind in WEIGHTS:
            self._check_weights(record)
        if record.data is None:
            return self._reading.builder.tensor(self._reading.activation(record, self))
        if record.kind not in ("int8", "int16", "int32", "int64"):
            raise self.error(
                f"its input {i} holds {record.kind} constants, only int8, int16, int32 and int64 are supported"
            )
        if record.kind in ("int8", "int16") and record.qparams is None:
            raise self.error(f"its {record.kind} input {i} has no scale")
        q = checked_qparams(record, self.error) if record.kind == "int16" else record.qparams
        data = record.data.astype(record.data.dtype.newbyteorder("="), copy=False)
        return Tensor(self._constant_name(i), data.shape, record.kind, q, data)  # type: ignore[arg-type]

    def constant(self, i: int) -> str:
        """Adds the int8 constant i to the builder (once per tensor of the file)."""
        index = self._input(i).index
        known = self._reading.constants
        if index not in known:
            tensor = self.tensor(i)
            if tensor.data is None or tensor.dtype != "int8":
                what = "an activation" if tensor.data is None else tensor.dtype
                raise self.error(f"its input {i} is {what}, an int8 constant is expected")
            known[index] = self._reading.builder.constant(tensor.name, tensor.data, tensor.qparams)
        return known[index]

    def bias(self, i: int, channels: int) -> str:
        """Adds the int32 bias (channels,), int64 of int16 activations, zeros where it is absent."""
        x, weights = self.tensor(0 if self.kind != "TRANSPOSE_CONV" else 2), self.tensor(1)
        scales = tuple(min(max(x.scale * s, 1e-37), 1e38) for s in weights.q.scale)
        qparams = QParams(scales, (0,) * len(scales), None if weights.q.axis is None else 0)
        kind = "int32" if x.dtype == "int8" else "int64"
        if not self.has(i):
            zeros = np.zeros(channels, kind)
            return self._reading.builder.constant(f"{self.name}/bias", zeros, qparams)
        tensor = self.tensor(i)
        if tensor.data is None or tensor.dtype != kind or tensor.shape != (channels,):
            raise self.error(
                f"its bias is {tensor.dtype} {list(tensor.shape)}, it must be {kind} [{channels}]"
            )
        return self._reading.builder.constant(f"{self.name}/bias", tensor.data, tensor.qparams or qparams)

    def padding(self, code: int) -> str:
        """'same' or 'valid'."""
        enum = schema.schema().Padding
        found = {enum.SAME: "same", enum.VALID: "valid"}.get(code)
        if found is None:
            raise self.error(f"its padding has the unknown code {code}")
        return found

    def fused(self, code: int) -> str:
        """A fused activation of ops.base.FUSED."""
        name = schema.activation_names().get(code, f"code {code}")
        found = {theirs: ours for ours, theirs in FUSED_NAMES.items()}.get(name)
        if found is None:
            raise self.error(f"its fused activation {name} is not among {', '.join(FUSED_NAMES.values())}")
        return found

    def output_qparams(self) -> QParams:
        """QParams of the output."""
        return self._reading.activation_qparams(self._output, self)

    def output_shape(self) -> Shape:
        """Shape of the output, without batch."""
        return self._reading.activation_shape(self._output, self)

    def error(self, why: str) -> UnsupportedLayerError:
        """The error that this operator cannot be compiled."""
        return UnsupportedLayerError(self.name, self.kind, why if len(why) < 300 else f"{why[:300]}...")

    @property
    def _output(self) -> TensorRecord:
        return self._reading.file.tensor(self._record.outputs[0])

    def _input(self, i: int) -> TensorRecord:
        if not self.has(i):
            raise self.error(f"its input {i} is missing (it has {self.inputs})")
        return self._reading.file.tensor(self._record.inputs[i])

    def _constant_name(self, i: int) -> str:
        return f"{self.name}/{'weights' if i == 1 and self.kind in WEIGHTS else f'constant_{i}'}"

    def _check_weights(self, record: TensorRecord) -> None:
        """Constant int8 weights, symmetric, per tensor or per output channel."""
        (rank, axis), q = WEIGHTS[self.kind], record.qparams
        if record.data is None or len(record.shape) != rank:
            what = "not in the file" if record.data is None else f"of shape {list(record.shape)}"
            raise self.error(f"its weights are {what}: they must be constants of {rank} dimensions")
        if record.kind != "int8" or q is None:
            raise self.error(f"its weights are {record.kind}, they must be int8 with a scale")
        if any(q.zero_point):
            raise self.error(f"its weights have the zero point {q.zero_point[0]}, it must be 0")
        if q.axis not in (None, axis):
            raise self.error(f"its weights have scales along axis {q.axis}, it must be axis {axis}")
