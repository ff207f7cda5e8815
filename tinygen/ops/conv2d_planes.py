"""conv2d of one input channel on DSP cores: depthwise_conv2d whose multiplier is the number of output channels, by the
kernels of depthwise_dsp.py. The input is widened once, and weights stay in registers while they slide over it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinygen.boards import Board
from tinygen.graph import BoundNode, QParams
from tinygen.ops import depthwise_dsp
from tinygen.ops.base import Kernel


def as_depthwise(b: BoundNode) -> BoundNode:
    """The node with weights (KH, KW, out_c); it must have one input channel."""
    x, weights, bias = b.inputs
    channels, *window, _ = weights.shape
    data = None if weights.data is None else np.moveaxis(weights.data[..., 0], 0, -1)
    shape = (window[0], window[1], channels)
    turned = replace(weights, shape=shape, data=data, qparams=_last(weights.qparams))
    return replace(b, inputs=(x, turned, bias))


def _last(q: QParams | None) -> QParams | None:
    """The channels' axis is the last one now."""
    return q if q is None or q.axis is None else replace(q, axis=2)


def of(kernel: Kernel) -> Kernel:
    """A kernel of depthwise_conv2d, for conv2d."""

    def supports(b: BoundNode, board: Board | None) -> bool:
        return b.inputs[0].shape[2] == 1 and kernel.supports(as_depthwise(b), board)

    assert kernel.params is not None
    numbers = kernel.params
    return replace(
        kernel,
        name=kernel.name.replace("depthwise_conv2d_s8_dsp", "conv2d_s8_dsp_planes"),
        cost=lambda b: kernel.cost(as_depthwise(b)),
        supports=supports,
        constants=lambda b: kernel.constants(as_depthwise(b)),
        scratch=lambda b: kernel.scratch(as_depthwise(b)),
        in_place=lambda b: kernel.in_place(as_depthwise(b)),
        reads=lambda b, role, values, macs: kernel.reads(as_depthwise(b), role, values, macs),
        params=lambda b: numbers(as_depthwise(b)),
        template=kernel.name,
    )


KERNELS = tuple(of(kernel) for kernel in depthwise_dsp.KERNELS)
