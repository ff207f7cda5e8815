"""TimeDistributed: a layer applied to every step of the first axis.

Layers that work on the last axis, elementwise, or only change the shape take all steps at once; every other
layer is applied step by step (crop, layer, concatenate), which is exact for any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygen.errors import UnsupportedLayerError
from tinygen.graph import GraphBuilder

MAX_STEPS = 64
"""Steps that are unrolled: each is a copy of the layer's code."""

Apply = Callable[[Any, tuple[str, ...]], str]

_AT_ONCE = frozenset({"Dense", "ReLU", "ReLU6", "LeakyReLU", "ELU", "Activation", "Rescaling"})
_RESHAPES = frozenset({"Flatten", "Reshape"})


def append(layer: Any, tensor: str, builder: GraphBuilder, apply: Apply) -> str:
    """Append the wrapped layer for a (steps, ...) tensor. apply: hands a layer to its operator."""
    from tinygen.frontend import safety
    from tinygen.ops.keras_common import reshape

    inner = layer.layer
    kind = type(inner).__name__
    steps, *rest = builder.shape(tensor)
    if kind in safety.IDENTITY or kind in _AT_ONCE or _normalizes_last_axis(inner):
        return apply(inner, (tensor,))
    if kind in _RESHAPES:
        shape = inner.compute_output_shape((1, *rest))[1:]
        output = reshape(layer.name, tensor, (steps, *(int(s) for s in shape)), builder)
        with builder.inside((*builder.path, str(inner.name))):
            builder.record("output", output)
        return output
    if steps > MAX_STEPS:
        why = f"it repeats {kind} for {steps} steps, allowed are {MAX_STEPS}"
        advice = f"use a {kind} that covers the time axis"
        raise UnsupportedLayerError(layer.name, "TimeDistributed", why, advice)
    return _unrolled(layer, tensor, builder, apply)


def _normalizes_last_axis(inner: Any) -> bool:
    return type(inner).__name__ == "BatchNormalization" and inner.axis == -1


def _unrolled(layer: Any, tensor: str, builder: GraphBuilder, apply: Apply) -> str:
    """The layer once per step, its results joined along the first axis."""
    from tinygen.ops import concat
    from tinygen.ops.keras_common import reshape

    steps = builder.shape(tensor)[0]
    outputs = []
    for step in range(steps):
        output = apply(layer.layer, (_step(layer, tensor, step, builder),))
        outputs.append(reshape(f"{layer.name}/step", output, (1, *builder.shape(output)), builder))
    if steps == 1:
        return outputs[0]
    return builder.add("concat", layer.name, tuple(outputs), concat.Attrs(0))


def _step(layer: Any, tensor: str, step: int, builder: GraphBuilder) -> str:
    """One step, without the step axis."""
    from tinygen.ops import crop
    from tinygen.ops.keras_common import reshape

    steps, *rest = builder.shape(tensor)
    if steps > 1:
        spans = ((step, steps - 1 - step), *((0, 0) for _ in rest))
        tensor = builder.add("crop", f"{layer.name}/crop", (tensor,), crop.Attrs(spans))
    return reshape(f"{layer.name}/single", tensor, tuple(rest), builder)
