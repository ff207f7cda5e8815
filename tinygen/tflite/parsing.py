"""Bytes of a .tflite file -> checked records.

Nothing in the file is trusted: every count, index and size is checked before it is used, so that a damaged or
hostile file costs one ModelError, little time and little memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.errors import ModelError, bytes_text
from tinygen.graph import Array, QParams
from tinygen.tflite import schema
from tinygen.tflite.guard import guard

MAX_FILE_BYTES = 64 << 20
"""No microcontroller holds more; it also bounds what a hostile file can ask for."""

MAX_COUNT = 10_000
"""Tensors, buffers, operators and operator codes of a file, each."""

MAX_OPERANDS = 256
"""Inputs or outputs of one operator, or of the model."""

MAX_RANK = 6
MAX_ELEMENTS = 1 << 26
"""Elements of one tensor."""

MAX_CHANNELS = 1 << 16
"""Scales of one tensor."""

MAX_TOTAL_BYTES = 4 * MAX_FILE_BYTES
"""All constants, counted as often as operators read them (tensors may share a buffer)."""

DTYPES = {"int8": "<i1", "uint8": "<u1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "float32": "<f4"}
"""Tensor types whose contents can be read; others are refused when an operator uses them."""


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as the file has it. shape: with batch; unknown: a dimension besides the batch is dynamic."""

    index: int
    name: str
    kind: str
    shape: tuple[int, ...]
    unknown: bool
    qparams: QParams | None
    data: Array | None


@dataclass(frozen=True)
class OperatorRecord:
    """An operator as the file has it. inputs: tensor indices, -1 where an optional one is absent."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class TfliteFile:
    """The checked contents of one file: operators, and tensors on demand. Raises only ModelError."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        _check_frame(data, name)
        with guard(f"'{name}'"):
            self._model = schema.schema().Model.GetRootAs(data, 0)
            self.description = _text(self._model.Description(), 100)
            self._subgraph = self._only_subgraph()
            self._codes = self._operator_codes()
            count = self._count(self._subgraph.TensorsLength(), "tensors")
            self._buffers = self._count(self._model.BuffersLength(), "buffers")
            self._tensors: list[TensorRecord | None] = [None] * count
            self.inputs = self._edge(self._subgraph.InputsAsNumpy(), "inputs")
            self.outputs = self._edge(self._subgraph.OutputsAsNumpy(), "outputs")
            self.operators = self._operators()
        self._text_budget = MAX_FILE_BYTES

    # ---- the frame

    def _count(self, count: int, what: str) -> int:
        if count > MAX_COUNT:
            raise ModelError(f"'{self.name}' holds {count:,} {what}: at most {MAX_COUNT:,} are read")
        return count

    def _only_subgraph(self) -> Any:
        count = self._model.SubgraphsLength()
        if count != 1:
            raise ModelError(
                f"'{self.name}' holds {count:,} subgraphs: exactly 1 is supported\n"
                "  export one inference function, without IF and WHILE"
            )
        return self._model.Subgraphs(0)

    def _operator_codes(self) -> list[str]:
        count = self._count(self._model.OperatorCodesLength(), "operator codes")
        return [_code_name(self._model.OperatorCodes(i)) for i in range(count)]

    def _edge(self, array: Any, what: str) -> tuple[int, ...]:
        """Tensor indices of the model's inputs or outputs."""
        found = self._operands(array, what, optional=False)
        if not found:
            raise ModelError(f"'{self.name}' has no {what}")
        if len(set(found)) != len(found):
            raise ModelError(f"'{self.name}' names one tensor twice among its {what}")
        return found

    def _operands(self, array: Any, what: str, optional: bool) -> tuple[int, ...]:
        """Tensor indices of a vector, checked; an absent vector reads as the integer 0."""
        if isinstance(array, int):
            return ()
        if len(array) > MAX_OPERANDS:
            raise ModelError(f"'{self.name}': {len(array):,} {what}, at most {MAX_OPERANDS} are read")
        found = tuple(int(i) for i in array)
        lowest = -1 if optional else 0
        for index in found:
            if not lowest <= index < len(self._tensors):
                raise ModelError(
                    f"'{self.name}' is damaged: {what} name tensor {index} of {len(self._tensors)}"
                )
        return found

    def _operators(self) -> tuple[OperatorRecord, ...]:
        count = self._count(self._subgraph.OperatorsLength(), "operators")
        return tuple(self._operator(i, self._subgraph.Operators(i)) for i in range(count))

    def _operator(self, index: int, table: Any) -> OperatorRecord:
        code = table.OpcodeIndex()
        if not 0 <= code < len(self._codes):
            raise ModelError(
                f"'{self.name}' is damaged: operator {index} has code {code} of {len(self._codes)}"
            )
        kind = self._codes[code]
        inputs = self._operands(table.InputsAsNumpy(), f"inputs of operator {index} ({kind})", optional=True)
        outputs = self._operands(
            table.OutputsAsNumpy(), f"outputs of operator {index} ({kind})", optional=False
        )
        return OperatorRecord(index, kind, inputs, outputs)

    # ---- on demand

    def options(self, operator: OperatorRecord) -> Any:
        """The options object of an operator; None when the file has none."""
        with guard(f"'{self.name}': operator {operator.index} ({operator.kind})"):
            table = self._subgraph.Operators(operator.index)
            return schema.schema().BuiltinOptionsCreator(table.BuiltinOptionsType(), table.BuiltinOptions())

    def tensor(self, index: int) -> TensorRecord:
        """The tensor of that index; its buffer has been checked against its shape and type."""
        found = self._tensors[index]
        if found is None:
            with guard(f"'{self.name}': tensor {index}"):
                found = self._tensor(index)
            self._tensors[index] = found
        return found

    def _tensor(self, index: int) -> TensorRecord:
        table = self._subgraph.Tensors(index)
        raw_name = table.Name() or b""
        self._text_budget -= len(raw_name)
        if self._text_budget < 0:
            raise ModelError(
                f"'{self.name}' is damaged: its tensor names add up to over {bytes_text(MAX_FILE_BYTES)}"
            )
        name = _text(raw_name, 4096) or f"tensor_{index}"
        kind = schema.type_names().get(table.Type(), f"type {table.Type()}")
        shape = self._shape(table, name)
        if table.Sparsity() is not None:
            raise ModelError(
                f"'{self.name}': tensor '{_short(name)}' is sparse: only dense tensors are supported"
            )
        data = self._data(table, name, kind, shape)
        unknown = bool(
            table.ShapeSignatureLength() > 1 and (table.ShapeSignatureAsNumpy()[1:MAX_RANK] < 0).any()
        )
        qparams = self._qparams(table.Quantization(), name, shape)
        return TensorRecord(index, name, kind, shape, unknown, qparams, data)

    def _shape(self, table: Any, name: str) -> tuple[int, ...]:
        if table.ShapeLength() > MAX_RANK:
            raise ModelError(
                f"tensor '{_short(name)}' has {table.ShapeLength():,} dimensions: at most {MAX_RANK}"
            )
        shape = tuple(int(d) for d in table.ShapeAsNumpy()) if table.ShapeLength() else ()
        elements = 1
        for dimension in shape:
            elements *= dimension
            if dimension < 0 or elements > MAX_ELEMENTS:
                raise ModelError(
                    f"tensor '{_short(name)}' has the shape {list(shape)}: no dimension may be negative, "
                    f"at most {MAX_ELEMENTS:,} elements"
                )
        return shape

    def _data(self, table: Any, name: str, kind: str, shape: tuple[int, ...]) -> Array | None:
        """The constant's contents (a view of the file), None for an activation."""
        index = table.Buffer()
        if not 0 <= index < self._buffers:
            raise ModelError(f"tensor '{_short(name)}' names buffer {index} of {self._buffers}")
        buffer = self._model.Buffers(index)
        if buffer.Offset() > 1 or buffer.Size() > 1 or table.ExternalBuffer():
            raise ModelError(
                f"tensor '{_short(name)}' lies outside the model: such large files are not supported"
            )
        length = buffer.DataLength()
        empty_vector = kind == "int32" and shape == (0,)  # such as the new shape [] of a RESHAPE to a scalar
        if length == 0 and not empty_vector:
            return None
        if kind not in DTYPES:
            raise ModelError(f"tensor '{_short(name)}' holds {kind} constants: int8 and int32 are supported")
        dtype = np.dtype(DTYPES[kind])
        needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if length != needed:
            raise ModelError(
                f"tensor '{_short(name)}' has a buffer of {bytes_text(length)}: its shape {list(shape)} "
                f"({kind}) needs {bytes_text(needed)}"
            )
        raw = buffer.DataAsNumpy() if length else np.zeros(0, np.uint8)
        return raw.view(dtype).reshape(shape) if raw.size else np.zeros(shape, dtype)

    def _qparams(self, table: Any, name: str, shape: tuple[int, ...]) -> QParams | None:
        """QParams of the tensor as the file has them, None when it has none."""
        count = 0 if table is None else table.ScaleLength()
        if count == 0:
            return None
        if table.DetailsType() != 0:
            raise ModelError(
                f"tensor '{_short(name)}' uses custom quantization: only scale and zero_point are read"
            )
        axis = None if count == 1 else table.QuantizedDimension()
        if axis is not None and (not 0 <= axis < len(shape) or shape[axis] != count or count > MAX_CHANNELS):
            raise ModelError(
                f"tensor '{_short(name)}' has {count:,} scales for dimension {axis} of shape {list(shape)}"
            )
        scale = table.ScaleAsNumpy()
        points = table.ZeroPointAsNumpy() if table.ZeroPointLength() else np.zeros(count, np.int64)
        _check_quantization(name, scale, points, count)
        return QParams(tuple(scale.tolist()), tuple(points.tolist()), axis)


def _check_frame(data: bytes, name: str) -> None:
    """Size and identifier, before anything is parsed."""
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(
            f"'{name}' has {bytes_text(len(data))}: at most {bytes_text(MAX_FILE_BYTES)} are read"
        )
    if len(data) < 16 or data[4:8] != schema.IDENTIFIER:
        found = data[4:8]
        raise ModelError(
            f"'{name}' is not a .tflite file: bytes 4..7 are {found!r}, not {schema.IDENTIFIER!r} "
            f"({bytes_text(len(data))} in all)\n  give a Keras model (.keras, .h5) or a .tflite file"
        )


def _check_quantization(name: str, scale: Array, points: Array, count: int) -> None:
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        worst = scale[~(np.isfinite(scale) & (scale > 0))][0]
        raise ModelError(f"tensor '{_short(name)}' has the scale {worst}: scales must be finite and positive")
    if len(points) != count:
        raise ModelError(f"tensor '{_short(name)}' has {count:,} scales but {len(points):,} zero points")
    if count > 1 and points.any():
        raise ModelError(f"tensor '{_short(name)}' has zero points per channel: they must all be 0")


def _code_name(code: Any) -> str:
    """Name of an operator code. Old files have it in an int8 field, new ones in both."""
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    name = schema.builtin_names().get(number, f"operator code {number}")
    return f"CUSTOM {_text(code.CustomCode(), 60)}" if name == "CUSTOM" else name


def _text(raw: bytes | None, limit: int) -> str:
    """At most `limit` bytes of a string of the file, printable."""
    text = (raw or b"")[:limit].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _short(name: str) -> str:
    """A tensor name that fits a message."""
    return name if len(name) <= 60 else name[:57] + "..."
