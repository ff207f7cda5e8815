"""Reading int8 .tflite files: names, quantization, edges, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_files import HIDDEN, INPUT, small_file, small_graph, tampered, tensor_named
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.evaluate import reference
from tinygen.fixedpoint import Rounding
from tinygen.frontend.tflite import load_tflite, read_tflite
from tinygen.graph import Graph, QParams
from tinygen.oracle import run_litert
from tinygen.spec import check
from tinygen.tflite.names import clean, input_name, layer_name
from tinygen.tflite.schema import schema


def test_a_file_of_our_own_comes_back_as_it_was(tmp_path: Path) -> None:
    graph = small_graph()
    path = tmp_path / "small.tflite"
    path.write_bytes(small_file())
    again = load_tflite(path)
    assert again == graph
    for name, tensor in graph.tensors.items():
        if tensor.is_constant:
            np.testing.assert_array_equal(again.tensors[name].data, tensor.data)
    check(again, quantized=True)


# ---- names


@pytest.mark.parametrize(
    ("kind", "output", "weights", "name"),
    [
        ("CONV_2D", "m/act/Relu;m/bn/FusedBatchNormV3;m/conv2d_1/Conv2D", None, "conv2d_1"),
        ("CONV_2D", "m/act/Relu;m/bn/FusedBatchNormV3", "m/conv2d/Conv2D", "conv2d"),
        ("DEPTHWISE_CONV_2D", "m/act/Relu6", "m/bn/FusedBatchNormV3;m/dw_3/depthwise", "dw_3"),
        ("FULLY_CONNECTED", "StatefulPartitionedCall:0", "m/dense_2/MatMul", "dense_2"),
        ("FULLY_CONNECTED", "m/logits/BiasAdd", "m/logits/Tensordot/MatMul", "logits"),
        ("SOFTMAX", "Identity", None, "softmax"),
        ("SOFTMAX", "StatefulPartitionedCall_1:0", None, "softmax"),
        ("SOFTMAX", "Identity_int8", None, "softmax"),
        ("ADD", "m/activation_2/Relu;m/add/add", None, "add"),
        ("ADD", "m/activation_2/Relu;m/add_1/AddV2", None, "add_1"),
        ("RESHAPE", "model/flatten/Reshape", None, "flatten"),
        ("CONV_2D", "", None, "conv_2d"),
        ("CONV_2D", "evil*/ \n#include <x>/conv one", None, "conv_one"),
        ("CONV_2D", "x" * 500, None, "x" * 48),
    ],
)
def test_layer_names(kind: str, output: str, weights: str | None, name: str) -> None:
    assert layer_name(kind, output, weights) == name


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        ("serving_default_input_1:0", "input_1"),
        ("input_1_int8", "input_1"),
        ("image", "image"),
        ("///", "input"),
    ],
)
def test_input_names(tensor: str, name: str) -> None:
    assert input_name(tensor) == name


def test_names_hold_nothing_that_could_end_a_comment() -> None:
    assert clean('a*/ "b"\n\\c') == "a_/_b_c"


def test_equal_names_are_numbered() -> None:
    def change(model: Any) -> None:
        model.description = b"another converter"
        for tensor in model.subgraphs[0].tensors:
            tensor.name = b"same"

    names = [n.name for n in read_tflite(tampered(small_file(), change)).nodes]
    assert names == ["same_1", "same_2", "same_3", "same_4", "same_5"]


# ---- the edges of the model


def with_edges(kind: str, input_q: QParams | None, input_type: str, output_type: str) -> bytes:
    """small_file with a QUANTIZE in front and a DEQUANTIZE (or QUANTIZE) behind, as converters write it."""
    s = schema()

    def tensor(model: Any, name: bytes, like: Any, dtype: str, q: QParams | None) -> int:
        quantization = q and s.QuantizationParametersT(
            scale=np.array(q.scale, np.float32), zeroPoint=np.array(q.zero_point, np.int64)
        )
        made = s.TensorT(
            name=name,
            shape=like.shape,
            type=getattr(s.TensorType, dtype),
            buffer=0,
            quantization=quantization,
        )
        model.subgraphs[0].tensors.append(made)
        return len(model.subgraphs[0].tensors) - 1

    def operator(model: Any, name: str, source: int, target: int) -> Any:
        code = getattr(s.BuiltinOperator, name)
        model.operatorCodes.append(s.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=2))
        index = len(model.operatorCodes) - 1
        edges = (np.array([i], np.int32) for i in (source, target))
        inputs, outputs = edges
        return s.OperatorT(opcodeIndex=index, inputs=inputs, outputs=outputs)

    def change(model: Any) -> None:
        g = model.subgraphs[0]
        first, last = int(g.inputs[0]), int(g.outputs[0])
        outside = tensor(model, b"serving_default_x:0", g.tensors[first], input_type, input_q)
        result = tensor(model, b"y", g.tensors[last], output_type, None)
        g.operators.insert(0, operator(model, "QUANTIZE", outside, first))
        g.operators.append(operator(model, kind, last, result))
        g.inputs, g.outputs = np.array([outside], np.int32), np.array([result], np.int32)
        model.signatureDefs = []

    return tampered(small_file(), change)


def same_but_for_the_input_name(graph: Graph) -> None:
    assert [n.name for n in graph.nodes] == [n.name for n in small_graph().nodes]
    (x,) = graph.input_tensors
    assert (x.name, x.shape, x.q) == ("x", (6, 5, 3), INPUT)
    xs = [np.random.default_rng(0).integers(-128, 128, (5, 6, 5, 3)).astype(np.int8)]
    np.testing.assert_array_equal(reference(graph, xs)[0], reference(small_graph(), xs)[0])


def test_float_edges_are_taken_off() -> None:
    same_but_for_the_input_name(read_tflite(with_edges("DEQUANTIZE", None, "FLOAT32", "FLOAT32")))


def test_a_uint8_input_becomes_int8() -> None:
    unsigned = QParams(INPUT.scale, (INPUT.zero_point[0] + 128,))
    same_but_for_the_input_name(read_tflite(with_edges("DEQUANTIZE", unsigned, "UINT8", "FLOAT32")))


def test_a_uint8_input_of_another_scale_is_refused() -> None:
    data = with_edges("DEQUANTIZE", QParams.per_tensor(0.5, 128), "UINT8", "FLOAT32")
    with pytest.raises(ModelError, match="uint8"):
        read_tflite(data)


def test_an_unsupported_output_type_is_refused() -> None:
    with pytest.raises(ModelError, match="int16"):
        read_tflite(with_edges("QUANTIZE", None, "FLOAT32", "INT16"))


# ---- variations that LiteRT accepts


def test_an_absent_bias_is_zero() -> None:
    def drop(operator: int) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            model.subgraphs[0].operators[operator].inputs[2] = -1

        return change

    for operator, layer in enumerate(("first", "second")):
        graph = read_tflite(tampered(small_file(), drop(operator)))
        bias = next(b for b in graph.bound() if b.name == layer).inputs[2]
        assert bias.data is not None and bias.dtype == "int32" and not bias.data.any()
    data = tampered(small_file(), drop(3))  # LiteRT itself accepts this for dense layers only
    graph = read_tflite(data)
    xs = [np.random.default_rng(0).integers(-128, 128, (5, 6, 5, 3)).astype(np.int8)]
    np.testing.assert_array_equal(run_litert(data, xs)[0], reference(graph, xs, Rounding.SINGLE)[0])


def test_shared_weights_are_read_once() -> None:
    """Two convolutions with one weights tensor: the graph holds one constant."""

    def change(model: Any) -> None:
        g = model.subgraphs[0]
        second = g.operators[0]
        copy = schema().OperatorT(
            opcodeIndex=second.opcodeIndex,
            inputs=second.inputs.copy(),
            builtinOptionsType=second.builtinOptionsType,
            builtinOptions=second.builtinOptions,
        )
        name = tensor_named(model, "first")
        g.tensors.append(
            schema().TensorT(
                name=b"twin", shape=name.shape, type=name.type, buffer=0, quantization=name.quantization
            )
        )
        copy.outputs = np.array([len(g.tensors) - 1], np.int32)
        g.operators.append(copy)
        g.outputs = np.array([*g.outputs, len(g.tensors) - 1], np.int32)
        model.signatureDefs = []

    graph = read_tflite(tampered(small_file(), change))
    twin = graph.producers["twin"]
    assert twin.inputs[1] == "first/weights" and len(graph.outputs) == 2


# ---- refusals: each names the tensor or the layer and the value


def refuse(change: Callable[[Any], object], match: str, error: type[ModelError] = ModelError) -> None:
    with pytest.raises(error, match=match) as raised:
        read_tflite(tampered(small_file(), change), "small.tflite")
    assert 1 <= len(str(raised.value).splitlines()) <= 5


def set_type(name: str, kind: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor_named(model, name).type = getattr(schema().TensorType, kind)

    return change


def set_field(name: str, **fields: Any) -> Callable[[Any], None]:
    """Change fields of a tensor; scale, zeroPoint, quantizedDimension are those of its quantization."""

    def change(model: Any) -> None:
        tensor = tensor_named(model, name)
        for field, value in fields.items():
            holder = tensor if hasattr(tensor, field) else tensor.quantization
            setattr(holder, field, value)

    return change


def set_option(operator: int, **fields: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for field, value in fields.items():
            setattr(model.subgraphs[0].operators[operator].builtinOptions, field, value)

    return change


@pytest.mark.parametrize("kind", ["FLOAT32", "INT16", "UINT8"])
def test_activations_that_are_not_int8(kind: str) -> None:
    refuse(set_type("first", kind), rf"'first' .*{kind.lower()}", UnsupportedLayerError)


@pytest.mark.parametrize("kind", ["FLOAT32", "UINT8"])
def test_inputs_that_are_not_int8(kind: str) -> None:
    refuse(set_type("image", kind), kind.lower())


def scales(*values: float) -> Any:
    return np.array(values, np.float32)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -0.5])
def test_bad_scales(bad: float) -> None:
    refuse(set_field("second", scale=scales(bad)), r"tensor 'second' has the scale")
    refuse(set_field("first/weights", scale=scales(0.1, bad, 0.1, 0.1)), r"'first/weights' has the scale")


CASES: dict[str, tuple[Callable[[Any], object], str]] = {
    "zero point": (set_field("second", zeroPoint=np.array([128])), r"zero point in -128\.\.127"),
    "two scales": (set_field("second", scale=scales(1, 2)), r"'second' has 2 scales for dimension 0"),
    "no scale": (set_field("second", quantization=None), "without a scale"),
    "scale count": (set_field("first/weights", scale=scales(1, 2, 3)), "has 3 scales"),
    "zero point count": (set_field("first/weights", zeroPoint=np.zeros(2, np.int64)), "2 zero points"),
    "channel zero points": (set_field("first/weights", zeroPoint=np.arange(4)), "must all be 0"),
    "weights axis": (set_field("first/weights", quantizedDimension=-1), "dimension -1"),
    "batch 2": (set_field("image", shape=np.array([2, 6, 5, 3], np.int32)), r"\[2, 6, 5, 3\].*batch 1"),
    "dynamic": (
        set_field("image", shapeSignature=np.array([-1, -1, 5, 3], np.int32)),
        "dynamic shape: export the model with fixed sizes",
    ),
    "no batch": (set_field("image", shape=np.array([90], np.int32)), "batch 1"),
    "empty": (set_field("image", shape=np.array([1, 0, 5, 3], np.int32)), r"\[1, 0, 5, 3\]"),
    "negative": (set_field("image", shape=np.array([1, -6, 5, 3], np.int32)), "no dimension may be negative"),
    "huge": (set_field("image", shape=np.array([1, 65536, 65536, 3], np.int32)), "elements"),
    "rank": (set_field("image", shape=np.ones(9, np.int32)), "9 dimensions: at most 6"),
    "buffer": (set_field("first/weights", shape=np.array([4, 3, 3, 4], np.int32)), "buffer of 108 bytes"),
    "buffer index": (set_field("first", buffer=500), "names buffer 500"),
    "sparse": (set_field("first/weights", sparsity=schema().SparsityParametersT()), "is sparse"),
    "bias type": (set_field("first/bias", type=9, shape=np.array([16], np.int32)), "16 bytes|scales|bias"),
    "bias float": (set_field("first/bias", type=0), "float32 constants"),
    "stride 0": (set_option(0, strideH=0), "layer 'first'.*strideH is 0"),
    "dilation": (set_option(0, dilationWFactor=-3), "dilationWFactor is -3"),
    "padding": (set_option(0, padding=7), "padding has the unknown code 7"),
    "activation": (set_option(0, fusedActivationFunction=4), "fused activation TANH"),
    "activation code": (set_option(0, fusedActivationFunction=99), "fused activation code 99"),
    "shape": (set_option(0, padding=1), r"'first'.*\[6, 5, 4\] in the file.*\[4, 3, 4\]"),
    "softmax scale": (set_field("scores", scale=scales(0.1)), "'scores'.*1/256"),
    "reshape scale": (set_field("flat", scale=scales(0.1)), "'flat'"),
}


@pytest.mark.parametrize("case", CASES)
def test_refusals(case: str) -> None:
    refuse(*CASES[case])


def edit(statement: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda model: statement(model.subgraphs[0])


STRUCTURE: dict[str, tuple[Callable[[Any], object], str]] = {
    "subgraphs": (lambda m: m.subgraphs.append(m.subgraphs[0]), "2 subgraphs: exactly 1"),
    "no subgraph": (lambda m: m.subgraphs.clear(), "0 subgraphs"),
    "operands": (edit(lambda g: g.operators[0].inputs.__setitem__(0, 99)), r"\(CONV_2D\) name tensor 99 of"),
    "negative": (edit(lambda g: g.operators[0].outputs.__setitem__(0, -1)), "name tensor -1"),
    "opcode": (edit(lambda g: setattr(g.operators[0], "opcodeIndex", 77)), "code 77 of 5"),
    "order": (edit(lambda g: g.operators.reverse()), "which nothing has written before"),
    "twice": (edit(lambda g: g.operators.append(g.operators[0])), "written before"),
    "no outputs": (edit(lambda g: setattr(g, "outputs", None)), "has no outputs"),
    "unwritten": (edit(lambda g: g.operators.pop()), "nothing writes the output tensor 'scores'"),
    "same input": (
        edit(lambda g: setattr(g, "inputs", np.array([0, 0], np.int32))),
        "twice among its inputs",
    ),
    "two outputs": (
        edit(lambda g: setattr(g.operators[0], "outputs", np.array([3, 6], np.int32))),
        "has 2 outputs",
    ),
    "constant input": (edit(lambda g: setattr(g, "inputs", np.array([1], np.int32))), "is a constant"),
    "no options": (edit(lambda g: setattr(g.operators[0], "builtinOptions", None)), "'first'"),
    "missing input": (edit(lambda g: setattr(g.operators[0], "inputs", None)), "input 0 is missing"),
    "cycle": (
        edit(lambda g: g.operators[0].inputs.__setitem__(0, g.operators[1].outputs[0])),
        "nothing has written",
    ),
    "constant activation": (edit(lambda g: g.operators[0].inputs.__setitem__(0, 1)), "is a constant"),
    "weights from outside": (edit(lambda g: g.operators[0].inputs.__setitem__(1, 0)), "'first'"),
}


@pytest.mark.parametrize("case", STRUCTURE)
def test_broken_structure(case: str) -> None:
    refuse(*STRUCTURE[case])


def code(name: str, custom: bytes | None = None) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        number = getattr(schema().BuiltinOperator, name)
        model.operatorCodes[0].builtinCode = number
        model.operatorCodes[0].deprecatedBuiltinCode = min(number, 127)
        model.operatorCodes[0].customCode = custom

    return change


@pytest.mark.parametrize(
    ("change", "kind"),
    [(code("UNIDIRECTIONAL_SEQUENCE_LSTM"), "UNIDIRECTIONAL_SEQUENCE_LSTM"), (code("WHILE"), "WHILE"),
     (code("CUSTOM", b"TFLite_Detection_PostProcess"), "CUSTOM TFLite_Detection_PostProcess"),
     (code("STABLEHLO_ADD"), "STABLEHLO_ADD")],
)  # fmt: skip
def test_unsupported_operators(change: Callable[[Any], None], kind: str) -> None:
    refuse(change, rf"'first' \({kind}\) is not supported", UnsupportedLayerError)


# ---- not a file


def test_not_a_tflite_file(tmp_path: Path) -> None:
    for name, data in {
        "empty": b"",
        "text": b"hello, this is a text file",
        "zip": b"PK\3\4" + bytes(50),
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ModelError, match=f"'{name}' is not a .tflite file"):
            load_tflite(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        load_tflite(tmp_path / "absent.tflite")
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        load_tflite(tmp_path)


def test_too_large_a_file_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "large.tflite"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ModelError, match="67,108,865 bytes: at most 67,108,864 bytes"):
        load_tflite(path)


def test_hidden_is_the_scale_of_the_layers() -> None:
    assert read_tflite(small_file()).tensors["first"].q == HIDDEN
