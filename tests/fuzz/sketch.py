"""The state of a random model in the making: its random source, its tensors so far, what it covers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from tinygen.heavy import import_keras

MAX_ELEMENTS = 1500
"""Elements of one tensor: emulators run every model."""

T = TypeVar("T")

ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "sigmoid", "tanh", "softplus"),
    *(
        "softsign",
        "log_sigmoid",
        "mish",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "hard_shrink",
        "soft_shrink",
    ),
    *("tanh_shrink", "sparse_plus", "sparse_sigmoid", "squareplus", "softmax", "linear"),
)
FUSABLE = ("relu", "relu6", "hard_tanh", "linear")
UNCOUNTED = (
    *("layer", "rate", "stddev", "l1", "mean", "variance", "target_shape", "dims", "shared_axes", "factor"),
    *("height_factor", "width_factor", "units", "epsilon", "kernel_size", "pool_size", "filters"),
    *("output_padding", "cropping"),
)
ODD_NAMES = ("Schicht Ü{}", "a-b*c{}", "int{}", "%s%d{{}}{}", "{}x", "tg_main{}", "*? \\ {}", "q'\"{}")


class Unsuitable(Exception):
    """The layer cannot be applied here: another is drawn."""


@dataclass
class Sketch:
    """All random choices of one model come from `random`, all weights from `rng`.

    tensors: what further layers may read. notes: layer name -> 'Class' and 'Class attribute=value', for coverage.
    """

    seed: int
    random: random.Random = field(init=False)
    rng: np.random.Generator = field(init=False)
    keras: Any = field(init=False)
    tensors: list[Any] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)
    names: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.rng = np.random.default_rng(self.seed)
        self.keras = import_keras()

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def one(self, values: Iterable[T]) -> T:
        return self.random.choice(list(values))

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def name(self, kind: str) -> str:
        """A unique layer name, sometimes one that would be awkward in C."""
        self.names += 1
        form = self.one(ODD_NAMES) if self.chance(0.1) else "my_" + kind.lower() + "_{}"
        return form.format(self.names)

    def layer(self, kind: str, /, *notes: str, **attributes: Any) -> Any:
        """A Keras layer with a random name. notes: what it covers besides its class and attributes."""
        name = self.name(kind)
        counted = {
            k: v for k, v in attributes.items() if k not in UNCOUNTED and not (k == "padding" and _spans(v))
        }
        own = [_note(kind, key, value) for key, value in counted.items()]
        self.notes[name] = [kind, *own, *(f"{kind} {note}" for note in notes)]
        return getattr(self.keras.layers, kind)(**attributes, name=name)

    def activation(self) -> str:
        """Any activation; those that fuse more often."""
        return self.one(FUSABLE) if self.chance(0.5) else self.one(ACTIVATIONS)

    def pair(self, low: int, high: int) -> tuple[int, int]:
        first = self.number(low, high)
        return first, first if self.chance(0.4) else self.number(low, high)

    def pick(self) -> Any:
        """A tensor; mostly one that nothing reads yet."""
        unread = [t for t in self.tensors if id(t) not in self.read]
        x = self.one(unread if unread and self.chance(0.75) else self.tensors)
        self.read.add(id(x))
        return x

    @staticmethod
    def needs(condition: bool) -> None:
        """Raise Unsuitable unless the condition holds."""
        if not condition:
            raise Unsuitable

    def is_1d(self, x: Any) -> bool:
        """True for (length, channels), False for (height, width, channels); other tensors are unsuitable."""
        self.needs(len(shape(x)) in (2, 3))
        return len(shape(x)) == 2

    def add(self, tensor: Any) -> Any:
        """Offer a tensor to further layers, unless it is too large or empty."""
        if not 0 < elements(shape(tensor)) <= MAX_ELEMENTS:
            raise Unsuitable
        self.tensors.append(tensor)
        return tensor


def shape(tensor: Any) -> tuple[int, ...]:
    """Shape without batch."""
    return tuple(int(n) for n in tensor.shape[1:])


def elements(sizes: Sequence[int]) -> int:
    return int(np.prod(sizes, dtype=np.int64))


def _spans(padding: Any) -> bool:
    """True for the sizes that ZeroPadding takes, False for the names that convolutions take."""
    return not isinstance(padding, str)


def _note(kind: str, key: str, value: Any) -> str:
    """Functions given as `activation=` are counted over all classes of layers together."""
    if key == "activation":
        return f"activation={value}"
    return f"{kind} {key}={describe(value)}"


def describe(value: Any) -> str:
    """A value as the coverage table counts it: sizes only as 1, even, uneven or several."""
    if isinstance(value, str | bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return str(value) if value in (-1, 0, 1) else ">1" if value > 1 else "<-1"
    if isinstance(value, float):
        return "0" if value == 0 else "<0" if value < 0 else ">0"
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(v, int) for v in value):
        return "1x1" if value[0] == value[1] == 1 else "nxn" if value[0] == value[1] else "nxm"
    return type(value).__name__
