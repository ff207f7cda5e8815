"""What pruning says of a model: what it costs on a board, how good it is, and each step on the way. Frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinygen.metrics import Metric

Resource = Literal["sram", "flash", "weights", "macs", "cycles", "ms"]
RESOURCES: tuple[Resource, ...] = ("sram", "flash", "weights", "macs", "cycles", "ms")
"""sram: bytes of arena, pinned weights, stacks and variables. flash: bytes of the image. weights: bytes of constants
of the int8 model. cycles: of one warm inference, modelled. ms: the same at the board's clock."""


@dataclass(frozen=True)
class LayerCost:
    """One layer of the compiled model. live: bytes of arena in use while it runs."""

    name: str
    macs: int
    cycles: float
    live: int


@dataclass(frozen=True)
class Cost:
    """What an int8 model takes on a board; units as in RESOURCES.

    measured: True where the image was built and profiled, False where sizes come from the planner and cycles from
    the layers' formulas. cycles, ms: None on cores whose cycles are not modelled.
    """

    board: str
    arena: int
    pinned: int
    sram: int
    flash: int
    weights: int
    macs: int
    cycles: float | None
    ms: float | None
    measured: bool
    layers: tuple[LayerCost, ...] = ()

    def of(self, resource: Resource) -> float | None:
        """The amount of one resource."""
        amount: float | None = getattr(self, resource)
        return amount


@dataclass(frozen=True)
class Figures:
    """A model on the way. loss: mean distance from the original's outputs on held-out samples (distillation.py).

    metric: on held-out labelled samples of the representative set, None without labels. int8: the same of the
    quantized model, where it was made.
    """

    cost: Cost
    loss: float
    metric: Metric | None = None
    int8: Metric | None = None


@dataclass(frozen=True)
class Removal:
    """Channels that went from one layer. channels: indices in the model before the step.

    folded: what took the place of their contribution: "exact", a constant in the biases behind; "mean", what they were
    on average; "refitted", weights that were solved for again.
    """

    layer: str
    channels: tuple[int, ...]
    left: int
    folded: Literal["exact", "mean", "refitted"]
    why: str


Action = Literal["original", "fold", "prune", "fine-tune", "qat", "int8"]


@dataclass(frozen=True)
class Step:
    """One entry of the log. model: the checkpoint's file name inside the output folder; sha256: of its bytes."""

    number: int
    action: Action
    why: str
    removed: tuple[Removal, ...]
    before: Figures
    after: Figures
    model: str
    sha256: str
    seconds: float
