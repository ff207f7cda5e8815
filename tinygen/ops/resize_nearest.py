"""resize_nearest: every pixel repeated an integer number of times along height and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.errors import UnsupportedLayerError
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, GraphBuilder, Shape
from tinygen.ops.base import SAME, Op, Scaling, always, no_macs, no_quantize
from tinygen.ops.coupling import same_channels
from tinygen.ops.intervals import rising
from tinygen.ops.keras_common import as_2d, from_2d, pair, reshape
from tinygen.ops.movement import (
    Copied,
    box_copy,
    moving_kernels,
    of_rank,
    one_scale,
    strides,
    tflite_factor,
)
from tinygen.ops.tensors import Tensors, tensorflow
from tinygen.ops.windows import Pair

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


@dataclass(frozen=True)
class Attrs:
    """factor: (height, width), how often each row and each column is repeated."""

    factor: Pair


# ---- constraints


def at_least_once(b: BoundNode) -> bool:
    """both factors must be at least 1"""
    attrs: Attrs = b.attrs
    return min(attrs.factor) >= 1


# ---- Keras


def from_keras(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """UpSampling1D, and UpSampling2D with interpolation 'nearest' or 'bilinear'."""
    from tinygen.ops import resize_bilinear

    kinds = {"nearest": ("resize_nearest", Attrs), "bilinear": ("resize_bilinear", resize_bilinear.Attrs)}
    kind = getattr(layer, "interpolation", "nearest")
    if kind not in kinds:
        why = f"interpolation='{kind}'; 'nearest' and 'bilinear' are known"
        raise UnsupportedLayerError(layer.name, "UpSampling2D", why, "use interpolation='bilinear'")
    op, attrs = kinds[kind]
    two_d = as_2d(layer, inputs[0], builder)
    return from_2d(layer, builder.add(op, layer.name, (two_d.tensor,), attrs(pair(layer.size))), builder)


def repeat_vector(layer: Any, inputs: Sequence[str], builder: GraphBuilder) -> str:
    """RepeatVector: (F,) -> (n, F), the repeated row of an image of height 1 and width 1."""
    (features,) = builder.shape(inputs[0])
    pixel = reshape(f"{layer.name}/as_2d", inputs[0], (1, 1, features), builder)
    repeated = builder.add("resize_nearest", layer.name, (pixel,), Attrs((1, int(layer.n))))
    return reshape(f"{layer.name}/as_1d", repeated, (int(layer.n), features), builder)


# ---- shapes, evaluation


def infer(attrs: Attrs, shapes: tuple[Shape, ...]) -> Shape:
    """(H, W, C) -> (H * factor, W * factor, C)."""
    height, width, channels = shapes[0]
    return height * attrs.factor[0], width * attrs.factor[1], channels


def scaling(b: BoundNode) -> Scaling:
    """The bytes are only repeated."""
    return SAME


def real(b: BoundNode, arrays: Sequence[Array]) -> Array:
    """The repeated numbers."""
    return arrays[0].repeat(b.attrs.factor[0], axis=1).repeat(b.attrs.factor[1], axis=2)


def differentiable(b: BoundNode, xs: Tensors) -> Any:
    """The repeated numbers."""
    tf = tensorflow()
    return tf.repeat(tf.repeat(xs[0], b.attrs.factor[0], axis=1), b.attrs.factor[1], axis=2)


def params(b: BoundNode) -> Copied:
    """A copy whose repetitions do not move in the input."""
    height, width, channels = b.inputs[0].shape
    box = (height, b.attrs.factor[0], width, b.attrs.factor[1], channels)
    return Copied(box_copy(box, (width * channels, 0, channels, 0, 1), strides(box), b.output.itemsize))


def reference(b: BoundNode, arrays: Sequence[Array], rounding: Rounding) -> Array:
    """The repeated bytes."""
    return real(b, arrays)


# ---- TFLite


def to_tflite(b: BoundNode, writer: TfliteWriter) -> None:
    """RESIZE_NEAREST_NEIGHBOR."""
    append_tflite(writer, b.name, writer.activation(b.inputs[0]), writer.activation(b.output), b.output.shape)


def append_tflite(writer: TfliteWriter, name: str, source: int, target: int, shape: Shape) -> None:
    """Resize tensor `source` to `target` of `shape`; half-pixel centres keep LiteRT's floats off integers."""
    size = writer.raw(f"{name}/size", np.array(shape[:2], np.int32))
    options = {"alignCorners": False, "halfPixelCenters": True}
    writer.add(
        "RESIZE_NEAREST_NEIGHBOR", [source, size], target, "ResizeNearestNeighborOptions", options, version=3
    )


def from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """RESIZE_NEAREST_NEIGHBOR by integer factors."""
    x = of_rank(op, builder, 3)
    if op.options.alignCorners:
        raise op.error("align_corners=True; only False is allowed")
    factor = tflite_factor(op, builder.shape(x))
    centre = 0.5 if op.options.halfPixelCenters else 0.0
    if not all(map(_repeats, builder.shape(x), factor, (centre, centre))):
        raise op.error("TFLite computes its pixel positions in float, and here they are not the exact ones")
    return builder.add("resize_nearest", op.name, (x,), Attrs(factor), op.output_qparams())


def tile_from_tflite(op: TfliteOperator, builder: GraphBuilder) -> str:
    """TILE along one axis of length 1, as converters write UpSampling2D: EXPAND_DIMS, TILE, RESHAPE."""
    x, multiples = op.activation(0), op.tensor(1).data
    shape = (1, *builder.shape(x))
    if multiples is None or multiples.shape != (len(shape),):
        raise op.error("its multiples must be constants, one per axis")
    axes = [axis for axis, count in enumerate(multiples) if count != 1]
    if len(axes) != 1 or axes[0] == 0 or shape[axes[0]] != 1:
        raise op.error(
            f"it repeats {list(shape)} {multiples.tolist()} times; one axis of length 1 can be repeated"
        )
    axis = axes[0]
    inner = int(np.prod(shape[axis:], dtype=np.int64))
    pixels = reshape(f"{op.name}/pixels", x, (1, int(np.prod(shape)) // inner, inner), builder)
    attrs = Attrs((1, int(multiples[axis])))
    repeated = builder.add("resize_nearest", op.name, (pixels,), attrs, op.output_qparams())
    return reshape(f"{op.name}/shape", repeated, op.output_shape(), builder)


def _repeats(size: int, factor: int, centre: float) -> bool:
    """True when TFLite's float32 positions hit pixel i for the outputs from i * factor on, factor times."""
    scale = np.float32(size) / np.float32(size * factor)
    outputs = np.arange(size * factor)
    positions = np.floor((outputs.astype(np.float32) + np.float32(centre)) * scale)
    return bool(np.array_equal(positions, outputs // factor))


OP = Op(
    name="resize_nearest",
    summary="pixels repeated along height and width; repeated vectors",
    attrs=Attrs,
    inputs=("input",),
    infer=infer,
    real=real,
    differentiable=differentiable,
    scaling=scaling,
    quantize=no_quantize,
    params=params,
    reference=reference,
    macs=no_macs,
    kernels=moving_kernels("resize_nearest"),
    constraints=(at_least_once, one_scale),
    keras={"UpSampling1D": from_keras, "UpSampling2D": from_keras, "RepeatVector": repeat_vector},
    keras_notes={"UpSampling2D": "interpolation='nearest'"},
    passes_factors=always,
    to_tflite=to_tflite,
    passes_clamp=True,
    from_tflite={"RESIZE_NEAREST_NEIGHBOR": from_tflite, "TILE": tile_from_tflite},
    channels=same_channels,
    bounds=rising(reference),
)
