"""What the operators' differentiable forms share: TensorFlow versions of padding, clamps and layouts.

A differentiable form computes what `real` does, on TensorFlow tensors with a batch dimension, so that gradients flow
through it: quantization-aware training (tinygen/quantized_training/) is built on them. TensorFlow is imported when one
is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.graph import Array, BoundNode, Tensor
from tinygen.heavy import import_keras
from tinygen.ops.base import FUSED
from tinygen.ops.windows import Padding, Pair

Tensors = Sequence[Any]
"""tf.Tensors as an operator takes them: activations (N, *shape), constants without batch."""

STEP = 1e-5
"""Distance over which `elementwise` takes derivatives, in float64."""


def tensorflow() -> Any:
    """The module tensorflow, imported quietly."""
    import_keras()
    import tensorflow

    return tensorflow


def clamp(x: Any, activation: str) -> Any:
    """A fused activation."""
    low, high = FUSED[activation]
    if activation == "none":
        return x
    tf = tensorflow()
    x = tf.maximum(x, low)
    return x if high == float("inf") else tf.minimum(x, high)


def padded(x: Any, padding: Padding, fill: float = 0.0) -> Any:
    """x (N, H, W, C) with `fill` around it."""
    spans = [[0, 0], [padding.top, padding.bottom], [padding.left, padding.right], [0, 0]]
    return tensorflow().pad(x, spans, constant_values=fill) if padding.any else x


def dilated(kernel: Any, dilation: Pair) -> Any:
    """A kernel (KH, KW, A, B) with zeros between its rows and columns: TensorFlow's own dilation has no gradient on
    every processor."""
    if dilation == (1, 1):
        return kernel
    tf = tensorflow()
    height, width, *channels = kernel.shape
    spread = tf.pad(
        kernel[:, None, :, None], [[0, 0], [0, dilation[0] - 1], [0, 0], [0, dilation[1] - 1], [0, 0], [0, 0]]
    )
    whole = tf.reshape(spread, (height * dilation[0], width * dilation[1], *channels))
    return whole[: (height - 1) * dilation[0] + 1, : (width - 1) * dilation[1] + 1]


def aligned(b: BoundNode, tensors: Tensors) -> tuple[Any, Any]:
    """Both inputs with the output's rank, so that they broadcast behind the batch dimension."""
    tf, rank = tensorflow(), len(b.output.shape)

    def align(tensor: Tensor, x: Any) -> Any:
        batch = () if tensor.is_constant else (-1,)
        return tf.reshape(x, (*batch, *(1,) * (rank - len(tensor.shape)), *tensor.shape))

    return align(b.inputs[0], tensors[0]), align(b.inputs[1], tensors[1])


def elementwise(function: Callable[[Array], Array], x: Any) -> Any:
    """A function of one variable, given in numpy; where its slope jumps, the flatter side counts."""
    tf = tensorflow()

    def values(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(x), x.dtype)

    def slopes(x: Array) -> Array:
        wide = x.astype(np.float64)
        here = values(wide)
        left, right = (here - values(wide - STEP)) / STEP, (values(wide + STEP) - here) / STEP
        return np.where(np.abs(left) < np.abs(right), left, right).astype(x.dtype)

    def called(function: Callable[[Array], Array], x: Any) -> Any:
        y = tf.numpy_function(function, [x], x.dtype)
        y.set_shape(x.shape)
        return y

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def apply(x: Any) -> tuple[Any, Callable[[Any], Any]]:
        return called(values, x), lambda upstream: upstream * called(slopes, x)

    return apply(x)
