"""The playbook measured: float weights in external flash -> int8 -> pruned -> pinned, step by step.

    python -m benchmarks.ladder --runs runs/           # all ladders; writes docs/ladder.md
    python -m benchmarks.ladder --runs runs/ --json F  # and the figures, for `tinygen report --ladder F`
    python -m benchmarks.ladder --runs runs/ ad        # those whose model's name begins so; docs stay as they are

runs/ holds the pruned models that `python -m benchmarks.pruning --out runs/` makes.

The playbook's figures are those of a CNC spindle monitor: int8 4.2x, structural pruning 1.8x, weights pinned in SRAM
2.5x, 19x in all. Time is modelled (docs/cycles.md). Needs ../shared and arm-none-eabi-gcc.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

import tinygen
from benchmarks.datasets import folder
from benchmarks.real_models import REAL_MODELS, RealModel
from benchmarks.tables import markdown
from tinygen.pruning.folders import RESULT

PAGE = Path(__file__).resolve().parents[1] / "docs" / "ladder.md"
PLAYBOOK = {"int8": 4.2, "pruned": 1.8, "pinned": 2.5}
GOAL = 19.0
SAMPLES = 3


@dataclass(frozen=True)
class Rung:
    """One build. weights: bytes of constants; cycles, ms: modelled, one warm inference."""

    name: str
    where: str
    weights: int
    instructions: int
    cycles: int | None
    ms: float | None
    data_stalls: int | None


@dataclass(frozen=True)
class Ladder:
    """The rungs of one model on one board, in order."""

    model: str
    board: str
    rungs: tuple[Rung, ...]

    @property
    def factors(self) -> tuple[float | None, ...]:
        """How much faster each rung is than the one before it; None for the first."""
        found: list[float | None] = []
        last: int | None = None
        for rung in self.rungs:
            found.append(last / rung.cycles if last and rung.cycles else None)
            last = rung.cycles or last
        return tuple(found)

    @property
    def total(self) -> float:
        """First rung over last."""
        made = [r.cycles for r in self.rungs if r.cycles]
        return made[0] / made[-1]


LADDERS: tuple[tuple[str, str, str | None], ...] = (
    ("ad_autoencoder", "nrf52840_dk", "qspi"),
    ("kws_ds_cnn", "pico", None),
    ("cwru_cnn1d", "pico", None),
    ("kws_ds_cnn", "disco_f746ng", "qspi"),
    ("cwru_cnn1d", "disco_f746ng", "qspi"),
)
"""Model, board, region of the weights; None: where the code is, which on the pico is an external flash, too."""


def keras_model(name: str) -> RealModel:
    """A Keras model of ../shared/data."""
    return next(m for m in REAL_MODELS if m.file == f"{name}.keras")


def climb(name: str, board: str, region: str | None, runs: Path) -> Ladder:
    """Build and profile every rung; each stands on the one before."""
    original = folder() / "models" / keras_model(name).file
    pruned = runs / CASES[name] / RESULT
    steps: tuple[tuple[str, Path, Mapping[str, Any]], ...] = (
        ("float32", original, {"precision": "float32", "pin": "none"}),
        ("int8", original, {"pin": "none"}),
        ("pruned", pruned, {"pin": "none"}),
        ("pinned", pruned, {"pin": "auto", "pin_code": "auto"}),
    )
    rungs = tuple(rung(name, path, board, region, title, how) for title, path, how in steps)
    return Ladder(name, board, rungs)


CASES = {"ad_autoencoder": "ad", "kws_ds_cnn": "kws", "cwru_cnn1d": "cwru"}
"""Model -> its case in benchmarks/pruning.py."""


def rung(name: str, path: Path, board: str, region: str | None, title: str, how: Mapping[str, Any]) -> Rung:
    """One build of a model, with the data of the model `name`."""
    model = keras_model(name)
    made = tinygen.profile(
        path,
        board=board,
        representative=folder() / model.train,
        inputs=folder() / model.eval,
        samples=model.options,
        count=SAMPLES,
        weights=region,
        **{"pin_code": "none", **how},
    )
    warm = made.median
    arrays = [o for o in made.objects if o.role != "code"]
    homes = sorted({o.region for o in arrays})
    return Rung(
        name=title,
        where=f"weights in {' and '.join(homes)}",
        weights=sum(o.bytes for o in arrays),
        instructions=warm.instructions,
        cycles=warm.cycles,
        ms=made.milliseconds(warm.cycles),
        data_stalls=warm.data_stalls,
    )


TITLES = (
    "step",
    "",
    "constants",
    "instructions",
    "modelled cycles",
    "of them waiting for data",
    "ms",
    "factor",
    "playbook",
)


def rows(ladder: Ladder) -> list[list[str]]:
    """One line per rung, and one for all of them."""
    lines = [_row(r, f) for r, f in zip(ladder.rungs, ladder.factors, strict=True)]
    return [*lines, ["in all", "", "", "", "", "", "", f"{ladder.total:.1f}", f"{GOAL:.0f}"]]


def _row(r: Rung, factor: float | None) -> list[str]:
    figures = [f"{r.weights:,}", f"{r.instructions:,}", "-" if r.cycles is None else f"{r.cycles:,}"]
    waiting = f"{r.data_stalls / r.cycles:.0%}" if r.cycles and r.data_stalls is not None else "-"
    return [
        r.name,
        r.where,
        *figures,
        waiting,
        "-" if r.ms is None else f"{r.ms:.1f}",
        "" if factor is None else f"{factor:.2f}",
        f"{PLAYBOOK[r.name]:.1f}" if r.name in PLAYBOOK else "",
    ]


HEAD = """# The ladder

Made by `python -m benchmarks.ladder --runs runs/` from the pruned models of [pruning.md](pruning.md). A CNC spindle
monitor went from 120 ms to under 8 ms in three steps: int8 (4.2x), structural pruning (1.8x), weights pinned in SRAM
(2.5x): 19x in all. Here the same steps are taken with real models: one warm inference, instructions counted, cycles
modelled ([cycles.md](cycles.md)), bytes of constants. Each factor is against the step before. The first step is
float32 C by the same emitter (`--precision float32`), its weights read in place from external serial flash; no step but
the last pins anything, and the last pins what is left after pruning.
"""


def page(ladders: Sequence[Ladder]) -> str:
    """docs/ladder.md."""
    parts = [HEAD]
    for ladder in ladders:
        parts.append(f"## {ladder.model} on {ladder.board}\n")
        parts.append("\n".join(markdown(TITLES, rows(ladder))) + "\n")
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="beginnings of model names; default: all")
    parser.add_argument("--json", type=Path, metavar="F", help="write the figures to F")
    parser.add_argument("--runs", type=Path, required=True, help="folder of `benchmarks.pruning --out`")
    options = parser.parse_args()
    chosen = [one for one in LADDERS if not options.names or one[0].startswith(tuple(options.names))]
    made = [climb(*one, options.runs) for one in track(chosen, "ladders", console=Console(stderr=True))]
    for ladder in made:
        print("\n".join([f"{ladder.model} on {ladder.board}", *markdown(TITLES, rows(ladder)), ""]))
    if options.json:
        options.json.write_text(json.dumps([data(ladder) for ladder in made], indent=2) + "\n")
    if not options.names:
        PAGE.write_text(page(made))
    return 0


def data(ladder: Ladder) -> dict[str, Any]:
    """JSON-ready; factor and playbook beside every step."""
    steps = [
        asdict(r) | {"factor": f, "playbook": PLAYBOOK.get(r.name)}
        for r, f in zip(ladder.rungs, ladder.factors, strict=True)
    ]
    return {"model": ladder.model, "board": ladder.board, "steps": steps, "total": ladder.total, "goal": GOAL}


if __name__ == "__main__":
    sys.exit(main())
