"""`tinygen bench` on real models: a baseline that passes, and planted regressions that are each seen to fail.

Every regression is real: C that is slower, bigger or hungrier for stack is built and run, and still bit-exact.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tinygen
from tests.support.graphs import int8_graph
from tinygen import api, building, ctext, evaluate, locate, pipeline
from tinygen.boards import load_board
from tinygen.cli.main import main
from tinygen.graph import Graph
from tinygen.tflite.export import export_tflite

pytestmark = pytest.mark.arm
Capture = pytest.CaptureFixture[str]
BOARD = "nucleo_l4r5zi"
BENCH = f"""history = "history.jsonl"
boards = ["{BOARD}"]

[gates]
cycles = "1 %"

[[model]]
name = "tiny"
file = "tiny.tflite"
eval = "eval.npz"
"""


def write_model(folder: Path, graph: Graph) -> None:
    (folder / "tiny.tflite").write_bytes(export_tflite(graph))


def repository(folder: Path) -> Path:
    """A model, samples that it classifies without a mistake, and a bench of them."""
    graph = int8_graph()
    write_model(folder, graph)
    x = np.random.default_rng(7).integers(-128, 128, (60, 6, 5, 2)).astype(np.int8)
    (scores,) = evaluate.reference(graph, [x])
    np.savez(folder / "eval.npz", x=x, y=scores.argmax(axis=1))
    (folder / "tinygen-bench.toml").write_text(BENCH)
    return folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = repository(tmp_path_factory.mktemp("bench"))
    assert main(["bench", str(folder / "tinygen-bench.toml"), "--update"]) == 0
    return folder


@pytest.fixture
def repo(recorded: Path, tmp_path: Path) -> Path:
    """A copy with its baseline, to plant something in."""
    return Path(shutil.copytree(recorded, tmp_path / "repo"))


def bench(folder: Path, *options: str) -> int:
    return main(["bench", str(folder / "tinygen-bench.toml"), *options])


def causes(folder: Path, capsys: Capture, *options: str) -> list[str]:
    """The lines of a check that fails."""
    capsys.readouterr()
    assert bench(folder, "--check", *options) == 1
    captured = capsys.readouterr()
    assert "check failed" in captured.out
    return [line for line in captured.err.splitlines() if not line.startswith("note: ")]


@pytest.fixture
def change_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Plants a text in a template of tinygen's, for this test only."""
    ours = locate.folder("templates")

    def change(name: str, old: str, new: str) -> None:
        mine = tmp_path / "templates"
        shutil.copytree(ours, mine)
        text = (mine / name).read_text()
        assert text.count(old) == 1
        (mine / name).write_text(text.replace(old, new))
        monkeypatch.setattr(
            locate, "folder", lambda folder: mine if folder == "templates" else ours.parent / folder
        )
        ctext.environment.cache_clear()

    yield change
    ctext.environment.cache_clear()


CONV = "kernels/tg_conv2d_s8_dsp_rows.c.j2"


def template_of(layer: str) -> str:
    """That of the kernel which executes the layer of the tiny model."""
    compiled = pipeline.compile_graph(int8_graph(), None, load_board(BOARD), pipeline.Options())
    kernel = next(s.kernel for s in compiled.program.steps if s.bound.name == layer)
    return f"kernels/{kernel.template or kernel.name}.c.j2"


def test_a_recorded_bench_passes_again_and_again(repo: Path, capsys: Capture) -> None:
    baseline = (repo / "tinygen-bench.baseline.json").read_bytes()
    for _ in range(2):
        assert bench(repo, "--check") == 0
        told = capsys.readouterr()
        assert "check passed: 1 cell" in told.out and told.err == ""
    assert bench(repo, "--update") == 0
    assert (repo / "tinygen-bench.baseline.json").read_bytes() == baseline, "same figures, same text"
    first, second = (json.loads(line) for line in (repo / "history.jsonl").read_text().splitlines())
    assert first["cells"] == second["cells"] and list(first["cells"]) == [f"tiny@{BOARD}"]


def test_figures_are_those_of_compile_and_profile(repo: Path) -> None:
    """The cell's image is what `tinygen compile` makes, run as `tinygen profile` runs it."""
    made = tinygen.bench(repo / "tinygen-bench.toml")
    (cell,) = made.cells
    assert made.passed and not made.updated
    p = tinygen.profile(repo / "tiny.tflite", board=BOARD, inputs=repo / "eval.npz")
    figures = (
        cell.instructions,
        cell.cycles,
        cell.worst_cycles,
        cell.arena,
        cell.sram,
        cell.flash,
        cell.stack,
    )
    assert figures == (
        p.median.instructions,
        p.median.cycles,
        p.worst.cycles,
        p.arena_bytes,
        p.sram_bytes,
        p.flash_bytes,
        p.stack_bytes,
    )
    layers = {layer.name: layer.cost.cycles for layer in p.layers if layer.kernel != "alias"}
    assert {name: layer.cycles for name, layer in cell.layers.items()} == layers
    assert sum(layer.pinned for layer in cell.layers.values()) == sum(o.bytes for o in p.objects if o.pinned)
    assert max(layer.live for layer in cell.layers.values()) <= cell.arena
    assert (cell.metric, cell.accuracy, cell.samples) == ("accuracy", 1.0, 60)


# ---- planted regressions


def test_slower_kernel_fails_with_its_layer(
    repo: Path, change_template: Callable[..., None], capsys: Capture
) -> None:
    """A loop that does nothing in the C of dense layers: about 2 % more cycles, the same outputs."""
    cells = json.loads((repo / "tinygen-bench.baseline.json").read_text())["cells"]
    turns = round(0.02 * cells[f"tiny@{BOARD}"]["cycles"] / 8)
    change_template(
        template_of("head"), "\n{\n", f"\n{{\n    for (volatile int32_t i = 0; i < {turns}; ++i) {{\n    }}\n"
    )
    (line,) = causes(repo, capsys)
    found = re.fullmatch(
        rf"tiny on {BOARD}: cycles ([\d,]+) -> ([\d,]+) \(\+([\d.]+) %, gate 1 %\): mostly layer 'head' \+([\d,]+)",
        line,
    )
    assert found, line
    before, after, layer = (int(found[i].replace(",", "")) for i in (1, 2, 4))
    assert 1.2 < float(found[3]) < 3.5
    assert abs((after - before) - layer) < 100
    assert bench(repo, "--update") == 0
    assert f"accepted: tiny on {BOARD}: cycles" in capsys.readouterr().err
    assert bench(repo, "--check") == 0


def test_lost_accuracy_fails_with_its_layer(repo: Path, capsys: Capture) -> None:
    """Two classes change places in the weights of the last layer."""
    graph = int8_graph()
    head = graph.producers[graph.producers["scores"].inputs[0]]
    tensors = dict(graph.tensors)
    for name in head.inputs[1:]:
        tensor = tensors[name]
        assert tensor.data is not None
        tensors[name] = replace(tensor, data=tensor.data[[1, 0, 2]])
    write_model(repo, replace(graph, tensors=tensors))
    (line,) = causes(repo, capsys)
    assert re.fullmatch(
        rf"tiny on {BOARD}: accuracy 100.00 % -> \d+.\d\d % \(-\d+.\d\d points, gate 0.5\): "
        "constants of 'head' changed",
        line,
    ), line


def test_wasted_arena_fails(repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """A planner that leaves 64 bytes unused, and a model whose activations are larger."""
    plan = pipeline.plan

    def wasteful(program: pipeline.Program) -> pipeline.MemoryPlan:
        made = plan(program)
        return replace(made, arena_bytes=made.arena_bytes + 64)

    monkeypatch.setattr(pipeline, "plan", wasteful)
    lines = causes(repo, capsys)
    assert re.fullmatch(
        rf"tiny on {BOARD}: arena (\d+) -> (\d+) bytes \(\+64, gate 0\): "
        "the layers' needs do not explain it: the plan packs them otherwise",
        lines[0],
    ), lines


def test_larger_activations_fail_with_the_fullest_layer(repo: Path, capsys: Capture) -> None:
    write_model(repo, int8_graph(channels=6))
    lines = {line.split(": ")[1].split()[0]: line for line in causes(repo, capsys)}
    assert {"arena", "flash", "cycles", "accuracy"} <= set(lines)
    assert re.search(
        r"\(\+\d+, gate 0\): fullest in layer '(stem|body|join)', \d+ -> \d+ bytes in use", lines["arena"]
    )
    assert "mostly layer 'body' +" in lines["cycles"]
    assert re.search(r"mostly layer '\w+' \+", lines["flash"])


def test_more_stack_and_flash_fail(
    repo: Path, change_template: Callable[..., None], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An array on the stack of the dense layer's kernel; code optimized for speed at any size."""
    change_template(
        template_of("head"),
        "\n{\n",
        "\n{\n    volatile int32_t waste[64];\n    waste[0] = 0;\n    waste[63] = waste[0];\n",
    )
    lines = causes(repo, capsys)
    assert re.fullmatch(rf"tiny on {BOARD}: stack \d+ -> \d+ bytes \(\+\d\d\d, gate 64\)", lines[-1]), lines
    monkeypatch.setattr(building, "OPTIMIZE", ("-O3", "-funroll-all-loops", *building.OPTIMIZE[1:]))
    flash = next(line for line in causes(repo, capsys) if ": flash " in line)
    assert re.search(r"bytes \(\+[\d.]+ %, gate 1 %\): mostly ", flash)


def test_improvement_is_told_and_can_be_recorded(repo: Path, capsys: Capture) -> None:
    """A baseline from worse times: the check passes and says what to do."""
    path = repo / "tinygen-bench.baseline.json"
    data = json.loads(path.read_text())
    data["cells"][f"tiny@{BOARD}"]["arena"] += 100
    path.write_text(json.dumps(data))
    assert bench(repo, "--check") == 0
    told = capsys.readouterr().out
    assert re.search(rf"better: tiny on {BOARD}: arena \d+ -> \d+ bytes \(-100\)", told)
    assert "keep what was won: tinygen bench" in told


# ---- the rest of the matrix


def test_a_cell_that_does_not_fit_fails_alone(repo: Path, capsys: Capture) -> None:
    (repo / "small.toml").write_text(
        'extends = "microbit"\nname = "small"\n[[region]]\nname = "flash"\nlength = 0x1000\n'
    )
    text = BENCH.replace(f'boards = ["{BOARD}"]', f'boards = ["small.toml", "{BOARD}"]')
    (repo / "tinygen-bench.toml").write_text(text + "budget_sram = 2048\n")
    before = (repo / "tinygen-bench.baseline.json").read_bytes()
    assert bench(repo, "--update") == 1
    told = capsys.readouterr()
    assert "tiny on small failed: the model does not fit 'small': region 'flash' has 4,096 bytes" in told.err
    assert "nothing was recorded: 1 cell without figures" in told.out
    assert (repo / "tinygen-bench.baseline.json").read_bytes() == before
    assert bench(repo, "--json", "--check", "--only", f"tiny@{BOARD}") == 1
    data = json.loads(capsys.readouterr().out)
    assert list(data["cells"]) == [f"tiny@{BOARD}"] and not data["passed"]
    (cause,) = data["causes"]
    assert (cause["kind"], cause["figure"], cause["before"]) == ("budget", "sram", 2048)
    assert cause["text"].endswith("too much even if nothing were pinned")
    assert data["cells"][f"tiny@{BOARD}"]["before"]["sram"] > 2048


@pytest.mark.qemu
def test_only_updates_its_cells_and_check_asks_for_the_others(repo: Path, capsys: Capture) -> None:
    """The other board's core cannot be followed: its instructions are counted, and there are no cycles."""
    text = BENCH.replace(f'["{BOARD}"]', f'["{BOARD}", "mps3_an547"]')
    (repo / "tinygen-bench.toml").write_text(text)
    (line,) = causes(repo, capsys)
    assert line.startswith("tiny on mps3_an547: has no baseline: record it with 'tinygen bench")
    assert bench(repo, "--update", "--only", "@mps3_an547") == 0
    cells = json.loads((repo / "tinygen-bench.baseline.json").read_text())["cells"]
    assert sorted(cells) == ["tiny@mps3_an547", f"tiny@{BOARD}"]
    counted = cells["tiny@mps3_an547"]
    assert counted["cycles"] is None
    within = sum(layer["instructions"] for layer in counted["layers"].values())
    assert 0.8 * counted["instructions"] < within <= counted["instructions"]
    assert bench(repo, "--check") == 0
    (repo / "tinygen-bench.toml").write_text(BENCH)
    (line,) = causes(repo, capsys)
    assert line.startswith("tiny on mps3_an547: is in the baseline but not in ")
    assert bench(repo, "--update") == bench(repo, "--check") == 0


def test_wrong_use_is_told(repo: Path, capsys: Capture) -> None:
    assert bench(repo, "--check", "--update") == 1
    assert "--check and --update exclude each other" in capsys.readouterr().err
    assert main(["bench", str(repo / "none.toml")]) == 1
    assert "there is no bench" in capsys.readouterr().err


# ---- a real model


@pytest.mark.shared
@pytest.mark.tensorflow
def test_keras_model_with_slower_kernel_and_worse_calibration_fails(
    shared_data: Path, tmp_path: Path, capsys: Capture, change_template: Callable[..., None]
) -> None:
    """The bearing model: an idle loop in the C of convolutions; then samples of a machine that hardly runs."""
    train = shared_data / "cwru_bearing_train.npz"
    bench_text = f"""
[[model]]
name = "cwru"
file = "{shared_data / "models" / "cwru_cnn1d.keras"}"
representative = "train.npz"
eval = "{shared_data / "cwru_bearing_eval.npz"}"
eval_count = 60
input_scale = {1 / 4096}
calibration = "min-max"
boards = ["{BOARD}"]

[[model]]
name = "float"
file = "{shared_data / "models" / "cwru_cnn1d.keras"}"
eval = "{shared_data / "cwru_bearing_eval.npz"}"
eval_count = 60
input_scale = {1 / 4096}
precision = "float32"
boards = ["{BOARD}"]
"""
    (tmp_path / "tinygen-bench.toml").write_text(bench_text)
    with np.load(train) as data:
        x = data["x"][::20]
    np.savez(tmp_path / "train.npz", x=x)
    assert bench(tmp_path, "--update") == 0
    cells = json.loads((tmp_path / "tinygen-bench.baseline.json").read_text())["cells"]
    small, large = cells[f"cwru@{BOARD}"], cells[f"float@{BOARD}"]
    int8 = api.fit(shared_data / "models" / "cwru_cnn1d.keras", board=BOARD, optimize="portable").model
    assert large["arena"] == 4 * int8.arena and large["layers"]["dense_2"]["scale"] is None
    assert bench(tmp_path, "--check", "--only", "cwru") == 0
    turns = round(0.02 * small["cycles"] / 3 / 8)
    change_template(CONV, "\n{\n", f"\n{{\n    for (volatile int32_t i = 0; i < {turns}; ++i) {{\n    }}\n")
    (line,) = causes(tmp_path, capsys, "--only", "cwru")
    layers = r", ".join([r"layer 'conv1d_\d' \+[\d,]+"] * 3)
    assert re.fullmatch(
        rf"cwru on {BOARD}: cycles [\d,]+ -> [\d,]+ \(\+[123]\.\d\d %, gate 1 %\): mostly {layers}", line
    ), line
    np.savez(tmp_path / "train.npz", x=x // 64)
    lines = causes(tmp_path, capsys, "--only", "cwru")
    assert re.fullmatch(
        rf"cwru on {BOARD}: accuracy [\d.]+ % -> [\d.]+ % \(-[\d.]+ points, gate 0.5\): "
        r"constants of \d of \d layers changed, output scale of layer '\w+' x [\d.]+",
        lines[0],
    ), lines
