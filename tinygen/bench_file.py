"""A bench's TOML: every key is checked, errors name file and line (docs/bench.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from tinygen import metrics
from tinygen.bench_matrix import Bench, BenchModel, Gate, Gates, Limits
from tinygen.boards import Board, load_board
from tinygen.calibrators import NAMED
from tinygen.errors import BenchError, BoardError, UsageError
from tinygen.graph import Shape
from tinygen.pipeline import Precision
from tinygen.samples import Options as SampleOptions
from tinygen.selection import RATES, Optimize
from tinygen.tomlfile import Table, TomlFile
from tinygen.wishes import PINS

DEFAULT_FILE = "tinygen-bench.toml"
BYTES = 1 << 32
"""More than any budget of bytes."""


class BenchFile(TomlFile):
    """A bench's TOML as text; what is wrong with it is a BenchError."""

    problem = BenchError
    noun = "bench"


def read_bench(path: Path) -> Bench:
    """Read and check a bench's TOML. Raises BenchError with file and line, UsageError when there is none."""
    if not path.is_file():
        raise UsageError(
            f"there is no bench '{path}'\n  write one (docs/bench.md shows how), or give its path"
        )
    top = BenchFile.load(path).top()
    folder = path.parent
    folders = [_folder(top, "board_path", folder, text) for text in top.texts("board_path", ())]
    shared = _boards(top, folder, folders) if top.has("boards") else ()
    bench = Bench(
        path=path,
        baseline=folder / top.text("baseline", f"{path.stem}.baseline.json"),
        history=folder / top.text("history") if top.has("history") else None,
        gates=_gates(top.optional("gates")),
        models=tuple(_model(table, folder, folders, shared) for table in top.tables("model")),
    )
    top.finish()
    _check_names(top, [m.name for m in bench.models])
    return bench


def _check_names(top: Table, names: Sequence[str]) -> None:
    for index, table in enumerate(top.tables("model")):
        if names[index] in names[:index]:
            raise table.error("name", f"two models are named '{names[index]}'", "names must differ")


def _folder(table: Table, key: str, base: Path, text: str) -> Path:
    if not (base / text).is_dir():
        raise table.error(key, f"folder '{text}' does not exist", f"paths are found from '{base}'")
    return base / text


# ---- gates


def _gates(table: Table | None) -> Gates:
    """The defaults, with what the table says instead."""
    if table is None:
        return Gates()
    names = [f.name for f in fields(Gates)]
    given = {name: _gate(table, name) for name in names if table.has(name)}
    table.finish()
    return Gates(**given)


def _gate(table: Table, key: str) -> Gate:
    """`64` or `"1 %"`; accuracy in points: `0.5`."""
    if key == "accuracy":
        return Gate(Fraction(str(table.real(key, 0, 1e6))))
    value = table.value(key)
    if isinstance(value, str) and (percent := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)):
        return Gate(Fraction(percent[1]), relative=True)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < BYTES:
        return Gate(Fraction(value))
    raise table.wrong(key, value, 'it must be a whole number, 0 or more, or percent like "1 %"')


# ---- models


def _model(table: Table, folder: Path, folders: Sequence[Path], shared: tuple[Board, ...]) -> BenchModel:
    name = table.text("name")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise table.wrong(
            "name", name, "it must be letters, digits, _, . and -, starting with a letter or digit"
        )
    file = _path(table, "file", folder)
    assert file is not None
    precision = _precision(table)
    model = BenchModel(
        name=name,
        file=file,
        representative=_path(
            table, "representative", folder, needed=file.suffix != ".tflite" and precision == "int8"
        ),
        eval=_path(table, "eval", folder, needed=False),
        eval_count=table.number("eval_count", 1, BYTES) if table.has("eval_count") else None,
        metric=_metric(table),
        samples=_samples(table, folder),
        input_shape=_input_shape(table),
        calibration=table.choice("calibration", ("auto", *NAMED), "auto"),
        precision=precision,
        optimize=_optimize(table),
        pin=_pin(table, folder),
        pin_code=table.choice("pin_code", PINS, "auto"),
        weights=table.text("weights") if table.has("weights") else None,
        limits=_limits(table),
        boards=_boards(table, folder, folders) if table.has("boards") else shared,
        told=repr(sorted((k, v) for k, v in table.values.items() if k in DECIDING)),
    )
    table.finish()
    _check_model(table, model)
    return model


DECIDING = (
    "eval_count",
    "metric",
    "input_scale",
    "input_offset",
    "preprocess",
    "input_shape",
    "calibration",
    "precision",
    "optimize",
    "pin",
    "pin_code",
    "weights",
    "budget_sram",
)
"""Keys that change a cell's figures and are no paths of model or samples."""


def _check_model(table: Table, model: BenchModel) -> None:
    """What keys demand of each other."""
    if not model.boards:
        raise table.error(
            "boards", f"model '{model.name}' has no boards", "give it boards, or all of them at the top"
        )
    for key in ("eval_count", "metric", "min_accuracy"):
        if key in table.values and model.eval is None:
            raise table.error(key, f"'{key}' of [model] needs 'eval'", "labelled samples to judge by")


def _path(table: Table, key: str, folder: Path, needed: bool = True) -> Path | None:
    """An existing file or folder; None where it is not given and not needed."""
    if not needed and not table.has(key):
        return None
    text = table.text(key)
    if not (folder / text).exists():
        raise table.error(key, f"'{text}' does not exist", f"paths are found from '{folder}'")
    return folder / text


def _metric(table: Table) -> metrics.Kind | None:
    if not table.has("metric"):
        return None
    chosen = table.choice("metric", metrics.KINDS)
    return next(kind for kind in metrics.KINDS if kind == chosen)


def _precision(table: Table) -> Precision:
    known: tuple[Precision, ...] = get_args(Precision)
    chosen = table.choice("precision", known, "int8")
    return next(p for p in known if p == chosen)


def _optimize(table: Table) -> Optimize:
    chosen = table.choice("optimize", tuple(RATES), "balanced")
    return next(o for o in RATES if o == chosen)


def _samples(table: Table, folder: Path) -> SampleOptions:
    """input_scale, input_offset, preprocess: a hook's file is found from the TOML's folder."""
    scale, offset = (
        table.real(key, -1e30, 1e30) if table.has(key) else None for key in ("input_scale", "input_offset")
    )
    hook = table.text("preprocess") if table.has("preprocess") else None
    if hook and hook.rpartition(":")[0].endswith(".py"):
        hook = str(folder / hook)
    try:
        return SampleOptions(scale, offset, hook)
    except UsageError as problem:
        key = "preprocess" if hook else "input_scale"
        raise table.error(key, *_two_lines(problem)) from None


def _input_shape(table: Table) -> Shape | Mapping[str, Shape] | None:
    """[96, 96, 3], or { image = [96, 96, 3], meta = [4] }."""
    if not table.has("input_shape"):
        return None
    value = table.value("input_shape")
    if isinstance(value, dict) and value:
        return {name: _shape(table, sizes) for name, sizes in value.items()}
    return _shape(table, value)


def _shape(table: Table, sizes: Any) -> Shape:
    whole = isinstance(sizes, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in sizes)
    if not whole or not sizes or min(sizes) < 1:
        allowed = "it must be sizes without the batch: [96, 96, 3], or { image = [96, 96, 3], meta = [4] }"
        raise table.wrong("input_shape", sizes, allowed)
    return tuple(sizes)


def _pin(table: Table, folder: Path) -> str:
    """auto, all, none or the path of a .toml file with layers."""
    text = table.text("pin", "auto")
    if text.endswith(".toml"):
        return str(_path(table, "pin", folder))
    return table.choice("pin", PINS, "auto")


def _limits(table: Table) -> Limits:
    sizes = {
        name: table.number(f"budget_{name}", 1, BYTES) if table.has(f"budget_{name}") else None
        for name in ("sram", "flash", "arena", "stack")
    }
    ms = table.real("budget_ms", 1e-6, 1e9) if table.has("budget_ms") else None
    accuracy = table.real("min_accuracy", 0, 100) if table.has("min_accuracy") else None
    return Limits(ms=ms, accuracy=accuracy, **sizes)


def _boards(table: Table, folder: Path, folders: Sequence[Path]) -> tuple[Board, ...]:
    """The boards of a list: names, or paths of .toml files; each once."""
    boards: list[Board] = []
    for text in table.texts("boards", ()):
        try:
            board = load_board(str(folder / text) if text.endswith(".toml") else text, folders)
        except BoardError as problem:
            raise table.error("boards", *_two_lines(problem)) from None
        if board.name in [b.name for b in boards]:
            raise table.error("boards", f"board '{board.name}' is named twice", "each once")
        boards.append(board)
    if not boards:
        raise table.wrong("boards", [], "it must name a board at least")
    return tuple(boards)


def _two_lines(problem: Exception) -> tuple[str, str]:
    """(what is wrong, what is allowed) of another error's message."""
    first, _, rest = str(problem).partition("\n")
    return first, rest.strip() or "correct it"
