"""What quantization may be told, and the record of what it decided: shown by `tinygen inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tinygen.calibrators import NAMED, Range
from tinygen.errors import UsageError, did_you_mean
from tinygen.graph import Graph, QParams
from tinygen.simulation import Comparison

Activations = Literal["int8", "int16", "auto"]
ACTIVATIONS: tuple[Activations, ...] = ("int8", "int16", "auto")
Switch = Literal["auto", "on", "off"]
SWITCHES: tuple[Switch, ...] = ("auto", "on", "off")


@dataclass(frozen=True)
class Options:
    """calibration: 'auto' or a calibrator's name. equalization, bias_correction: 'auto' if it helps.

    activations: 'int8', 'int16' wherever an operator has that form, or 'auto' where it helps. int16: layers whose
    outputs are int16 in any case. max_drop: what ends 'auto', in points; None: when nothing helps any more.
    """

    calibration: str = "auto"
    equalization: Switch = "auto"
    bias_correction: Switch = "auto"
    activations: Activations = "int8"
    int16: tuple[str, ...] = ()
    max_drop: float | None = None

    def __post_init__(self) -> None:
        known = ("auto", *NAMED)
        if self.calibration not in known:
            near = did_you_mean(self.calibration, known)
            raise UsageError(
                f"calibration '{self.calibration}' is unknown{near}\n  there are {', '.join(known)}"
            )
        for name, value in (("equalization", self.equalization), ("bias correction", self.bias_correction)):
            if value not in SWITCHES:
                raise UsageError(f"{name} is '{value}', it must be one of {', '.join(SWITCHES)}")
        if self.activations not in ACTIVATIONS:
            near = did_you_mean(self.activations, ACTIVATIONS)
            raise UsageError(
                f"--activations '{self.activations}' is unknown{near}\n  there are {', '.join(ACTIVATIONS)}"
            )


@dataclass(frozen=True)
class RangeDecision:
    """QParams of a group of tied activations and where they come from.

    calibrator: its name; 'fixed' by the operator, 'exact' for integer samples, 'derived' from other scales.
    costs: candidate -> mean cost at the outputs (simulation.py) on held-out samples; empty when none was
    measured.
    """

    group: str
    members: tuple[str, ...]
    calibrator: str
    qparams: QParams
    costs: Mapping[str, float]

    @property
    def range(self) -> Range:
        """The real numbers that int8 (or int16) covers."""
        scale, zero_point = self.qparams.scale[0], self.qparams.zero_point[0]
        return Range((self.qparams.low - zero_point) * scale, (self.qparams.high - zero_point) * scale)

    def __str__(self) -> str:
        low, high = self.range.low, self.range.high
        costs = ", ".join(f"{name} {cost:.3g}" for name, cost in self.costs.items())
        bits = " int16" if self.qparams.bits == 16 else ""
        return f"{self.group}: {self.calibrator}{bits} [{low:.4g}, {high:.4g}]" + (
            f" (costs: {costs})" if costs else ""
        )


@dataclass(frozen=True)
class RewriteDecision:
    """Whether a rewrite of weights and biases was applied. comparison: cost without and with it."""

    name: str
    applied: bool
    why: str
    comparison: Comparison | None = None

    def __str__(self) -> str:
        applied = "applied" if self.applied else "not applied"
        costs = (
            f" (cost {self.comparison.before:.3g} -> {self.comparison.after:.3g})" if self.comparison else ""
        )
        return f"{self.name}: {applied}, {self.why}{costs}"


@dataclass(frozen=True)
class Int16Decision:
    """The layers that compute in 16x8, in execution order; comparison: cost with int8 alone and with them.

    sensitivity: group of activations -> how much the cost falls when it is not rounded; empty when none was measured.
    """

    layers: tuple[str, ...]
    why: str
    comparison: Comparison | None = None
    sensitivity: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        costs = (
            f" (cost {self.comparison.before:.3g} -> {self.comparison.after:.3g})" if self.comparison else ""
        )
        return f"int16 activations: {', '.join(self.layers) or 'no layer'}; {self.why}{costs}"


@dataclass(frozen=True)
class Size:
    """Multiply-accumulates of one inference, and bytes of all constants."""

    macs: int
    bytes: int


@dataclass(frozen=True)
class ChannelDecision:
    """Channels that simplify removed: layer -> how many. channels: layer -> of how many. before, after: the model."""

    removed: Mapping[str, int]
    channels: Mapping[str, int]
    before: Size
    after: Size

    def __str__(self) -> str:
        layers = ", ".join(f"{name} {count} of {self.channels[name]}" for name, count in self.removed.items())
        macs = f"{self.before.macs:,} -> {self.after.macs:,} MACs"
        constants = f"{self.before.bytes:,} -> {self.after.bytes:,} bytes of constants"
        return f"channels that no output can see: removed ({macs}, {constants}): {layers}"


@dataclass(frozen=True)
class BandDecision:
    """Layers that are computed in bands of rows. peak: greatest sum of live bytes, macs: both (before, after)."""

    layers: tuple[str, ...]
    peak: tuple[int, int]
    macs: tuple[int, int]

    def __str__(self) -> str:
        peak, macs = (f"{before:,} -> {after:,}" for before, after in (self.peak, self.macs))
        return f"bands of rows: {', '.join(self.layers)} ({peak} bytes live at most, {macs} MACs)"


@dataclass(frozen=True)
class QuantizationReport:
    """The int8 graph and how it came about. cost: mean simulated cost at the outputs on held-out samples.

    real: the float graph that int8 stands for, activation by activation: channels made even, copies inserted.
    corrected: the same with corrected biases: what to_int8 took.
    """

    graph: Graph
    ranges: tuple[RangeDecision, ...]
    rewrites: tuple[RewriteDecision, ...]
    samples: int
    judged: int
    cost: float
    real: Graph | None = None
    int16: Int16Decision | None = None
    corrected: Graph | None = None

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, rewrites first."""
        wide = (self.int16,) if self.int16 is not None else ()
        return (*self.rewrites, *wide, *self.ranges)


Decision = RangeDecision | RewriteDecision | Int16Decision | ChannelDecision | BandDecision
