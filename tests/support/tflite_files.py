"""Small .tflite files for tests, and a way to tamper with any part of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.graph import Graph, GraphBuilder, QParams
from tinygen.ops import conv2d, dense, depthwise_conv2d, reshape, softmax
from tinygen.ops.windows import Padding
from tinygen.tflite.export import export_tflite
from tinygen.tflite.schema import IDENTIFIER, schema

INPUT = QParams.per_tensor(0.05, 3)
HIDDEN = QParams.per_tensor(0.03, -5)


def weighted(
    builder: GraphBuilder, name: str, shape: tuple[int, ...], axis: int, seed: int
) -> tuple[str, str]:
    """Random int8 weights with a scale per index of `axis`, and an int32 bias."""
    rng = np.random.default_rng(seed)
    count = shape[axis]
    scales = tuple(float(s) for s in rng.uniform(0.001, 0.01, count))
    weights = rng.integers(-127, 128, shape).astype(np.int8)
    bias = rng.integers(-1000, 1000, count).astype(np.int32)
    bias_q = QParams(tuple(0.05 * s for s in scales), (0,) * count, 0)
    return (
        builder.constant(f"{name}/weights", weights, QParams(scales, (0,) * count, axis)),
        builder.constant(f"{name}/bias", bias, bias_q),
    )


def small_graph(padding: Padding = Padding(1, 1, 1, 1)) -> Graph:  # noqa: B008 (frozen)
    """int8: conv2d 'first', depthwise_conv2d 'second', reshape 'flat', dense 'last', softmax 'scores'."""
    b = GraphBuilder("small")
    x = b.input("image", (6, 5, 3), INPUT)
    conv = (x, *weighted(b, "first", (4, 3, 3, 3), 0, 1))
    y = b.add("conv2d", "first", conv, conv2d.Attrs(padding=padding, activation="relu"), HIDDEN)
    depthwise = (y, *weighted(b, "second", (3, 3, 4), 2, 2))
    y = b.add("depthwise_conv2d", "second", depthwise, depthwise_conv2d.Attrs((2, 2)), HIDDEN)
    elements = b.tensor(y).elements
    y = b.add("reshape", "flat", (y,), reshape.Attrs((elements,)), HIDDEN)
    y = b.add("dense", "last", (y, *weighted(b, "last", (7, elements), 0, 3)), dense.Attrs(), HIDDEN)
    y = b.add("softmax", "scores", (y,), softmax.Attrs(), QParams.per_tensor(1 / 256, -128))
    return b.build((y,))


def small_file() -> bytes:
    """small_graph as a .tflite file."""
    return export_tflite(small_graph())


def tampered(data: bytes, change: Callable[[Any], object]) -> bytes:
    """The file after `change` has edited its ModelT object; everything the object holds is written again."""
    import flatbuffers

    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(bytearray(data), 0))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def tensor_named(model: Any, name: str) -> Any:
    """The TensorT of that name in a ModelT."""
    return next(t for t in model.subgraphs[0].tensors if t.name.decode() == name)
