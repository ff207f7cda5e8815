"""Small real graphs for tests that need no Keras."""

from __future__ import annotations

from functools import cache

import numpy as np

from tinygen.calibration import calibrate
from tinygen.graph import Graph, GraphBuilder
from tinygen.ops import add, conv2d, dense, reshape, softmax
from tinygen.ops.windows import Padding
from tinygen.quantization import quantize
from tinygen.samples import Samples
from tinygen.simplification import simplify


def float_graph(seed: int = 0, channels: int = 4) -> Graph:
    """(6, 5, 2) -> conv, residual conv, dense, softmax over 3 classes."""
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]) + 1)

    builder = GraphBuilder("small net")
    x = builder.input("image", (6, 5, 2))
    same = conv2d.Attrs(padding=Padding(1, 1, 1, 1), activation="relu")

    def convolution(name: str, tensor: str, inputs: int) -> str:
        weights = builder.constant(f"{name}/weights", random(channels, 3, 3, inputs))
        return builder.add(
            "conv2d", name, (tensor, weights, builder.constant(f"{name}/bias", random(channels))), same
        )

    stem = convolution("stem", x, 2)
    joined = builder.add("add", "join", (stem, convolution("body", stem, channels)), add.Attrs())
    flat = builder.add("reshape", "flat", (joined,), reshape.Attrs((30 * channels,)))
    head = builder.constant("head/weights", random(3, 30 * channels))
    logits = builder.add(
        "dense", "head", (flat, head, builder.constant("head/bias", random(3))), dense.Attrs()
    )
    return builder.build((builder.add("softmax", "scores", (logits,), softmax.Attrs()),))


@cache
def int8_graph(seed: int = 0, channels: int = 4) -> Graph:
    """float_graph, quantized on random samples."""
    graph = float_graph(seed, channels)
    x = np.random.default_rng(seed + 1).normal(size=(40, 6, 5, 2)).astype(np.float32)
    calibration = calibrate(graph, Samples((x,), grids=(None,)))
    return simplify(quantize(graph, calibration).graph)
