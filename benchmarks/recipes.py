"""What each part of the recipes for fine-tuning brings: one start, equal steps, one part more per row.

    python -m benchmarks.recipes kws --runs runs/     the start is the last pruning step of runs/kws

runs/ is that of benchmarks/pruning.py. Held-out samples judge; evaluation files are not read. Writes docs/prune.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.datasets import BY_NAME, folder
from benchmarks.tables import around, markdown, replace_section
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Array
from tinygen.heavy import import_keras
from tinygen.pruning import augmentation, distillation, judging, recipe
from tinygen.pruning.augmentation import Way
from tinygen.pruning.journal import read
from tinygen.pruning.setting import answers
from tinygen.samples import Samples

PAGE = Path(__file__).resolve().parents[1] / "docs" / "prune.md"
COPIES = 12
"""Changed copies of each held-out sample."""
CHANGED: tuple[Way, ...] = ("flip", "zoom", "colour", "paste")
TITLES = ("", "held-out", "answers that differ", "changed", "answers that differ, changed", "taught")


@dataclass(frozen=True)
class Variant:
    """A row: what of the recipe is other than today's."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A case of benchmarks/pruning.py: rows of `steps` steps each."""

    steps: int
    variants: tuple[Variant, ...]


STUDIES: Mapping[str, Study] = {
    "kws": Study(
        3000,
        (
            Variant("outputs alone", {"augment": (), "features": 0.0}),
            Variant("mixed samples", {"features": 0.0}),
            Variant("hidden layers", {"augment": ()}),
            Variant("both: the recipe", {}),
        ),
    ),
    "vww": Study(
        1500,
        (
            Variant("mirrored and shifted", {"augment": ("flip", "shift"), "features": 0.0}),
            Variant("mirrored and zoomed", {"augment": ("flip", "zoom"), "features": 0.0}),
            Variant("and recoloured, pasted", {"features": 0.0}),
            Variant("and hidden layers: the recipe", {}),
        ),
    ),
}


@dataclass(frozen=True)
class Judges:
    """Sets on which rows are compared, by column. changed: None where samples are no images; taught: what teaches."""

    held_out: judging.Judge
    changed: judging.Judge | None
    taught: judging.Judge

    def row(self, name: str, model: Any) -> tuple[str, ...]:
        """Distances from the original (KL divergence), and answers that differ from its."""
        known = [_judged(judge, model) for judge in (self.held_out, self.changed) if judge]
        known += [("", "")] * (2 - len(known))
        return name, *known[0], *known[1], _judged(self.taught, model)[0]


def judges_of(teacher: Any, fit: Samples, held_out: Samples) -> Judges:
    """Those of a case: changed copies where samples are images."""

    def judge(x: Array) -> judging.Judge:
        samples = Samples((x,))
        return judging.make_judge(load_keras_model(teacher), samples, answers(teacher, samples.x))

    x, generator = held_out.x[0], np.random.default_rng(augmentation.HELD_SEED)
    changed = None
    if augmentation.is_image(x.shape[1:]):
        change = augmentation.augmentation_of(CHANGED, fit.x[0])
        changed = judge(np.concatenate([change(x, generator) for _ in range(COPIES)]))
    return Judges(judge(x), changed, judge(fit.x[0]))


def _judged(judge: judging.Judge, model: Any) -> tuple[str, str]:
    outputs = answers(model, judge.samples.x)
    others = np.mean(outputs[0].argmax(axis=-1) != judge.original[0].argmax(axis=-1))
    return f"{judge.distance(outputs).mean:.4f}", f"{others:.1%}"


def rows_of(case: str, runs: Path) -> Iterator[tuple[str, ...]]:
    """The start, then every variant."""
    task, study, load = BY_NAME[case], STUDIES[case], import_keras().saving.load_model
    pruned = next(step for step in reversed(read(runs / case).line) if step.action == "prune")
    teacher, start = (load(file, compile=False) for file in (task.model_path, runs / case / pruned.model))
    fit, held_out = judging.split(task.samples("train"))
    judges = judges_of(teacher, fit, held_out)
    yield judges.row("start", start)
    own = replace(recipe.recipe_for(teacher), steps=study.steps, most=0, refit=False)
    for variant in study.variants:
        options = replace(own, **variant.changes)
        trained = distillation.train(start, teacher, fit.x, held_out.x, options)
        yield judges.row(variant.name, trained.model)


def section(case: str) -> str:
    """Where the case's table stands on the page."""
    return f"recipe of {case}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print each row when it is there, write the tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.recipes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="+", choices=STUDIES)
    parser.add_argument("--runs", type=Path, required=True, help="folder of benchmarks.pruning")
    given = parser.parse_args(argv)
    for case in given.cases:
        around(PAGE, section(case))  # refuses before anything is trained
        rows = []
        for row in rows_of(case, given.runs):
            Console(stderr=True).print(case, *row, sep="  ")
            rows.append(row)
        used = [any(row[i] for row in rows) for i in range(len(TITLES))]  # nothing is changed but images
        titles, *shown = (tuple(compress(row, used)) for row in (TITLES, *rows))
        replace_section(PAGE, section(case), markdown(titles, shown))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    assert folder().is_dir(), f"{folder()} does not exist"
    sys.exit(main())
