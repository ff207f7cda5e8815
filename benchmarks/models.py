"""What every real model costs on the emulated Cortex-M4: memory, code, instructions, beside TFLM + CMSIS-NN.

    python -m benchmarks.models              # all models; writes docs/models.md
    python -m benchmarks.models kws --json   # those whose file name contains 'kws'; docs stay as they are
    python -m benchmarks.models --precision float32 ad kws   # the float models, without the peer

Exit status 1 when an output element differs from the reference or an arena is over 2 % above its lower bound.
Needs ../shared (models, data, the peers' figures), arm-none-eabi-gcc and qemu-system-arm.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

import tinygen
from benchmarks.datasets import folder
from benchmarks.real_models import REAL_MODELS, RealModel
from tinygen import building, ops
from tinygen.pipeline import Precision

BOARD = "mps2_an386"
SAMPLES = 3
ARENA_BOUND = 1.02
PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
PEER = "tflm_cmsis_nn_O2"


@dataclass(frozen=True)
class Row:
    """One model. Sizes in bytes; text: .text of the whole firmware; instructions: median of SAMPLES inferences.

    peer_*: TFLM + CMSIS-NN on the published file of the same model, by the same counting; None where unknown.
    """

    model: str
    outcome: str
    macs: int
    arena: int
    bound: int
    constants: int
    text: int
    stack: int | None
    instructions: int | None
    peer_arena: int | None
    peer_instructions: int | None


def measure(model: RealModel, peers: dict[str, dict[str, int]], precision: Precision) -> Row:
    """Compile, build, run."""
    with tempfile.TemporaryDirectory() as out:
        data = folder()
        build = tinygen.compile(
            data / "models" / model.file,
            representative=data / model.train,
            samples=model.options,
            board=BOARD,
            precision=precision,
            out=out,
        )
        ran = tinygen.run(out, inputs=data / model.eval, count=SAMPLES)
        image = building.build(Path(out), build.board)
    peer = peers.get(model.file.split("_")[0], {})
    counts = sorted(c for c in ran.result.instructions if c is not None)
    return Row(
        model.file,
        ran.result.outcome.name,
        ops.macs(s.bound for s in build.compiled.program.steps),
        build.compiled.plan.arena_bytes,
        build.compiled.plan.lower_bound,
        build.compiled.library.constant_bytes,
        image.sections[".text"],
        ran.result.stack_bytes,
        counts[len(counts) // 2] if counts else None,
        peer.get("arena_used"),
        peer.get("instructions"),
    )


def peer_figures() -> dict[str, dict[str, int]]:
    """Model -> TFLM + CMSIS-NN's figures, from ../shared/peers."""
    path = folder().parent / "peers" / "mlperf_tiny_m4.json"
    if not path.is_file():
        return {}
    models = json.loads(path.read_text())["models"]
    return {name: figures["runtimes"][PEER] for name, figures in models.items()}


TITLES = (
    "model",
    "MACs",
    "arena",
    "bound",
    "constants",
    ".text",
    "stack",
    "instructions",
    "peer's",
    "peer's arena",
)


def cells(row: Row) -> list[str]:
    """One line of the table."""
    figures = (row.macs, row.arena, row.bound, row.constants, row.text, row.stack, row.instructions)
    peers = (row.peer_instructions, row.peer_arena)
    return [row.model, *(f"{v:,}" if v is not None else "-" for v in (*figures, *peers))]


def page(rows: Sequence[Row]) -> str:
    """docs/models.md."""
    head = [
        "# What the real models cost",
        "",
        f"Made by `python -m benchmarks.models`. Board {BOARD} (Cortex-M4 in QEMU), gcc -O2, `--optimize balanced`;",
        "bytes, and instructions of one inference (counted, not modelled). The peer is TFLM + CMSIS-NN (-O2) on the",
        "published int8 file of the same model, counted the same way; its arena holds its interpreter's data, too.",
        "",
        f"| {' | '.join(TITLES)} |",
        f"|{'---|' * len(TITLES)}",
    ]
    return "\n".join([*head, *(f"| {' | '.join(cells(r))} |" for r in rows)]) + "\n"


def broken(row: Row) -> bool:
    """A bound of the docstring does not hold."""
    return row.outcome != "PASSED" or row.arena > ARENA_BOUND * row.bound


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="parts of file names; default: all")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--precision", choices=("int8", "float32"), default="int8")
    options = parser.parse_args()
    chosen = [m for m in REAL_MODELS if not options.names or any(n in m.file for n in options.names)]
    peers = peer_figures()
    if options.precision == "float32":
        chosen, peers = [m for m in chosen if not m.file.endswith(".tflite")], {}
    shown = track(chosen, "models", console=Console(stderr=True))
    rows = [measure(m, peers, options.precision) for m in shown]
    if options.json:
        print(json.dumps([asdict(r) for r in rows], indent=2))
    else:
        table = Table(*TITLES, box=None, header_style="bold")
        for row in rows:
            table.add_row(*cells(row))
        Console(width=150).print(table)
    if not options.names and options.precision == "int8":
        PAGE.write_text(page(rows))
    for row in filter(broken, rows):
        print(f"{row.model}: {row.outcome}, arena {row.arena:,}, bound {row.bound:,}", file=sys.stderr)
    return 1 if any(broken(r) for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
