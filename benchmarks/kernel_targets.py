"""What `benchmarks.kernels` holds the kernels to, and what others measured on hardware: facts with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

M4 = "nucleo_l4r5zi"
CORES: Mapping[str, str] = {
    "m4": M4,
    "m0plus": "pico",
    "m3": "mps2_an385",
    "m7": "nucleo_f767zi",
    "m33": "nucleo_l552ze_q",
    "m55": "mps3_an547",
}
"""Core -> the board that stands for it. Cycles are at zero wait states: another board of the same core has the same."""

MODELS = ("kws", "ic", "vww", "ad")
KIB = 1024


@dataclass(frozen=True)
class Target:
    """A bound on one figure of one build. figure: a field of kernels.Measured. least: at least, not at most."""

    model: str
    core: str
    optimize: str
    figure: str
    bound: float
    least: bool = False

    def reached(self, value: float) -> bool:
        """The bound holds."""
        return value >= self.bound if self.least else value <= self.bound

    @property
    def title(self) -> str:
        """What it bounds, in words."""
        mode = "" if self.optimize == "balanced" else f" --optimize {self.optimize}"
        return f"{self.model} {self.core}{mode}: {self.figure}"


TARGETS = (
    Target("kws", "m4", "balanced", "cycles", 4.2e6),
    Target("ic", "m4", "balanced", "cycles", 15.0e6),
    Target("ic", "m4", "speed", "cycles", 11.5e6),
    Target("vww", "m4", "balanced", "cycles", 7.0e6),
    Target("ad", "m4", "balanced", "cycles", 0.40e6),
    Target("vww", "m4", "balanced", "arena", 56 * KIB),
    Target("vww", "m4", "size", "arena", 40 * KIB),
    Target("ic", "m4", "balanced", "arena", 50 * KIB),
    Target("kws", "m4", "balanced", "arena", 20 * KIB),
    Target("kws", "m4", "balanced", "text", 14 * KIB),
    Target("kws", "m0plus", "balanced", "cycles", 24e6),
    Target("ad", "m0plus", "balanced", "cycles", 2.0e6),
    Target("ic", "m55", "balanced", "instructions", 4e6),
    *(Target(model, "m4", "balanced", "seconds", 10.0) for model in MODELS),
)
"""The figures that issue 6 sets. seconds: of compiling, TensorFlow not counted."""

STRETCH: Mapping[str, float] = {"kws": 3.6e6, "ic": 9.5e6, "vww": 6.0e6, "ad": 0.33e6}
MEAN = 2.55
"""Least geometric mean of TFLM + CMSIS-NN's cycles over ours."""


@dataclass(frozen=True)
class Record:
    """MLPerf Tiny results on a NUCLEO-L4R5ZI at 120 MHz, on-chip flash: million cycles = latency x clock."""

    runtime: str
    megacycles: Mapping[str, float]


RECORDS = (
    Record("ST X-CUBE-AI 9.0", {"kws": 5.18, "ic": 19.8, "vww": 10.67, "ad": 0.631}),
    Record("Plumerai 2023.05", {"kws": 5.73, "ic": 20.1, "vww": 11.85, "ad": 0.486}),
    Record("microTVM + CMSIS-NN", {"kws": 11.98, "ic": 46.7, "vww": 36.1, "ad": 1.03}),
    Record("TFLM reference kernels", {"kws": 21.8, "ic": 84.5, "vww": 72.1, "ad": 1.21}),
)


def best_on_hardware(model: str) -> float:
    """Fewest cycles that anyone published for the model on that board, stalls of its flash included."""
    return min(record.megacycles[model] for record in RECORDS) * 1e6
