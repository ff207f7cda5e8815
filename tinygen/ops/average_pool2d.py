"""average_pool2d: the mean of the input's elements in each window; padding does not count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode
from tinygen.ops import pooling, pooling_dsp
from tinygen.ops.base import Kernel, Op, always, clamp_real, no_macs, no_quantize
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import rising
from tinygen.ops.movement import one_scale
from tinygen.ops.pooling import Attrs
from tinygen.ops.tensors import Tensors, clamp, padded, tensorflow

__all__ = ["OP", "Attrs"]


# ---- constraints


def bounded_sum(b: BoundNode) -> bool:
    """a pooling window must have at most 8,388,608 elements (int16: 32,768), so that the int32 sum cannot overflow"""
    wide = b.output.qparams is not None and b.output.q.bits == 16
    return int(np.prod(b.attrs.window)) <= (2**15 if wide else 2**23)


# ---- evaluation


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The mean of each window."""
    view = pooling.window_view(arrays[0], b.attrs, 0)
    means = view.sum(axis=(4, 5)) / pooling.counts(b.attrs, b.inputs[0].shape).astype(arrays[0].dtype)
    return clamp_real(means, b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The mean of each window; zeros of the padding are not counted."""
    tf, window = tensorflow(), b.attrs.window
    means = tf.nn.avg_pool2d(padded(xs[0], b.attrs.padding), window, b.attrs.stride, "VALID")
    shares = window[0] * window[1] / pooling.counts(b.attrs, b.inputs[0].shape)
    return clamp(means * tf.constant(shares, means.dtype), b.attrs.activation)


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(round(sum(in) / count)), halves away from zero; zero_point included."""
    p = pooling.params(b)
    sums = pooling.window_view(arrays[0].astype(np.int64), b.attrs, 0).sum(axis=(4, 5))
    count = pooling.counts(b.attrs, b.inputs[0].shape)
    means = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    return b.output.q.narrowed(np.clip(means, p.activation_min, p.activation_max))


KERNELS = (
    Kernel("tg_average_pool2d_s8", pooling.cost_portable, template="tg_average_pool2d"),
    pooling_dsp.AVERAGE,
    Kernel("tg_average_pool2d_s16", pooling.cost_portable, template="tg_average_pool2d", dtype="int16"),
    Kernel("tg_average_pool2d_f32", pooling.cost_portable, dtype="float32", params=pooling.params_f32),
)

OP = Op(
    name="average_pool2d",
    summary="average over windows, 1D and 2D, any size, stride and padding; padding does not count",
    attrs=Attrs,
    inputs=("input",),
    infer=pooling.infer,
    real=real,
    differentiable=differentiable,
    scaling=pooling.scaling,
    quantize=no_quantize,
    params=pooling.params,
    reference=reference,
    macs=no_macs,
    kernels=KERNELS,
    constraints=(pooling.window_fits, pooling.window_sees_input, bounded_sum, one_scale),
    keras={
        "AveragePooling1D": pooling.keras_handler("average_pool2d"),
        "AveragePooling2D": pooling.keras_handler("average_pool2d"),
    },
    passes_factors=always,
    to_tflite=pooling.tflite_writer("AVERAGE_POOL_2D"),
    from_tflite={"AVERAGE_POOL_2D": pooling.tflite_reader("average_pool2d")},
    channels=same_channels,
    bounds=rising(reference),
)
