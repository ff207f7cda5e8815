"""Reading int8 .tflite files: names, quantization, edges, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_files import INPUT, small_file, small_graph, tampered, tensor_named
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.evaluate import reference
from tinygen.fixedpoint import Rounding
from tinygen.frontend.tflite import load_tflite, read_tflite
from tinygen.graph import Graph, QParams, Tensor
from tinygen.oracle import run_litert
from tinygen.spec import check
from tinygen.tflite.names import clean, input_name, layer_name
from tinygen.tflite.schema import schema
from tinygen.tflite.writer import TfliteWriter


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
        ("CONV_2D", "f_1/conv2d_13_1/convolution1", "f_1/conv2d_13_1/convolution", "conv2d_13_1"),
        ("CONV_2D", "MobilenetV1/MobilenetV1/Conv2d_0/Relu6", None, "Conv2d_0"),
        ("CONV_2D", "StatefulPartitionedCall_1:0", "arith.constant", "conv_2d"),
        ("MUL", "f_1/batch_normalization_1_1/batchnorm/mul_1", None, "batch_normalization_1_1"),
        ("TRANSPOSE_CONV", "f/conv2d_transpose_1/conv_transpose1", None, "conv2d_transpose_1"),
        ("TRANSPOSE_CONV", "m/conv2d_transpose/conv2d_transpose", None, "conv2d_transpose"),
        ("ADD", "add/add", None, "add"),
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
    kinds = ["conv_2d", "depthwise_conv_2d", "reshape", "fully_connected", "softmax"]
    assert names == [f"same_{kind}" for kind in kinds]


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


def test_tile_repeats_an_axis_of_length_1() -> None:
    """Compared with numpy: LiteRT's reference resolver has no int8 TILE."""

    def tile(shape: tuple[int, ...], multiples: tuple[int, ...]) -> Graph:
        repeated = tuple(n * m for n, m in zip(shape, multiples[1:], strict=True))
        tensors = {n: Tensor(n, s, "int8", INPUT) for n, s in (("x", shape), ("y", repeated))}
        graph = Graph("tile", (), tensors, ("x",), ("y",))
        writer = TfliteWriter(graph)
        edges = [writer.activation(t) for t in tensors.values()]
        counts = writer.raw("multiples", np.array(multiples, np.int32))
        writer.add("TILE", [edges[0], counts], edges[1], "TileOptions", {})
        return read_tflite(writer.finish())

    x = np.random.default_rng(0).integers(-128, 128, (3, 5, 1, 4)).astype(np.int8)
    (y,) = reference(tile((5, 1, 4), (1, 1, 3, 1)), [x])
    np.testing.assert_array_equal(y, np.tile(x, (1, 1, 3, 1)))
    for multiples in ((1, 2, 1, 1), (1, 1, 2, 2), (1, 1, 1, 1)):
        with pytest.raises(UnsupportedLayerError, match="one axis of length 1"):
            tile((5, 1, 4), multiples)


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
