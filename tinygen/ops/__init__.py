"""The operators: an explicit tuple. Adding one = one module, one template per kernel, one test, one line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from tinygen.graph import BoundNode
from tinygen.ops import (
    activation,
    add,
    affine,
    average_pool2d,
    concat,
    conv2d,
    conv2d_transpose,
    crop,
    dense,
    depthwise_conv2d,
    max_pool2d,
    maximum,
    mean,
    minimum,
    mul,
    pad,
    prelu,
    requantize,
    rescale,
    reshape,
    resize_bilinear,
    resize_nearest,
    softmax,
    sub,
    transpose,
)
from tinygen.ops.base import KerasHandler, Op
from tinygen.ops.coupling import Layout

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
    add.OP,
    sub.OP,
    mul.OP,
    maximum.OP,
    minimum.OP,
    requantize.OP,
    rescale.OP,
    activation.OP,
    prelu.OP,
    softmax.OP,
    concat.OP,
    pad.OP,
    crop.OP,
    transpose.OP,
    resize_nearest.OP,
    resize_bilinear.OP,
)

BY_NAME: Mapping[str, Op] = MappingProxyType({op.name: op for op in OPS})


def macs(nodes: Iterable[BoundNode]) -> int:
    """Multiply-accumulates of one inference of these nodes."""
    return sum(get(b.node.op).macs(b) for b in nodes)


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


@cache
def keras_layouts() -> Mapping[str, Layout]:
    """Keras class name -> where its layers keep their numbers, over all operators."""
    return MappingProxyType({kind: layout for op in OPS for kind, layout in op.layouts.items()})
