"""Is the cycle model right? Held against QEMU's counts and against figures that others measured on hardware.

    python -m benchmarks.validate_model                  # writes the tables into docs/cycles.md
    python -m benchmarks.validate_model --elf FOLDER     # and weighs TFLM + CMSIS-NN's images kws.elf, ic.elf, ...

Exit status 1 when an instruction count differs from QEMU's or a bound below is missed. Needs ../shared,
arm-none-eabi-gcc and qemu-system-arm. The images of --elf are not ours and not part of the project: each calls a
function `mark` before, between and after two inferences, and ends at the symbol `done`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

import tinygen
from benchmarks.datasets import folder
from benchmarks.real_models import REAL_MODELS, RealModel
from benchmarks.tables import markdown, replace_section
from benchmarks.twins import twin_of
from tinygen import building, running
from tinygen.boards import Board, load_board
from tinygen.bundle import load_project
from tinygen.cycles.bare import trace_elf
from tinygen.emulators import Qemu
from tinygen.errors import BoardError
from tinygen.profile_api import inputs_of
from tinygen.samples import DEFAULT

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cycles.md"
BOARDS = ("nucleo_l4r5zi", "disco_f746ng", "pico", "nucleo_g071rb")
MODELS = ("kws", "ic", "vww", "ad")
TOO_LARGE = {(model, "nucleo_g071rb") for model in ("ic", "vww", "ad")}
"""What is known not to fit: 36 KB of SRAM, 128 KB of flash. Anything else that is refused is an error."""
SAMPLES = 2
BOUND = 0.15
"""What is allowed between a measured and a modelled stall rate."""
AD_WEIGHTS = 264_192
"""Bytes of the AD model's weights: every one is read once in an inference."""


@dataclass(frozen=True)
class Measured:
    """Inferences per second of one model with weights in flash and in RAM (MLPerf Tiny v1.2, closed, Bosch HALE)."""

    board: str
    clock_hz: int
    flash: float
    ram: float

    @property
    def per_byte(self) -> float:
        """Stall cycles that flash adds per weight byte."""
        return (self.clock_hz / self.flash - self.clock_hz / self.ram) / AD_WEIGHTS


BOSCH = (
    Measured("nucleo_l4r5zi", 120_000_000, 171.375, 211.492),
    Measured("disco_f746ng", 216_000_000, 584.380, 701.804),
)
MICROTVM = {"kws": 10.019, "ic": 2.567, "vww": 3.324, "ad": 116.212}
"""Inferences per second of microTVM + CMSIS-NN on the L4R5 at 120 MHz, weights in flash (MLPerf Tiny v1.1, Krai)."""


def published(name: str) -> RealModel:
    """The published int8 file of an MLPerf Tiny model."""
    return next(m for m in REAL_MODELS if m.file.startswith(name) and m.file.endswith(".tflite"))


# ---- instructions


@dataclass(frozen=True)
class Counted:
    """Instructions of SAMPLES inferences of one model; None where it does not fit the board.

    traced: on the board. twin: traced on its twin, qemu: counted there. kernels, twin_kernels: without what lies
    outside of the kernels, where each board reads its own timer.
    """

    model: str
    board: str
    traced: tuple[int, ...] | None = None
    kernels: int | None = None
    twin: tuple[int, ...] | None = None
    twin_kernels: int | None = None
    qemu: tuple[int, ...] | None = None

    @property
    def right(self) -> bool:
        """The board's kernels execute what the twin's execute, and the twin's total is QEMU's."""
        if self.traced is None or (self.model, self.board) in TOO_LARGE:
            return self.traced is None and (self.model, self.board) in TOO_LARGE
        return self.kernels == self.twin_kernels and self.twin == self.qemu


def counted(name: str, board: Board) -> Counted:
    """Nothing is pinned: a pinned kernel is called through a veneer, whose instructions depend on addresses."""
    model = folder() / "models" / published(name).file
    with tempfile.TemporaryDirectory() as temporary:
        fw, twin = Path(temporary) / "fw", Path(temporary) / "twin"
        try:
            tinygen.compile(model, board=board.name, out=fw, pin="none", pin_code="none")
        except BoardError:
            return Counted(name, board.name)
        described = str(twin_of(board, Path(temporary)))
        tinygen.compile(model, board=described, out=twin, pin="none", pin_code="none")
        profiles = [tinygen.profile(folder, count=SAMPLES) for folder in (fw, twin)]
        qemu = qemu_counts(twin)
    totals, twin_totals = (tuple(c.instructions for c in p.totals) for p in profiles)
    kernels, twin_kernels = (sum(layer.cost.instructions for layer in p.layers) for p in profiles)
    return Counted(name, board.name, totals, kernels, twin_totals, twin_kernels, qemu)


def qemu_counts(project: Path) -> tuple[int, ...]:
    """Instructions of the samples that `tinygen.profile` runs, counted by QEMU."""
    graph, board, _ = load_project(project)
    inputs = inputs_of(project, graph, None, SAMPLES, DEFAULT)
    result = running.run(building.build(project, board), board, Qemu(), inputs, None, 600.0)
    return tuple(int(n) for n in result.instructions if n is not None)


# ---- stalls


@dataclass(frozen=True)
class Rate:
    """Stall cycles per weight byte: measured and modelled. judged: False for rows that only inform."""

    what: str
    measured: float
    modelled: float
    judged: bool

    @property
    def off(self) -> float:
        """Relative deviation."""
        return self.modelled / self.measured - 1

    @property
    def right(self) -> bool:
        """Inside the bound, or not judged."""
        return not self.judged or abs(self.off) <= BOUND


def rate(board: str, edit: Callable[[str], str] = str) -> float:
    """Modelled stall cycles per weight byte of AD: all in flash, less all weights in RAM; code in flash in both."""
    text = edit(load_board(board).path.read_text())
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"{board}.toml"
        path.write_text(text)
        model = folder() / "models" / published("ad").file
        in_flash, in_ram = (
            tinygen.profile(model, board=str(path), pin=pin, pin_code="none", count=SAMPLES).median.cycles
            or 0
            for pin in ("none", "all")
        )
    return (in_flash - in_ram) / AD_WEIGHTS


def four_wait_states(text: str) -> str:
    """The L4R5's description with the wait states of CubeMX's table."""
    edited, count = re.subn(r"(?m)^wait_states = 5$", "wait_states = 4", text)
    assert count == 1, "the description of the L4R5 has changed"
    return edited


def rates() -> Iterator[Rate]:
    """Bosch's two boards; the L4R5 with either number of wait states."""
    l4r5, f746 = (m.per_byte for m in BOSCH)
    four, five = rate(BOSCH[0].board, four_wait_states), rate(BOSCH[0].board)
    yield Rate("L4R5, 4 wait states (CubeMX's table for 120 MHz)", l4r5, four, True)
    yield Rate("L4R5, 5 wait states (LL driver; our start-up code)", l4r5, five, False)
    yield Rate("F746, 7 wait states", f746, rate(BOSCH[1].board), True)


# ---- whole models of another runtime


@dataclass(frozen=True)
class Whole:
    """One warm inference of TFLM + CMSIS-NN. peers: zero-wait cycles in ../shared/peers; hardware: microTVM's."""

    model: str
    zero_wait: int
    stalls: int
    peers: int
    hardware: float

    @property
    def right(self) -> bool:
        """Zero-wait cycles as the peers' file has them, within 0.1 %."""
        return abs(self.zero_wait / self.peers - 1) < 1e-3


def whole(name: str, elf: Path, board: Board) -> Whole:
    """Follow a foreign image."""
    warm = trace_elf(elf, board, "mark", "done", SAMPLES).between
    peers = json.loads((folder().parent / "peers" / "mlperf_tiny_m4.json").read_text())
    cycles = peers["models"][name]["runtimes"]["tflm_cmsis_nn_O2"]["cycles"]
    return Whole(name, warm.cycles, warm.fetch + warm.data, cycles, board.clock_hz / MICROTVM[name])


# ---- pages


def counted_rows(rows: Sequence[Counted]) -> list[list[str]]:
    """A row per model, a column per board."""
    lines = []
    for model in MODELS:
        cells = [r for r in rows if r.model == model]
        lines.append([model, *(_counts(r) for r in cells)])
    return lines


def _counts(row: Counted) -> str:
    if row.traced is None:
        return "does not fit"
    verdict = "equal" if row.right else f"QEMU {row.qemu}"
    return f"{int(np.median(row.traced)):,} {verdict}"


def rate_rows(rows: Sequence[Rate]) -> list[list[str]]:
    """Measured, modelled, deviation, verdict."""
    return [
        [r.what, f"{r.measured:.3f}", f"{r.modelled:.3f}", f"{100 * r.off:+.1f} %", _verdict(r)] for r in rows
    ]


def _verdict(row: Rate) -> str:
    if not row.judged:
        return "for information"
    return f"inside {BOUND:.0%}" if row.right else f"OUTSIDE {BOUND:.0%}"


def whole_rows(rows: Sequence[Whole]) -> list[list[str]]:
    """Zero-wait cycles against the peers', hardware over zero-wait, and what the memory model explains of it."""
    return [
        [
            r.model,
            f"{r.zero_wait:,}",
            f"{100 * (r.zero_wait / r.peers - 1):+.3f} %",
            f"{r.hardware / r.zero_wait:.3f}",
            f"{1 + r.stalls / r.zero_wait:.3f}",
            f"{r.stalls / (r.hardware - r.zero_wait):.0%}",
        ]
        for r in rows
    ]


WHOLE_TITLES = (
    "model",
    "zero-wait cycles",
    "against the peers' file",
    "hardware / zero-wait",
    "modelled",
    "explained",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--elf", type=Path, help="folder with TFLM + CMSIS-NN's images")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    console = Console(stderr=True)
    pairs = [(m, load_board(b)) for m in MODELS for b in BOARDS]
    counts = [counted(m, b) for m, b in track(pairs, "instructions", console=console)]
    found = list(track(rates(), "stalls", total=3, console=console))
    l4r5 = load_board(BOARDS[0])
    wholes = [whole(m, options.elf / f"{m}.elf", l4r5) for m in MODELS] if options.elf else []
    sections = {
        "instructions": markdown(("model", *BOARDS), counted_rows(counts)),
        "stalls": markdown(("flash against RAM, AD", "measured", "modelled", "off", ""), rate_rows(found)),
        "whole models": markdown(WHOLE_TITLES, whole_rows(wholes)),
    }
    if options.json:
        print(json.dumps(sections, indent=2))
    for name, lines in sections.items():
        if wholes or name != "whole models":
            replace_section(PAGE, name, lines)
            if not options.json:
                print("\n".join([name, *lines, ""]))
    wrong = [row for row in (*counts, *found, *wholes) if not row.right]
    for row in wrong:
        print(f"out of bounds: {row}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
