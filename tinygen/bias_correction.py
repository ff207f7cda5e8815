"""Bias correction: rounding shifts the mean of every channel a little; the biases take these shifts back.

Layer by layer over calibration samples: the mean, per output channel and before the activation, of float
result minus simulated int8 result (whose inputs carry all rounding and corrections before it) is added to the
bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tinygen import ops
from tinygen.calibration import activation_bytes
from tinygen.graph import Array, BoundNode, Graph, QParams
from tinygen.ops.base import clamp_real
from tinygen.simulation import Simulator, State, rounded

MOST_SAMPLES, MOST_BYTES = 128, 150_000_000
"""Samples that the means are taken over, at most, and bytes of their activations."""


def correct(simulator: Simulator, x: tuple[Array, ...], qparams: Mapping[str, QParams]) -> dict[str, Array]:
    """Bias constant name -> corrected values. simulator: its constants are rounded; x: samples, (N, *shape)
    each."""
    graph = simulator.graph
    exact = replace(
        simulator, constants={t.name: t.data for t in graph.tensors.values() if t.data is not None}
    )
    rounding = replace(simulator, x=tuple(_spread(a, MOST_BYTES // activation_bytes(graph)) for a in x))
    floats: State = replace(exact, x=rounding.x).start({})
    ints: State = rounding.start(qparams)
    corrected: dict[str, Array] = {}
    for b in graph.bound():
        if not _has_bias(graph, b):
            floats |= exact.run([b], floats, {})
            ints |= rounding.run([b], ints, qparams)
            continue
        wanted, got = (_before_activation(s, b, state) for s, state in ((exact, floats), (rounding, ints)))
        shift = _mean_shift(wanted, got)
        bias = b.inputs[2].name
        corrected[bias] = simulator.constants[bias] + shift
        floats[b.output.name] = clamp_real(wanted, b.attrs.activation)
        output = clamp_real(got + shift, b.attrs.activation)
        ints[b.output.name] = rounded(output, qparams[b.output.name]) if b.output.name in qparams else output
    return corrected


def _mean_shift(wanted: Array, got: Array) -> Array:
    """Mean difference per channel, in steps of 1/16,384 or less of the greatest value: see calibrators.coarse."""
    shift = (wanted - got).mean(axis=tuple(range(got.ndim - 1)), dtype=np.float64)
    step = np.ldexp(1.0, int(np.frexp(np.abs(wanted).max())[1]) - 15)
    return np.asarray(np.rint(shift / step) * step, np.float32)


def _spread(x: Array, room: int) -> Array:
    """At most MOST_SAMPLES and `room` of the samples, at even distances: sets are often sorted."""
    count = min(len(x), MOST_SAMPLES, max(room, 4))
    return x[(np.arange(count) * len(x)) // count]


def _has_bias(graph: Graph, b: BoundNode) -> bool:
    """True for layers with a bias per output channel that is theirs alone."""
    return (
        ops.get(b.node.op).inputs[1:] == ("weights", "bias") and len(graph.consumers[b.inputs[2].name]) == 1
    )


def _before_activation(simulator: Simulator, b: BoundNode, state: State) -> Array:
    """The layer's result without its fused activation."""
    plain = replace(b, node=replace(b.node, attrs=replace(b.attrs, activation="none")))
    return simulator.run([plain], state, {})[b.output.name]
