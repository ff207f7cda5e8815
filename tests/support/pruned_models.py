"""Small Keras models, one per way in which operators couple channels, each with a group that it must have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

Make = Callable[[Any, Any], Any]
"""(keras.layers, keras) -> model."""
Parts = dict[str, tuple[int, ...]]
"""Name of an activation, or 'constant:axis' -> indices."""


@dataclass(frozen=True)
class Case:
    """The group of a channel of `tensor` must hold exactly what `holds` lists.

    holds: lines 'indices: parts that have them', indices as '1,3' or '1..11/2' (from, to, step).
    """

    make: Make
    tensor: str
    channel: int
    holds: tuple[str, ...]
    removable: bool = True

    @property
    def name(self) -> str:
        return f"{self.make.__name__}-{self.tensor}{self.channel}"

    @property
    def parts(self) -> Parts:
        lines = (line.split(": ") for line in self.holds)
        return {part: _indices(text) for text, parts in lines for part in parts.split()}


def _indices(text: str) -> tuple[int, ...]:
    if ".." not in text:
        return tuple(map(int, text.split(",")))
    first, last, step = map(int, text.replace("..", "/").split("/"))
    return tuple(range(first, last + 1, step))


CASES: list[Case] = []


def holds(tensor: str, channel: int, *parts: str, removable: bool = True) -> Callable[[Make], Make]:
    """Makes a case of a function that makes a model."""

    def register(make: Make) -> Make:
        CASES.append(Case(make, tensor, channel, parts, removable))
        return make

    return register


def image(k: Any, channels: int = 3) -> Any:
    return k.Input((4, 5, channels), name="x")


def head(ly: Any, y: Any) -> Any:
    return ly.Dense(2, name="head")(ly.Flatten(name="flat")(y) if len(y.shape) > 2 else y)


def on_image(body: Make) -> Make:
    """A model that computes body(layers, x) of an image with 4 channels made by a convolution 'c'."""

    @wraps(body)
    def make(ly: Any, k: Any) -> Any:
        x = image(k)
        return k.Model(x, head(ly, body(ly, ly.Conv2D(4, 3, padding="same", name="c")(x))))

    return make


@holds(
    "c",
    1,
    "1: c bn r c/weights:0 c/bias:0 bn/scale:0 bn/offset:0",
    "2,3: dw p dw/weights:2 dw/bias:0 p/alpha:2 out/weights:3",
)
@on_image
def chain(ly: Any, x: Any) -> Any:
    y = ly.ReLU(name="r")(ly.BatchNormalization(name="bn")(x))
    y = ly.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(y)
    return ly.Conv2D(4, 1, name="out")(ly.PReLU(shared_axes=[1, 2], name="p")(y))


@holds(
    "b", 2, "2: c b b/relu sum/1 sum m c/weights:0 c/bias:0 b/weights:3 b/weights:0 b/bias:0 out/weights:3"
)
@on_image
def residual(ly: Any, x: Any) -> Any:
    y = ly.Conv2D(4, 3, padding="same", activation="relu", name="b")(x)
    return ly.Conv2D(2, 1, name="out")(ly.Maximum(name="m")([ly.Add(name="sum")([x, y, x]), y]))


@holds("b", 1, "1: b b/weights:0 b/bias:0", "5: cat out/weights:3")
@holds("c", 1, "1: c c/weights:0 c/bias:0 b/weights:3", "1,8: cat out/weights:3")
@on_image
def joined(ly: Any, x: Any) -> Any:
    y = ly.Conv2D(3, 3, padding="same", name="b")(x)
    return ly.Conv2DTranspose(2, 2, strides=2, name="out")(ly.Concatenate(name="cat")([x, y, x]))


@holds("cat", 3, "3: c b cat c/weights:0 c/bias:0 b/weights:3 b/weights:0 b/bias:0 out/weights:3")
@on_image
def stacked(ly: Any, x: Any) -> Any:
    return ly.Conv2D(2, 1, name="out")(ly.Concatenate(axis=1, name="cat")([x, ly.Conv2D(4, 1, name="b")(x)]))


@holds(
    "c",
    0,
    "0: c zp mp cr up pm ap gap rv/as_2d rv rv/as_1d c/weights:0 c/bias:0",
    "0,4,8: flat head/weights:1",
)
@on_image
def moved(ly: Any, x: Any) -> Any:
    y = ly.MaxPooling2D(2, name="mp")(ly.ZeroPadding2D(1, name="zp")(x))
    y = ly.UpSampling2D(2, interpolation="bilinear", name="up")(ly.Cropping2D(1, name="cr")(y))
    y = ly.AveragePooling2D(1, name="ap")(ly.Permute((2, 1, 3), name="pm")(y))
    return ly.RepeatVector(3, name="rv")(ly.GlobalAveragePooling2D(name="gap")(y))


@holds(
    "d2",
    3,
    "3: c gap d2 d2/sigmoid rs mul",
    "3: c/weights:0 c/bias:0 d1/weights:1 d2/weights:0 d2/bias:0 out/weights:3",
)
@on_image
def excited(ly: Any, x: Any) -> Any:
    """Squeeze and excitation: channels weighted by a vector."""
    y = ly.Dense(3, activation="relu", name="d1")(ly.GlobalAveragePooling2D(name="gap")(x))
    y = ly.Reshape((1, 1, 4), name="rs")(ly.Dense(4, activation="sigmoid", name="d2")(y))
    return ly.Conv2D(2, 1, name="out")(ly.Multiply(name="mul")([x, y]))


@holds("mul", 1, "1: c mul c/weights:0 c/bias:0 one/weights:3 out/weights:3")
@holds("one", 0, "0: one one/weights:0 one/bias:0", removable=False)
@on_image
def attended(ly: Any, x: Any) -> Any:
    """Pixels weighted by a map of one channel, which has to stay."""
    y = ly.Conv2D(1, 1, name="one")(x)
    return ly.Conv2D(2, 1, name="out")(ly.Multiply(name="mul")([x, y]))


@holds("c", 1, "1,3: c c/weights:0 c/bias:0", "1: g/weights:3")
@holds("g", 1, "1,4: g g/weights:0 g/bias:0 out/weights:3")
@on_image
def grouped(ly: Any, x: Any) -> Any:
    return ly.Conv2D(3, 1, name="out")(ly.Conv2D(6, 3, groups=2, name="g")(x))


@holds("c", 1, "1: c c/weights:0 c/bias:0", "2,3: g g/weights:0 g/bias:0 out/weights:3")
@on_image
def grouped_single(ly: Any, x: Any) -> Any:
    return ly.Conv2D(3, 1, name="out")(ly.Conv2D(8, 3, groups=4, name="g")(x))


@holds("one", 0, "0: one one/weights:0 one/bias:0 g/weights:3", removable=False)
@holds("g", 2, "2: g g/weights:0 g/bias:0 out/weights:3")
@on_image
def single(ly: Any, x: Any) -> Any:
    """A tensor of one channel, which has to stay; what reads it is no grouped convolution."""
    return ly.Conv2D(3, 1, name="out")(ly.Conv2D(6, 3, name="g")(ly.Conv2D(1, 1, name="one")(x)))


@holds(
    "c",
    2,
    "2: c c/weights:0 c/bias:0",
    "4,5: s/depthwise s/depthwise_weights:2 s/depthwise_bias:0 s/weights:3",
)
@on_image
def separable(ly: Any, x: Any) -> Any:
    y = ly.SeparableConv2D(5, 3, depth_multiplier=2, name="s")(x)
    return ly.Conv2D(2, 1, name="out")(y)


@holds(
    "c",
    1,
    "1: c rs nm ad sc c/weights:0 c/bias:0 out/weights:3 rs/scale:0 rs/offset:0 nm/scale:0 nm/offset:0",
    "1: ad/scale:0 ad/offset:0 sc/scale:0 sc/offset:0",
)
@on_image
def scaled(ly: Any, x: Any) -> Any:
    y = ly.Rescaling([1.0, 2.0, 3.0, 4.0], 0.5, name="rs")(x)
    y = ly.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 3.0, 4.0], name="nm")(y)
    adapted = ly.Normalization(name="ad")
    y = adapted(y)
    adapted.adapt(np.random.default_rng(0).normal(2, 3, (5, 4, 5, 4)).astype(np.float32))
    return ly.Conv2D(2, 1, name="out")(ly.Normalization(axis=None, mean=1.0, variance=2.0, name="sc")(y))


@on_image
def steps(ly: Any, x: Any) -> Any:
    """Every step is a convolution of its own in the graph; in Keras it is one layer."""
    y = ly.TimeDistributed(ly.Conv1D(3, 2, name="inner"), name="td")(x)
    y = ly.TimeDistributed(ly.Reshape((2, 6), name="re"), name="tr")(y)
    return ly.TimeDistributed(ly.Dense(4, name="de"), name="tt")(ly.Average(name="av")([y, y]))


@holds("c", 0, "0: c c/weights:0 c/bias:0", removable=False)
@on_image
def softmaxed(ly: Any, x: Any) -> Any:
    return ly.Conv2D(2, 1, name="out")(ly.Softmax(name="sm")(x))


@holds("c", 0, "0: c c/weights:0 c/bias:0", removable=False)
@on_image
def turned(ly: Any, x: Any) -> Any:
    return ly.Conv2D(2, 1, name="out")(ly.Permute((3, 1, 2), name="pm")(x))


@holds("c", 0, "0: c c/weights:0 c/bias:0", removable=False)
@on_image
def per_row(ly: Any, x: Any) -> Any:
    return ly.Conv2D(2, 1, name="out")(ly.BatchNormalization(axis=1, name="bn")(x))


@holds("c", 2, "2: c p q sub c/weights:0 c/bias:0 p/alpha:2", "2..78/4: flat head/weights:1")
@on_image
def unshared(ly: Any, x: Any) -> Any:
    return ly.Subtract(name="sub")([ly.PReLU(name="p")(x), ly.PReLU(shared_axes=[1, 2, 3], name="q")(x)])


@holds("d", 7, "1,7: d d/weights:0 d/bias:0", "1: re c1/as_2d c1/weights:3")
@holds("c1/as_1d", 4, "4: c1 c1/as_1d t/as_2d c1/weights:0 c1/bias:0 t/weights:3")
def vector(ly: Any, k: Any) -> Any:
    x = k.Input((3,), name="x")
    y = ly.Reshape((2, 6), name="re")(ly.Dense(12, name="d")(x))
    y = ly.Conv1DTranspose(4, 2, dilation_rate=2, name="t")(ly.Conv1D(5, 1, name="c1")(y))
    return k.Model(x, head(ly, y))


@holds("r6", 3, "1..11/2: d flat d/weights:0 d/bias:0 head/weights:1", "1,3,5: r6", "1,3: r4")
def reshaped_unevenly(ly: Any, k: Any) -> Any:
    x = k.Input((3,), name="x")
    y = ly.Reshape((-1, 4), name="r4")(ly.Reshape((2, 6), name="r6")(ly.Dense(12, name="d")(x)))
    return k.Model(x, head(ly, y))


@holds("a", 2, "2: a b a/weights:0 a/bias:0 b/weights:0 b/bias:0 sh/weights:1 sh/weights_1:1")
@holds(
    "sh",
    4,
    "4: sh sh/tanh sh_1 sh/tanh_1 sh/weights:0 sh/weights_1:0",
    "4: sh/bias:0 sh/bias_1:0 h1/weights:1 h2/weights:1",
)
def twice(ly: Any, k: Any) -> Any:
    """One layer called on two tensors: its weights are two constants in the graph."""
    x = k.Input((3,), name="x")
    a, b = ly.Dense(4, name="a")(x), ly.Dense(4, name="b")(x)
    shared = ly.Dense(5, activation="tanh", name="sh")
    return k.Model(x, [ly.Dense(2, name="h1")(shared(a)), ly.Dense(1, name="h2")(shared(b))])


@holds("b", 1, "1: a b r r_1 a/weights:0 a/bias:0 b/weights:0 b/bias:0 a/weights_1:1 a/weights_2:1")
def nested_twice(ly: Any, k: Any) -> Any:
    """A nested model without weights at its entrance, called on two tensors, and with a layer named as one outside."""
    i = k.Input((None, 4), name="i")
    inner = k.Model(i, ly.Dense(3, name="a")(ly.ReLU(name="r")(i)), name="inner")
    x = k.Input((5, 2), name="x")
    a, b = ly.Dense(4, name="a")(x), ly.Dense(4, name="b")(x)
    return k.Model(x, head(ly, ly.Add(name="sum")([inner(a), ly.Dense(3, name="e")(inner(b))])))


@holds("o", 1, "1: o bn o/weights:0 o/bias:0 bn/scale:0 bn/offset:0 u/weights:1")
def sequential(ly: Any, k: Any) -> Any:
    inner = k.Sequential(
        [k.Input((4,)), ly.Dense(6, name="n"), ly.LeakyReLU(), ly.Dense(3, name="o")], name="seq"
    )
    inner_unbuilt = k.Sequential([ly.BatchNormalization(name="bn"), ly.Dense(2, name="u")], name="late")
    return k.Sequential([k.Input((5,), name="x"), ly.Dense(4, name="a"), inner, inner_unbuilt])


@holds("b", 0, "0: b b/weights:0 b/bias:0 d/weights:1", removable=False)
@holds("x", 0, "0: x a/weights:1", removable=False)
def read_output(ly: Any, k: Any) -> Any:
    """A tensor that is an output and is read as well."""
    x = k.Input((3,), name="x")
    a = ly.Dense(4, name="a")(x)
    b = ly.Dense(5, name="b")(a)
    return k.Model(x, [b, ly.Dense(2, name="h")(ly.Dense(3, name="d")(b))])
