"""Operators of a .tflite file as operator modules see them, and the walk that makes a graph of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.errors import ModelError, UnsupportedLayerError, bytes_text, did_you_mean
from tinygen.graph import Graph, GraphBuilder, QParams, Shape, Tensor
from tinygen.tflite import names, schema
from tinygen.tflite.checks import check_scaling, checked_qparams, checked_shape, shifted
from tinygen.tflite.parsing import (
    MAX_TOTAL_BYTES,
    OperatorRecord,
    TensorRecord,
    TfliteFile,
    guard,
)
from tinygen.tflite.writer import FUSED_NAMES

Handler = Callable[["TfliteOperator", GraphBuilder], str]

SYMMETRIC_WEIGHTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}
"""Kinds whose input 1 holds weights, which must have zero point 0 (TRANSPOSE_CONV: input 1, too)."""

INT8_HINT = (
    "convert it with full integer quantization (int8 weights and activations, a representative dataset)"
)


@cache
def handlers() -> Mapping[str, Handler]:
    """BuiltinOperator name -> handler, over all operators."""
    found: dict[str, Handler] = {}
    for op in ops.OPS:
        for kind, handler in op.from_tflite.items():
            assert kind not in found, f"two operators handle {kind}"
            found[kind] = handler
    return MappingProxyType(found)


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
        if record.data is None:
            return self._reading.builder.tensor(self._reading.activation(record, self))
        if record.kind not in ("int8", "int32"):
            raise self.error(
                f"its input {i} holds {record.kind} constants, only int8 and int32 are supported"
            )
        if record.kind == "int8" and record.qparams is None:
            raise self.error(f"its int8 input {i} has no scale")
        self._check_symmetric(i, record)
        data = record.data.astype(record.data.dtype.newbyteorder("="))
        return Tensor(self._constant_name(i), data.shape, record.kind, record.qparams, data)  # type: ignore[arg-type]

    def constant(self, i: int) -> str:
        """Adds constant i with its shape and QParams to the builder (once per tensor of the file)."""
        index = self._input(i).index
        known = self._reading.constants
        if index not in known:
            tensor = self.tensor(i)
            if tensor.data is None:
                raise self.error(f"its input {i} is an activation, a constant is expected")
            known[index] = self._reading.builder.constant(tensor.name, tensor.data, tensor.qparams)
        return known[index]

    def bias(self, i: int, channels: int) -> str:
        """Adds the int32 bias (channels,), zeros where it is absent."""
        x, weights = self.tensor(0 if self.kind != "TRANSPOSE_CONV" else 2), self.tensor(1)
        scales = weights.q.scale if weights.q.axis is not None else weights.q.scale * channels
        qparams = QParams(tuple(max(x.scale * s, 1e-37) for s in scales), (0,) * len(scales), 0)
        if not self.has(i):
            zeros = np.zeros(channels, np.int32)
            return self._reading.builder.constant(f"{self.name}/bias", zeros, qparams)
        tensor = self.tensor(i)
        if tensor.data is None or tensor.dtype != "int32" or tensor.shape != (channels,):
            raise self.error(
                f"its bias is {tensor.dtype} {list(tensor.shape)}, it must be int32 [{channels}]"
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
        return UnsupportedLayerError(self.name, self.kind, why)

    @property
    def _output(self) -> TensorRecord:
        return self._reading.file.tensor(self._record.outputs[0])

    def _input(self, i: int) -> TensorRecord:
        if not self.has(i):
            raise self.error(f"its input {i} is missing (it has {self.inputs})")
        return self._reading.file.tensor(self._record.inputs[i])

    def _constant_name(self, i: int) -> str:
        return f"{self.name}/{'weights' if self.kind in SYMMETRIC_WEIGHTS else f'constant_{i}'}"

    def _check_symmetric(self, i: int, record: TensorRecord) -> None:
        if i == 1 and self.kind in SYMMETRIC_WEIGHTS and record.qparams and any(record.qparams.zero_point):
            raise self.error(f"its weights have the zero point {record.qparams.zero_point[0]}, it must be 0")


class Reading:
    """The state of one file being turned into a graph."""

    def __init__(self, file: TfliteFile) -> None:
        self.file = file
        self.builder = GraphBuilder(names.clean(file.name.rsplit(".", 1)[0]) or "model")
        self.constants: dict[int, str] = {}
        self._known: dict[int, str] = {}
        self._taken: set[str] = set()
        self._left_bytes = MAX_TOTAL_BYTES

    def graph(self) -> Graph:
        """Walk the operators in order; the graph computes exactly what the file does."""
        for index in self.file.inputs:
            self._add_input(self.file.tensor(index))
        for record in self.file.operators:
            self._add_operator(record)
        missing = [self.file.tensor(i).name for i in self.file.outputs if i not in self._known]
        if missing:
            raise ModelError(f"'{self.file.name}': nothing writes the output tensor '{missing[0]}'")
        graph = self.builder.build(tuple(self._known[i] for i in self.file.outputs))
        check_scaling(graph)
        return graph

    # ---- what operators ask for

    def activation(self, record: TensorRecord, operator: TfliteOperator) -> str:
        """Name of an activation in the builder."""
        self.activation_qparams(record, operator)
        if record.index not in self._known:
            raise operator.error(f"it reads tensor '{record.name[:60]}', which nothing has written before")
        return self._known[record.index]

    def activation_qparams(self, record: TensorRecord, operator: TfliteOperator) -> QParams:
        """QParams of an activation, which must be int8 and quantized per tensor."""
        if record.kind != "int8" or record.qparams is None:
            kind = record.kind if record.qparams or record.kind != "int8" else "int8 without a scale"
            raise operator.error(
                f"tensor '{record.name[:60]}' is {kind}: activations must be int8; {INT8_HINT}"
            )
        return checked_qparams(record, operator.error)

    def activation_shape(self, record: TensorRecord, operator: TfliteOperator) -> Shape:
        """Shape of an activation without batch."""
        return checked_shape(record, operator.error)

    # ---- the walk

    def _add_input(self, record: TensorRecord) -> None:
        """A model input: int8, or float32/uint8 when a QUANTIZE follows (see _quantize_at_edge)."""
        if record.data is not None:
            raise ModelError(f"'{self.file.name}': the input tensor '{record.name[:60]}' is a constant")
        if record.kind == "int8":
            self._declare_input(record, record)

    def _declare_input(self, record: TensorRecord, quantized: TensorRecord) -> None:
        name = names.unique(names.input_name(record.name), self._taken)
        qparams = checked_qparams(quantized, self._input_error(name))
        shape = checked_shape(record, self._input_error(name))
        self._known[quantized.index] = self.builder.input(name, shape, qparams)

    def _input_error(self, name: str) -> Callable[[str], ModelError]:
        return lambda why: ModelError(
            f"input '{name}' of '{self.file.name}' is not supported: {why}\n  {INT8_HINT}"
        )

    def _add_operator(self, record: OperatorRecord) -> None:
        self._check_operands(record)
        if self._at_edge(record):
            return
        operator = TfliteOperator(self, record, self._layer_name(record))
        handler = handlers().get(record.kind)
        if handler is None:
            raise operator.error(
                f"tinygen has no int8 operator for it{did_you_mean(record.kind, handlers())}"
            )
        with guard(f"'{self.file.name}': operator '{operator.name}' ({record.kind})"):
            output = handler(operator, self.builder)
            self._check_output(operator, self.builder.tensor(output))
        self._known[record.outputs[0]] = output

    def _check_operands(self, record: OperatorRecord) -> None:
        """One output that nothing wrote before, and constants of bearable size."""
        where = f"'{self.file.name}': operator {record.index} ({record.kind})"
        if len(record.outputs) != 1:
            raise ModelError(f"{where} has {len(record.outputs)} outputs: exactly 1 is supported")
        output = record.outputs[0]
        if output in self._known or output in self.file.inputs or self.file.tensor(output).data is not None:
            raise ModelError(
                f"{where} writes tensor {output}, which is an input, a constant or written before"
            )
        read = [self.file.tensor(i).data for i in record.inputs if i >= 0]
        self._left_bytes -= sum(data.nbytes for data in read if data is not None)
        if self._left_bytes < 0:
            raise ModelError(f"'{self.file.name}' reads more than {bytes_text(MAX_TOTAL_BYTES)} of constants")

    def _layer_name(self, record: OperatorRecord) -> str:
        output = self.file.tensor(record.outputs[0]).name
        if self.file.description == "tinygen":
            return names.unique(names.clean(output) or record.kind.lower(), self._taken)
        weights = (
            self.file.tensor(record.inputs[1]).name
            if len(record.inputs) > 1 and record.inputs[1] >= 0
            else None
        )
        return names.unique(names.layer_name(record.kind, output, weights), self._taken)

    def _check_output(self, operator: TfliteOperator, output: Tensor) -> None:
        """The file's own idea of the output must be ours."""
        if output.shape != operator.output_shape():
            raise operator.error(
                f"its output is {list(operator.output_shape())} in the file, "
                f"its attributes make it {list(output.shape)}"
            )
        if output.q != operator.output_qparams():
            raise operator.error(
                f"its output has {operator.output_qparams()} in the file, the operator makes {output.q}"
            )

    # ---- QUANTIZE and DEQUANTIZE at the edges

    def _at_edge(self, record: OperatorRecord) -> bool:
        """Take in a QUANTIZE behind a float32 or uint8 model input, or a DEQUANTIZE in front of an output.

        The graph's own inputs and outputs are int8. True when the operator was taken in.
        """
        if record.kind not in ("QUANTIZE", "DEQUANTIZE") or len(record.inputs) != 1 or record.inputs[0] < 0:
            return False
        source, target = self.file.tensor(record.inputs[0]), self.file.tensor(record.outputs[0])
        if record.kind == "DEQUANTIZE":
            return self._output_edge(source, target)
        return self._quantize_at_edge(source, target)

    def _quantize_at_edge(self, source: TensorRecord, target: TensorRecord) -> bool:
        if source.index not in self.file.inputs or source.kind not in ("float32", "uint8"):
            return False
        if source.kind == "uint8" and not shifted(target.qparams, source.qparams):
            return False
        self._known_edge(source, target)
        return True

    def _known_edge(self, source: TensorRecord, target: TensorRecord) -> None:
        """Declare the input at its first QUANTIZE; a second one must quantize alike."""
        if source.index not in self._known:
            self._declare_input(source, target)
            self._known[source.index] = self._known[target.index]
        name = self._known[source.index]
        if self.builder.tensor(name).q != target.qparams:
            raise self._input_error(name)("it is quantized in two ways")
        self._known[target.index] = name

    def _output_edge(self, source: TensorRecord, target: TensorRecord) -> bool:
        if target.index not in self.file.outputs or source.index not in self._known:
            return False
        self._known[target.index] = self._known[source.index]
        return True
