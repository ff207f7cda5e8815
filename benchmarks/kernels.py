"""Every published MLPerf Tiny int8 model, layer by layer, beside TFLM + CMSIS-NN, TinyEngine and hardware records.

    python -m benchmarks.kernels                              # all models and cores; writes docs/performance.md
    python -m benchmarks.kernels --model kws                  # seconds: one model on the Cortex-M4, its layers
    python -m benchmarks.kernels --model ic --layer conv2d_1  # one layer (still the whole model is run)
    python -m benchmarks.kernels --core m0plus --model kws    # another core: m4, m0plus, m3, m7, m33, m55
    python -m benchmarks.kernels --json F --keep DIR          # figures as JSON; the images that were measured

Instructions are counted, cycles modelled at zero wait states, by the frozen rules of docs/cycles.md: the warm one of
two inferences of evaluation samples, whose outputs must equal the reference. Exit status 1 when a target of
benchmarks/kernel_targets.py is missed. Needs ../shared and arm-none-eabi-gcc, for the M55 qemu-system-arm.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

import tinygen
from benchmarks import kernel_peers, kernel_text
from benchmarks.datasets import folder
from benchmarks.kernel_targets import CORES, MEAN, MODELS, TARGETS, Target
from benchmarks.validate_model import published
from tinygen import building, bundle, running
from tinygen.building import Firmware
from tinygen.errors import BoardError
from tinygen.graph import Array
from tinygen.profile_api import inputs_of
from tinygen.profiling import Profile

SAMPLES = 2
MODES = ("balanced", "speed", "size")


@dataclass(frozen=True)
class LayerRow:
    """One layer of one build. macs: those that are left. cmsis_nn: its cycles, None where the peers' file has none."""

    name: str
    op: str
    kernel: str
    macs: int
    instructions: int
    cycles: int | None
    cmsis_nn: int | None


@dataclass(frozen=True)
class Measured:
    """One build of one model: of its warm inference. macs: of the published model. text: .text of the whole firmware,
    libc and start-up included; flash: all of the image. seconds: of compiling to C. cycles None: only counted."""

    model: str
    core: str
    board: str
    optimize: str
    macs: int
    macs_left: int
    instructions: int
    cycles: int | None
    arena: int
    text: int
    flash: int
    stack: int | None
    seconds: float
    layers: tuple[LayerRow, ...]

    @property
    def per_mac(self) -> float | None:
        """Cycles per multiply-accumulate of the published model."""
        return None if self.cycles is None else self.cycles / self.macs

    @property
    def ratio(self) -> float | None:
        """TFLM + CMSIS-NN's cycles over ours, on the core that it was counted on."""
        if self.cycles is None or self.core != "m4":
            return None
        return kernel_peers.whole(self.model, kernel_peers.CMSIS_NN).cycles / self.cycles


def measure(model: str, core: str, optimize: str, keep: Path | None) -> Measured | None:
    """Compile, build, run two evaluation samples; None where the model does not fit the core's board."""
    described, source = published(model), folder() / "models" / published(model).file
    board = CORES[core]
    with tempfile.TemporaryDirectory() as temporary:
        project, start = Path(temporary) / "fw", time.perf_counter()
        chosen = {"optimize": optimize}
        try:
            build = tinygen.compile(source, board=board, out=project, pin="none", pin_code="none", **chosen)
        except BoardError:
            return None
        seconds = time.perf_counter() - start
        image = building.build(project, build.board)
        evaluation = folder() / described.eval
        options = described.options
        made = tinygen.profile(project, inputs=evaluation, samples=options, count=SAMPLES)
        if keep is not None:
            graph, _, _ = bundle.load_project(project)
            inputs = inputs_of(project, graph, evaluation, SAMPLES, options)
            kept_image(image, inputs, keep / f"{model}-{core}-{optimize}.elf")
    text = image.sections[".text"]
    return row_of(model, core, optimize, made, text, seconds)


def row_of(model: str, core: str, optimize: str, made: Profile, text: int, seconds: float) -> Measured:
    """The profile of a build beside the peers' layers."""
    loaded = tinygen.load(folder() / "models" / published(model).file).graph
    peers = kernel_peers.layers(model, loaded) if core == "m4" else {}
    rows = tuple(
        LayerRow(
            each.name,
            each.op,
            each.kernel,
            each.macs,
            each.cost.instructions,
            each.cost.zero_wait_cycles,
            peers.get(each.name),
        )
        for each in made.layers
    )
    total = made.median
    return Measured(
        model,
        core,
        made.board.name,
        optimize,
        kernel_peers.macs(model),
        made.macs,
        total.instructions,
        total.zero_wait_cycles,
        made.arena_bytes,
        text,
        made.flash_bytes,
        made.stack_bytes,
        round(seconds, 2),
        rows,
    )


def kept_image(image: Firmware, inputs: Sequence[Array], target: Path) -> None:
    """Copy an image, and beside it the samples as its input block takes them; the file's name says at which address.

    `tg_mark` is called at the start and at the end of each sample, and nowhere else.
    """
    samples = [running.record(0, i, [x[i].reshape(-1) for x in inputs]) for i in range(len(inputs[0]))]
    place = image.symbols["__tg_input_start"].address
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image.elf, target)
    target.with_name(f"{target.stem}-at-{place:#x}.bin").write_bytes(running.block(samples))


@dataclass(frozen=True)
class Check:
    """One target and what was measured; None: not measured in this run."""

    target: Target
    value: float | None

    @property
    def missed(self) -> bool:
        """It was measured and does not hold."""
        return self.value is not None and not self.target.reached(self.value)


def checks(rows: Sequence[Measured]) -> list[Check]:
    """Every target with its figure."""
    by_build = {(r.model, r.core, r.optimize): r for r in rows}
    made = []
    for target in TARGETS:
        row = by_build.get((target.model, target.core, target.optimize))
        made.append(Check(target, None if row is None else getattr(row, target.figure)))
    mean = geometric_mean(rows)
    return [*made, Check(Target("all", "m4", "balanced", "times TFLM + CMSIS-NN", MEAN, least=True), mean)]


def geometric_mean(rows: Sequence[Measured], optimize: str = "balanced") -> float | None:
    """Of the ratios of all four models; None where one is missing."""
    ratios = {r.model: r.ratio for r in rows if r.optimize == optimize and r.ratio is not None}
    if set(ratios) != set(MODELS):
        return None
    return math.exp(sum(math.log(ratio) for ratio in ratios.values()) / len(ratios))


def to_json(rows: Sequence[Measured]) -> dict[str, object]:
    """Everything that was measured, and the verdicts."""
    judged = [
        {**asdict(c.target), "value": c.value, "missed": c.missed}
        for c in checks(rows)
        if c.value is not None
    ]
    return {
        "builds": [{**asdict(r), "cycles_per_mac": r.per_mac, "ratio": r.ratio} for r in rows],
        "geometric_mean": {mode: geometric_mean(rows, mode) for mode in MODES},
        "targets": judged,
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", action="append", choices=MODELS, help="several may be given [default: all]"
    )
    parser.add_argument("--core", action="append", choices=tuple(CORES), help="[default: m4, or all]")
    parser.add_argument("--optimize", action="append", choices=MODES, help="[default: balanced, or all]")
    parser.add_argument("--layer", action="append", default=[], help="show these layers only")
    parser.add_argument("--json", type=Path, metavar="F", help="write the figures there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the images that were measured")
    return parser.parse_args()


def builds(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """(model, core, optimize) of everything that is asked for: modes are compared on the M4."""
    quick = options.model or options.core or options.optimize
    models, cores = options.model or MODELS, options.core or (("m4",) if quick else tuple(CORES))
    modes = options.optimize or (("balanced",) if quick else MODES)
    return [(m, c, o) for c in cores for o in modes for m in models if c == "m4" or o == modes[0]]


def main() -> int:
    options = parsed()
    wanted = builds(options)
    shown = track(wanted, "kernels", console=Console(stderr=True), transient=True)
    rows = [r for r in (measure(*build, options.keep) for build in shown) if r is not None]
    if options.json:
        options.json.write_text(json.dumps(to_json(rows), indent=2) + "\n")
    judged = checks(rows)
    kernel_text.show(Console(width=180), rows, judged, options.layer, geometric_mean(rows))
    if not (options.model or options.core or options.optimize):
        kernel_text.write_page(rows, judged, geometric_mean(rows))
    return 1 if any(c.missed for c in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
