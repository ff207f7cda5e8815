"""What conv2d and depthwise_conv2d share: the numbers of a window sliding over an image, and TFLite's form of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinygen.graph import BoundNode, Shape
from tinygen.ops.base import Clamp, clamp_f32
from tinygen.ops.requant import Requant, requant_of
from tinygen.ops.windows import Padding, Pair, keras_padding, overhang, tflite_padding

if TYPE_CHECKING:
    from tinygen.tflite.reader import TfliteOperator
    from tinygen.tflite.writer import TfliteWriter


def window_fits(b: BoundNode) -> bool:
    """the dilated kernel must not be larger than the padded input"""
    return min(b.output.shape) > 0


@dataclass(frozen=True)
class Geometry:
    """The window and what it slides over.

    A group reads in_c / groups input channels and writes out_c / groups output channels.
    """

    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    overhang: Padding
    groups: int

    @property
    def depth_multiplier(self) -> int:
        """Output channels of a group."""
        return self.out_c // self.groups


@dataclass(frozen=True)
class Params(Geometry):
    """The numbers that the int8 template and the reference both use."""

    input_zero_point: int
    requant: Requant


@dataclass(frozen=True)
class RealParams(Geometry):
    """The numbers that the float32 template uses."""

    clamp: Clamp


def params(b: BoundNode, kernel: Pair, groups: int) -> Params:
    """Numbers of one quantized node."""
    window = vars(geometry(b, kernel, groups))
    return Params(**window, input_zero_point=b.inputs[0].zero_point, requant=requant_of(b))


def real_params(b: BoundNode, kernel: Pair, groups: int) -> RealParams:
    """Numbers of one float node."""
    return RealParams(**vars(geometry(b, kernel, groups)), clamp=clamp_f32(b.attrs.activation))


def geometry(b: BoundNode, kernel: Pair, groups: int) -> Geometry:
    """The window of one node."""
    attrs, x = b.attrs, b.inputs[0]
    in_h, in_w, in_c = x.shape
    out_h, out_w, out_c = b.output.shape
    return Geometry(
        in_h=in_h,
        in_w=in_w,
        in_c=in_c,
        out_h=out_h,
        out_w=out_w,
        out_c=out_c,
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=attrs.stride[0],
        stride_w=attrs.stride[1],
        dilation_h=attrs.dilation[0],
        dilation_w=attrs.dilation[1],
        pad_top=attrs.padding.top,
        pad_left=attrs.padding.left,
        overhang=overhang(attrs.padding, x.shape, b.output.shape, kernel, attrs.stride, attrs.dilation),
        groups=groups,
    )


# ---- TFLite


def export_window(b: BoundNode, kernel: Pair, writer: TfliteWriter) -> tuple[int, dict[str, int]]:
    """(input tensor, options) of the TFLite operator; padding that TFLite has no name for becomes a PAD in front."""
    attrs, x = b.attrs, b.inputs[0]
    name = tflite_padding(attrs.padding, x.shape, kernel, attrs.stride, attrs.dilation)
    source = writer.activation(x) if name else writer.pad(x, attrs.padding)
    options = {
        "padding": writer.padding(name or "VALID"),
        "strideH": attrs.stride[0],
        "strideW": attrs.stride[1],
        "dilationHFactor": attrs.dilation[0],
        "dilationWFactor": attrs.dilation[1],
        "fusedActivationFunction": writer.fused(attrs.activation),
    }
    return source, options


def import_window(op: TfliteOperator, shape: Shape, kernel: Pair) -> tuple[Pair, Pair, Padding]:
    """(stride, dilation, padding) of the TFLite operator, for an input of this shape."""
    options = op.options
    stride, dilation = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    return stride, dilation, keras_padding(op.padding(options.padding), shape, kernel, stride, dilation)
