"""Sliding windows: the geometry that convolutions and poolings share (kernel, stride, dilation, padding)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tinygen.graph import Array, Shape

Pair = tuple[int, int]


@dataclass(frozen=True)
class Padding:
    """Elements added around height and width."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @property
    def any(self) -> bool:
        return bool(self.top or self.bottom or self.left or self.right)

    @property
    def vertical(self) -> int:
        return self.top + self.bottom

    @property
    def horizontal(self) -> int:
        return self.left + self.right


VALID = Padding()


def same_1d(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """TensorFlow's SAME padding along one axis: the odd element goes behind."""
    output = -(-size // stride)
    total = max((output - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def same_padding(size: Pair, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Padding:
    """TensorFlow's SAME padding of a (height, width) input."""
    top, bottom = same_1d(size[0], kernel[0], stride[0], dilation[0])
    left, right = same_1d(size[1], kernel[1], stride[1], dilation[1])
    return Padding(top, bottom, left, right)


def keras_padding(name: str, shape: Shape, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Padding:
    """Explicit padding for Keras's 'valid', 'same' or 'causal' on a (height, width, channels) input.

    Causal is for 1D layers, which are 2D here with height 1: all padding goes before, along width.
    """
    if name == "valid":
        return VALID
    if name == "causal":
        return Padding(left=(kernel[1] - 1) * dilation[1])
    assert name == "same", name
    return same_padding((shape[0], shape[1]), kernel, stride, dilation)


def tflite_padding(
    padding: Padding, shape: Shape, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)
) -> str | None:
    """'VALID' or 'SAME' when TFLite has a name for this padding, else None (export then adds a PAD)."""
    if not padding.any:
        return "VALID"
    return "SAME" if padding == same_padding((shape[0], shape[1]), kernel, stride, dilation) else None


def output_size(shape: Shape, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding) -> Pair:
    """(height, width) of the output (0 or less: the window does not fit)."""
    height, width = (
        (size + pad - (taps - 1) * gap - 1) // step + 1
        for size, pad, taps, step, gap in zip(
            shape[:2], (padding.vertical, padding.horizontal), kernel, stride, dilation, strict=True
        )
    )
    return height, width


def band(
    first: int, end: int, height: int, kernel: int, stride: int, dilation: int, padding: Padding
) -> tuple[Pair, Padding] | None:
    """Rows [first, end) of the input that output rows [first, end) read, and the padding that is left around these.

    None where a window may lie in the padding as a whole.
    """
    reach = (kernel - 1) * dilation + 1
    if max(padding.top, padding.bottom) >= reach:
        return None
    low, high = first * stride - padding.top, (end - 1) * stride - padding.top + reach
    inside = max(0, low), min(height, high)
    return inside, replace(padding, top=inside[0] - low, bottom=high - inside[1])


def overhang(
    padding: Padding, size: Shape, output: Shape, kernel: Pair, stride: Pair, dilation: Pair
) -> Padding:
    """How far the outermost windows reach over each border of the input: 0 where padding is never read."""
    bottom, right = (
        max(0, (outputs - 1) * step - before + (taps - 1) * gap + 1 - n)
        for outputs, step, before, taps, gap, n in zip(
            output[:2], stride, (padding.top, padding.left), kernel, dilation, size[:2], strict=True
        )
    )
    return Padding(padding.top, bottom, padding.left, right)


def windows(x: Array, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding, fill: float) -> Array:
    """All windows of x (N, H, W, C), a view of shape (N, OH, OW, C, KH, KW); padding holds `fill`."""
    if padding.any:
        spans = ((0, 0), (padding.top, padding.bottom), (padding.left, padding.right), (0, 0))
        x = np.pad(x, spans, constant_values=fill)
    reach = ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]


# ---- transposed convolution


def full_size(input_shape: Shape, kernel: Shape, stride: Pair) -> Pair:
    """(height, width) of everything that the input reaches."""
    height, width = (
        (n - 1) * step + taps for n, taps, step in zip(input_shape[:2], kernel, stride, strict=True)
    )
    return height, width


def same_size(output: Pair, stride: Pair) -> Pair:
    """Size of the input from which 'same' padding makes this output."""
    return -(-output[0] // stride[0]), -(-output[1] // stride[1])


def tf_offset(padding: str, input_shape: Shape, kernel: Shape, stride: Pair, output: Pair) -> Pair:
    """What TensorFlow cuts from top and left: half of the full result's excess for 'same', else 0."""
    if padding == "valid":
        return 0, 0
    top, left = (
        max((size - 1) * step + taps - kept, 0) // 2
        for size, taps, step, kept in zip(input_shape[:2], kernel, stride, output, strict=True)
    )
    return top, left


def dilated(weights: Array, dilation: Pair) -> Array:
    """(O, KH, KW, I) with dilation - 1 zeros between neighbouring taps."""
    channels, kernel_h, kernel_w, depth = weights.shape
    reach = ((kernel_h - 1) * dilation[0] + 1, (kernel_w - 1) * dilation[1] + 1)
    result = np.zeros((channels, *reach, depth), weights.dtype)
    result[:, :: dilation[0], :: dilation[1]] = weights
    return result
