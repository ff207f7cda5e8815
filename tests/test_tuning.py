"""`tinygen tune` with the real compiler: counts, their cache, what is kept in the project, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tinygen
from tests.support.graphs import float_graph, int8_graph
from tinygen import bundle, pipeline
from tinygen.boards import load_board
from tinygen.cli import main
from tinygen.errors import BoardError, UsageError
from tinygen.placement import fixed_bytes
from tinygen.planning import plan
from tinygen.program import select
from tinygen.project import write_project
from tinygen.samples import Options as SampleOptions
from tinygen.samples import Samples
from tinygen.selection import Choice
from tinygen.tflite.export import export_tflite
from tinygen.tune_api import Tuned
from tinygen.tuning.choosing import fitting
from tinygen.tuning.counting import Count
from tinygen.wishes import Wishes

BOARD = "mps2_an386"
PORTABLE = "tg_conv2d_s8"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuning") / "net.tflite"
    path.write_bytes(export_tflite(int8_graph()))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("counts")


@pytest.fixture(scope="module")
def tuned(model: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tuned]:
    folder = tmp_path_factory.mktemp("tuned") / "fw"
    return folder, tinygen.tune(model, board=BOARD, cache=cache, out=folder)


def test_every_kernel_is_counted_and_the_best_is_kept(tuned: tuple[Path, Tuned]) -> None:
    _, made = tuned
    layers = {layer.name: layer for layer in made.layers}
    stem = layers["stem"]
    assert len(stem.counts) > 1 and PORTABLE in stem.counts and made.counted >= len(stem.counts)
    assert stem.cycles(stem.after) < stem.cycles(PORTABLE)
    assert all(c.code > 20 and c.cycles > c.instructions // 2 for c in stem.counts.values())
    assert dict(made.options.kernels)["stem"] == stem.after


def test_counts_are_what_the_whole_model_takes(tuned: tuple[Path, Tuned]) -> None:
    folder, made = tuned
    profile = tinygen.profile(folder, count=2)
    taken = {p.name: (p.kernel, p.cost.zero_wait_cycles or 0) for p in profile.layers}
    for layer in made.layers:
        kernel, cycles = taken[layer.name]
        assert kernel == layer.after
        assert layer.cycles(kernel) == pytest.approx(cycles, rel=0.05, abs=100), layer.name


def test_a_second_time_nothing_is_counted(tuned: tuple[Path, Tuned], cache: Path) -> None:
    folder, made = tuned
    again = tinygen.tune(folder, cache=cache)
    assert again.counted == 0 and again.layers == made.layers and again.project.run_id == made.project.run_id
    damaged = next(cache.glob("*.json"))
    damaged.write_text("{")
    repaired = tinygen.tune(folder, cache=cache)
    assert repaired.counted == 1 and repaired.layers == made.layers


def test_the_choice_is_kept_in_the_project_and_used(
    model: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lies = tmp_path / "cache"
    lies.mkdir()
    for path in cache.glob("*.json"):  # counts that no formula would give
        data = json.loads(path.read_text())
        cycles = 1 if data["kernel"] == PORTABLE else data["cycles"]
        (lies / path.name).write_text(json.dumps({**data, "cycles": cycles}))
    folder = tmp_path / "fw"
    representative = tinygen.compile(
        model, board=[BOARD, "nucleo_l4r5zi"], labels=("a", "b", "c"), out=folder
    )
    samples = (folder / "test/test_model/samples.json").read_text()
    assert main(["tune", str(folder), "--cache", str(lies), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["after"] for row in data["layers"] if row["op"] == "conv2d"} == {PORTABLE}
    assert data["cycles"]["after"] < data["cycles"]["before"] and data["cached"] > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert ["stem", PORTABLE] in manifest["options"]["kernels"]
    assert manifest["options"]["labels"] == ["a", "b", "c"]
    assert manifest["run_id"] != representative.project.run_id
    assert (folder / "test/test_model/samples.json").read_text() == samples
    assert [p.kernel for p in tinygen.profile(folder, count=1).layers if p.op == "conv2d"] == [PORTABLE] * 2
    inputs = tmp_path / "x.npy"
    np.save(inputs, np.random.default_rng(3).normal(size=(2, 6, 5, 2)).astype(np.float32))
    for board in (BOARD, "nucleo_l4r5zi"):
        assert tinygen.run(folder, inputs=inputs, emulator="unicorn", board=board).result.passed
    kernels = [["stem", "tg_gone"]]
    manifest["options"]["kernels"] = kernels
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(["inspect", str(folder)]) == 1
    assert "layer 'stem' was tuned to kernel 'tg_gone'" in capsys.readouterr().err


def test_what_was_measured_when_the_project_was_made_stays(tmp_path: Path, cache: Path) -> None:
    board, options = load_board(BOARD), pipeline.Options("net", optimize="balanced")
    x = np.random.default_rng(1).normal(size=(40, 6, 5, 2)).astype(np.float32)
    samples = Samples((x,), grids=(None,))
    compiled = pipeline.compile_graph(float_graph(), samples, board, options)
    manifest = bundle.manifest_of(None, None, [board], options, SampleOptions())
    folder = tmp_path / "fw"
    write_project(bundle.make_project([compiled], [board], manifest, samples, options), folder)
    kept = {name: (folder / name).read_text() for name in ("quantization.json", "graph.json")}
    before = json.loads((folder / "manifest.json").read_text())
    tinygen.tune(folder, cache=cache)
    after = json.loads((folder / "manifest.json").read_text())
    assert {name: (folder / name).read_text() for name in kept} == kept
    assert after["quantization"] == before["quantization"] and before["quantization"]["calibrators"]
    assert set(after["files"]) == set(before["files"])


def test_what_does_not_fit_gives_way_to_what_takes_less() -> None:
    graph, board = int8_graph(0, 64), load_board(BOARD)
    arenas = {aim: plan(select(graph, board, Choice(aim))).arena_bytes for aim in ("size", "speed")}
    assert arenas["speed"] > arenas["size"]
    steps = select(graph, board, Choice("speed")).steps
    counts = {
        s.bound.name: {c.kernel.name: Count(1, round(c.cycles), 100) for c in s.ranked}
        for s in steps
        if not s.kernel.alias
    }

    def options(room: int) -> pipeline.Options:
        budget = fixed_bytes(board) + -(-room // 8) * 8
        return pipeline.Options(
            optimize="speed", wishes=Wishes(pin="none", pin_code="none", budget_sram=budget)
        )

    for room, aim in ((arenas["speed"], "speed"), (arenas["size"], "size")):
        (compiled,), chosen, reached = fitting(graph, [board], options(room), counts)
        assert reached == aim and compiled.plan.arena_bytes <= room and chosen.optimize == "speed"
    with pytest.raises(BoardError, match="budget-sram"):
        fitting(graph, [board], options(arenas["size"] - 64), counts)


def test_cores_without_a_cycle_model_and_options_for_models_are_refused(
    model: Path, tuned: tuple[Path, Tuned], cache: Path
) -> None:
    with pytest.raises(UsageError, match="no cycles are modelled for cortex-m55"):
        tinygen.tune(model, board="mps3_an547", cache=cache)
    with pytest.raises(UsageError, match="--optimize is for models"):
        tinygen.tune(tuned[0], optimize="size", cache=cache)
