"""`compile --ci github`: the workflow, and the suites that a project brings for Renode."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from renode import TinygenLog
from tests.support.graphs import int8_graph
from tests.support.pio import pio, prepared, printed
from tinygen import api, building, evaluate
from tinygen.boards import load_board
from tinygen.cli import main
from tinygen.emulators import Unicorn
from tinygen.emulators.renode import VARIABLE
from tinygen.errors import ToolError, UsageError
from tinygen.firmware import MAGIC
from tinygen.project import KEPT_OUT
from tinygen.tflite.export import export_tflite

pytestmark = pytest.mark.arm
ROOT = Path(__file__).resolve().parents[1]
BOARDS = ("nucleo_f446re", "pico")
CHOSEN = [word for board in BOARDS for word in ("--board", board)]
MARGIN = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ci") / "model.tflite"
    path.write_bytes(export_tflite(int8_graph()))
    return path


@pytest.fixture(scope="module")
def project(model: Path) -> Path:
    """Tests leave it as it was generated."""
    assert main(["compile", str(model), *CHOSEN, "--ci", "github", "--out", str(model.parent / "fw")]) == 0
    return model.parent / "fw"


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(project, tmp_path / "fw", ignore=shutil.ignore_patterns(*KEPT_OUT)))


def everything(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def stored_inputs(path: Path) -> np.ndarray:
    """The samples of an input block, taken apart by hand: (N, 6, 5, 2), 60 bytes each."""
    data = path.read_bytes()
    magic, count = struct.unpack_from("<II", data)
    assert magic == MAGIC and len(data) == 8 + count * (8 + 60)
    records = [data[8 + i * 68 : 8 + (i + 1) * 68] for i in range(count)]
    assert [struct.unpack_from("<II", r) for r in records] == [(0, i) for i in range(count)]
    return np.stack([np.frombuffer(r[8:], np.int8) for r in records]).reshape(count, 6, 5, 2)


# ---- the suites


def test_every_board_has_a_suite_of_its_own(project: Path) -> None:
    for board in BOARDS:
        names = {p.name for p in (project / "firmware_tests" / board).iterdir()}
        mine = {f"{board}.robot", f"{board}.repl", "expected.json", "inputs.bin"}
        assert names == mine | {"tinygen.resource", "TinygenLog.py"}


@pytest.mark.parametrize("board", BOARDS)
def test_expected_outputs_are_those_of_the_reference(project: Path, board: str) -> None:
    folder = project / "firmware_tests" / board
    expected = json.loads((folder / "expected.json").read_text())
    inputs = stored_inputs(folder / "inputs.bin")
    graph = int8_graph()
    outputs = evaluate.reference(graph, [inputs])[0]
    assert len(inputs) == len(expected["samples"]) == 4
    assert len({x.tobytes() for x in inputs}) == 4
    for i, sample in enumerate(expected["samples"]):
        assert (sample["model"], sample["sample"]) == (0, i)
        assert sample["outputs"] == [outputs[i].tobytes().hex()]
    assert expected["run_id"] == json.loads((project / "manifest.json").read_text())["run_id"]


@pytest.mark.parametrize("board", BOARDS)
def test_bounds_are_a_little_above_what_the_image_takes(copy: Path, board: str) -> None:
    described = load_board(board)
    folder = copy / "firmware_tests" / board
    expected = json.loads((folder / "expected.json").read_text())
    firmware = building.build(copy, described)
    log = Unicorn(count_all=True).execute(firmware, described, (folder / "inputs.bin").read_bytes(), 60.0)
    counts = [int(n) for n in re.findall(r"^SAMPLE 0 \d+ 0 (\d+)$", log, re.M)]
    (used,) = re.findall(r"^STACK (\d+) \d+$", log, re.M)
    assert len(counts) == 4
    assert expected["instructions_at_most"] == [int(max(counts) * 1.02) + 1]
    assert expected["stack_at_most"] == int(used) + MARGIN


def test_the_samples_are_those_of_pio_test(project: Path) -> None:
    stored = json.loads((project / "test/test_model/samples.json").read_text())
    folder = project / "firmware_tests" / BOARDS[0]
    suite = json.loads((folder / "expected.json").read_text())
    assert [s["outputs"] for s in suite["samples"]] == stored["outputs"]
    inputs = stored_inputs(folder / "inputs.bin")
    assert [[x.tobytes().hex()] for x in inputs] == stored["inputs"]


def test_the_suite_refuses_other_images(copy: Path) -> None:
    """The application, an image of another run, none at all."""
    board = load_board(BOARDS[0])
    expected = copy / "firmware_tests" / board.name / "expected.json"
    TinygenLog.image_should_be_that_of_the_suite(building.build(copy, board).elf, expected)
    application = building.build(copy, board, application=True).elf
    other = copy / "other.elf"
    run_id = json.loads(expected.read_text())["run_id"].encode()
    other.write_bytes(building.build(copy, board).elf.read_bytes().replace(run_id, run_id[::-1]))
    for elf in (application, other, copy / "none.elf"):
        with pytest.raises(AssertionError, match=f"{elf.name} is not the test image of run"):
            TinygenLog.image_should_be_that_of_the_suite(elf, expected)


def dry_run(suite: Path) -> subprocess.CompletedProcess[str]:
    stub = f"RENODEKEYWORDS:{ROOT / 'tests' / 'support' / 'renode_keywords.resource'}"
    options = ["--dryrun", "--output", "NONE", "--log", "NONE", "--report", "NONE", "--variable", stub]
    command = [sys.executable, "-m", "robot", *options, str(suite)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_dry_run_of_both_suites(project: Path) -> None:
    done = dry_run(project / "firmware_tests")
    assert done.returncode == 0, done.stdout
    assert "8 tests, 8 passed" in done.stdout


def test_the_suites_take_the_image_that_platformio_builds(project: Path) -> None:
    for board in BOARDS:
        folder = project / "firmware_tests" / board
        text = (folder / f"{board}.robot").read_text()
        (elf,) = re.findall(r"^\$\{ELF\} +\$\{CURDIR\}/(.+)$", text, re.M)
        assert (folder / elf).resolve() == project.resolve() / ".pio" / "build" / board / "firmware.elf"


def test_a_board_that_renode_does_not_model_gets_the_workflow_alone(model: Path) -> None:
    build = api.compile(model, board=["mps3_an547"], ci="github")
    assert not [p for p in build.project.contents if p.startswith("firmware_tests/")]
    text = build.project.contents[".github/workflows/firmware.yml"].decode()
    assert "renode" not in text.lower() and "-e unicorn" not in text and "pio test -e qemu" in text


# ---- the workflow


def commands(text: str) -> str:
    """What its steps run."""
    (job,) = yaml.safe_load(text)["jobs"].values()
    return "\n".join(step["run"] for step in job["steps"] if "run" in step)


def test_the_workflow_names_every_command_in_order(project: Path) -> None:
    text = (project / ".github/workflows/firmware.yml").read_text()
    run = commands(text)
    wanted = [
        'pip install "$TINYGEN" platformio',
        "pio run",
        "pio test -e native",
        "pio test -e unicorn",
        "gh release download",
        "pio test --without-testing -e nucleo_f446re -e pico",
        "renode-test firmware_tests/*/*.robot",
    ]
    places = [run.index(command) for command in wanted]
    assert places == sorted(places)
    data = yaml.safe_load(text)
    assert {"name", "jobs", "env", "permissions"} <= data.keys()
    assert set(data[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` so
    assert not re.search(r"\w+\.(org|com|io|dev)\b", text)


def test_its_environments_are_those_of_the_project(project: Path) -> None:
    run = commands((project / ".github/workflows/firmware.yml").read_text())
    environments = set(re.findall(r"-e (\w+)", run))
    known = set(re.findall(r"^\[env:(\w+)\]$", (project / "platformio.ini").read_text(), re.M))
    assert environments and environments <= known


# ---- with the rest of compile


def test_the_same_input_gives_the_same_bytes(project: Path, model: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["compile", str(model), *CHOSEN, "--ci", "github", "--out", str(again)]) == 0
    assert everything(again) == everything(project)


def test_check_and_manifest_hold_them_for_ours(
    copy: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compile", str(model), *CHOSEN, "--ci", "github", "--out", str(copy)]
    named = json.loads((copy / "manifest.json").read_text())["files"]
    assert set(everything(copy)) == {*named, "manifest.json"}
    assert main([*command, "--check"]) == 0
    changed = ("firmware_tests/pico/inputs.bin", ".github/workflows/firmware.yml")
    before = {path: (copy / path).read_bytes() for path in changed}
    for path in changed:
        (copy / path).write_bytes(before[path] + b"\n")
    for command_line in ([*command, "--check"], command):
        capsys.readouterr()
        assert main(command_line) != 0
        told = capsys.readouterr().err
        assert all(path in told for path in changed), told
    for path in changed:
        (copy / path).write_bytes(before[path])
    assert main(["compile", str(model), *CHOSEN, "--out", str(copy)]) == 0
    assert not (copy / "firmware_tests").exists() and not (copy / ".github/workflows").exists()


def test_a_missing_tool_is_told_before_anything_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        with pytest.raises(ToolError, match=r"gcc is not installed(.|\n)*apt-get(.|\n)*leave out --ci"):
            api.compile(model, board="pico", ci="github", out=tmp_path / "fw")
    with monkeypatch.context() as patch:
        patch.setattr("tinygen.emulators.unicorn_.find_spec", lambda name: None)
        with pytest.raises(ToolError, match=r"pip install unicorn(.|\n)*leave out --ci"):
            api.compile(model, board="pico", ci="github", out=tmp_path / "fw")
    assert not list(tmp_path.iterdir())


def test_unknown_workflows_and_other_homes_are_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="no workflow for --ci 'gitlab'"):
        api.compile(model, board="pico", ci="gitlab")
    with pytest.raises(UsageError, match="--project platformio"):
        api.compile(model, board="pico", project="bare", ci="github")


# ---- with Renode itself


def renode_test() -> str | None:
    """renode-test on PATH, or beside the renode that TINYGEN_RENODE names."""
    beside = Path(os.environ.get(VARIABLE) or "renode").with_name("renode-test")
    return str(beside) if beside.is_absolute() and beside.is_file() else shutil.which("renode-test")


@pytest.mark.skipif(renode_test() is None, reason="renode-test is not installed")
def test_renode_test_of_what_platformio_builds_and_its_controls(model: Path, tmp_path: Path) -> None:
    """Passes; a wrong byte that is expected, and the application in the image's place, fail."""
    project = prepared(tmp_path / "fw", tmp_path / "core", model, BOARDS, "--ci", "github")
    suites = [f"firmware_tests/{board}/{board}.robot" for board in BOARDS]

    def robot(*chosen: str) -> subprocess.CompletedProcess[str]:
        command = [str(renode_test()), *chosen]
        kept = {**os.environ, "RESULTS": str(tmp_path / "results")}
        return subprocess.run(command, cwd=project, env=kept, capture_output=True, text=True, check=False)

    chosen = [word for board in BOARDS for word in ("-e", board)]
    done = pio(project, "test", "--without-testing", *chosen)
    assert done.returncode == 0, printed(done)
    done = robot(*suites)
    assert done.returncode == 0, done.stdout
    assert len(re.findall(r"with status \S*OK", done.stdout)) == 8
    expected = project / "firmware_tests/pico/expected.json"
    data = json.loads(expected.read_text())
    first = data["samples"][0]["outputs"][0]
    data["samples"][0]["outputs"][0] = f"{int(first[:2], 16) ^ 1:02x}{first[2:]}"
    expected.write_text(json.dumps(data))
    done = robot(suites[1])
    assert done.returncode != 0 and re.search(r"Outputs Are Bit Exact' .*failed", done.stdout), done.stdout
    assert pio(project, "run", "-e", BOARDS[0]).returncode == 0
    done = robot(suites[0])
    assert done.returncode != 0
    assert "is not the test image of run" in (tmp_path / "results/robot_output.xml").read_text(), done.stdout
