"""The walk over a .tflite file's operators that makes a graph of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

from tinygen import ops
from tinygen.errors import ModelError, bytes_text, did_you_mean
from tinygen.graph import Graph, GraphBuilder, QParams, Shape, Tensor
from tinygen.tflite import names
from tinygen.tflite.checks import check_scaling, checked_qparams, checked_shape, shifted
from tinygen.tflite.parsing import MAX_TOTAL_BYTES, OperatorRecord, TensorRecord, TfliteFile
from tinygen.tflite.reader import TfliteOperator

Handler = Callable[[TfliteOperator, GraphBuilder], str]

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


class Reading:
    """The state of one file being turned into a graph."""

    def __init__(self, file: TfliteFile) -> None:
        self.file = file
        self.builder = GraphBuilder(names.clean(file.name.rsplit(".", 1)[0]) or "model")
        self.constants: dict[int, str] = {}
        self._known: dict[int, str] = {}
        self._shapes: set[int] = set()
        self._taken = names.Taken()
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
        for tensor in graph.output_tensors:
            if tensor.dtype == "int16":
                raise ModelError(
                    f"output '{tensor.name}' of '{self.file.name}' is int16: only inner layers may be\n"
                    f"  {INT8_HINT}"
                )
        return graph

    # ---- what operators ask for

    def activation(self, record: TensorRecord, operator: TfliteOperator) -> str:
        """Name of an activation in the builder."""
        self.activation_qparams(record, operator)
        if record.index not in self._known:
            raise operator.error(f"it reads tensor '{record.name[:60]}', which nothing has written before")
        return self._known[record.index]

    def activation_qparams(self, record: TensorRecord, operator: TfliteOperator) -> QParams:
        """QParams of an activation, which must be int8 or int16 and quantized per tensor."""
        known = record.kind in ("int8", "int16")
        if not known or record.qparams is None:
            kind = f"{record.kind} without a scale" if known else record.kind
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
        if record.kind == "int16":
            name = self._taken.unique(names.input_name(record.name))
            raise self._input_error(name)(
                "it is int16, only int8 inputs and outputs are; inner layers may be int16"
            )
        if record.kind == "int8":
            self._declare_input(record, record)

    def _declare_input(self, record: TensorRecord, quantized: TensorRecord) -> None:
        name = self._taken.unique(names.input_name(record.name))
        qparams = checked_qparams(quantized, self._input_error(name))
        shape = checked_shape(record, self._input_error(name))
        self._known[quantized.index] = self.builder.input(name, shape, qparams)

    def _input_error(self, name: str) -> Callable[[str], ModelError]:
        return lambda why: ModelError(
            f"input '{name}' of '{self.file.name}' is not supported: {why}\n  {INT8_HINT}"
        )

    def _add_operator(self, record: OperatorRecord) -> None:
        self._check_operands(record)
        if self._is_shape_arithmetic(record):
            self._shapes.add(record.outputs[0])
            return
        if self._at_edge(record):
            return
        operator = TfliteOperator(self, record, self._layer_name(record))
        handler = handlers().get(record.kind)
        if handler is None:
            raise operator.error(_why_unknown(record.kind))
        output = handler(operator, self.builder)
        self._check_output(operator, self.builder.tensor(output))
        self._known[record.outputs[0]] = output

    def _check_operands(self, record: OperatorRecord) -> None:
        """One output that nothing wrote before, and constants of bearable size."""
        where = f"'{self.file.name}': operator {record.index} ({record.kind})"
        if len(record.outputs) != 1:
            raise ModelError(f"{where} has {len(record.outputs)} outputs: exactly 1 is supported")
        output = record.outputs[0]
        if (
            output in self._known
            or output in self._shapes
            or output in self.file.inputs
            or self.file.tensor(output).data is not None
        ):
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
            return self._taken.unique(names.clean(output) or record.kind.lower())
        weights = (
            self.file.tensor(record.inputs[1]).name
            if len(record.inputs) > 1 and record.inputs[1] >= 0
            else None
        )
        return self._taken.unique(names.layer_name(record.kind, output, weights), record.kind)

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

    def _is_shape_arithmetic(self, record: OperatorRecord) -> bool:
        """True for SHAPE and for what is computed from shapes and integer constants only.

        Converters leave it in front of RESHAPE and TRANSPOSE_CONV for the sake of the batch. Nothing is lost:
        all shapes are in the file.
        """
        if self.file.tensor(record.outputs[0]).kind not in ("int32", "int64"):
            return False
        if record.kind == "SHAPE":
            return True
        read = [i for i in record.inputs if i >= 0]
        return all(i in self._shapes or self.file.tensor(i).data is not None for i in read)

    # ---- QUANTIZE and DEQUANTIZE at the edges

    def _at_edge(self, record: OperatorRecord) -> bool:
        """Take in the QUANTIZE behind a float32 or uint8 model input and what makes such an output.

        The graph's own inputs and outputs are int8. True when the operator was taken in.
        """
        if record.kind not in ("QUANTIZE", "DEQUANTIZE") or len(record.inputs) != 1 or record.inputs[0] < 0:
            return False
        source, target = self.file.tensor(record.inputs[0]), self.file.tensor(record.outputs[0])
        if record.kind == "DEQUANTIZE" or target.kind == "uint8":
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
        if target.kind == "uint8" and not shifted(source.qparams, target.qparams):
            return False
        self._known[target.index] = self._known[source.index]
        return True


def _why_unknown(kind: str) -> str:
    if kind == "DEQUANTIZE":
        return (
            "the layer behind it runs in float32, for want of an int8 kernel; compile the Keras model instead"
        )
    return f"tinygen has no int8 operator for it{did_you_mean(kind, handlers())}"
