"""Refitting weights after channels went: layer by layer, least squares, no training.

What a layer of the pruned model still computes shall be what the original's layer computes before its activation; its
inputs changed, so its weights are solved for again (He et al. 2017, Channel Pruning). Few samples are enough: every
position of an image is an equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import heads
from tinygen.pruning.reestimation import reestimate

GIVEN = "as given"
"""The start that is the student's own weights."""
ROWS = 16384
"""Equations per layer, about."""
SAMPLES = 1024
"""Most samples that are looked at."""
RIDGE = 1e-2
"""How much weights want to stay as they are, relative to the mean square of a layer's inputs."""
ALIKE = 0.5
"""Least correlation of a channel with the original's that it is taken for."""
BATCH = 64
WINDOWED = ("Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D")


def starts(student: Any, teacher: Any, x: Sequence[Array], seed: int | None) -> dict[str, list[Array]]:
    """Weights to fine-tune from, by what they are; only the student's own without a seed."""
    found = {GIVEN: heads.weights_of(student)}
    if seed is not None:
        found["statistics measured anew"] = heads.weights_of(reestimate(student, x))
        found["refitted by least squares"] = heads.weights_of(refit(student, teacher, x, seed))
    return found


def refit(
    student: Any,
    teacher: Any,
    x: Sequence[Array],
    seed: int = 1,
    ridge: float = RIDGE,
    most: int = SAMPLES,
) -> Any:
    """A copy of `student` whose convolutions and dense layers come as near to the teacher's as they can.

    x: float32 (N, *shape) per input. Layers are told by name, channels by correlation. A layer that is called
    twice, lies in an inner model, or has no counterpart stays as it is. ridge: as RIDGE, > 0; most: samples that are
    looked at. Deterministic for a seed. Raises ModelError
    where Keras cannot copy the model.
    """
    copy = heads.copied(student)
    chosen = np.linspace(0, len(x[0]) - 1, min(len(x[0]), most)).round().astype(np.int64)
    inputs = [np.asarray(a[chosen], np.float32) for a in x]
    pairs = [(_view(copy, layer), _view(teacher, original)) for layer, original in _pairs(copy, teacher)]
    wanted = _answers(teacher, [original for _, original in pairs], inputs, seed)
    for number, (view, _) in enumerate(pairs):
        (windows,) = _collected(copy, [view], inputs, [np.random.default_rng((seed, number))], _View.read)
        _solve(view, windows, wanted[number], ridge)
    return copy


def _pairs(student: Any, teacher: Any) -> Iterator[tuple[Any, Any]]:
    """(layer, the original's of the same name), in order of execution, of those that can be solved for."""
    counterparts = {layer.name: layer for layer in teacher.layers}
    for layer in student.layers:
        original = counterparts.get(layer.name)
        if original is None or type(original) is not type(layer):
            continue
        if _fits(student, layer) and _fits(teacher, original):
            yield layer, original


def _answers(teacher: Any, views: Sequence[_View], inputs: Sequence[Array], seed: int) -> list[Array]:
    """What layers of the original compute before their activations, (rows, outputs) each: one pass for all."""
    generators = [np.random.default_rng((seed, number)) for number in range(len(views))]
    return _collected(teacher, views, inputs, generators, lambda view, w: view.answers(view.read(w)))


def _collected(
    model: Any,
    views: Sequence[_View],
    x: Sequence[Array],
    generators: Sequence[np.random.Generator],
    use: Callable[[_View, Array], Array],
) -> list[Array]:
    """`use` of the windows (rows, taps, inputs) that layers read at random places of their outputs, the same for equal
    seeds."""
    part = import_keras().Model(model.inputs, [view.input for view in views])
    found: list[list[Array]] = [[] for _ in views]
    for i in range(0, len(x[0]), BATCH) if views else ():
        read = heads.outputs_of(part, [a[i : i + BATCH] for a in x])
        for view, generator, values, rows in zip(views, generators, read, found, strict=True):
            windows = view.windows(np.asarray(values), max(1, ROWS // len(x[0])), generator)
            rows.append(use(view, windows))
    return [np.concatenate(rows) for rows in found]


def _fits(model: Any, layer: Any) -> bool:
    """True for a layer that is called once and multiplies windows of its input by weights."""
    if type(layer).__name__ not in (*WINDOWED, "Dense") or len(heads.calls_of(model, layer)) != 1:
        return False
    return getattr(layer, "groups", 1) in (1, None) and getattr(layer, "padding", "same") in ("same", "valid")


def _view(model: Any, layer: Any) -> _View:
    (call,) = heads.calls_of(model, layer)
    return _View(layer, call.input_tensors[0], call.outputs[0])


@dataclass(frozen=True)
class _View:
    """A layer that is read and changed. input, output: the tensors of its one call in its model."""

    layer: Any
    input: Any
    output: Any

    @property
    def depthwise(self) -> bool:
        return type(self.layer).__name__.startswith("Depthwise")

    @property
    def kernel(self) -> Array:
        """(taps, inputs, outputs per input of a depthwise layer, else outputs)."""
        kernel = np.asarray(self.layer.kernel.numpy(), np.float64)
        return kernel.reshape(-1, *kernel.shape[-2:])

    @property
    def bias(self) -> Array | float:
        return np.asarray(self.layer.bias.numpy(), np.float64) if self.layer.use_bias else 0.0

    def read(self, windows: Array) -> Array:
        return windows.astype(np.float64)

    def windows(self, values: Array, count: int, generator: np.random.Generator) -> Array:
        """(rows, taps, inputs): `count` windows per sample of the layer's input, values (N, *positions, inputs)."""
        axes = values.shape[1:-1]
        outputs = self.output.shape[1:-1]
        taken = min(count, math.prod(outputs))
        places = np.stack([generator.permutation(math.prod(outputs))[:taken] for _ in values])
        where = np.unravel_index(places, outputs) if outputs else ()
        windowed = type(self.layer).__name__ in WINDOWED
        rows = np.arange(len(values))[:, np.newaxis]
        if not windowed:
            return np.asarray(values[(rows, *where)]).reshape(-1, 1, values.shape[-1])
        padded, grids = self._padded(values, axes, outputs), []
        for tap in np.ndindex(*self.layer.kernel_size):
            steps = zip(where, tap, self.layer.strides, self.layer.dilation_rate, strict=True)
            at = tuple(w * stride + t * dilation for w, t, stride, dilation in steps)
            grids.append(padded[(rows, *at)])
        return np.stack(grids, axis=2).reshape(-1, len(grids), values.shape[-1])

    def _padded(self, values: Array, axes: Sequence[int], outputs: Sequence[int]) -> Array:
        """With the zeros that 'same' padding adds, fewer of them in front."""
        if self.layer.padding == "valid":
            return values
        sizes = zip(
            axes, outputs, self.layer.kernel_size, self.layer.strides, self.layer.dilation_rate, strict=True
        )
        totals = [max((o - 1) * s + (k - 1) * d + 1 - n, 0) for n, o, k, s, d in sizes]
        return np.pad(values, ((0, 0), *((t // 2, t - t // 2) for t in totals), (0, 0)))

    def answers(self, windows: Array) -> Array:
        """(rows, outputs): what the layer computes of windows before its activation."""
        kernel = self.kernel
        if self.depthwise:
            return np.asarray(
                np.einsum("rti,tio->rio", windows, kernel).reshape(len(windows), -1) + self.bias
            )
        return windows.reshape(len(windows), -1) @ kernel.reshape(-1, kernel.shape[-1]) + self.bias

    def assign(self, kernel: Array, bias: Array | float) -> None:
        self.layer.kernel.assign(kernel.reshape(self.layer.kernel.shape).astype(np.float32))
        if self.layer.use_bias:
            self.layer.bias.assign(np.asarray(bias, np.float32))


def _solve(ours: _View, windows: Array, wanted: Array, ridge: float) -> None:
    """Change a layer's weights so that its answers to windows come near to the original's, wanted (rows, outputs)."""
    have = ours.answers(windows)
    counterpart, known = matched(have, wanted)
    missing = np.where(known, wanted[:, counterpart] - have, 0.0)
    kernel = ours.kernel
    if not ours.depthwise:
        change, offset = _ridge(windows.reshape(len(windows), -1), missing, ours.layer.use_bias, ridge)
        ours.assign(kernel + change.reshape(kernel.shape), ours.bias + offset)
        return
    parts = np.split(missing, kernel.shape[1], axis=1)
    solved = [_ridge(windows[:, :, i], part, ours.layer.use_bias, ridge) for i, part in enumerate(parts)]
    change, offsets = np.stack([c for c, _ in solved], axis=1), np.concatenate([o for _, o in solved])
    ours.assign(kernel + change, ours.bias + offsets)


def _ridge(inputs: Array, missing: Array, with_offset: bool, ridge: float) -> tuple[Array, Array]:
    """(change (inputs, outputs), offset (outputs,)) that adds `missing` (rows, outputs) best, and is small."""
    means = (inputs.mean(axis=0), missing.mean(axis=0)) if with_offset else (0.0, np.zeros(missing.shape[1]))
    a, b = inputs - means[0], missing - means[1]
    gram = a.T @ a
    size = max(float(np.trace(gram)) / len(gram), 1e-12)
    change = np.linalg.solve(gram + ridge * size * np.eye(len(gram)), a.T @ b)
    return change, np.asarray(means[1] - (means[0] @ change if with_offset else 0.0))


def matched(have: Array, wanted: Array) -> tuple[Array, Array]:
    """Which of the original's channels each of ours is, and whether that is sure."""
    if have.shape[1] == wanted.shape[1]:
        return np.arange(have.shape[1]), np.ones(have.shape[1], bool)
    ours, theirs = (_standardized(values) for values in (have, wanted))
    correlation = ours.T @ theirs / len(have)
    counterpart = aligned(correlation) if have.shape[1] < wanted.shape[1] else correlation.argmax(axis=1)
    return counterpart, correlation[np.arange(len(counterpart)), counterpart] >= ALIKE


def aligned(correlation: Array) -> Array:
    """(ours,) ascending: which of theirs each of ours is, by the largest sum of correlations (ours, theirs).

    Pruning keeps the order of channels. The best of each alone would take many for a neighbour that does much the same.
    """
    ours, theirs = correlation.shape
    best = [np.zeros(theirs + 1)]  # [i][j]: of the first i of ours with some of the first j of theirs
    for row in correlation:
        taken = np.concatenate([[-np.inf], best[-1][:-1] + row])
        best.append(np.maximum.accumulate(taken))
    found, end = np.zeros(ours, np.int64), theirs
    for i in range(ours, 0, -1):
        end = int(np.searchsorted(best[i][: end + 1], best[i][end])) - 1
        found[i - 1] = end
    return found


def _standardized(values: Array) -> Array:
    return np.asarray((values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9))
