"""Random layers with sliding windows: convolutions and poolings, 1D and 2D. Each maker takes (sketch, tensor)."""

from __future__ import annotations

from typing import Any

from tests.fuzz.sketch import Sketch, Unsuitable, elements, shape

MAX_MACS = 120_000


def _window(s: Sketch, sizes: tuple[int, ...], one_d: bool, paddings: tuple[str, ...]) -> dict[str, Any]:
    """kernel_size, strides, dilation_rate, padding for an input of these sizes (Keras: no stride with dilation)."""
    padding = s.one(paddings)
    square = s.chance(0.5)
    kernel = [s.one((1, 1, 2, 3, 3, 4, 5)) for _ in sizes]
    stride, dilation = [1] * len(sizes), [1] * len(sizes)
    if s.chance(0.4):
        stride = [s.number(1, 3) for _ in sizes]
    elif s.chance(0.8):
        dilation = [s.number(1, 3) for _ in sizes]
    if square:
        kernel, stride, dilation = (v[:1] * len(sizes) for v in (kernel, stride, dilation))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == "valid" and any(r > n for r, n in zip(reach, sizes, strict=True)):
        padding = "same"
    form = (lambda v: v[0]) if one_d else tuple
    return {
        "kernel_size": form(kernel),
        "strides": form(stride),
        "dilation_rate": form(dilation),
        "padding": padding,
    }


def _guard(s: Sketch, x: Any, window: dict[str, Any], filters: int, factor: int = 1) -> None:
    kernel = window["kernel_size"]
    taps = kernel if isinstance(kernel, int) else kernel[0] * kernel[1]
    if factor * taps * filters * elements(shape(x)) > MAX_MACS:
        raise Unsuitable


def convolution(s: Sketch, x: Any) -> Any:
    """Conv1D or Conv2D, also with groups."""
    one_d = s.is_1d(x)
    *sizes, channels = shape(x)
    window = _window(s, tuple(sizes), one_d, ("valid", "same", "causal") if one_d else ("valid", "same"))
    groups = s.one([g for g in (1, 2, 3, 4) if channels % g == 0]) if s.chance(0.6) else 1
    filters = groups * s.number(1, max(1, 9 // groups))
    _guard(s, x, window, filters)
    more = {"use_bias": s.chance(0.7), "activation": s.activation(), "groups": groups}
    return s.layer("Conv1D" if one_d else "Conv2D", filters=filters, **window, **more)(x)


def depthwise(s: Sketch, x: Any) -> Any:
    """DepthwiseConv1D or 2D; TensorFlow wants equal strides."""
    return _by_channel(s, x, "DepthwiseConv", {})


def separable(s: Sketch, x: Any) -> Any:
    """SeparableConv1D or 2D."""
    return _by_channel(s, x, "SeparableConv", {"filters": s.number(1, 8)})


def _by_channel(s: Sketch, x: Any, kind: str, more: dict[str, Any]) -> Any:
    one_d = s.is_1d(x)
    *sizes, channels = shape(x)
    window = _window(s, tuple(sizes), one_d, ("valid", "same"))
    if not one_d:
        stride = max(window["strides"])
        window["strides"] = (stride, stride)
        if s.chance(0.3):  # what networks have, and most kernels are for
            window |= {"kernel_size": (3, 3), "strides": (1, 1), "dilation_rate": (1, 1), "padding": "same"}
    multiplier = s.one((1, 1, 2, 3)) if channels <= 8 else 1
    _guard(s, x, window, multiplier * more.get("filters", 1))
    more = {**more, "use_bias": s.chance(0.7), "activation": s.activation(), "depth_multiplier": multiplier}
    return s.layer(kind + ("1D" if one_d else "2D"), **window, **more)(x)


def transposed(s: Sketch, x: Any) -> Any:
    """Conv1DTranspose or Conv2DTranspose with output_padding."""
    one_d = s.is_1d(x)
    *sizes, _ = shape(x)
    window = _window(s, tuple(sizes), one_d, ("valid", "same"))
    window["dilation_rate"] = 1 if one_d else (1, 1)
    if s.chance(0.5):
        window["strides"] = s.number(2, 3) if one_d else s.pair(2, 3)
        window["padding"] = s.one(("valid", "valid", "same"))
    filters = s.number(1, 5)
    strides = (window["strides"],) if one_d else window["strides"]
    _guard(s, x, window, filters, 2)
    if window["padding"] == "valid" and min(strides) > 1:
        padding = tuple(s.number(0, n - 1) for n in strides)
        window["output_padding"] = padding[0] if one_d else padding
    more = {"use_bias": s.chance(0.7), "activation": s.activation()}
    note = f"output_padding={window.get('output_padding') is not None}"
    return s.layer(
        "Conv1DTranspose" if one_d else "Conv2DTranspose", note, filters=filters, **window, **more
    )(x)


def pooling(s: Sketch, x: Any, kind: str) -> Any:
    """MaxPooling or AveragePooling; sometimes with Keras's default stride."""
    one_d = s.is_1d(x)
    size = [s.number(1, min(4, n)) for n in shape(x)[:-1]]
    stride = [s.one((1, 1, 2, 3)) for _ in size]
    form = (lambda v: v[0]) if one_d else tuple
    if s.chance(0.5):
        size, stride = [min(size)] * len(size), stride[:1] * len(size)
    strides = None if s.chance(0.3) else form(stride)
    kind += "1D" if one_d else "2D"
    return s.layer(kind, pool_size=form(size), strides=strides, padding=s.one(("valid", "same")))(x)


def global_pooling(s: Sketch, x: Any, kind: str) -> Any:
    """GlobalMaxPooling or GlobalAveragePooling."""
    return s.layer(kind + ("1D" if s.is_1d(x) else "2D"), keepdims=s.chance(0.5))(x)
