"""Damaged and hostile .tflite files: each costs one clear ModelError, little time and little memory."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_files import small_file, tampered, tensor_named
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.evaluate import reference
from tinygen.frontend.tflite import load_tflite, read_tflite
from tinygen.ops.activation import attrs_of
from tinygen.spec import check
from tinygen.tflite import walk
from tinygen.tflite.guard import guard
from tinygen.tflite.schema import schema

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
    "weights axis of the input": (
        set_field(
            "first/weights", quantizedDimension=3, scale=scales(1, 2, 3), zeroPoint=np.zeros(3, np.int64)
        ),
        "'first'.*scales along axis 3, it must be axis 0",
    ),
    "weights axis": (set_field("first/weights", quantizedDimension=-1), "dimension -1"),
    "batch 2": (set_field("image", shape=np.array([2, 6, 5, 3], np.int32)), r"\[2, 6, 5, 3\].*batch 1"),
    "dynamic": (
        set_field("image", shapeSignature=np.array([-1, -1, 5, 3], np.int32)),
        r"dynamic shape: export the model with fixed sizes.*batch_size=1",
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


# ---- options and operands of another operator; our own bugs


def exchange_options(model: Any) -> None:
    """The convolution gets the options of the RESHAPE."""
    first, flat = model.subgraphs[0].operators[0], model.subgraphs[0].operators[2]
    first.builtinOptionsType, first.builtinOptions = flat.builtinOptionsType, flat.builtinOptions


OPERANDS: dict[str, tuple[Callable[[Any], object], str]] = {
    "options": (exchange_options, r"'first' .*those of another operator \(ReshapeOptions\)"),
    "weights are an activation": (
        edit(lambda g: g.operators[1].inputs.__setitem__(1, g.operators[1].inputs[0])),
        "'second' .*its weights are not in the file",
    ),
    "dense weights of a convolution": (
        edit(lambda g: g.operators[3].inputs.__setitem__(1, g.operators[0].inputs[1])),
        r"'last' .*its weights are of shape \[4, 3, 3, 3\]",
    ),
    "vector into a convolution": (
        set_field("image", shape=np.array([1, 90], np.int32)),
        "'first' .*its input has 2 dimensions, 4 are allowed",
    ),
}


@pytest.mark.parametrize("case", OPERANDS)
def test_options_and_operands_of_another_operator(case: str) -> None:
    refuse(*OPERANDS[case], UnsupportedLayerError)


def test_concatenation_of_nothing() -> None:
    def change(model: Any) -> None:
        code("CONCATENATION")(model)
        model.subgraphs[0].operators[0].inputs = None

    refuse(change, "its input 0 is missing", UnsupportedLayerError)


def test_output_of_a_transposed_convolution_is_an_image() -> None:
    def change(model: Any) -> None:
        code("TRANSPOSE_CONV")(model)
        options = schema().TransposeConvOptionsT()
        options.strideH = options.strideW = 1
        operator = model.subgraphs[0].operators[0]
        operator.builtinOptions = options
        operator.builtinOptionsType = schema().BuiltinOptions.TransposeConvOptions
        image, weights = operator.inputs[:2]
        operator.inputs = np.array([weights, weights, image], np.int32)
        tensor_named(model, "first").shape = np.array([1, 120], np.int32)

    refuse(change, r"its output is \[120\], it must be \(height, width, channels\)", UnsupportedLayerError)


@pytest.mark.parametrize("bug", [AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError])
def test_a_bug_of_ours_is_not_called_damage(bug: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(op: Any, builder: Any) -> str:
        raise bug("ours")

    monkeypatch.setattr(walk, "handlers", lambda: {"CONV_2D": handler})
    with pytest.raises(bug, match="ours"):
        read_tflite(small_file())


def test_only_what_the_parser_raises_is_damage() -> None:
    with pytest.raises(AssertionError), guard("'x'"):
        attrs_of("relu", nonsense=1.0)
    with pytest.raises(ModelError, match="'x' is damaged: a part of it points outside"), guard("'x'"):
        schema().Model.GetRootAs(b"1234567890", 2**31).Version()


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


# ---- random damage


def damaged(data: bytes, seed: int) -> bytes:
    """The file truncated, with bits flipped, with one 32-bit word replaced, or with random bytes in it."""
    rng = random.Random(seed)
    where = rng.randrange(len(data))
    copy = bytearray(data)
    kind = seed % 4
    if kind == 0:
        return bytes(copy[:where])
    if kind == 1:
        for _ in range(rng.choice((1, 8))):
            copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        word = rng.choice((0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, where, 0x7FC00000, rng.getrandbits(32)))
        copy[where & ~3 : (where & ~3) + 4] = word.to_bytes(4, "little")
    else:
        copy[where : where + 20] = rng.randbytes(20)
    return bytes(copy[: len(data)])


def judge(data: bytes) -> bool:
    """True when the file is refused as it should be; otherwise the graph it gives must be sound."""
    try:
        graph = read_tflite(data, "damaged.tflite")
    except ModelError as error:
        message = str(error)
        assert 1 <= len(message.splitlines()) <= 5 and len(message) < 600, message
        return True
    check(graph, quantized=True)
    if sum(t.elements for t in graph.tensors.values()) < 10**6:
        reference(graph, [np.zeros((1, *t.shape), np.int8) for t in graph.input_tensors])
    return False


def test_random_damage() -> None:
    """Most damage hits weights (a valid file) or is refused; none raises anything else or takes long."""
    data = small_file()
    started = time.monotonic()
    refused = sum(judge(damaged(data, seed)) for seed in range(800))
    assert 300 < refused < 790
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_random_damage_at_length() -> None:
    data = small_file()
    assert sum(judge(damaged(data, seed)) for seed in range(1000, 21000)) > 5000


@pytest.mark.shared
def test_damage_to_a_published_file(shared_data: Path) -> None:
    data = (shared_data / "models" / "kws_ds_cnn_int8.tflite").read_bytes()
    for seed in range(40):
        judge(damaged(data, seed))
    for size in (0, 1, 7, 8, 15, 16, 100, len(data) // 2, len(data) - 8):
        assert judge(data[:size])


def test_every_truncation_is_refused() -> None:
    data = small_file()
    for size in range(0, len(data) - 8, 7):
        assert judge(data[:size]), size


# ---- files that ask for much


def quickly(data: bytes, match: str) -> None:
    """Refused with that message, within 10 s and 1 GB more than before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(ModelError, match=match):
        read_tflite(data, "greedy.tflite")
    assert time.monotonic() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


def test_a_cyclic_root_is_refused() -> None:
    for offset in (0, 4, 8, 2**31, 2**32 - 4):
        data = offset.to_bytes(4, "little") + small_file()[4:]
        assert judge(data)


def test_many_operators_are_refused() -> None:
    def change(model: Any) -> None:
        model.subgraphs[0].operators = [model.subgraphs[0].operators[2]] * 10_001

    quickly(tampered(small_file(), change), "10,001 operators: at most 10,000")


def chain(length: int, name: Callable[[int], bytes]) -> bytes:
    """small_file with `length` RESHAPEs (flat to flat) behind operator 2, tensors named by `name`."""

    def change(model: Any) -> None:
        s, g = schema(), model.subgraphs[0]
        flat = tensor_named(model, "flat")
        previous = int(g.operators[2].outputs[0])
        like = g.operators[2]
        model.description = b"another"
        for i in range(length):
            fields = {"shape": flat.shape, "type": flat.type, "buffer": 0, "quantization": flat.quantization}
            g.tensors.append(s.TensorT(name=name(i), **fields))
            inputs = np.array([previous, like.inputs[1]], np.int32)
            previous = len(g.tensors) - 1
            outputs = np.array([previous], np.int32)
            g.operators.append(s.OperatorT(opcodeIndex=like.opcodeIndex, inputs=inputs, outputs=outputs))

    return tampered(small_file(), change)


def test_many_equal_names_are_numbered_in_time() -> None:
    started = time.monotonic()
    graph = read_tflite(chain(3000, lambda i: b"same"))
    assert len({n.name for n in graph.nodes}) == 3005
    assert time.monotonic() - started < 10


def test_long_names_are_cut() -> None:
    graph = read_tflite(chain(3, lambda i: b"n" * 100_000))
    assert max(len(n.name) for n in graph.nodes) <= 60


def test_constants_shared_by_many_operators_are_bounded() -> None:
    """One buffer of 40 MB read by 10 operators: 400 MB of constants in a file of 40 MB."""

    def change(model: Any) -> None:
        s, g = schema(), model.subgraphs[0]
        model.buffers.append(s.BufferT(data=np.zeros(40 << 20, np.uint8)))
        g.tensors.append(
            s.TensorT(
                name=b"big", shape=np.array([40 << 20], np.int32), type=9, buffer=len(model.buffers) - 1
            )
        )
        for operator in g.operators:
            operator.inputs = np.array([*operator.inputs[:2], *[len(g.tensors) - 1] * 2], np.int32)

    quickly(tampered(small_file(), change), "reads more than 268,435,456 bytes of constants|bias|input")
