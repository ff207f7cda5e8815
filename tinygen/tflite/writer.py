"""Writes a quantized graph as an int8 .tflite file, operator by operator (see export.export_tflite)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygen.graph import Array, Graph, QParams, Shape, Tensor
from tinygen.ops.windows import Padding
from tinygen.tflite.schema import IDENTIFIER, schema

ALIGNMENT = 16
"""Bytes: every buffer of a .tflite file starts at a multiple of this."""

DEPRECATED_LIMIT = 127
"""Operator codes below this stand in an int8 field, too, for old readers."""

FUSED_NAMES: Mapping[str, str] = {
    "none": "NONE",
    "relu": "RELU",
    "relu6": "RELU6",
    "relu_n1_to_1": "RELU_N1_TO_1",
}
"""Fused activation of ops.base.FUSED -> its name in the schema."""

APART = {"relu_0_to_1": (-1, "RELU_0_TO_1")}
"""What the schema cannot fuse: the value that `fused` gives instead, the operator that `add` appends."""


@dataclass(frozen=True)
class AlignedBuffer:
    """One buffer of the file. Packs itself because the generated code does not align its data."""

    data: bytes

    def Pack(self, builder: Any) -> int:  # noqa: N802 (called by the generated schema)
        """Append the buffer table; returns its offset."""
        s = schema()
        offset = _aligned_bytes(builder, self.data) if self.data else 0
        s.BufferStart(builder)
        if self.data:
            s.BufferAddData(builder, offset)
        return int(s.BufferEnd(builder))


def _aligned_bytes(builder: Any, data: bytes) -> int:
    """A byte vector whose first element is aligned to ALIGNMENT in the file."""
    builder.StartVector(1, len(data), ALIGNMENT)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return int(builder.EndVector())


class TfliteWriter:
    """Collects tensors and operators of one subgraph; `finish` gives the bytes of the file.

    Activations get a leading batch dimension of 1. All methods that make tensors return tensor indices.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._tensors: list[Any] = []
        self._buffers: list[AlignedBuffer] = [AlignedBuffer(b"")]
        self._operators: list[Any] = []
        self._codes: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self._index: dict[tuple[str, Shape], int] = {}

    # ---- tensors

    def activation(self, tensor: Tensor) -> int:
        """The graph's activation of that name (or constant, without batch)."""
        if tensor.is_constant:
            return self.constant(tensor)
        name, shape = tensor.name, (1, *tensor.shape)
        return self._once(name, shape, lambda: self._tensor(name, shape, tensor.dtype, tensor.q))

    def constant(self, tensor: Tensor, shape: Shape | None = None, axis: int | None = None) -> int:
        """A constant with its QParams. shape, axis: override the stored shape and the quantized dimension."""
        assert tensor.data is not None, tensor.name
        data = tensor.data.reshape(tensor.shape if shape is None else shape)
        return self._once(tensor.name, data.shape, lambda: self.raw(tensor.name, data, tensor.qparams, axis))

    def raw(self, name: str, array: Array, qparams: QParams | None = None, axis: int | None = None) -> int:
        """Any constant array (int8, int32, ...) under a name of its own."""
        array = np.ascontiguousarray(array)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self._buffers.append(AlignedBuffer(little.tobytes()))
        return self._tensor(name, array.shape, array.dtype.name, qparams, axis, len(self._buffers) - 1)

    def temp(self, name: str, shape: Shape, dtype: str, qparams: QParams | None) -> int:
        """An intermediate that is not in the graph; shape without batch."""
        return self._tensor(name, (1, *shape), dtype, qparams)

    def pad(self, tensor: Tensor, padding: Padding) -> int:
        """Append a PAD of height and width (fills zero_point, which is real 0); returns the padded tensor."""
        height, width, channels = tensor.shape
        name = f"{tensor.name}/pad_{len(self._tensors)}"
        spans = ((0, 0), (padding.top, padding.bottom), (padding.left, padding.right), (0, 0))
        shape = (height + padding.vertical, width + padding.horizontal, channels)
        output = self.temp(name, shape, tensor.dtype, tensor.q)
        spans_index = self.raw(f"{name}/spans", np.array(spans, np.int32))
        self.add("PAD", [self.activation(tensor), spans_index], output, "PadOptions", {}, version=2)
        return output

    def _once(self, name: str, shape: Shape, make: Callable[[], int]) -> int:
        if (name, shape) not in self._index:
            self._index[name, shape] = make()
        return self._index[name, shape]

    def _tensor(
        self,
        name: str,
        shape: Shape,
        dtype: str,
        qparams: QParams | None = None,
        axis: int | None = None,
        buffer: int | None = None,
    ) -> int:
        """Append a tensor; activations (buffer None) get an empty buffer of their own."""
        if buffer is None:
            self._buffers.append(AlignedBuffer(b""))
            buffer = len(self._buffers) - 1
        quantization = None if qparams is None else quantization_of(qparams, axis)
        kind = getattr(schema().TensorType, dtype.upper())
        fields = {"name": name, "shape": np.array(shape, np.int32), "type": kind, "buffer": buffer}
        self._tensors.append(schema().TensorT(**fields, quantization=quantization, hasRank=True))
        return len(self._tensors) - 1

    # ---- operators

    def padding(self, name: str) -> int:
        """Enum value of SAME or VALID."""
        return int(getattr(schema().Padding, name))

    def fused(self, activation: str) -> int:
        """Enum value of a fused activation of ops.base.FUSED, for `add`."""
        if activation in APART:
            return APART[activation][0]
        return int(getattr(schema().ActivationFunctionType, FUSED_NAMES[activation]))

    def add(
        self,
        name: str,
        inputs: Sequence[int],
        output: int,
        options_class: str | None = None,
        options: Mapping[str, Any] | None = None,
        version: int = 1,
    ) -> None:
        """Append an operator. name: of BuiltinOperator; inputs: tensor indices, -1 for an absent one."""
        s = schema()
        fields = dict(options or {})
        for value, apart in APART.values():
            if fields.get("fusedActivationFunction") == value:
                before = self._like(output)
                fields["fusedActivationFunction"] = s.ActivationFunctionType.NONE
                self.add(name, inputs, before, options_class, fields, version)
                self.add(apart, [before], output)
                return
        code = self._codes.setdefault(name, len(self._codes))
        self._versions[name] = max(version, self._versions.get(name, 1))
        operator = s.OperatorT(opcodeIndex=code, inputs=indices(inputs), outputs=indices([output]))
        if options_class is not None:
            operator.builtinOptionsType = getattr(s.BuiltinOptions, options_class)
            operator.builtinOptions = getattr(s, options_class + "T")(**fields)
        self._operators.append(operator)

    def _like(self, tensor: int) -> int:
        """Another activation of the same shape and quantization."""
        self._buffers.append(AlignedBuffer(b""))
        same = copy(self._tensors[tensor])
        same.name, same.buffer = f"{same.name}/before", len(self._buffers) - 1
        self._tensors.append(same)
        return len(self._tensors) - 1

    # ---- the file

    def finish(self) -> bytes:
        """The bytes of the file."""
        import flatbuffers

        s = schema()
        model = s.ModelT(
            version=3,
            description="tinygen",
            operatorCodes=[self._operator_code(name) for name in self._codes],
            subgraphs=[self._subgraph()],
            buffers=self._buffers,
            signatureDefs=[self._signature()],
        )
        builder = flatbuffers.Builder(sum(len(b.data) + 2 * ALIGNMENT for b in self._buffers) + 4096)
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    def _operator_code(self, name: str) -> Any:
        code = getattr(schema().BuiltinOperator, name)
        return schema().OperatorCodeT(
            builtinCode=code, deprecatedBuiltinCode=min(code, DEPRECATED_LIMIT), version=self._versions[name]
        )

    def _edges(self) -> tuple[list[int], list[int]]:
        inputs = [self.activation(t) for t in self.graph.input_tensors]
        return inputs, [self.activation(t) for t in self.graph.output_tensors]

    def _subgraph(self) -> Any:
        inputs, outputs = self._edges()
        return schema().SubGraphT(
            name=self.graph.name,
            inputs=indices(inputs),
            outputs=indices(outputs),
            operators=self._operators,
            tensors=self._tensors,
        )

    def _signature(self) -> Any:
        """Names for inputs and outputs, for callers that address them by name."""
        s = schema()
        inputs, outputs = self._edges()

        def maps(names: Sequence[str], tensors: Sequence[int]) -> list[Any]:
            named = dict(zip(names, tensors, strict=True))
            return [s.TensorMapT(name=name, tensorIndex=index) for name, index in named.items()]

        return s.SignatureDefT(
            inputs=maps(self.graph.inputs, inputs),
            outputs=maps(self.graph.outputs, outputs),
            signatureKey="serving_default",
            subgraphIndex=0,
        )


def quantization_of(qparams: QParams, axis: int | None) -> Any:
    """QuantizationParametersT; axis overrides the quantized dimension of per-channel parameters."""
    dimension = qparams.axis if axis is None else axis
    return schema().QuantizationParametersT(
        scale=np.array(qparams.scale, np.float32),
        zeroPoint=np.array(qparams.zero_point, np.int64),
        quantizedDimension=dimension or 0,
    )


def indices(values: Sequence[int]) -> npt.NDArray[np.int32]:
    """An int32 vector of tensor indices."""
    return np.array(values, np.int32)
