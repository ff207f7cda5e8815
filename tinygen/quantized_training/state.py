"""What learns in quantization-aware training, one step, one epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen import ops
from tinygen.errors import ModelError
from tinygen.graph import Array, BoundNode, Graph, QParams
from tinygen.heavy import import_keras
from tinygen.ops.tensors import tensorflow
from tinygen.pruning import augmentation, heads
from tinygen.pruning.distillation import batches_of
from tinygen.pruning.recipe import schedule
from tinygen.quantization import to_int8
from tinygen.quantized_training import network
from tinygen.quantized_training.ranges import Ranges, moved
from tinygen.quantized_training.rounding import Int8, constants_of, with_constants

if TYPE_CHECKING:
    from tinygen.quantized_training.training import Options


Numbers = tuple[dict[str, Any], dict[str, Any], Any, Any]
"""Tensors that a step takes: constants, scales of linear weights (network.int8), scales and zero points per group."""


@dataclass(frozen=True)
class State:
    """The float graph with its numbers of now, and the QParams of all its activations."""

    graph: Graph
    qparams: Mapping[str, QParams]


class Loop:
    """The training of one graph: variables, optimizers, compiled step, samples."""

    def __init__(
        self, ranges: Ranges, teacher: Graph, x: Sequence[Array], held_out: Sequence[Array], options: Options
    ) -> None:
        self.ranges, self.teacher, self.options = ranges, teacher, options
        self.graph = ranges.graph
        self.arithmetic = Int8(self.graph)
        self.outputs, self.targets = network.outputs_of(self.graph), network.outputs_of(teacher)
        self._check_outputs()
        self.x = [np.ascontiguousarray(a, np.float32) for a in x]
        self.held_out = batches_of(held_out, options.batch)
        self._start_variables()
        self.activations = tuple(self.ranges.start)
        self.place = {name: i for i, group in enumerate(ranges.tied) for name in group.members}
        self.fixed = {name: tensorflow().constant(a) for name, a in network.constants_of(teacher).items()}
        self.step, self.judge, self.answer, self.apply = self._compiled()
        self.answers = [self.answer(batch) for batch in self.held_out]
        self.heads = self._heads()
        self.generator = np.random.default_rng(options.seed)
        self.augment = [augmentation.augmentation_of(options.augment, a) for a in self.x]

    @property
    def count(self) -> int:
        """Samples of an epoch."""
        return len(self.x[0])

    def _check_outputs(self) -> None:
        for ours, theirs in zip(self.outputs, self.targets, strict=True):
            if ours.kind != theirs.kind:
                raise ModelError(
                    f"'{ours.tensor}' ends in {ours.kind}, '{theirs.tensor}' of the teacher in {theirs.kind}\n"
                    "  give the float model that it was made from"
                )

    def _start_variables(self) -> None:
        """Constants in units of their own size, so that one learning rate suits all; scales in octaves."""
        keras = import_keras()
        constants = network.constants_of(self.graph)
        self.units = units(self.graph, self.ranges.start)
        self.names = tuple(self.units)
        self.weights = [keras.Variable(constants[n] / self.units[n], dtype="float32") for n in self.names]
        self.original = [w.numpy() for w in self.weights]
        self.octaves = keras.Variable(np.zeros(len(self.ranges.free), np.float32))
        self.limits = self.ranges.limits
        self.optimizers = (keras.optimizers.Adam(), keras.optimizers.Adam())
        self.optimizers[0].build(self.weights)
        self.optimizers[1].build([self.octaves])

    def _heads(self) -> list[heads.Head]:
        found = []
        for i, output in enumerate(self.outputs):
            answers = np.concatenate([np.asarray(batch[i]) for batch in self.answers])
            linear = output.kind == "linear"
            variance = float(np.var(answers, axis=0).mean()) if linear else 1.0
            found.append(heads.Head(output.kind, max(variance, 1e-12)))
        return found

    # ---- TensorFlow

    def _compiled(self) -> tuple[Any, ...]:
        """step(batch, numbers) -> loss, slopes by constants and scales, limits; judge -> loss; answer -> logits;
        apply(slopes by weights) moves these."""
        tf = tensorflow()
        temperature = self.options.temperature

        def step(batch: Any, now: Any) -> Any:
            answers = self._answers(batch)
            learning = [[now[0][name] for name in self.names], now[2]]
            with tf.GradientTape() as tape:
                tape.watch(learning)
                state, seen = self._run(batch, now)
                value = self._loss(state, answers, temperature)
            slopes = tape.gradient(value, learning, unconnected_gradients="zero")
            return value, slopes, self._limits(seen)

        def judge(batch: Any, answers: Any, now: Any) -> Any:
            return self._loss(self._run(batch, now)[0], answers, 1.0)

        def apply(slopes: Any) -> None:
            self.optimizers[0].apply(slopes, self.weights)

        wrap = tf.function(reduce_retracing=True, autograph=False)
        return wrap(step), wrap(judge), wrap(self._answers), wrap(apply)

    def _answers(self, batch: Any) -> list[Any]:
        state = network.real(network.trunk(self.teacher), batch, self.fixed)
        return [output.of(state) for output in self.targets]

    def _run(self, batch: Any, now: Any) -> tuple[Any, Any]:
        """Activations as their readers see them, and as they are before rounding."""
        constants, factors, scales, zero_points = now

        def gauge(name: str) -> tuple[Any, Any]:
            return scales[self.place[name]], zero_points[self.place[name]]

        return network.int8(network.trunk(self.graph), batch, constants, self.arithmetic, gauge, factors)

    def _limits(self, seen: Mapping[str, Any]) -> Any:
        """(2, free groups): least and greatest value of every free group; nothing when ranges do not move."""
        tf = tensorflow()
        if not self.ranges.free or self.options.ranges != "moving":
            return tf.zeros((2, 0))
        start = self.ranges.limits.astype(np.float32)
        shown = [[seen[n] for n in names if n in seen] for names in self.ranges.watched]
        lows, highs = (
            [pick([pick(x) for x in xs]) if xs else end[i] for i, xs in enumerate(shown)]
            for pick, end in zip((tf.reduce_min, tf.reduce_max), start, strict=True)
        )
        return tf.stack([lows, highs])

    def _loss(self, state: Mapping[str, Any], answers: Sequence[Any], temperature: float) -> Any:
        triples = zip(self.heads, self.outputs, answers, strict=True)
        return sum(
            heads.loss(head, output.of(state), answer, temperature) for head, output, answer in triples
        )

    # ---- the numbers of now

    def state(self) -> State:
        """Float graph and QParams; as they were given until something is learned."""
        values = {}
        constants = network.constants_of(self.graph)
        for name, variable, original in zip(self.names, self.weights, self.original, strict=True):
            now = variable.numpy()
            # Dividing by the unit and multiplying again would move what has not changed.
            values[name] = np.where(now == original, constants[name], now * self.units[name])
        return State(with_constants(self.graph, values), self.qparams())

    def qparams(self) -> dict[str, QParams]:
        """QParams of every activation."""
        if self.options.ranges == "learned":
            return self.ranges.learned(self.octaves.numpy())
        if self.options.ranges == "moving" and not np.array_equal(self.limits, self.ranges.limits):
            return self.ranges.of_limits(self.limits)
        return dict(self.ranges.start)

    def rounded(self) -> Numbers:
        """What the int8 graph of now holds: constants, scales of weights, scales and zero points of the groups."""
        tf, now = tensorflow(), self.state()
        quantized = to_int8(now.graph, now.qparams)
        self.arithmetic.use(quantized)
        values, factors = (
            {name: tf.constant(a) for name, a in part.items()} for part in constants_of(now.graph, quantized)
        )
        qs = [now.qparams[group.name] for group in self.ranges.tied]
        scales = tf.constant([q.scale[0] for q in qs], tf.float32)
        return values, factors, scales, tf.constant([q.zero_point[0] for q in qs], tf.float32)

    def judged(self) -> float:
        """Mean loss on the held-out samples."""
        now = self.rounded()
        pairs = zip(self.held_out, self.answers, strict=True)
        losses = [float(self.judge(batch, answers, now)) for batch, answers in pairs]
        return float(np.average(losses, weights=[len(batch[0]) for batch in self.held_out]))

    # ---- learning

    def epoch(self, done: int, epochs: int) -> float:
        """Loss of one pass over the samples in new order, after `done` passes of `epochs`."""
        order, size = self.generator.permutation(self.count), self.options.batch
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        losses: list[float] = []
        for i, part in enumerate(parts):
            self._learn(part, (done + i / len(parts)) / epochs, losses)
        return float(np.average(losses, weights=[len(part) for part in parts]))

    def _learn(self, part: Array, share: float, losses: list[float]) -> None:
        """One step on some samples, after a share (0 .. 1) of all steps."""
        pairs = zip(self.augment, self.x, strict=True)
        batch = [augment(x[part], self.generator) for augment, x in pairs]
        now = self.rounded()
        loss, (slopes, by_scale), limits = self.step(batch, now)
        losses.append(float(loss))
        relative = schedule(share, self.options.warmup)
        scaled = [slope * self.units[name] for slope, name in zip(slopes, self.names, strict=True)]
        self.optimizers[0].learning_rate.assign(self.options.rate * relative)
        self.apply(scaled)
        if self.options.ranges == "learned" and self.ranges.free:
            self.optimizers[1].learning_rate.assign(self.options.range_rate * relative)
            self.optimizers[1].apply([self._octave_slopes(by_scale.numpy(), now[2].numpy())], [self.octaves])
        elif self.options.ranges == "moving":
            self.limits = moved(self.limits, limits.numpy())

    def _octave_slopes(self, slopes: Array, scales: Array) -> Any:
        """Slopes by octave of the free groups from those by scale of all."""
        places = [self.place[group.name] for group in self.ranges.free]
        return tensorflow().constant((slopes * scales)[places] * math.log(2.0), "float32")


# ---- units


def units(graph: Graph, qparams: Mapping[str, QParams]) -> dict[str, Array]:
    """Constant name -> what its numbers are counted in while they learn (float32, broadcasts to it, > 0).

    Weights: their own root mean square per output channel. Biases: a quarter of what the output's int8 covers on one
    side. Other constants: their own root mean square.
    """
    result: dict[str, Array] = {}
    for b in graph.bound():
        for i, tensor in enumerate(b.inputs):
            if tensor.data is not None:
                result[tensor.name] = _unit(b, i, tensor.data, qparams[b.output.name])
    return result


def _unit(b: BoundNode, place: int, data: Array, output: QParams) -> Array:
    axis = ops.get(b.node.op).output_axis
    if axis is not None and place == 2:
        return np.full(1, 32 * output.scale[0], np.float32)
    along = tuple(a for a in range(data.ndim) if a != axis) if axis is not None and data.ndim > 1 else None
    size = np.sqrt(np.mean(data.astype(np.float64) ** 2, axis=along, keepdims=along is not None))
    whole = float(np.sqrt(np.mean(data.astype(np.float64) ** 2)))
    return np.asarray(np.where(size > 0, size, whole or 1.0), np.float32)
