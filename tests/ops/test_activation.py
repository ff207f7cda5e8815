"""activation: tables exactly rounded, judged by a second definition, by Keras and by LiteRT; C on the host."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.in_place import assert_in_place
from tests.support.layers import QP, assert_layer_equals_keras, graph_of_layer, read_file
from tests.support.nodes import assert_agree, assert_equals_litert, assert_near_real, quantized_node
from tests.support.products import qparams
from tinygen import evaluate, ops
from tinygen.errors import UnsupportedLayerError
from tinygen.graph import Array, Graph, QParams, Tensor
from tinygen.ops import functions
from tinygen.ops.activation import Attrs, attrs_of, fusable_name
from tinygen.ops.functions import FUNCTIONS
from tinygen.ops.table import distance_to_tie, exact_table, round_half_away
from tinygen.ops.tflite_activations import BUILTINS, FIXED_OUTPUT, SAFE_DISTANCE
from tinygen.oracle import run_litert
from tinygen.tflite.export import export_tflite
from tinygen.tflite.writer import TfliteWriter

ALL = np.arange(-128, 128).astype(np.int8).reshape(1, 256)

VARIANTS: dict[str, list[dict[str, float]]] = {
    "relu": [
        {},
        {"max_value": 6.0},
        {"max_value": 2.5, "threshold": 0.5},
        {"negative_slope": 0.1},
        {"negative_slope": 0.3, "max_value": 1.0, "threshold": 0.25},
    ],
    "elu": [{}, {"alpha": 0.3}],
    "celu": [{}, {"alpha": 2.0}, {"alpha": -0.5}],
    "gelu": [{}, {"approximate": 1.0}],
    "hard_shrink": [{}, {"threshold": 0.2}],
    "soft_shrink": [{}, {"threshold": 0.2}],
    "squareplus": [{}, {"b": 0.0}],
    "linear": [{"factor": -0.7, "offset": 0.3}],
}
CASES = [(name, variant) for name in FUNCTIONS for variant in VARIANTS.get(name, [{}])]

decimals = st.builds(QParams.per_tensor, st.integers(1, 99).map(lambda n: n / 100), st.integers(-128, 127))
everywhere = qparams() | decimals


def node(attrs: Attrs, x: QParams, y: QParams | None) -> Graph:
    return quantized_node("activation", attrs, [((256,), x)], output=y)


def output_of(name: str, x: QParams) -> QParams | None:
    """QParams that fit the function's range for this input; None where they are fixed."""
    if name in ("sigmoid", "tanh"):
        return None
    values = FUNCTIONS[name].real(x.dequantize(ALL), *attrs_of(name).parameters)
    return QParams.per_tensor(min(max(float(np.abs(values).max()), 1e-3) / 120, 1e30), -3)


# ---- tables are exactly rounded


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_table_equals_the_floating_point_definition(name: str, variant: dict[str, float]) -> None:
    """The two definitions of each function agree wherever float64 is far enough from a tie to decide."""
    attrs = attrs_of(name, **variant)
    for scale, zero_point in ((0.05, -7), (0.003, 100), (0.4, -128)):
        x = QParams.per_tensor(scale, zero_point)
        y = output_of(name, x) or (FIXED_OUTPUT["LOGISTIC" if name == "sigmoid" else "TANH"])
        quotient = FUNCTIONS[name].real(x.dequantize(ALL[0]), *attrs.parameters) / y.scale[0]
        decided = np.abs(np.abs(quotient) % 1 - 0.5) > 1e-9
        nearest = np.clip(np.trunc(quotient + np.copysign(0.5, quotient)) + y.zero_point[0], -128, 127)
        table = exact_table(attrs.function, attrs.parameters, x, y)
        np.testing.assert_array_equal(table[decided], nearest[decided])
        assert decided.mean() > 0.9


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_float_evaluation_warns_of_nothing(name: str, variant: dict[str, float]) -> None:
    """float32 in, float32 out, no warning (warnings are errors here), even where the result overflows."""
    graph = node(attrs_of(name, **variant), QP, QP if name not in ("sigmoid", "tanh") else None)
    x = np.linspace(-200, 200, 256, dtype=np.float32).reshape(1, 256)
    got = ops.get("activation").real(graph.bind(graph.nodes[0]), [x])
    assert got.dtype == np.float32 and not np.isnan(got).any()


@settings(max_examples=40)
@given(st.sampled_from(CASES), everywhere, everywhere)
def test_never_further_than_half_a_step(case: tuple[str, dict[str, float]], x: QParams, y: QParams) -> None:
    attrs = attrs_of(case[0], **case[1])
    graph = node(attrs, x, None if case[0] in ("sigmoid", "tanh") else y)
    with np.errstate(over="ignore"):
        assert_near_real(graph, [ALL], lsb=0.5)


def test_ties_round_away_from_zero() -> None:
    """Halves that are exact: 0.5 steps up for positive values, down for negative ones."""
    x, y = QParams.per_tensor(0.5, 0), QParams.per_tensor(1.0, 0)
    table = exact_table("linear", (1.0, 0.0), x, y)
    assert table[[128 + 1, 128 - 1, 128 + 3, 128 - 3, 128 + 4]].tolist() == [1, -1, 2, -2, 2]
    assert [round_half_away(Fraction(n, 2)) for n in (-3, -1, 0, 1, 3)] == [-2, -1, 0, 1, 2]
    assert distance_to_tie("linear", (1.0, 0.0), x, y) == 0


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("relu", "linear")])
def test_distance_to_ties_dwarfs_the_error(name: str) -> None:
    """Transcendental values never come near the 1e-40 that their computation may be off (rational ones are exact)."""
    parameters = attrs_of(name).parameters
    exact = FUNCTIONS[name].exact
    x = QParams.per_tensor(0.037, -11)
    for y in (QParams.per_tensor(0.021, 3), QParams.per_tensor(1 / 256, -128)):
        distance = distance_to_tie(name, parameters, x, y)
        assert distance > 1e-12 or exact(Fraction(1), *map(Fraction, parameters)).denominator < 10**6


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (functions.exponential, math.exp),
        (functions.erf, math.erf),
        (functions.tanh, math.tanh),
        (functions.softplus, lambda v: math.log1p(math.exp(v))),
        (functions.sigmoid, lambda v: 1 / (1 + math.exp(-v))),
    ],
)
def test_rational_arithmetic_equals_libm(ours: Any, theirs: Any) -> None:
    for value in (-20.5, -3.25, -0.1, 1e-6, 0.0, 0.7, 2.5, 11.75):
        assert float(ours(Fraction(value))) == pytest.approx(theirs(value), rel=1e-14, abs=1e-300)


def test_erf_is_one_far_out_and_continuous_there() -> None:
    inside, outside = functions.erf(Fraction(12)), functions.erf(Fraction(1201, 100))
    assert outside == 1 and abs(1 - inside) < Fraction(1, 10**50)
    assert functions.erf(Fraction(-13)) == -1


def test_square_roots_of_squares_are_exact() -> None:
    assert functions.square_root(Fraction(9, 16)) == Fraction(3, 4)
    assert abs(functions.square_root(Fraction(2)) ** 2 - 2) < Fraction(1, 10**50)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_extreme_scales(name: str, variant: dict[str, float], scale: float) -> None:
    """Tables exist for any scales, quickly, and stay within int8."""
    y = QParams.per_tensor(0.1, 0)
    table = exact_table(name, attrs_of(name, **variant).parameters, QParams.per_tensor(scale, 3), y)
    assert table.shape == (256,) and table.dtype == np.int8


# ---- C and LiteRT


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_export_equals_litert(name: str, variant: dict[str, float]) -> None:
    """Every function, at scales without and with near ties (multiples of 0.01)."""
    for x in (QParams.per_tensor(0.043, -7), QParams.per_tensor(0.1, 30), QParams.per_tensor(0.05, -128)):
        for y in (output_of(name, x), QParams.per_tensor(0.04, -10)):
            fixed = None if name in ("sigmoid", "tanh") else y
            assert_equals_litert(node(attrs_of(name, **variant), x, fixed), [ALL])


@settings(max_examples=100)
@given(st.sampled_from(CASES), everywhere, everywhere)
def test_any_export_equals_litert(case: tuple[str, dict[str, float]], x: QParams, y: QParams) -> None:
    graph = node(attrs_of(case[0], **case[1]), x, None if case[0] in ("sigmoid", "tanh") else y)
    assert_equals_litert(graph, [ALL])


@pytest.mark.parametrize("name", ["sigmoid", "relu", "mish"])
def test_c_equals_reference(name: str) -> None:
    graph = quantized_node("activation", attrs_of(name), [((5, 7, 3), QP)], output=output_of(name, QP))
    assert_agree(graph, lsb=0.5)
    assert_in_place(graph, (0,))


def test_steps_with_equal_tables_share_them() -> None:
    from tests.support.host import library_of
    from tinygen.graph import GraphBuilder

    builder = GraphBuilder("two")
    x = builder.input("x", (4,), QP)
    q = FIXED_OUTPUT["LOGISTIC"]
    a = builder.add("activation", "a", (x,), attrs_of("sigmoid"), q)
    b = builder.add("activation", "b", (x,), attrs_of("sigmoid"), q)
    assert library_of(builder.build((a, b))).constant_bytes == 256


# ---- TFLite's own operators


def builtin_file(kind: str, parameters: tuple[float, ...], x: QParams, y: QParams) -> bytes:
    """A file with one activation operator over all 256 inputs."""
    tensors = {"x": Tensor("x", (256,), "int8", x), "y": Tensor("y", (256,), "int8", y)}
    writer = TfliteWriter(Graph("file", (), tensors, ("x",), ("y",)))
    builtin = BUILTINS[kind]
    inputs, output = [writer.activation(tensors["x"])], writer.activation(tensors["y"])
    options = builtin.write(parameters)
    writer.add(kind, inputs, output, builtin.options or None, options, version=builtin.version)
    return writer.finish()


def litert_table(kind: str, parameters: tuple[float, ...], x: QParams, y: QParams) -> Array:
    """What LiteRT's reference kernel computes for inputs -128 ... 127."""
    return run_litert(builtin_file(kind, parameters, x, y), [ALL])[0][0]


def builtin_parameters(kind: str, draw: int) -> tuple[float, ...]:
    if kind == "LEAKY_RELU":
        return (draw * 0.05, math.inf, 0.0)
    return (float(draw % 2),) if kind == "GELU" else BUILTINS[kind].fixed


@settings(max_examples=250)
@given(
    st.sampled_from([kind for kind in BUILTINS if kind not in ("ELU", "EXP")]),
    st.integers(0, 25),
    everywhere,
    st.integers(1, 400),
    st.integers(-128, 127),
)
def test_tables_of_tflite_operators(kind: str, draw: int, x: QParams, ratio: int, zero_point: int) -> None:
    """Scales of the output are the input's times a decimal: ties that float32 and float64 see differently."""
    y = FIXED_OUTPUT.get(kind) or QParams.per_tensor(x.scale[0] * ratio / 100, zero_point)
    parameters = builtin_parameters(kind, draw)
    want = litert_table(kind, parameters, x, y)
    got = BUILTINS[kind].fill(parameters, x, y)
    if BUILTINS[kind].table is None:  # float32: the C library's function may decide a near tie
        near = np.abs(got.astype(int) - want) <= 1
        assert near.all() and (got != want).sum() <= 1
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("scale", [0.01, 0.037])
def test_table_of_exp(scale: float) -> None:
    x, y = QParams.per_tensor(scale, 0), QParams.per_tensor(math.exp(scale * 127) / 255, -128)
    np.testing.assert_array_equal(BUILTINS["EXP"].fill((), x, y), litert_table("EXP", (), x, y))


def test_elu_is_its_rounded_function() -> None:
    """LiteRT's reference resolver has no ELU: the float32 table is held against the exact one."""
    x, y = QParams.per_tensor(0.043, 5), QParams.per_tensor(0.021, -80)
    assert distance_to_tie("elu", (1.0,), x, y) > 1e-6
    np.testing.assert_array_equal(BUILTINS["ELU"].fill((1.0,), x, y), exact_table("elu", (1.0,), x, y))


def operators_of(graph: Graph) -> list[str]:
    from tinygen.tflite.parsing import TfliteFile

    return [record.kind for record in TfliteFile(export_tflite(graph), "exported").operators]


def test_export_takes_tflite_operators_only_where_they_are_exact() -> None:
    """Double rounding makes LEAKY_RELU wrong by a step for most scales: it is looked up there."""
    x = QParams.per_tensor(0.043, -7)
    y = QParams.per_tensor(0.021, 5)
    assert operators_of(node(attrs_of("sigmoid"), x, None)) == ["LOGISTIC"]
    assert operators_of(node(attrs_of("relu", negative_slope=0.1), x, y)) == ["CAST", "ADD", "GATHER"]
    assert operators_of(node(attrs_of("relu", max_value=6.0), x, x)) == ["RELU6"]
    assert operators_of(node(attrs_of("mish"), x, y)) == ["CAST", "ADD", "GATHER"]
    near = QParams.per_tensor(0.04, -14)
    tie = QParams.per_tensor(0.72, -6)
    assert distance_to_tie("gelu", (0.0,), near, tie) < SAFE_DISTANCE
    assert operators_of(node(attrs_of("gelu"), near, tie)) == ["CAST", "ADD", "GATHER"]


@pytest.mark.parametrize("kind", [kind for kind in BUILTINS if kind != "ELU"])
def test_import_keeps_the_operators_arithmetic(kind: str) -> None:
    x = QParams.per_tensor(0.03, -20)
    y = FIXED_OUTPUT.get(kind, QParams.per_tensor(0.05, -100))
    parameters = builtin_parameters(kind, 7)
    graph = read_file(builtin_file(kind, parameters, x, y))
    activation = graph.nodes[0]
    assert (activation.op, activation.attrs.tflite) == ("activation", kind)
    (got,) = evaluate.reference(
        graph.evolve(nodes=(activation,), outputs=(activation.output,)).pruned(), [ALL]
    )
    np.testing.assert_array_equal(got[0], litert_table(kind, parameters, x, y))
    assert operators_of(graph) == [kind]


def test_import_refuses_other_output_scales_of_logistic() -> None:
    with pytest.raises(UnsupportedLayerError, match="its output must have scale"):
        read_file(builtin_file("LOGISTIC", (), QP, QParams.per_tensor(0.004, -128)))


@pytest.mark.parametrize("alpha", [-0.1, math.nan, 1e30])
def test_import_refuses_hostile_alphas(alpha: float) -> None:
    with pytest.raises(UnsupportedLayerError):
        read_file(builtin_file("LEAKY_RELU", (alpha, math.inf, 0.0), QP, QP))


# ---- attributes


def test_fusable_names() -> None:
    assert fusable_name(attrs_of("relu")) == "relu"
    assert fusable_name(attrs_of("relu", max_value=6.0)) == "relu6"
    assert fusable_name(attrs_of("relu", max_value=1.0)) == "relu_0_to_1"
    assert fusable_name(attrs_of("hard_tanh")) == "relu_n1_to_1"
    for other in ({"max_value": 5.0}, {"negative_slope": 0.1}, {"threshold": 0.1}):
        assert fusable_name(attrs_of("relu", **other)) is None
    assert fusable_name(attrs_of("sigmoid")) is None


@pytest.mark.parametrize(
    "attrs",
    [
        Attrs("elu", (math.nan,)),
        Attrs("elu", (math.inf,)),
        Attrs("celu", (0.0,)),
        Attrs("squareplus", (-1.0,)),
        Attrs("relu", (0.0, math.nan, 0.0)),
    ],
)
def test_unusable_parameters_are_refused(attrs: Attrs) -> None:
    with pytest.raises(UnsupportedLayerError):
        node(attrs, QP, QP)


# ---- Keras


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "name", sorted({*FUNCTIONS, "leaky_relu", "relu6", "swish", "hard_swish"} - {"linear"})
)
def test_keras_activation_layer(name: str) -> None:
    import keras

    layer = keras.layers.Activation(name)
    graph = assert_layer_equals_keras(layer, (4, 50))
    assert [n.name for n in graph.nodes] == [layer.name]


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ReLU", {}),
        ("ReLU", {"max_value": 6.0}),
        ("ReLU", {"max_value": 1.5, "negative_slope": 0.2, "threshold": 0.5}),
        ("ReLU", {"max_value": 0.4, "threshold": 0.7}),
        ("ReLU6", {}),
        ("LeakyReLU", {}),
        ("LeakyReLU", {"negative_slope": 0.05}),
        ("ELU", {}),
        ("ELU", {"alpha": 0.5}),
    ],
)
def test_keras_layers(kind: str, options: dict[str, float]) -> None:
    import keras

    if hasattr(keras.layers, kind):
        assert_layer_equals_keras(getattr(keras.layers, kind)(**options), (4, 50))


@pytest.mark.tensorflow
def test_activation_argument() -> None:
    import keras

    assert [n.op for n in assert_layer_equals_keras(keras.layers.Dense(3), (4,)).nodes] == ["dense"]
    layer = keras.layers.Dense(3, activation="gelu", name="d")
    assert [n.name for n in assert_layer_equals_keras(layer, (4,)).nodes] == ["d", "d/gelu"]


@pytest.mark.tensorflow
def test_foreign_functions_are_refused_by_name() -> None:
    import keras

    def relu(x: Any) -> Any:
        return x * x

    for function in (relu, keras.activations.log_softmax):
        with pytest.raises(UnsupportedLayerError, match=f"activation '{function.__name__}'"):
            graph_of_layer(keras.layers.Activation(function), [(4,)])


def test_summary_names_every_function() -> None:
    assert all(name in ops.get("activation").summary for name in FUNCTIONS)
