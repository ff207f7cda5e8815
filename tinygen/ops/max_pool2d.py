"""max_pool2d: the largest element of each window. 1D and global max pooling are this operator, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder
from tinygen.ops import pooling, pooling_dsp
from tinygen.ops.base import Kernel, Op, always, clamp_real, no_macs, no_quantize
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import rising
from tinygen.ops.keras_common import as_2d, reshape
from tinygen.ops.movement import one_scale
from tinygen.ops.pooling import Attrs
from tinygen.ops.tensors import Tensors, clamp, padded, tensorflow

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator

__all__ = ["OP", "Attrs"]


# ---- Keras


def global_from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """GlobalMaxPooling 1D/2D: one window over everything."""
    two_d = as_2d(layer, inputs[0], builder)
    height, width, channels = two_d.shape
    attrs = Attrs((height, width), (1, 1))
    output = builder.add("max_pool2d", layer.name, (two_d.tensor,), attrs)
    kept = (1,) * (len(builder.shape(inputs[0])) - 1) if layer.keepdims else ()
    return reshape(f"{layer.name}/reshape", output, (*kept, channels), builder)


# ---- evaluation


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The largest number of each window."""
    view = pooling.window_view(arrays[0], b.attrs, -np.inf)
    return clamp_real(view.max(axis=(4, 5)), b.attrs.activation)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The largest number of each window."""
    tf = tensorflow()
    x = padded(xs[0], b.attrs.padding, xs[0].dtype.min)
    return clamp(tf.nn.max_pool2d(x, b.attrs.window, b.attrs.stride, "VALID"), b.attrs.activation)


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """out = clamp(max(in)); padding holds the lowest integer, which no element is below."""
    p = pooling.params(b)
    view = pooling.window_view(arrays[0], b.attrs, b.output.q.low)
    return b.output.q.narrowed(np.clip(view.max(axis=(4, 5)), p.activation_min, p.activation_max))


# ---- TFLite


def global_from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """REDUCE_MAX over height and width."""
    from tinygen.ops.mean import spatial

    x = spatial(op, builder)
    height, width, _ = builder.shape(x)
    attrs = Attrs((height, width), (1, 1))
    output = builder.add("max_pool2d", op.name, (x,), attrs, op.output_qparams())
    return reshape(f"{op.name}/reshape", output, op.output_shape(), builder)


KERNELS = (
    Kernel("tg_max_pool2d_s8", pooling.cost_portable, template="tg_max_pool2d"),
    pooling_dsp.MAX,
    Kernel("tg_max_pool2d_s16", pooling.cost_portable, template="tg_max_pool2d", dtype="int16"),
    Kernel(
        "tg_max_pool2d_f32",
        pooling.cost_portable,
        dtype="float32",
        params=pooling.params_f32,
        template="tg_max_pool2d",
    ),
)

OP = Op(
    name="max_pool2d",
    summary="maximum over windows, 1D and 2D, any size, stride and padding; global maximum",
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
    constraints=(pooling.window_fits, pooling.window_sees_input, one_scale),
    keras={
        "MaxPooling1D": pooling.keras_handler("max_pool2d"),
        "MaxPooling2D": pooling.keras_handler("max_pool2d"),
        "GlobalMaxPooling1D": global_from_keras,
        "GlobalMaxPooling2D": global_from_keras,
    },
    passes_factors=always,
    to_tflite=pooling.tflite_writer("MAX_POOL_2D"),
    passes_clamp=True,
    from_tflite={"MAX_POOL_2D": pooling.tflite_reader("max_pool2d"), "REDUCE_MAX": global_from_tflite},
    channels=same_channels,
    bounds=rising(reference),
)
