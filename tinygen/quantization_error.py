"""What rounding to int8 costs, tensor by tensor: float graph against int8 reference on a few samples.

A project keeps this as quantization.json (to_json), for `tinygen report`: the float graph is gone after compiling.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinygen import evaluate, ops
from tinygen.graph import Array, Graph, Tensor
from tinygen.samples import quantize_inputs

FILE = "quantization.json"
SCHEMA = 1
"""Version of that file."""

MOST_SAMPLES, RUN_MACS = 16, 2.5e8
"""Samples that are run, at most, and their multiply-accumulates in all: about a second (2 samples at least)."""

EXACT_DB = 120.0
"""Above this, an error is the float graph's own rounding (24 bits are 144 dB): int8 holds the values exactly."""

BINS = 64
"""Histogram bins over int8, each 4 values wide: bin i counts -128 + 4 i ... -125 + 4 i; over int16, 1,024 wide."""

WORST = 5
"""So many channels are named per tensor."""


@dataclass(frozen=True)
class Channel:
    """One index of a tensor's last axis. snr_db: as in TensorError."""

    index: int
    snr_db: float


@dataclass(frozen=True)
class TensorError:
    """One activation. snr_db: 10 log10(power of the float values / power of the error), over all samples.

    snr_db None: exact (int8 loses nothing), no signal, or no float tensor to compare with. clipped: share (0 ... 1) of
    the float values outside of what int8 covers, None without them. histogram: counts of the int8 values, BINS long.
    worst: the channels with the smallest snr_db, that first; () for tensors with one channel.
    """

    name: str
    scale: float
    zero_point: int
    snr_db: float | None
    clipped: float | None
    histogram: tuple[int, ...]
    worst: tuple[Channel, ...]


@dataclass(frozen=True)
class QuantizationError:
    """samples: how many were run. compared: False where there is no float graph (the model came as int8)."""

    samples: int
    compared: bool
    tensors: tuple[TensorError, ...]


def measure(real: Graph | None, quantized: Graph, x: Sequence[Array]) -> QuantizationError:
    """Every activation of the int8 graph, on samples spread over x (float32, (N, *shape) per graph input).

    real: the float graph that was quantized, with channels as the int8 graph had them (equalized, if it was) before
    simplify; None gives histograms only. Activations with the same name are the same thing. `worst` counts the channels
    that are left.
    """
    chosen = tuple(a[_spread(len(a), quantized)] for a in x)
    floats: dict[str, Array] = {}
    if real is not None:
        wanted = {name for name, t in quantized.tensors.items() if not t.is_constant}
        evaluate.real(real, chosen, lambda name, a: floats.update({name: a} if name in wanted else {}))
    found: list[TensorError] = []

    def visit(name: str, integers: Array) -> None:
        real = floats.pop(name, None)
        if real is not None and name in quantized.removed:
            real = np.delete(real, quantized.removed[name], axis=-1)
        found.append(_tensor_error(quantized.tensors[name], integers, real))

    evaluate.reference(quantized, quantize_inputs(quantized, chosen), visit=visit)
    return QuantizationError(len(chosen[0]), real is not None, tuple(found))


def _spread(count: int, graph: Graph) -> Array:
    """Indices of the samples that are run, at even distances: sets are often sorted by class."""
    macs = ops.macs(graph.bound())
    size = min(count, MOST_SAMPLES, max(2, int(RUN_MACS / max(macs, 1))))
    return np.asarray((np.arange(size) * count) // size)


def _tensor_error(tensor: Tensor, integers: Array, real: Array | None) -> TensorError:
    """integers, real: (N, *shape) of the same activation."""
    span = 1 << tensor.q.bits
    counts = np.bincount(
        (integers.reshape(-1).astype(np.int64) + span // 2) // (span // BINS), minlength=BINS
    )
    histogram = tuple(int(c) for c in counts)
    if real is None or real.shape != integers.shape:
        return TensorError(tensor.name, tensor.scale, tensor.zero_point, None, None, histogram, ())
    wanted = real.astype(np.float64)
    error = tensor.q.dequantize(integers) - wanted
    return TensorError(
        tensor.name,
        tensor.scale,
        tensor.zero_point,
        snr_db(float(np.sum(wanted**2)), float(np.sum(error**2))),
        _clipped(tensor, wanted),
        histogram,
        _worst(wanted, error),
    )


def snr_db(signal: float, noise: float) -> float | None:
    """Signal-to-noise ratio of two powers, in decibels to one decimal; None where exact, silent or not finite."""
    if not (signal > 0 and noise > 0 and math.isfinite(signal) and math.isfinite(noise)):
        return None
    ratio = 10 * math.log10(signal / noise)
    return round(ratio, 1) + 0.0 if ratio < EXACT_DB else None  # + 0.0: never -0.0


def _clipped(tensor: Tensor, real: Array) -> float:
    """Share of float values more than half a step outside of what int8 (or int16) covers."""
    low, high = (
        (edge - tensor.zero_point) * tensor.scale for edge in (tensor.q.low - 0.5, tensor.q.high + 0.5)
    )
    return round(float(np.mean((real < low) | (real > high))), 6)


def _worst(real: Array, error: Array) -> tuple[Channel, ...]:
    """The channels (last axis) with the smallest signal-to-noise ratios."""
    if real.ndim < 2 or real.shape[-1] < 2:
        return ()
    axes = tuple(range(real.ndim - 1))
    signal, noise = (np.sum(a**2, axis=axes) for a in (real, error))
    ratios = [snr_db(float(s), float(n)) for s, n in zip(signal, noise, strict=True)]
    channels = [Channel(i, ratio) for i, ratio in enumerate(ratios) if ratio is not None]
    return tuple(sorted(channels, key=lambda c: (c.snr_db, c.index))[:WORST])


# ---- the file


def to_json(error: QuantizationError) -> str:
    """The text of quantization.json: one tensor a line; equal errors give equal text."""
    head = {"schema": SCHEMA, "samples": error.samples, "compared": error.compared, "bins": BINS}
    lines = ",\n".join(json.dumps(asdict(t), separators=(",", ":")) for t in error.tensors)
    return f'{json.dumps(head)[:-1]}, "tensors": [\n{lines}\n]}}\n'


def from_json(text: str) -> QuantizationError:
    """Back from to_json. Raises ValueError, KeyError or TypeError when the text is not one of this version."""
    data: Mapping[str, Any] = json.loads(text)
    if data["schema"] != SCHEMA or data["bins"] != BINS:
        raise ValueError(f"schema {data['schema']}")
    tensors = tuple(_read_tensor(fields) for fields in data["tensors"])
    return QuantizationError(int(data["samples"]), bool(data["compared"]), tensors)


def _read_tensor(fields: Mapping[str, Any]) -> TensorError:
    worst = tuple(Channel(**channel) for channel in fields["worst"])
    histogram = tuple(int(c) for c in fields["histogram"])
    if len(histogram) != BINS:
        raise ValueError(f"histogram of '{fields['name']}'")
    return TensorError(**{**fields, "histogram": histogram, "worst": worst})
