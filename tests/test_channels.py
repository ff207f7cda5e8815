"""Which channels can only be removed together: one small model per way in which operators couple them.

Each is also made smaller in random ways and held to its masked original (tests/support/pruned.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.support.pruned import check_model
from tinygen import ops
from tinygen.channels import ChannelGroup, groups
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Graph, GraphBuilder
from tinygen.heavy import import_keras
from tinygen.ops import add, coupling, crop, pad

pytestmark = pytest.mark.tensorflow

Parts = dict[str, tuple[int, ...]]


def parts(group: ChannelGroup) -> Parts:
    """'tensor' or 'constant:axis' -> indices."""
    activations = {s.tensor: s.indices for s in group.activations}
    return activations | {f"{s.tensor}:{s.axis}": s.indices for s in group.constants}


def group_of(graph: Graph, tensor: str, channel: int) -> ChannelGroup:
    (found,) = [
        g for g in groups(graph) if any(s.tensor == tensor and channel in s.indices for s in g.activations)
    ]
    return found


@dataclass(frozen=True)
class Case:
    """make: (keras.layers, keras) -> model. The group of a channel of `tensor` must hold `parts`, exactly as given."""

    make: Callable[[Any, Any], Any]
    tensor: str
    channel: int
    parts: Parts
    removable: bool = True


def image(k: Any, channels: int = 3) -> Any:
    return k.Input((4, 5, channels), name="x")


def head(ly: Any, y: Any) -> Any:
    return ly.Dense(2, name="head")(ly.Flatten(name="flat")(y) if len(y.shape) > 2 else y)


def on_image(body: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A model that computes body(layers, x) of an image with 4 channels made by a convolution 'c'."""

    def make(ly: Any, k: Any) -> Any:
        x = image(k)
        return k.Model(x, head(ly, body(ly, ly.Conv2D(4, 3, padding="same", name="c")(x))))

    return make


def chain(ly: Any, x: Any) -> Any:
    y = ly.ReLU(name="r")(ly.BatchNormalization(name="bn")(x))
    y = ly.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(y)
    return ly.Conv2D(4, 1, name="out")(ly.PReLU(shared_axes=[1, 2], name="p")(y))


def residual(ly: Any, x: Any) -> Any:
    y = ly.Conv2D(4, 3, padding="same", activation="relu", name="b")(x)
    return ly.Conv2D(2, 1, name="out")(ly.Maximum(name="m")([ly.Add(name="sum")([x, y, x]), y]))


def joined(ly: Any, x: Any) -> Any:
    y = ly.Conv2D(3, 3, padding="same", name="b")(x)
    return ly.Conv2DTranspose(2, 2, strides=2, name="out")(ly.Concatenate(name="cat")([x, y, x]))


def stacked(ly: Any, x: Any) -> Any:
    return ly.Conv2D(2, 1, name="out")(ly.Concatenate(axis=1, name="cat")([x, ly.Conv2D(4, 1, name="b")(x)]))


def moved(ly: Any, x: Any) -> Any:
    y = ly.MaxPooling2D(2, name="mp")(ly.ZeroPadding2D(1, name="zp")(x))
    y = ly.UpSampling2D(2, interpolation="bilinear", name="up")(ly.Cropping2D(1, name="cr")(y))
    y = ly.AveragePooling2D(1, name="ap")(ly.Permute((2, 1, 3), name="pm")(y))
    return ly.RepeatVector(3, name="rv")(ly.GlobalAveragePooling2D(name="gap")(y))


def excited(ly: Any, x: Any) -> Any:
    """Squeeze and excitation: channels weighted by a vector."""
    y = ly.Dense(3, activation="relu", name="d1")(ly.GlobalAveragePooling2D(name="gap")(x))
    y = ly.Reshape((1, 1, 4), name="rs")(ly.Dense(4, activation="sigmoid", name="d2")(y))
    return ly.Conv2D(2, 1, name="out")(ly.Multiply(name="mul")([x, y]))


def attended(ly: Any, x: Any) -> Any:
    """Pixels weighted by a map of one channel, which has to stay."""
    y = ly.Conv2D(1, 1, name="one")(x)
    return ly.Conv2D(2, 1, name="out")(ly.Multiply(name="mul")([x, y]))


def one_map(ly: Any, x: Any) -> Any:
    return attended(ly, x)


def grouped(ly: Any, x: Any) -> Any:
    return ly.Conv2D(3, 1, name="out")(ly.Conv2D(6, 3, groups=2, name="g")(x))


def grouped_single(ly: Any, x: Any) -> Any:
    return ly.Conv2D(3, 1, name="out")(ly.Conv2D(8, 3, groups=4, name="g")(x))


def separable(ly: Any, x: Any) -> Any:
    y = ly.SeparableConv2D(5, 3, depth_multiplier=2, name="s")(x)
    return ly.Conv2D(2, 1, name="out")(y)


def scaled(ly: Any, x: Any) -> Any:
    y = ly.Rescaling([1.0, 2.0, 3.0, 4.0], 0.5, name="rs")(x)
    y = ly.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 3.0, 4.0], name="nm")(y)
    adapted = ly.Normalization(name="ad")
    y = adapted(y)
    adapted.adapt(np.random.default_rng(0).normal(2, 3, (5, 4, 5, 4)).astype(np.float32))
    return ly.Conv2D(2, 1, name="out")(ly.Normalization(axis=None, mean=1.0, variance=2.0, name="sc")(y))


def steps(ly: Any, x: Any) -> Any:
    """Every step is a convolution of its own in the graph; in Keras it is one layer."""
    y = ly.TimeDistributed(ly.Conv1D(3, 2, name="inner"), name="td")(x)
    y = ly.TimeDistributed(ly.Reshape((2, 6), name="re"), name="tr")(y)
    return ly.TimeDistributed(ly.Dense(4, name="de"), name="tt")(ly.Average(name="av")([y, y]))


def softmaxed(ly: Any, x: Any) -> Any:
    return ly.Conv2D(2, 1, name="out")(ly.Softmax(name="sm")(x))


def turned(ly: Any, x: Any) -> Any:
    return ly.Conv2D(2, 1, name="out")(ly.Permute((3, 1, 2), name="pm")(x))


def per_row(ly: Any, x: Any) -> Any:
    return ly.Conv2D(2, 1, name="out")(ly.BatchNormalization(axis=1, name="bn")(x))


def unshared(ly: Any, x: Any) -> Any:
    return ly.Subtract(name="sub")([ly.PReLU(name="p")(x), ly.PReLU(shared_axes=[1, 2, 3], name="q")(x)])


def vector(ly: Any, k: Any) -> Any:
    x = k.Input((3,), name="x")
    y = ly.Reshape((2, 6), name="re")(ly.Dense(12, name="d")(x))
    y = ly.Conv1DTranspose(4, 2, dilation_rate=2, name="t")(ly.Conv1D(5, 1, name="c1")(y))
    return k.Model(x, head(ly, y))


def reshaped_unevenly(ly: Any, k: Any) -> Any:
    x = k.Input((3,), name="x")
    y = ly.Reshape((-1, 4), name="r4")(ly.Reshape((2, 6), name="r6")(ly.Dense(12, name="d")(x)))
    return k.Model(x, head(ly, y))


def twice(ly: Any, k: Any) -> Any:
    """One layer called on two tensors: its weights are two constants in the graph."""
    x = k.Input((3,), name="x")
    a, b = ly.Dense(4, name="a")(x), ly.Dense(4, name="b")(x)
    shared = ly.Dense(5, activation="tanh", name="sh")
    return k.Model(x, [ly.Dense(2, name="h1")(shared(a)), ly.Dense(1, name="h2")(shared(b))])


def nested_twice(ly: Any, k: Any) -> Any:
    """A nested model without weights at its entrance, called on two tensors, and with a layer named as one outside."""
    i = k.Input((None, 4), name="i")
    inner = k.Model(i, ly.Dense(3, name="a")(ly.ReLU(name="r")(i)), name="inner")
    x = k.Input((5, 2), name="x")
    a, b = ly.Dense(4, name="a")(x), ly.Dense(4, name="b")(x)
    return k.Model(x, head(ly, ly.Add(name="sum")([inner(a), ly.Dense(3, name="e")(inner(b))])))


def sequential(ly: Any, k: Any) -> Any:
    inner = k.Sequential(
        [k.Input((4,)), ly.Dense(6, name="n"), ly.LeakyReLU(), ly.Dense(3, name="o")], name="seq"
    )
    inner_unbuilt = k.Sequential([ly.BatchNormalization(name="bn"), ly.Dense(2, name="u")], name="late")
    return k.Sequential([k.Input((5,), name="x"), ly.Dense(4, name="a"), inner, inner_unbuilt])


def read_output(ly: Any, k: Any) -> Any:
    """A tensor that is an output and is read as well."""
    x = k.Input((3,), name="x")
    a = ly.Dense(4, name="a")(x)
    b = ly.Dense(5, name="b")(a)
    return k.Model(x, [b, ly.Dense(2, name="h")(ly.Dense(3, name="d")(b))])


CASES: dict[str, Case] = {
    "chain": Case(
        on_image(chain),
        "c",
        1,
        {
            "c": (1,),
            "bn": (1,),
            "r": (1,),
            "dw": (2, 3),
            "p": (2, 3),
            "c/weights:0": (1,),
            "c/bias:0": (1,),
            "bn/scale:0": (1,),
            "bn/offset:0": (1,),
            "dw/weights:2": (2, 3),
            "dw/bias:0": (2, 3),
            "p/alpha:2": (2, 3),
            "out/weights:3": (2, 3),
        },
    ),
    "residual": Case(
        on_image(residual),
        "b",
        2,
        {
            "c": (2,),
            "b": (2,),
            "b/relu": (2,),
            "sum/1": (2,),
            "sum": (2,),
            "m": (2,),
            "c/weights:0": (2,),
            "c/bias:0": (2,),
            "b/weights:3": (2,),
            "b/weights:0": (2,),
            "b/bias:0": (2,),
            "out/weights:3": (2,),
        },
    ),
    "concat": Case(
        on_image(joined),
        "b",
        1,
        {"b": (1,), "cat": (5,), "b/weights:0": (1,), "b/bias:0": (1,), "out/weights:3": (5,)},
    ),
    "concat of a tensor with itself": Case(
        on_image(joined),
        "c",
        1,
        {
            "c": (1,),
            "cat": (1, 8),
            "c/weights:0": (1,),
            "c/bias:0": (1,),
            "b/weights:3": (1,),
            "out/weights:3": (1, 8),
        },
    ),
    "concat along another axis": Case(
        on_image(stacked),
        "cat",
        3,
        {
            "c": (3,),
            "b": (3,),
            "cat": (3,),
            "c/weights:0": (3,),
            "c/bias:0": (3,),
            "b/weights:3": (3,),
            "b/weights:0": (3,),
            "b/bias:0": (3,),
            "out/weights:3": (3,),
        },
    ),
    "what only moves": Case(
        on_image(moved),
        "c",
        0,
        {
            **dict.fromkeys(
                ("c", "zp", "mp", "cr", "up", "pm", "ap", "gap", "rv/as_2d", "rv", "rv/as_1d"), (0,)
            ),
            "flat": (0, 4, 8),
            "c/weights:0": (0,),
            "c/bias:0": (0,),
            "head/weights:1": (0, 4, 8),
        },
    ),
    "squeeze and excitation": Case(
        on_image(excited),
        "d2",
        3,
        {
            **dict.fromkeys(("c", "gap", "d2", "d2/sigmoid", "rs", "mul"), (3,)),
            **dict.fromkeys(("c/weights:0", "c/bias:0", "d1/weights:1", "d2/weights:0", "d2/bias:0"), (3,)),
            "out/weights:3": (3,),
        },
    ),
    "times one map": Case(
        on_image(attended),
        "mul",
        1,
        {
            "c": (1,),
            "mul": (1,),
            "c/weights:0": (1,),
            "c/bias:0": (1,),
            "one/weights:3": (1,),
            "out/weights:3": (1,),
        },
    ),
    "one map": Case(
        on_image(one_map), "one", 0, {"one": (0,), "one/weights:0": (0,), "one/bias:0": (0,)}, removable=False
    ),
    "inputs of groups": Case(
        on_image(grouped),
        "c",
        1,
        {"c": (1, 3), "c/weights:0": (1, 3), "c/bias:0": (1, 3), "g/weights:3": (1,)},
    ),
    "outputs of groups": Case(
        on_image(grouped),
        "g",
        1,
        {"g": (1, 4), "g/weights:0": (1, 4), "g/bias:0": (1, 4), "out/weights:3": (1, 4)},
    ),
    "groups of one channel": Case(
        on_image(grouped_single),
        "c",
        1,
        {
            "c": (1,),
            "g": (2, 3),
            "c/weights:0": (1,),
            "c/bias:0": (1,),
            "g/weights:0": (2, 3),
            "g/bias:0": (2, 3),
            "out/weights:3": (2, 3),
        },
    ),
    "separable": Case(
        on_image(separable),
        "c",
        2,
        {
            "c": (2,),
            "s/depthwise": (4, 5),
            "c/weights:0": (2,),
            "c/bias:0": (2,),
            "s/depthwise_weights:2": (4, 5),
            "s/depthwise_bias:0": (4, 5),
            "s/weights:3": (4, 5),
        },
    ),
    "scaled": Case(
        on_image(scaled),
        "c",
        1,
        {
            **dict.fromkeys(("c", "rs", "nm", "ad", "sc", "c/weights:0", "c/bias:0", "out/weights:3"), (1,)),
            **{f"{n}/{kind}:0": (1,) for n in ("rs", "nm", "ad", "sc") for kind in ("scale", "offset")},
        },
    ),
    "softmax": Case(
        on_image(softmaxed), "c", 0, {"c": (0,), "c/weights:0": (0,), "c/bias:0": (0,)}, removable=False
    ),
    "channels that move away": Case(
        on_image(turned), "c", 0, {"c": (0,), "c/weights:0": (0,), "c/bias:0": (0,)}, removable=False
    ),
    "normalized along another axis": Case(
        on_image(per_row), "c", 0, {"c": (0,), "c/weights:0": (0,), "c/bias:0": (0,)}, removable=False
    ),
    "PReLU per element and for all": Case(
        on_image(unshared),
        "c",
        2,
        {
            "c": (2,),
            "p": (2,),
            "q": (2,),
            "sub": (2,),
            "flat": tuple(range(2, 80, 4)),
            "c/weights:0": (2,),
            "c/bias:0": (2,),
            "p/alpha:2": (2,),
            "head/weights:1": tuple(range(2, 80, 4)),
        },
    ),
    "a vector becomes a sequence": Case(
        vector,
        "d",
        7,
        {
            "d": (1, 7),
            "re": (1,),
            "c1/as_2d": (1,),
            "d/weights:0": (1, 7),
            "d/bias:0": (1, 7),
            "c1/weights:3": (1,),
        },
    ),
    "transposed convolution": Case(
        vector,
        "c1/as_1d",
        4,
        {
            **dict.fromkeys(("c1", "c1/as_1d", "t/as_2d", "c1/weights:0", "c1/bias:0", "t/weights:3"), (4,)),
        },
    ),
    "reshaped unevenly": Case(
        reshaped_unevenly,
        "r6",
        3,
        {
            "d": (1, 3, 5, 7, 9, 11),
            "r6": (1, 3, 5),
            "r4": (1, 3),
            "flat": (1, 3, 5, 7, 9, 11),
            **dict.fromkeys(("d/weights:0", "d/bias:0", "head/weights:1"), (1, 3, 5, 7, 9, 11)),
        },
    ),
    "a shared layer's inputs": Case(
        twice,
        "a",
        2,
        {
            "a": (2,),
            "b": (2,),
            "a/weights:0": (2,),
            "a/bias:0": (2,),
            "b/weights:0": (2,),
            "b/bias:0": (2,),
            "sh/weights:1": (2,),
            "sh/weights_1:1": (2,),
        },
    ),
    "a shared layer's outputs": Case(
        twice,
        "sh",
        4,
        {
            **dict.fromkeys(("sh", "sh/tanh", "sh_1", "sh/tanh_1", "sh/weights:0", "sh/weights_1:0"), (4,)),
            **dict.fromkeys(("sh/bias:0", "sh/bias_1:0", "h1/weights:1", "h2/weights:1"), (4,)),
        },
    ),
    "a nested model's input": Case(
        nested_twice,
        "b",
        1,
        {
            **dict.fromkeys(
                ("a", "b", "r", "r_1", "a/weights:0", "a/bias:0", "b/weights:0", "b/bias:0"), (1,)
            ),
            "a/weights_1:1": (1,),
            "a/weights_2:1": (1,),
        },
    ),
    "nested sequential": Case(
        sequential,
        "o",
        1,
        {
            **dict.fromkeys(("o", "bn", "o/weights:0", "o/bias:0", "bn/scale:0", "bn/offset:0"), (1,)),
            "u/weights:1": (1,),
        },
    ),
    "an output that is read": Case(
        read_output,
        "b",
        0,
        {"b": (0,), "b/weights:0": (0,), "b/bias:0": (0,), "d/weights:1": (0,)},
        removable=False,
    ),
    "an input": Case(read_output, "x", 0, {"x": (0,), "a/weights:1": (0,)}, removable=False),
}


@pytest.fixture(scope="module")
def keras() -> Any:
    return import_keras()


@pytest.mark.parametrize("name", CASES)
def test_group_and_removal(keras: Any, name: str) -> None:
    case = CASES[name]
    model = _random_weights(case.make(keras.layers, keras))
    group = group_of(load_keras_model(model), case.tensor, case.channel)
    assert parts(group) == case.parts
    assert group.removable == case.removable
    assert check_model(model) > 0 or not case.removable


def test_time_distributed_steps_are_one_layer(keras: Any) -> None:
    model = _random_weights(on_image(steps)(keras.layers, keras))
    found = parts(group_of(load_keras_model(model), "c", 1))
    own = {key: indices for key, indices in found.items() if key.startswith("inner/weights")}
    assert own == {f"inner/weights{suffix}:3": (1,) for suffix in ("", "_1", "_2", "_3")}
    assert check_model(model) > 0


def _random_weights(model: Any) -> Any:
    """Biases and statistics that matter."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if "int" not in str(variable.dtype) and "/ad/" not in f"/{variable.path}":
            variable.assign(np.abs(rng.normal(0.5, 0.4, variable.shape)) + 0.05 * rng.integers(-6, 2))
    for layer in model._flatten_layers():
        if type(layer).__name__ == "BatchNormalization":
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
    return model


# ---- graphs that no Keras model gives


def test_every_operator_but_softmax_says_what_it_couples() -> None:
    assert [op.name for op in ops.OPS if op.channels is coupling.frozen] == ["softmax"]


@pytest.mark.parametrize("op, spans", [("pad", ((0, 0), (1, 0))), ("crop", ((0, 0), (0, 1)))])
def test_channels_that_are_added_or_cut_off_freeze_all(op: str, spans: Any) -> None:
    b = GraphBuilder("g")
    attrs = pad.Attrs(spans) if op == "pad" else crop.Attrs(spans)
    y = b.add(op, op, (_dense(b, "a", b.input("x", (3, 2)), 4),), attrs)
    graph = b.build((_dense(b, "h", y, 2),))
    for tensor, channel in (("a", 1), (op, 2)):
        assert group_of(graph, tensor, channel).frozen == f"'{op}' needs all channels of '{tensor}'"


def test_constants_of_elementwise_operators_shrink() -> None:
    b = GraphBuilder("g")
    y = _dense(b, "a", b.input("x", (3, 2)), 4)
    y = b.add("add", "plus", (b.constant("wide", np.ones((3, 1), np.float32)), y), add.Attrs())
    y = b.add("add", "more", (y, b.constant("row", np.ones((4,), np.float32))), add.Attrs())
    graph = b.build((_dense(b, "h", y, 2),))
    found = parts(group_of(graph, "more", 3))
    assert found["row:0"] == (3,) and not any(key.startswith("wide") for key in found)


def test_every_channel_is_in_one_group() -> None:
    b = GraphBuilder("g")
    graph = b.build((_dense(b, "h", _dense(b, "a", b.input("x", (3, 2)), 4), 2),))
    found = [(s.tensor, i) for g in groups(graph) for s in g.activations for i in s.indices]
    assert sorted(found) == [(t.name, i) for t in _activations(graph) for i in range(t.shape[-1])]


def _activations(graph: Graph) -> list[Any]:
    return sorted((t for t in graph.tensors.values() if not t.is_constant), key=lambda t: t.name)


def _dense(b: GraphBuilder, name: str, x: str, units: int) -> str:
    from tinygen.ops import dense

    weights = b.constant(f"{name}/weights", np.ones((units, b.shape(x)[-1]), np.float32))
    return b.add(
        "dense", name, (x, weights, b.constant(f"{name}/bias", np.zeros(units, np.float32))), dense.Attrs()
    )
