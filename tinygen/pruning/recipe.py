"""How a pruned model learns: the options of fine-tuning, its optimizer, its learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tinygen.errors import UsageError
from tinygen.heavy import import_keras
from tinygen.pruning.augmentation import is_image

MANY = 2000
"""Samples that take longer to be learned by heart."""


@dataclass(frozen=True)
class Options:
    """How a pruned model learns.

    epochs: None takes as many as make `steps` steps, or `most` of MANY samples and more, where that is not 0. rate:
    the largest learning rate, reached after `warmup` (share of all steps), then a half cosine down to 0. temperature:
    softens classifiers' answers, > 0. augment: ways of augmentation.WAYS. task: weight (0 .. 1) of the loss on labels,
    or on an autoencoder's own input; the rest is distance from the original. features: largest weight (>= 0) of the
    distance between hidden layers (features.py), added to the loss that trains, over time as `guidance` says; 0
    compares outputs alone. statistics: those of batch normalizations are measured anew, or kept as they are.
    coordinates: the model's own weights learn, or those of the same model with scaled inputs and channels
    (coordinates.py). settled: share (0 .. 1) of all epochs before which none competes; nothing where there is
    patience. everything: held-out samples teach in the last fine-tuning, too, where an evaluation set judges what
    comes out. imagined: samples of codes.py that teach an autoencoder, too, as a share of those given.
    patience: epochs without a better one until it stops, None: never. starts: trainings with seeds from `seed` on, the
    best stays. minutes: of all starts together.
    """

    epochs: int | None = None
    steps: int = 3000
    most: int = 0
    batch: int = 64
    rate: float = 2e-3
    warmup: float = 0.1
    decay: float = 1e-4
    optimizer: Literal["adamw", "sgd", "muon"] = "adamw"
    temperature: float = 2.0
    augment: Sequence[str] | Literal["auto"] = "auto"
    task: float = 0.0
    features: float = 0.0
    statistics: Literal["batch", "kept"] = "kept"
    coordinates: Literal["own", "scaled"] = "own"
    refit: bool = True
    settled: float = 0.0
    everything: bool = False
    imagined: float = 0.0
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
        steps = self.most if self.most and count >= MANY else self.steps
        return self.epochs or max(1, math.ceil(steps / math.ceil(count / self.batch)))


DEFAULT = Options(steps=6000, augment=("mixup",), features=4.0)
"""Few samples are soon learned by heart: mixed ones and hidden layers say more (docs/prune.md)."""
RECONSTRUCTING = Options(
    batch=512,
    steps=40000,
    rate=5e-4,
    optimizer="muon",
    coordinates="scaled",
    augment=("difference", "noise"),
    settled=0.95,
    everything=True,
    imagined=1.0,
)
"""An autoencoder's score is what it cannot reconstruct: off the data, too, it has to answer as the original does, and
small errors count. Far more samples than are given teach it that; docs/prune.md has the measurements."""

SEEING = Options(
    steps=10000,
    most=16000,
    augment=("flip", "zoom", "colour", "paste"),
    features=8.0,
    settled=0.95,
    everything=True,
)
"""Images are many numbers and mostly few samples: parts, colours and collages of them are more, and what hidden layers
compute says more about each than the few outputs do. The best of a thousand restless epochs on a few held-out images is
lucky, not good: those at the end compete. docs/prune.md has the measurements."""


def recipe_for(teacher: Any) -> Options:
    """How models pruned from this keras.Model learn."""
    if reconstructs(teacher):
        return RECONSTRUCTING
    return SEEING if all(is_image(tuple(t.shape[1:])) for t in teacher.inputs) else DEFAULT


def reconstructs(model: Any) -> bool:
    """True where the only output is shaped like the only input, of more than one number."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return False
    taken, given = (tuple(tensors[0].shape[1:]) for tensors in (model.inputs, model.outputs))
    return taken == given and taken not in ((), (1,))


def optimizer_of(options: Options) -> Any:
    optimizers = import_keras().optimizers
    if options.optimizer == "sgd":
        return optimizers.SGD(options.rate, momentum=0.9, nesterov=True, weight_decay=options.decay)
    if options.optimizer == "muon":
        return _muon()(options.rate, weight_decay=options.decay, adam_weight_decay=options.decay)
    return optimizers.AdamW(options.rate, weight_decay=options.decay)


def _muon() -> Any:
    """Keras's Muon, but kernels with more outputs than inputs take larger steps, as its author scales them."""

    class Muon(import_keras().optimizers.Muon):  # type: ignore[misc]
        def lr_adjust(self, x: Any) -> Any:
            taken, given = x.shape
            return super().lr_adjust(x) * max(1.0, given / taken) ** 0.5

    return Muon


def schedule(share: float, warmup: float) -> float:
    """Learning rate relative to its largest, at a share (0 .. 1) of all steps."""
    if share < warmup:
        return 0.05 + 0.95 * share / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def guidance(share: float) -> float:
    """Weight of hidden layers relative to its largest, at a share (0 .. 1) of all steps.

    They lead while steps are large. At the end outputs alone count: a smaller model need not compute them in the same
    way.
    """
    return (1 - share) ** 2
