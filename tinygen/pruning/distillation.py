"""Fine-tuning a pruned model: the original teaches it (knowledge distillation). No labels are needed.

The pruned model learns the original's answers to samples, and to samples changed by augmentation. The weights of the
epoch that is best on held-out samples stay.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tinygen.errors import DataError, UsageError
from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import augmentation, heads, reestimation
from tinygen.pruning.augmentation import Augmentation
from tinygen.pruning.heads import Head

Report = Callable[["Progress"], None]


@dataclass(frozen=True)
class Options:
    """How a pruned model learns.

    epochs: None takes as many as make `steps` steps. rate: the largest learning rate, of AdamW, reached after `warmup`
    (share of all steps), then a half cosine down to 0. temperature: softens classifiers' answers, > 0. reconstruction:
    weight (0 .. 1) of an autoencoder's own loss. patience: epochs without a better one until it stops, None: never.
    """

    epochs: int | None = None
    steps: int = 3000
    batch: int = 64
    rate: float = 2e-3
    warmup: float = 0.1
    decay: float = 1e-4
    optimizer: Literal["adamw", "sgd"] = "adamw"
    temperature: float = 2.0
    augment: Sequence[str] | Literal["auto"] = "auto"
    reconstruction: float = 0.0
    patience: int | None = None
    starts: int = 1
    minutes: float | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch", "rate", "temperature", "patience", "starts", "minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} of the fine-tuning is {value}\n  it must be greater than 0")

    def epochs_for(self, count: int) -> int:
        """Epochs over `count` samples."""
        return self.epochs or max(1, math.ceil(self.steps / math.ceil(count / self.batch)))


DEFAULT = Options()
MOST_REFRESHING = 1024
"""Samples that batch statistics are measured on after an epoch: not augmented, as in use."""


@dataclass(frozen=True)
class Epoch:
    """Losses after an epoch (from 1; 0 is before training, its `train` NaN): distance from the original's answers."""

    number: int
    train: float
    held_out: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """epoch of epochs is done; best: the least held-out loss so far."""

    epoch: int
    epochs: int
    best: float
    seconds_left: float


@dataclass(frozen=True)
class Trained:
    """model: with the weights of history[best]. seconds: of the whole training. stopped: why it ended early, or ""."""

    model: Any
    history: tuple[Epoch, ...]
    best: int
    seconds: float
    stopped: str = ""

    @property
    def loss(self) -> float:
        """Held-out loss of the model."""
        return self.history[self.best].held_out

    @property
    def epochs_per_second(self) -> float:
        later = self.history[2:] or self.history[1:]
        return len(later) / max(sum(epoch.seconds for epoch in later), 1e-9)


def _silent(progress: Progress) -> None:
    """Reports nothing."""


def train(
    student: Any,
    teacher: Any,
    x: Sequence[Array],
    held_out: Sequence[Array],
    options: Options = DEFAULT,
    report: Report = _silent,
) -> Trained:
    """A copy of `student` that learned to answer as `teacher` does; both stay as they are.

    x, held_out: float32 (N, *shape) per input. Never worse than `student` on `held_out`: epoch 0 competes, too.
    Deterministic for a seed, unless `minutes` end it. Raises DataError where samples do not fit, ModelError
    where the model cannot be copied.
    """
    _check(teacher, x, held_out)
    start = time.perf_counter()
    runs: list[Trained] = []
    for number in range(options.starts):
        left = None if options.minutes is None else options.minutes - (time.perf_counter() - start) / 60
        if runs and left is not None and left <= 0:
            break
        share = None if left is None else max(left, 1e-3) / (options.starts - number)
        import_keras().utils.set_random_seed(options.seed + number)
        run = _Run(student, teacher, x, held_out, replace(options, minutes=share, seed=options.seed + number))
        runs.append(run.fit(report))
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
        self, student: Any, teacher: Any, x: Sequence[Array], held_out: Sequence[Array], options: Options
    ) -> None:
        self.student, self.options = student, options
        self.x = [np.ascontiguousarray(a, np.float32) for a in x]
        self.teacher, kinds = heads.twin(teacher)
        self.teacher.trainable = False
        self.twin, own = heads.twin(student)
        assert own == kinds
        self.clean = reestimation.prepare(self.twin, self.x, MOST_REFRESHING)
        self.held_out = batches_of(held_out, options.batch)
        self.targets = [_answers(self.teacher, batch) for batch in self.held_out]
        self.heads = [_head(kind, [t[i] for t in self.targets]) for i, kind in enumerate(kinds)]
        self.generator = np.random.default_rng(options.seed)
        self.augment = [
            Augmentation(augmentation.chosen(options.augment, a.shape[1:]), a.std(axis=0)) for a in self.x
        ]
        self.optimizer = _optimizer(options)
        self.optimizer.build(self.twin.trainable_variables)
        self.step, self.judge = self._compiled()
        self.refresh = reestimation.pass_of(self.twin)

    def _compiled(self) -> tuple[Any, Any]:
        """Functions of a batch: one step of learning, and the loss on held-out samples; both give the loss."""
        import tensorflow as tf

        temperature = self.options.temperature
        weights = self.twin.trainable_variables

        def step(batch: Any) -> Any:
            target = heads.outputs_of(self.teacher, batch, training=False)
            with tf.GradientTape() as tape:
                outputs = heads.outputs_of(self.twin, batch, training=True)
                value = self._loss(outputs, target, temperature)
                if self.reconstructs:
                    own = heads.loss(self.heads[0], outputs[0], batch[0])
                    value = (1 - self.options.reconstruction) * value + self.options.reconstruction * own
            self.optimizer.apply(tape.gradient(value, [w.value for w in weights]), weights)
            return value

        def judge(batch: Any, target: Any) -> Any:
            return self._loss(heads.outputs_of(self.twin, batch, training=False), target, 1.0)

        return tf.function(step, autograph=False, reduce_retracing=True), tf.function(
            judge, autograph=False, reduce_retracing=True
        )

    @property
    def reconstructs(self) -> bool:
        """True when the model's own task has a weight: only an autoencoder knows its target, its input."""
        return self.options.reconstruction > 0 and self.twin.outputs[0].shape == self.twin.inputs[0].shape

    def _loss(self, outputs: Sequence[Any], targets: Sequence[Any], temperature: float) -> Any:
        losses = zip(self.heads, outputs, targets, strict=True)
        return sum(heads.loss(head, output, target, temperature) for head, output, target in losses)

    def fit(self, report: Report) -> Trained:
        """Train until the last epoch, patience's or time's end."""
        options = self.options
        epochs = options.epochs_for(len(self.x[0]))
        start = time.perf_counter()
        history = [Epoch(0, math.nan, self.loss(), 0.0)]
        best, kept = 0, heads.weights_of(self.twin)
        stopped = ""
        while history[-1].number < epochs and not stopped:
            history.append(self._epoch(history[-1].number, epochs))
            if history[-1].held_out < history[best].held_out:
                best, kept = history[-1].number, heads.weights_of(self.twin)
            epochs = min(epochs, self._affordable(history, time.perf_counter() - start))
            left = (epochs - history[-1].number) * history[-1].seconds
            report(Progress(history[-1].number, epochs, history[best].held_out, left))
            stopped = self._stops(history, best, epochs)
        model = heads.copied(self.student)
        heads.assign(model, kept)
        return Trained(model, tuple(history), best, time.perf_counter() - start, stopped)

    def _affordable(self, history: Sequence[Epoch], elapsed: float) -> int:
        """Epochs that time allows altogether. The first one says little: it compiles."""
        if self.options.minutes is None:
            return 10**9
        left = self.options.minutes * 60 - elapsed
        if len(history) == 2 and left > 0:
            return 10**9
        return history[-1].number + max(0, int(left / history[-1].seconds))

    def _stops(self, history: Sequence[Epoch], best: int, epochs: int) -> str:
        if epochs < self.options.epochs_for(len(self.x[0])) and history[-1].number >= epochs:
            return f"{self.options.minutes:.3g} minutes are over"
        patience = self.options.patience
        if patience is not None and history[-1].number - best >= patience:
            return f"no better epoch since {best}"
        return ""

    def _epoch(self, done: int, epochs: int) -> Epoch:
        """One pass over the samples in new order, after `done` passes of `epochs`."""
        start = time.perf_counter()
        order = self.generator.permutation(len(self.x[0]))
        batches = [order[i : i + self.options.batch] for i in range(0, len(order), self.options.batch)]
        losses = []
        for i, indices in enumerate(batches):
            share = (done + i / len(batches)) / epochs
            self.optimizer.learning_rate.assign(self.options.rate * schedule(share, self.options.warmup))
            batch = [
                augment(x[indices], self.generator) for augment, x in zip(self.augment, self.x, strict=True)
            ]
            losses.append(self.step(batch))
        if self.clean:
            self.refresh(self.clean)
        mean = float(np.average([float(value) for value in losses], weights=[len(b) for b in batches]))
        return Epoch(done + 1, mean, self.loss(), time.perf_counter() - start)

    def loss(self) -> float:
        """Mean distance on the held-out samples."""
        pairs = zip(self.held_out, self.targets, strict=True)
        values = [float(self.judge(batch, target)) for batch, target in pairs]
        return float(np.average(values, weights=[len(batch[0]) for batch in self.held_out]))


def _optimizer(options: Options) -> Any:
    optimizers = import_keras().optimizers
    if options.optimizer == "sgd":
        return optimizers.SGD(options.rate, momentum=0.9, nesterov=True, weight_decay=options.decay)
    return optimizers.AdamW(options.rate, weight_decay=options.decay)


def schedule(share: float, warmup: float) -> float:
    """Learning rate relative to its largest, at a share (0 .. 1) of all steps."""
    if share < warmup:
        return 0.05 + 0.95 * share / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def batches_of(arrays: Sequence[Array], size: int) -> list[list[Array]]:
    count = len(arrays[0])
    return [[np.asarray(a[i : i + size], np.float32) for a in arrays] for i in range(0, count, size)]


def _answers(model: Any, batch: Sequence[Array]) -> list[Array]:
    return [np.asarray(output) for output in heads.outputs_of(model, batch, training=False)]


def _head(kind: heads.Kind, outputs: Sequence[Array]) -> Head:
    variance = float(np.var(np.concatenate(outputs), axis=0).mean()) if kind == "linear" else 1.0
    return Head(kind, max(variance, 1e-12))
