"""Fine-tuning a pruned model: the original teaches it (knowledge distillation). No labels are needed.

The pruned model learns the original's answers to samples, and to samples changed by augmentation. The weights of the
epoch that is best on held-out samples stay.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinygen.errors import DataError
from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import augmentation, codes, coordinates, epochs, features, heads, reestimation, refitting
from tinygen.pruning.augmentation import MIXUP
from tinygen.pruning.epochs import Epoch, Progress
from tinygen.pruning.heads import Head
from tinygen.pruning.recipe import DEFAULT, Options, guidance, optimizer_of, schedule
from tinygen.pruning.refitting import GIVEN

__all__ = ["DEFAULT", "Epoch", "Options", "Progress", "Trained", "train"]

Report = Callable[[Progress], None]

MOST_REFRESHING = 1024
"""Samples that batch statistics are measured on after an epoch: not augmented, as in use."""


@dataclass(frozen=True)
class Trained:
    """model: with the weights of history[best]; 0 is the start, of which `start` says what it is. given: held-out loss
    of the model that was given. seconds: of the whole training. stopped: why it ended early, or ""."""

    model: Any
    history: tuple[Epoch, ...]
    best: int
    seconds: float
    stopped: str = ""
    start: str = GIVEN
    given: float = math.nan

    @property
    def loss(self) -> float:
        """Held-out loss of the model."""
        return self.history[self.best].held_out


def _silent(progress: Progress) -> None:
    """Reports nothing."""


def train(
    student: Any,
    teacher: Any,
    x: Sequence[Array],
    held_out: Sequence[Array],
    options: Options = DEFAULT,
    report: Report = _silent,
    labels: tuple[Array, Array] | None = None,
) -> Trained:
    """A copy of `student` that learned to answer as `teacher` does; both stay as they are.

    x, held_out: float32 (N, *shape) per input. labels: of both, for the first output, where options.task > 0: class
    indices, or numbers shaped like the output. The result is never worse than `student` on `held_out`. Deterministic
    for a seed, unless `minutes` end it. Raises DataError where samples do not fit, ModelError where Keras cannot
    copy the model.
    """
    _check(teacher, x, held_out)
    start = time.perf_counter()
    runs: list[Trained] = []
    starts = refitting.starts(student, teacher, x, options.seed if options.refit else None)
    if options.imagined:
        x = [
            np.concatenate(
                [x[0], codes.imagined(teacher, x[0], round(options.imagined * len(x[0])), options.seed)]
            )
        ]
    for number in range(options.starts):
        left = None if options.minutes is None else options.minutes - (time.perf_counter() - start) / 60
        if runs and left is not None and left <= 0:
            break
        share = None if left is None else max(left, 1e-3) / (options.starts - number)
        import_keras().utils.set_random_seed(options.seed + number)
        own = replace(options, minutes=share, seed=options.seed + number)
        run = _Run(student, teacher, x, held_out, own, labels)
        runs.append(run.fit(starts, report))
    best = min(runs, key=lambda trained: trained.loss)
    return replace(best, seconds=time.perf_counter() - start)


def _check(teacher: Any, x: Sequence[Array], held_out: Sequence[Array]) -> None:
    for what, arrays in (("samples", x), ("held-out samples", held_out)):
        shapes = [tuple(t.shape[1:]) for t in teacher.inputs]
        if [a.shape[1:] for a in arrays] != shapes or not len(arrays[0]):
            got = ", ".join(str(a.shape) for a in arrays)
            want = ", ".join(str(("N", *shape)) for shape in shapes)
            raise DataError(f"{what} of shape {got} do not fit '{teacher.name}'\n  it takes {want}")


class _Run:
    """One start: the compiled steps and the state of a training."""

    def __init__(
        self,
        student: Any,
        teacher: Any,
        x: Sequence[Array],
        held_out: Sequence[Array],
        options: Options,
        labels: tuple[Array, Array] | None,
    ) -> None:
        self.student, self.options = student, options
        self.x = [np.ascontiguousarray(a, np.float32) for a in x]
        self.teacher, kinds = heads.twin(teacher)
        self.teacher.trainable = False
        self.twin, own = heads.twin(student)
        assert own == kinds
        self.clean = reestimation.prepare(self.twin, self.x, MOST_REFRESHING)
        self.hidden = features.pairs_of(self.twin, self.teacher, self.x) if options.features else ()
        self.coordinates = self._coordinates()
        self.augment = [augmentation.augmentation_of(options.augment, a) for a in self.x]
        judged = augmentation.judged_on(self.augment, held_out)
        self.held_out = batches_of(judged, options.batch)
        self.targets = [_answers(self.teacher, batch) for batch in self.held_out]
        self.heads = [_head(kind, [t[i] for t in self.targets]) for i, kind in enumerate(kinds)]
        self.truth = self._truth(labels[0] if labels else None)
        times = len(judged[0]) // len(held_out[0])
        own_truth = self._truth(np.concatenate([labels[1]] * times) if labels else None)
        self.held_truth = batches_of(own_truth, options.batch) if own_truth else [[]] * len(self.held_out)
        self.generator = np.random.default_rng(options.seed)
        self.optimizer = optimizer_of(options)
        self.optimizer.build(self.twin.trainable_variables)
        self.guided = import_keras().Variable(options.features, trainable=False)
        self.step, self.judge = self._compiled()
        self.refresh = reestimation.pass_of(self.twin)

    def _coordinates(self) -> coordinates.Coordinates:
        """The numbers that the twin trains with."""
        if self.options.coordinates == "own":
            return coordinates.Coordinates()
        return coordinates.coordinates_of(self.twin, self.x, self.options.statistics == "kept")

    def _compiled(self) -> tuple[Any, Any]:
        """Functions of a batch: one step of learning, and the loss on held-out samples; both give the loss."""
        import tensorflow as tf

        temperature, guided = self.options.temperature, self.guided
        weights = self.twin.trainable_variables
        anew = self.options.statistics == "batch"
        read = self.coordinates.read
        ours, theirs = features.parts_of(self.twin, self.teacher, self.hidden)

        def step(batch: Any, truth: Any) -> Any:
            target, known = self._split(heads.outputs_of(theirs, batch, training=False))
            with tf.GradientTape() as tape:
                outputs, found = self._split(heads.outputs_of(ours, read(batch), training=anew))
                value = self._loss(outputs, target, truth, batch, temperature)
                value += guided * features.distance(self.hidden, found, known)
            self.optimizer.apply(tape.gradient(value, [w.value for w in weights]), weights)
            return value

        def judge(batch: Any, target: Any, truth: Any) -> Any:
            outputs = heads.outputs_of(self.twin, read(batch), training=False)
            return self._loss(outputs, target, truth, batch, 1.0)

        return (
            tf.function(step, autograph=False, reduce_retracing=True),
            tf.function(judge, autograph=False, reduce_retracing=True),
        )

    def _split(self, outputs: list[Any]) -> tuple[list[Any], list[Any]]:
        """(outputs, what hidden layers compute)."""
        return outputs[: len(self.twin.outputs)], outputs[len(self.twin.outputs) :]

    @property
    def reconstructs(self) -> bool:
        """True where an autoencoder's own input is to teach, too: without labels, it is the truth."""
        alike = self.twin.outputs[0].shape == self.twin.inputs[0].shape
        return self.options.task > 0 and not self.truth and alike and self.heads[0].kind != "softmax"

    def _truth(self, labels: Array | None) -> list[Array]:
        """What the first output should be, (N, *shape); nothing where only the original teaches."""
        if labels is None or self.options.task == 0:
            return []
        return [heads.truth_of(self.heads[0], np.asarray(labels), self.twin.outputs[0].shape[1:])]

    def _loss(
        self, outputs: Sequence[Any], targets: Sequence[Any], truth: Any, batch: Any, temperature: float
    ) -> Any:
        """Distance from the original's answers, mixed with the task's own loss where that has a weight."""
        losses = zip(self.heads, outputs, targets, strict=True)
        distance = sum(heads.loss(head, output, target, temperature) for head, output, target in losses)
        if not truth and not self.reconstructs:
            return distance
        own = heads.task_loss(self.heads[0], outputs[0], truth[0] if truth else batch[0])
        return (1 - self.options.task) * distance + self.options.task * own

    def fit(self, starts: Mapping[str, list[Array]], report: Report) -> Trained:
        """Train until the last epoch, patience's or time's end."""
        begun = time.perf_counter()
        losses = {name: self.loss_of(weights) for name, weights in starts.items()}
        name = min(losses, key=lambda name: losses[name])
        first = losses[name], starts[name]
        planned = self.options.epochs_for(len(self.x[0]))
        self._assign(starts[name])
        settled = 0.0 if self.options.patience else self.options.settled
        ended = epochs.take(
            first, self._epoch, self.loss, self._numbers, planned, self.options, report, begun, settled
        )
        model = heads.copied(self.student)
        heads.assign(model, ended.kept)
        seconds = time.perf_counter() - begun
        return Trained(model, ended.history, ended.best, seconds, ended.stopped, name, losses[GIVEN])

    def loss_of(self, weights: Sequence[Array]) -> float:
        """Held-out loss with these weights, which stay."""
        self._assign(weights)
        return self.loss()

    def _assign(self, weights: Sequence[Array]) -> None:
        heads.assign(self.twin, self.coordinates.there(weights))

    def _numbers(self) -> list[Array]:
        """The student's weights now."""
        return self.coordinates.back(heads.weights_of(self.twin))

    def _epoch(self, done: int, planned: int) -> float:
        """Loss of one pass over the samples in new order, after `done` passes of `planned`."""
        order = self.generator.permutation(len(self.x[0]))
        batches = [order[i : i + self.options.batch] for i in range(0, len(order), self.options.batch)]
        losses = []
        for i, batch in enumerate(epochs.ahead(self._batch, batches)):
            share = (done + i / len(batches)) / planned
            self.optimizer.learning_rate.assign(self.options.rate * schedule(share, self.options.warmup))
            self.guided.assign(self.options.features * guidance(share))
            losses.append(self.step(*batch))
        if self.clean and self.options.statistics == "batch":
            self.refresh([np.asarray(a) for a in self.coordinates.read(self.clean)])
        return float(np.average([float(value) for value in losses], weights=[len(b) for b in batches]))

    def _batch(self, indices: Array) -> tuple[list[Array], list[Array]]:
        """(augmented inputs, truth) of some samples."""
        pairs = zip(self.augment, self.x, strict=True)
        batch = [augment(x[indices], self.generator) for augment, x in pairs]
        truth = [t[indices] for t in self.truth]
        if any(MIXUP in augment.ways for augment in self.augment):
            both = augmentation.mixed([*batch, *truth], self.generator)
            batch, truth = both[: len(batch)], both[len(batch) :]
        return batch, truth

    def loss(self) -> float:
        """Mean distance on the held-out samples."""
        parts = zip(self.held_out, self.targets, self.held_truth, strict=True)
        values = [float(self.judge(*part)) for part in parts]
        return float(np.average(values, weights=[len(batch[0]) for batch in self.held_out]))


def batches_of(arrays: Sequence[Array], size: int) -> list[list[Array]]:
    count = len(arrays[0])
    return [[np.asarray(a[i : i + size], np.float32) for a in arrays] for i in range(0, count, size)]


def _answers(model: Any, batch: Sequence[Array]) -> list[Array]:
    return [np.asarray(output) for output in heads.outputs_of(model, batch, training=False)]


def _head(kind: heads.Kind, outputs: Sequence[Array]) -> Head:
    variance = float(np.var(np.concatenate(outputs), axis=0).mean()) if kind == "linear" else 1.0
    return Head(kind, max(variance, 1e-12))
