"""What the Keras handlers of several operators share. `layer` is always a Keras layer object (never imported here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.graph import Array, GraphBuilder, Shape
from tinygen.ops.windows import Pair


@dataclass(frozen=True)
class TwoD:
    """The input of a 1D or 2D layer seen as (height, width, channels), with the layer's geometry as pairs."""

    tensor: str
    shape: Shape
    strides: Pair
    dilation: Pair


def pair(value: Any) -> Pair:
    """(1, n) for 1D geometry, (h, w) for 2D."""
    values = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),)
    return (1, values[0]) if len(values) == 1 else (values[0], values[1])


def reshape(name: str, tensor: str, shape: Shape, builder: GraphBuilder) -> str:
    """Append a reshape unless the tensor has that shape already."""
    from tinygen.ops import reshape as op

    if builder.shape(tensor) == shape:
        return tensor
    return builder.add("reshape", name, (tensor,), op.Attrs(shape), builder.tensor(tensor).qparams)


def as_2d(layer: Any, tensor: str, builder: GraphBuilder) -> TwoD:
    """See (length, channels) as (1, length, channels): 1D layers are 2D layers of height 1."""
    shape = builder.shape(tensor)
    if len(shape) == 2:
        tensor = reshape(f"{layer.name}/as_2d", tensor, (1, *shape), builder)
    strides = pair(getattr(layer, "strides", 1) or 1)
    dilation = pair(getattr(layer, "dilation_rate", 1))
    return TwoD(tensor, builder.shape(tensor), strides, dilation)


def is_1d(layer: Any) -> bool:
    """True for Conv1D, MaxPooling1D, Conv1DTranspose and their like."""
    return "1D" in type(layer).__name__


def from_2d(layer: Any, tensor: str, builder: GraphBuilder) -> str:
    """Back to (length, channels) behind a 1D layer."""
    if not is_1d(layer):
        return tensor
    _, width, channels = builder.shape(tensor)
    return reshape(f"{layer.name}/as_1d", tensor, (width, channels), builder)


def bias_of(layer: Any, channels: int) -> Array:
    """The layer's bias, zeros when it has none."""
    if getattr(layer, "use_bias", False):
        return np.asarray(layer.bias, np.float32)
    return np.zeros(channels, np.float32)


def activation(layer: Any, tensor: str, builder: GraphBuilder) -> str:
    """Append the layer's `activation=`, as the operator `activation` (or softmax); fuse merges what can be merged."""
    from tinygen.ops import activation as op

    return op.append_keras(layer, tensor, builder)
