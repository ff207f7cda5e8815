"""The operators: an explicit tuple. Adding one = one module, one template per kernel, one test, one line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from tinygen.ops import (
    affine,
    average_pool2d,
    conv2d,
    conv2d_transpose,
    dense,
    depthwise_conv2d,
    max_pool2d,
    mean,
    reshape,
)
from tinygen.ops.base import KerasHandler, Op

OPS: tuple[Op, ...] = (
    conv2d.OP,
    depthwise_conv2d.OP,
    conv2d_transpose.OP,
    dense.OP,
    affine.OP,
    reshape.OP,
    average_pool2d.OP,
    max_pool2d.OP,
    mean.OP,
)

BY_NAME: Mapping[str, Op] = MappingProxyType({op.name: op for op in OPS})


def get(name: str) -> Op:
    """The operator of that name."""
    return BY_NAME[name]


@cache
def keras_handlers() -> Mapping[str, KerasHandler]:
    """Keras class name -> handler, over all operators."""
    handlers: dict[str, KerasHandler] = {}
    for op in OPS:
        for kind, handler in op.keras.items():
            assert kind not in handlers, f"two operators handle Keras layer {kind}"
            handlers[kind] = handler
    return MappingProxyType(handlers)
