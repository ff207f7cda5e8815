"""The bench without running anything: its TOML, its gates, its baseline on disk."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.bench_baseline import (
    Cell,
    LayerFigures,
    append_history,
    baseline_text,
    commit_of,
    read_baseline,
    write_baseline,
)
from tinygen.bench_file import read_bench
from tinygen.bench_gates import exceeded, improvements, judge, regressions
from tinygen.bench_matrix import Bench, BenchModel, Gate, Gates, Limits, choose
from tinygen.errors import BenchError, UsageError

TOML = """
baseline = "bench-baseline.json"
history = "bench-history.jsonl"
boards = ["pico", "nucleo_l4r5zi"]

[gates]
cycles = "2 %"
accuracy = 0.25
arena = 0
stack = 64

[[model]]
name = "kws"
file = "kws.keras"
representative = "train.npz"
eval = "eval.npz"
eval_count = 100
input_scale = 0.5
input_offset = -42
pin = "pins.toml"
budget_ms = 8
budget_sram = 65_536
min_accuracy = 87.5

[[model]]
name = "ad"
file = "ad.tflite"
boards = ["mine.toml"]
preprocess = "hooks.py:toycar"
input_shape = { image = [96, 96, 3] }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with the files that TOML names; their content does not matter before a bench runs."""
    for name in ("kws.keras", "train.npz", "eval.npz", "ad.tflite", "hooks.py", "pins.toml"):
        (tmp_path / name).write_text("")
    (tmp_path / "mine.toml").write_text('extends = "pico"\nname = "mine"\ntitle = "ours"\n')
    return tmp_path


def read(folder: Path, text: str) -> Bench:
    path = folder / "tinygen-bench.toml"
    path.write_text(text)
    return read_bench(path)


# ---- the TOML


def test_everything_is_read_and_found_from_the_folder_of_the_toml(folder: Path) -> None:
    bench = read(folder, TOML)
    kws, ad = bench.models
    assert (bench.baseline, bench.history) == (folder / "bench-baseline.json", folder / "bench-history.jsonl")
    assert (bench.gates.cycles, bench.gates.accuracy) == (Gate(Fraction(2), True), Gate(Fraction(1, 4)))
    assert bench.gates.flash == Gates().flash
    assert (kws.file, kws.eval, kws.eval_count) == (folder / "kws.keras", folder / "eval.npz", 100)
    assert (kws.samples.scale, kws.samples.offset, kws.pin) == (0.5, -42.0, str(folder / "pins.toml"))
    assert kws.limits == Limits(ms=8.0, sram=65536, accuracy=87.5)
    assert (ad.representative, ad.input_shape) == (None, {"image": (96, 96, 3)})
    assert ad.samples.preprocess == f"{folder / 'hooks.py'}:toycar"
    assert [(m.name, b.name) for m, b in bench.cells] == [
        ("kws", "pico"),
        ("kws", "nucleo_l4r5zi"),
        ("ad", "mine"),
    ]


def test_defaults_stand_beside_the_toml(folder: Path) -> None:
    bench = read(folder, '[[model]]\nname = "ad"\nfile = "ad.tflite"\nboards = ["pico"]\n')
    assert (bench.baseline, bench.history, bench.gates) == (
        folder / "tinygen-bench.baseline.json",
        None,
        Gates(),
    )


WRONG = [
    ("eval_count = 100", "eval_cout = 100", "unknown key 'eval_cout' in .model., did you mean 'eval_count'"),
    ("arena = 0", "arema = 0", "unknown key 'arema' in .gates., did you mean 'arena'"),
    ('history = "bench', 'histroy = "bench', "unknown key 'histroy', did you mean 'history'"),
    ("eval_count = 100", "eval_count = 0", "must be an integer from 1"),
    ("eval_count = 100", 'eval_count = "all"', "must be an integer from 1"),
    ('cycles = "2 %"', 'cycles = "2 percent"', "whole number, 0 or more, or percent"),
    ('cycles = "2 %"', 'cycles = "-2 %"', "whole number, 0 or more, or percent"),
    ("arena = 0", "arena = -1", "whole number, 0 or more"),
    ("arena = 0", "arena = 0.5", "whole number, 0 or more"),
    ("arena = 0", "arena = true", "whole number, 0 or more"),
    ("accuracy = 0.25", 'accuracy = "1 %"', "must be a number from 0"),
    ("accuracy = 0.25", "accuracy = nan", "must be a number from 0"),
    ("accuracy = 0.25", "accuracy = -0.1", "must be a number from 0"),
    ("budget_ms = 8", "budget_ms = 0", "must be a number from 1e-06"),
    ("budget_ms = 8", "budget_mss = 8", "did you mean 'budget_ms'"),
    ("budget_sram = 65_536", "budget_sram = 1.5", "must be an integer"),
    ("min_accuracy = 87.5", "min_accuracy = 101", "must be a number from 0 to 100"),
    ("input_scale = 0.5", "input_scale = 0", "must be greater than 0"),
    ("input_scale = 0.5", 'input_scale = "0.5"', "must be a number"),
    ('file = "kws.keras"', 'file = "kvs.keras"', "'kvs.keras' does not exist"),
    ('eval = "eval.npz"', 'eval = "evil.npz"', "'evil.npz' does not exist"),
    ('pin = "pins.toml"', 'pin = "pints.toml"', "'pints.toml' does not exist"),
    ('pin = "pins.toml"', 'pin = "some"', "one of auto, all, none"),
    ('boards = ["pico", ', 'boards = ["pica", ', "there is no board 'pica', did you mean 'pico'"),
    ('boards = ["pico", "nucleo_l4r5zi"]', 'boards = ["pico", "pico"]', "board 'pico' is named twice"),
    ('boards = ["mine.toml"]', "boards = []", "must name a board"),
    ('boards = ["mine.toml"]', 'boards = "mine.toml"', "list of strings"),
    ('name = "ad"', 'name = "kws"', "two models are named 'kws'"),
    ('name = "ad"', 'name = "a@d"', "letters, digits"),
    ("[96, 96, 3]", "[96, 0, 3]", "sizes without the batch"),
    ('preprocess = "hooks.py:toycar"', 'metric = "acuracy"', "did you mean 'accuracy'"),
    ('preprocess = "hooks.py:toycar"', 'metric = "auc"', "'metric' of .model. needs 'eval'"),
    ('preprocess = "hooks.py:toycar"', 'calibration = "entropie"', "did you mean 'entropy'"),
]


@pytest.mark.parametrize(("old", "new", "words"), WRONG, ids=[w[1][:34] for w in WRONG])
def test_wrong_bench_is_refused_with_its_line(folder: Path, old: str, new: str, words: str) -> None:
    assert TOML.count(old) == 1
    text = TOML.replace(old, new)
    line = TOML[: TOML.index(old)].count("\n") + 1
    with pytest.raises(BenchError, match=words) as problem:
        read(folder, text)
    assert str(problem.value).startswith(f"{folder / 'tinygen-bench.toml'}:{line}: ")


MISSING = [
    ('name = "kws"', "'name' of .model. is missing"),
    ('file = "kws.keras"', "'file' of .model. is missing\n.*every ..model.. must give it"),
    ('representative = "train.npz"', "'representative' of .model. is missing"),
    ('boards = ["pico", "nucleo_l4r5zi"]', "model 'kws' has no boards"),
]


@pytest.mark.parametrize(("line", "words"), MISSING, ids=[m[0] for m in MISSING])
def test_missing_key_is_refused_at_its_model(folder: Path, line: str, words: str) -> None:
    text = TOML.replace(f"{line}\n", "")
    first = text[: text.index("[[model]]")].count("\n") + 1
    with pytest.raises(BenchError, match=words) as problem:
        read(folder, text)
    assert str(problem.value).startswith(f"{folder / 'tinygen-bench.toml'}:{first}: ")


def test_what_is_no_bench_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="there is no bench"):
        read_bench(folder / "none.toml")
    with pytest.raises(BenchError, match="is not valid TOML"):
        read(folder, "[[model]\n")
    with pytest.raises(BenchError, match="'model' is missing"):
        read(folder, "")
    with pytest.raises(BenchError, match="exclude each other"):
        read(folder, TOML.replace("input_scale = 0.5", 'preprocess = "hooks.py:f"'))


def test_only_names_cells_and_suggests(folder: Path) -> None:
    bench = read(folder, TOML)

    def names(*only: str) -> list[str]:
        return [f"{m.name}@{b.name}" for m, b in choose(bench, only)]

    assert len(names()) == 3
    assert names("kws") == ["kws@pico", "kws@nucleo_l4r5zi"]
    assert names("ad@mine", "kws@pico") == ["kws@pico", "ad@mine"]
    assert names("@pico") == ["kws@pico"]
    for text, words in (
        ("kvs", "no model 'kvs', did you mean 'kws'"),
        ("kws@pica", "no board 'pica', did you mean 'pico'"),
        ("ad@pico", "'ad' is not measured on 'pico'"),
    ):
        with pytest.raises(UsageError, match=words):
            names(text)


# ---- gates


def layer(**other: Any) -> LayerFigures:
    figures: dict[str, Any] = {
        "instructions": 1000,
        "cycles": 2000,
        "live": 500,
        "flash": 300,
        "pinned": 100,
        "scale": 0.5,
        "constants": "aa",
    }
    return LayerFigures(**{**figures, **other})


LAYERS = {"conv": layer(cycles=7000, live=1000), "head": layer()}
CELL = Cell(
    model="kws",
    board="pico",
    clock_hz=1_000_000,
    metric="accuracy",
    accuracy=0.9,
    samples=100,
    instructions=5000,
    cycles=10_000,
    worst_cycles=10_100,
    arena=1000,
    sram=4000,
    flash=20_000,
    stack=250,
    tinygen="0",
    compiler="gcc 1",
    sources={"model": "1", "board": "2"},
    layers=LAYERS,
)
DEFAULT = Gates()
KEYS = ("cycles", "arena", "sram", "flash", "stack")
counts = st.integers(0, 10**7)


def texts(now: Cell, gates: Gates = DEFAULT, before: Cell = CELL) -> list[str]:
    return [change.text for change in regressions(now, before, gates)]


def worse(key: str, by: int) -> Cell:
    return replace(CELL, **{key: getattr(CELL, key) + by})


@given(st.fixed_dictionaries(dict.fromkeys(KEYS, counts)), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_an_equal_cell_passes_every_gate(figures: Mapping[str, int], accuracy: float) -> None:
    cell = replace(CELL, accuracy=accuracy, **figures)
    strict = Gates(**{f.name: Gate(Fraction(0)) for f in fields(Gates)})
    assert regressions(cell, cell, strict) == improvements(cell, cell, strict) == []


@given(st.sampled_from(KEYS), st.integers(0, 10**5), st.integers(1, 10**6), st.booleans())
def test_absolute_gate_is_exact_and_monotonic(key: str, amount: int, beyond: int, better: bool) -> None:
    gates = replace(Gates(), **{key: Gate(Fraction(amount))})
    judged = improvements if better else regressions
    for by, failing in ((amount, 0), (amount + 1, 1), (amount + beyond, 1)):
        now = worse(key, by)
        pair = (CELL, now) if better else (now, CELL)
        assert len([c for c in judged(*pair, gates) if c.figure == key]) == failing
    assert [c for c in regressions(worse(key, -beyond), CELL, gates) if c.figure == key] == []


@given(st.integers(1, 10**7), st.integers(0, 5000), st.integers(0, 10**6))
def test_relative_gate_is_exact_and_monotonic(before: int, thousandths: int, by: int) -> None:
    gates = replace(Gates(), cycles=Gate(Fraction(thousandths, 1000), relative=True))
    old, new = replace(CELL, cycles=before), replace(CELL, cycles=before + by)
    failing = [c for c in regressions(new, old, gates) if c.figure == "cycles"]
    assert bool(failing) == (100_000 * by > thousandths * before)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(-1, 1))
def test_accuracy_gate_counts_points_exactly(one: int, other: int, more: int) -> None:
    """Thousandths, at the gate and beside it: as floats, 0.9 - 0.895 would be more than half a point."""
    worse, better = sorted((one, other))
    gates = replace(Gates(), accuracy=Gate(Fraction(max(0, better - worse + more), 10)))
    low, high = (replace(CELL, accuracy=share / 1000) for share in (worse, better))
    failing = better - worse > max(0, better - worse + more)
    assert bool(regressions(low, high, gates)) == bool(improvements(high, low, gates)) == failing
    assert regressions(high, low, gates) == improvements(low, high, gates) == []


def test_less_is_better_for_a_mean_squared_error() -> None:
    old, gates = replace(CELL, metric="mse", accuracy=0.02), replace(Gates(), accuracy=Gate(Fraction(5)))
    for value, failing in ((0.021, 0), (0.0211, 1), (0.01, 0)):
        assert len(regressions(replace(old, accuracy=value), old, gates)) == failing
    (told,) = texts(replace(old, accuracy=0.03), gates, old)
    assert told.startswith("kws on pico: mse 0.02 -> 0.03 (+50.00 %, gate 5 %)")
    assert len(improvements(replace(old, accuracy=0.01), old, gates)) == 1


def test_one_line_names_the_layers_behind_more_cycles() -> None:
    slower = replace(CELL, cycles=10_500, layers={**LAYERS, "conv": layer(cycles=7480, live=1000)})
    assert texts(slower) == [
        "kws on pico: cycles 10,000 -> 10,500 (+5.00 %, gate 1 %): mostly layer 'conv' +480 (same instructions)"
    ]
    unpinned = replace(slower, layers={**LAYERS, "conv": layer(cycles=7500, live=1000, pinned=0)})
    assert texts(unpinned)[0].endswith("layer 'conv' +500 (same instructions, pinned 100 -> 0 bytes)")
    longer = replace(CELL, cycles=12_000, layers={**LAYERS, "extra": layer()})
    assert texts(longer)[0].endswith("mostly new layer 'extra' +2,000")
    outside = replace(CELL, cycles=12_000)
    assert texts(outside)[0].endswith("mostly outside of the layers +2,000")


def test_layers_are_named_by_their_share_until_most_is_explained() -> None:
    def cell(**grown: int) -> Cell:
        costs = {name: grown.get(name, 0) + 1000 for name in "abcdefgh"}
        return replace(
            CELL, cycles=sum(costs.values()), layers={n: layer(cycles=c) for n, c in costs.items()}
        )

    def named(**grown: int) -> str:
        return texts(cell(**grown), before=cell())[0].partition("mostly ")[2].partition(" (")[0]

    assert named(a=10, b=90, c=-50, d=400) == "layer 'd' +400"
    assert named(a=40, b=210, c=250) == "layer 'c' +250, layer 'b' +210"
    assert named(**dict.fromkeys("hgfedcba", 100)) == "layer 'a' +100, layer 'b' +100, layer 'c' +100"


def test_instructions_stand_in_where_no_cycles_are_modelled() -> None:
    bare = replace(CELL, cycles=None, worst_cycles=None)
    assert texts(replace(bare, instructions=5051), before=bare)[0].startswith(
        "kws on pico: instructions 5,000 -> 5,051 (+1.02 %, gate 1 %)"
    )
    assert texts(replace(bare, instructions=5050), before=bare) == []
    assert texts(bare) == ["kws on pico: cycles 10,000 in the baseline, now only instructions are counted"]


def test_lines_say_what_grew_in_memory() -> None:
    fuller = {**LAYERS, "conv": layer(cycles=7000, live=1096)}
    assert texts(replace(CELL, arena=1096, layers=fuller)) == [
        "kws on pico: arena 1,000 -> 1,096 bytes (+96, gate 0): fullest in layer 'conv', "
        "1,000 -> 1,096 bytes in use at once"
    ]
    assert "the plan packs them otherwise" in texts(replace(CELL, arena=1096))[0]
    assert texts(replace(CELL, sram=4100))[0].endswith("mostly stacks and variables +100")
    pinned = {**LAYERS, "head": layer(pinned=300)}
    assert texts(replace(CELL, sram=4200, layers=pinned))[0].endswith("mostly pinned of layer 'head' +200")
    bigger = {**LAYERS, "head": layer(flash=1300)}
    assert texts(replace(CELL, flash=21_000, layers=bigger)) == [
        "kws on pico: flash 20,000 -> 21,000 bytes (+5.00 %, gate 1 %): mostly layer 'head' +1,000"
    ]
    assert texts(replace(CELL, stack=315)) == ["kws on pico: stack 250 -> 315 bytes (+65, gate 64)"]


def test_lines_say_what_is_behind_less_accuracy() -> None:
    other = {**LAYERS, "head": layer(constants="bb", scale=2.0)}
    assert texts(replace(CELL, accuracy=0.8, layers=other)) == [
        "kws on pico: accuracy 90.00 % -> 80.00 % (-10.00 points, gate 0.5): "
        "constants of 'head' changed, output scale of layer 'head' x 4"
    ]
    assert texts(replace(CELL, accuracy=None, metric=None)) == [
        "kws on pico: is judged by nothing now, its baseline by accuracy"
    ]


def test_limits_hold_whatever_the_baseline_and_equality_keeps_them() -> None:
    kept = Limits(ms=10.1, sram=4000, flash=20_000, arena=1000, stack=250, accuracy=90.0)
    assert exceeded(CELL, kept) == []
    told = [c.text for c in exceeded(CELL, Limits(10.0, 3999, 19_999, 999, 249, 90.1))]
    assert told == [
        "kws on pico: 10.1 ms in the slowest warm inference, budget_ms 10: most cycles layer 'conv' 7,000, "
        "layer 'head' 2,000",
        "kws on pico: accuracy 90.00 % of 100 samples, min_accuracy 90.1",
        "kws on pico: arena 1,000 bytes, budget_arena 999: fullest in layer 'conv', 1,000 bytes in use at once",
        "kws on pico: sram 4,000 bytes, budget_sram 3,999: arena 1,000, pinned 200, the rest 2,800",
        "kws on pico: flash 20,000 bytes, budget_flash 19,999: layer 'conv' 300, layer 'head' 300",
        "kws on pico: stack 250 bytes, budget_stack 249",
    ]
    (arena,) = exceeded(CELL, Limits(sram=3799))
    assert arena.text.endswith("the rest 2,800; too much even if nothing were pinned")
    (unknown,) = exceeded(replace(CELL, worst_cycles=None), Limits(ms=1.0))
    assert "budget_ms 1 cannot be checked" in unknown.text


@pytest.fixture
def bench(folder: Path) -> Bench:
    return read(folder, TOML)


def model_cells(bench: Bench) -> list[Cell]:
    return [replace(CELL, model=m.name, board=b.name, accuracy=0.9) for m, b in bench.cells]


def without_limits(bench: Bench) -> Bench:
    def free(model: BenchModel) -> BenchModel:
        return replace(model, limits=Limits())

    return replace(bench, models=tuple(free(m) for m in bench.models))


def test_cells_and_baselines_that_miss_each_other_fail_with_what_to_do(bench: Bench) -> None:
    bench = without_limits(bench)
    cells = model_cells(bench)
    known = {cell.name: cell for cell in cells}
    assert judge(bench, cells, known, whole=True).causes == ()
    (none,) = judge(bench, cells, None, whole=True).causes
    assert f"there is no baseline '{bench.baseline}': record it with 'tinygen bench" in none.text
    fewer = {name: cell for name, cell in known.items() if name != "ad@mine"}
    (new,) = judge(bench, cells, fewer, whole=True).causes
    assert new.text.startswith("ad on mine: has no baseline: record it with 'tinygen bench")
    assert new.text.endswith("--update --only ad@mine'")
    more = {**known, "old@pico": replace(CELL, model="old")}
    (stale,) = judge(bench, cells, more, whole=True).causes
    assert stale.text.startswith("old on pico: is in the baseline but not in ")
    assert judge(bench, cells[:1], more, whole=False).causes == ()


def test_notes_tell_of_another_compiler_and_of_what_changed(bench: Bench) -> None:
    bench = without_limits(bench)
    cells = model_cells(bench)
    known = {cell.name: replace(cell, compiler="gcc 0") for cell in cells}
    verdict = judge(bench, cells, known, whole=True)
    assert verdict.notes == ("the baseline was made with gcc 0, this is gcc 1: figures may differ",)
    newer = [replace(cell, tinygen="1", compiler="gcc 0") for cell in cells]
    told = judge(bench, newer, known, whole=True).notes
    assert told == ("the baseline was made with tinygen 0, this is tinygen 1: figures may differ",)
    slower = replace(cells[0], cycles=99_999, compiler="gcc 0")
    same = judge(bench, [slower], known, whole=False).notes
    assert same[0].startswith("kws on pico: model, samples, options and board are those of the baseline")
    changed = replace(slower, sources={"model": "9", "board": "2", "pin": "1"})
    assert judge(bench, [changed], known, whole=False).notes == (
        "kws on pico: changed since the baseline: model, pin",
    )


# ---- on disk


def test_baseline_reads_back_and_reads_well(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    assert read_baseline(path) is None
    other = replace(CELL, model="ad", metric=None, accuracy=None, stack=None)
    write_baseline(path, {CELL.name: CELL, other.name: other})
    assert read_baseline(path) == {CELL.name: CELL, other.name: other}
    assert baseline_text({other.name: other, CELL.name: CELL}) == path.read_text(), (
        "the order does not matter"
    )
    lines = path.read_text().splitlines()
    assert [line.strip()[:-3] for line in lines if "@" in line] == ['"ad@pico"', '"kws@pico"']
    assert sum('"conv": {' in line and line.endswith("},") for line in lines) == 2, "a layer has a line"
    slower = write_and_diff(path, replace(CELL, cycles=10_001), other)
    assert slower == [('      "cycles": 10000,', '      "cycles": 10001,')]


def write_and_diff(path: Path, *cells: Cell) -> list[tuple[str, str]]:
    before = path.read_text().splitlines()
    write_baseline(path, {cell.name: cell for cell in cells})
    return [pair for pair in zip(before, path.read_text().splitlines(), strict=True) if pair[0] != pair[1]]


DAMAGE = [
    ('"schema": 1', '"schema": 2'),
    ('"cycles": 10000', '"cycles": "many"'),
    ('"arena": 1000', '"arena": null'),
    ('"arena": 1000', '"arenas": 1000'),
    ('"accuracy": 0.9', '"accuracy": "good"'),
    ('"live": 1000', '"live": 1.5'),
    ('"cells": {', '"cells": [{'),
]


@pytest.mark.parametrize(("old", "new"), DAMAGE, ids=[d[1] for d in DAMAGE])
def test_damaged_baseline_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "b.json"
    text = baseline_text({CELL.name: CELL})
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BenchError, match=r"cannot be read as a baseline.*\n.*tinygen bench --update"):
        read_baseline(path)


def test_history_is_one_json_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    append_history(path, [CELL], None)
    append_history(path, [CELL, replace(CELL, model="ad", cycles=None)], "abc-dirty")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["commit"], second["commit"], second["compiler"]) == (None, "abc-dirty", "gcc 1")
    assert first["cells"] == {
        "kws@pico": {
            "cycles": 10000,
            "instructions": 5000,
            "ms": 10.0,
            "accuracy": 0.9,
            "arena": 1000,
            "sram": 4000,
            "flash": 20000,
            "stack": 250,
        }
    }
    assert list(second["cells"]) == ["ad@pico", "kws@pico"]
    assert second["cells"]["ad@pico"]["ms"] is None


def test_commit_is_dirty_by_the_users_files_but_not_by_our_own(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    baseline, code = tmp_path / "b.json", tmp_path / "code.py"
    baseline.write_text("1")
    code.write_text("1")

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    assert commit_of(tmp_path) is None
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("")
    baseline.write_text("2")
    assert commit_of(tmp_path, but=[baseline]) == head
    assert commit_of(tmp_path) == f"{head}-dirty"
    code.write_text("2")
    assert commit_of(tmp_path, but=[baseline]) == f"{head}-dirty"
