"""Exported .tflite files: their format, what is refused, and that LiteRT computes what the reference does."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.support.tflite_files import HIDDEN, INPUT, small_file, small_graph, weighted
from tinygen import ops
from tinygen.errors import ModelError, ToolError
from tinygen.evaluate import reference
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, Graph, GraphBuilder, QParams, Tensor
from tinygen.ops import conv2d, conv2d_transpose, sub
from tinygen.ops.windows import VALID, Padding
from tinygen.oracle import run_litert, run_litert_indexed, run_litert_layers
from tinygen.tflite.export import export_tflite
from tinygen.tflite.schema import MODULES, builtin_names, schema
from tinygen.tflite.writer import ALIGNMENT, TfliteWriter


def inputs_of(graph: Graph, count: int) -> list[Array]:
    """Random int8 samples."""
    rng = np.random.default_rng(7)
    return [rng.integers(-128, 128, (count, *t.shape)).astype(np.int8) for t in graph.input_tensors]


def subtraction() -> Graph:
    """Two inputs and two outputs, in an order of their own: left - right, then right - left."""
    b = GraphBuilder("two")
    left, right = b.input("left", (3,), INPUT), b.input("right", (3,), HIDDEN)
    forth = b.add("sub", "forth", (left, right), sub.Attrs(), INPUT)
    back = b.add("sub", "back", (right, left), sub.Attrs(), HIDDEN)
    return b.build((back, forth))


# ---- the format


def test_identifier_description_and_determinism() -> None:
    data = small_file()
    assert data[4:8] == b"TFL3" and data == small_file()
    model = schema().Model.GetRootAs(data, 0)
    assert (model.Version(), model.Description(), model.SubgraphsLength()) == (3, b"tinygen", 1)


def test_every_buffer_is_aligned() -> None:
    data = small_file()
    model = schema().Model.GetRootAs(data, 0)
    view = np.frombuffer(data, np.uint8)
    checked = 0
    for i in range(model.BuffersLength()):
        if model.Buffers(i).DataLength():
            address = model.Buffers(i).DataAsNumpy().__array_interface__["data"][0]
            assert (address - view.__array_interface__["data"][0]) % ALIGNMENT == 0
            checked += 1
    assert checked == 7


def test_operator_codes_have_the_deprecated_field_and_versions() -> None:
    model = schema().Model.GetRootAs(small_file(), 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    names = [builtin_names()[c.BuiltinCode()] for c in codes]
    assert names == ["CONV_2D", "DEPTHWISE_CONV_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
    assert all(c.DeprecatedBuiltinCode() == c.BuiltinCode() for c in codes)
    assert [c.Version() for c in codes][:2] == [3, 3]


def test_codes_above_127_leave_127_in_the_deprecated_field() -> None:
    graph = small_graph()
    writer = TfliteWriter(graph)
    writer.add("GELU", [writer.activation(graph.input_tensors[0])], 0, "GeluOptions", {})
    code = schema().Model.GetRootAs(writer.finish(), 0).OperatorCodes(0)
    assert (code.BuiltinCode(), code.DeprecatedBuiltinCode()) == (150, 127)


def test_tensors_have_names_shapes_types_and_quantization() -> None:
    graph = small_graph()
    subgraph = schema().Model.GetRootAs(export_tflite(graph), 0).Subgraphs(0)
    tensors = {t.Name().decode(): t for t in map(subgraph.Tensors, range(subgraph.TensorsLength()))}
    assert {*graph.tensors} <= {*tensors}
    assert tensors["image"].ShapeAsNumpy().tolist() == [1, 6, 5, 3]
    types = schema().TensorType
    kinds = {
        "image": types.INT8,
        "first/weights": types.INT8,
        "first/bias": types.INT32,
        "scores": types.INT8,
    }
    assert {name: tensors[name].Type() for name in kinds} == kinds
    axes = {n: tensors[n].Quantization().QuantizedDimension() for n in ("first/weights", "second/weights")}
    assert axes == {"first/weights": 0, "second/weights": 3}
    scale = tensors["second/weights"].Quantization().ScaleAsNumpy()
    assert scale.tolist() == list(graph.tensors["second/weights"].q.scale)
    bias = tensors["first/bias"].Quantization()
    assert bias.ScaleLength() == 4 and not bias.ZeroPointAsNumpy().any()


def test_inputs_and_outputs_keep_their_order_and_have_a_signature() -> None:
    graph = subtraction()
    data = export_tflite(graph)
    xs = inputs_of(graph, 5)
    for got, want in zip(run_litert(data, xs), reference(graph, xs), strict=True):
        np.testing.assert_array_equal(got, want)
    signature = schema().Model.GetRootAs(data, 0).SignatureDefs(0)
    assert [signature.Inputs(i).Name() for i in range(signature.InputsLength())] == [b"left", b"right"]
    assert [signature.Outputs(i).Name() for i in range(signature.OutputsLength())] == [b"back", b"forth"]


# ---- the oracle agrees


@pytest.mark.parametrize("padding", [VALID, Padding(1, 1, 1, 1), Padding(2, 0, 1, 3)])
def test_reference_equals_litert(padding: Padding) -> None:
    graph = small_graph(padding)
    xs = inputs_of(graph, 70)
    seen: dict[str, Array] = {}
    reference(graph, xs, Rounding.SINGLE, seen.__setitem__)
    layers = run_litert_layers(export_tflite(graph), xs)
    assert {*seen} <= {*layers}
    for name, ours in seen.items():
        np.testing.assert_array_equal(layers[name], ours, err_msg=name)


def test_padding_without_a_name_becomes_a_pad() -> None:
    def kinds(padding: Padding) -> int:
        return int(schema().Model.GetRootAs(export_tflite(small_graph(padding)), 0).OperatorCodesLength())

    assert (kinds(Padding(1, 1, 1, 1)), kinds(Padding(2, 0, 1, 3))) == (5, 6)


def test_batched_and_single_runs_agree() -> None:
    graph = small_graph()
    data, xs = export_tflite(graph), inputs_of(graph, 9)
    (together,) = run_litert(data, xs)
    singles = [run_litert(data, [x[i : i + 1] for x in xs])[0] for i in range(9)]
    np.testing.assert_array_equal(together, np.concatenate(singles))
    assert next(iter(run_litert_indexed(data, xs).values())).shape == (9, 6, 5, 3)


def test_operators_fixed_at_batch_1_run_sample_by_sample() -> None:
    b = GraphBuilder("transposed")
    x = b.input("x", (4, 4, 2), INPUT)
    attrs = conv2d_transpose.Attrs((8, 8), (2, 2), (0, 0))
    y = b.add("conv2d_transpose", "up", (x, *weighted(b, "up", (3, 2, 2, 2), 0, 5)), attrs, HIDDEN)
    graph = b.build((y,))
    xs = inputs_of(graph, 6)
    np.testing.assert_array_equal(run_litert(export_tflite(graph), xs)[0], reference(graph, xs)[0])


def test_activations_of_different_rank_are_not_batched() -> None:
    b = GraphBuilder("broadcast")
    big, small = b.input("big", (4, 4, 3), INPUT), b.input("small", (3,), HIDDEN)
    graph = b.build((b.add("sub", "minus", (big, small), sub.Attrs(), INPUT),))
    xs = inputs_of(graph, 4)
    np.testing.assert_array_equal(run_litert(export_tflite(graph), xs)[0], reference(graph, xs)[0])


# ---- refusals


def test_operators_without_an_equal_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = replace(ops.get("dense"), to_tflite=None)
    real_get = ops.get
    monkeypatch.setattr(ops, "get", lambda name: lacking if name == "dense" else real_get(name))
    with pytest.raises(ModelError, match=r"layer 'last' \(dense\) has no equal among TFLite's operators"):
        export_tflite(small_graph())


def test_float_graphs_are_refused() -> None:
    b = GraphBuilder("float")
    x = b.input("x", (4, 4, 2))
    weights = b.constant("w", np.ones((3, 1, 1, 2)))
    y = b.add("conv2d", "c", (x, weights, b.constant("b", np.zeros(3))), conv2d.Attrs())
    with pytest.raises(ModelError, match="'x' is float32: only quantized graphs"):
        export_tflite(b.build((y,)))


def test_litert_refusing_a_file_is_a_model_error() -> None:
    with pytest.raises(ModelError, match=r"LiteRT refuses the \.tflite file"):
        run_litert(b"\x1c\0\0\0TFL3" + bytes(100), [])


def test_litert_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_file()
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ToolError, match="pip install ai-edge-litert"):
        run_litert(data, [])


def test_schema_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorflow", *MODULES):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ToolError, match="pip install ai-edge-litert"):
        schema.__wrapped__()


# ---- the writer


def test_constants_take_another_shape_and_axis() -> None:
    writer = TfliteWriter(small_graph())
    data = np.arange(6, dtype=np.int8).reshape(2, 3)
    tensor = Tensor("k", (2, 3), "int8", QParams((0.5, 0.25, 1.0), (0, 0, 0), 1), data)
    assert writer.constant(tensor) == writer.constant(tensor)
    other = writer.constant(tensor, shape=(1, 2, 1, 3), axis=3)
    assert other != writer.constant(tensor)
    subgraph = schema().Model.GetRootAs(writer.finish(), 0).Subgraphs(0)
    written = subgraph.Tensors(other)
    assert written.ShapeAsNumpy().tolist() == [1, 2, 1, 3]
    assert written.Quantization().QuantizedDimension() == 3


def test_nothing_heavy_is_imported_with_the_modules() -> None:
    heavy = ("tensorflow", "keras", "ai_edge_litert", "flatbuffers")
    code = (
        "import sys, tinygen.tflite.export, tinygen.oracle, tinygen.frontend.tflite\n"
        f"print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_clamp_far_beyond_int8_is_left_out() -> None:
    """6 / 1e-9 is no int32: LiteRT would refuse the file. The clamp at 6 never binds there, the one at 0 does."""
    b = GraphBuilder("tiny")
    x = b.input("x", (4,), QParams.per_tensor(1e-9, 3))
    out = b.add("sub", "d", (x, x), sub.Attrs("relu6"), QParams.per_tensor(1e-9, -100))
    graph = b.build((out,))
    samples = inputs_of(graph, 3)
    (got,) = run_litert(export_tflite(graph), samples)
    np.testing.assert_array_equal(got, reference(graph, samples, Rounding.SINGLE)[0])


def test_scales_with_which_tflite_overflows_are_refused() -> None:
    """Values that cancel (x - x) or explode: the generated C saturates, TFLite's kernels are undefined."""
    fine, coarse = QParams.per_tensor(1e-9, 0), QParams.per_tensor(1e4, 0)
    for op, x, y in (("sub", INPUT, fine), ("add", INPUT, fine), ("mul", coarse, INPUT)):
        b = GraphBuilder("overflow")
        left = b.input("left", (3,), x)
        graph = b.build((b.add(op, "result", (left, left), sub.Attrs(), y),))
        with pytest.raises(
            ModelError, match=rf"layer 'result' \({op}\) cannot be exported: .* would overflow"
        ):
            export_tflite(graph)
