"""The command line as a user meets it: every command, --json, errors of one to five lines with exit code 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.graphs import int8_graph
from tinygen.cli import main
from tinygen.cli.main import COMMANDS, cli
from tinygen.tflite.export import export_tflite

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.tflite, labelled samples, and a project compiled from them."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "model.tflite").write_bytes(export_tflite(int8_graph()))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 6, 5, 2)).astype(np.float32)
    np.savez(folder / "eval.npz", x=x, y=rng.integers(0, 3, 12))
    (folder / "labels.txt").write_text("left\nright\nnone\n")
    assert main(["compile", str(folder / "model.tflite"), "--out", str(folder / "fw")]) == 0
    return folder


def run_json(capsys: Capture, *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def fails(capsys: Capture, *arguments: str) -> str:
    """The message of a command that must fail: exit code 1, one to five lines, starting with 'error: '."""
    capsys.readouterr()
    assert main(list(arguments)) == 1
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert lines[0].startswith("error: ") and len(lines) <= 5, captured.err
    return captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command: str) -> None:
    text = CliRunner().invoke(cli, [command, "--help"]).output
    assert f"tinygen {command}" in text


def test_compile_reports_sizes_and_metrics(files: Path, tmp_path: Path, capsys: Capture) -> None:
    model, labelled, labels = (str(files / name) for name in ("model.tflite", "eval.npz", "labels.txt"))
    arguments = [
        "compile",
        model,
        "--eval",
        labelled,
        "--labels",
        labels,
        "--name",
        "net",
        "--arena",
        "library",
    ]
    data = run_json(capsys, *arguments, "--out", str(tmp_path / "fw"))
    assert data["arena_bytes"] == data["arena_lower_bound"] > 0
    assert data["int8_metric"]["kind"] == "accuracy" and data["int8_metric"]["count"] == 12
    header = (tmp_path / "fw" / "lib" / "net" / "net.h").read_text()
    assert "NET_CLASS_COUNT 3U" in header and "void *net_arena(void);" in header


def test_same_input_gives_a_byte_identical_project(files: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in ("a", "b"):
        assert main(["compile", str(files / "model.tflite"), "--out", str(tmp_path / name)]) == 0
    texts = [
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in sorted(tmp_path.iterdir())
    ]
    assert texts[0] == texts[1]


def test_check_sees_a_changed_option_and_a_changed_file(files: Path, tmp_path: Path, capsys: Capture) -> None:
    model, out = str(files / "model.tflite"), str(tmp_path / "fw")
    assert main(["compile", model, "--out", out]) == 0
    assert main(["compile", model, "--out", out, "--check"]) == 0
    assert "is not what would be generated now" in fails(
        capsys, "compile", model, "--out", out, "--check", "--name", "x"
    )
    (tmp_path / "fw" / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    assert main(["compile", model, "--out", out, "--check"]) == 0, "src/main.c is the user's"
    (tmp_path / "fw" / "include" / "tg_port.h").write_text("\n")
    assert "include/tg_port.h" in fails(capsys, "compile", model, "--out", out, "--check")


@pytest.mark.arm
@pytest.mark.parametrize("emulator", [pytest.param("qemu", marks=pytest.mark.qemu), "unicorn", "host"])
def test_run_passes_and_says_so(files: Path, capsys: Capture, emulator: str) -> None:
    data = run_json(
        capsys,
        "run",
        str(files / "fw"),
        "--inputs",
        str(files / "eval.npz"),
        "--emulator",
        emulator,
        "--count",
        "3",
    )
    assert (data["outcome"], data["samples"]) == ("PASSED", 3)
    assert (data["instructions_median"] is None) == (emulator == "host")


@pytest.mark.arm
def test_run_fails_on_a_wrong_weight(files: Path, tmp_path: Path, capsys: Capture) -> None:
    """One weight of the generated C changed: the judge names sample, output and element."""
    assert main(["compile", str(files / "model.tflite"), "--out", str(tmp_path / "fw")]) == 0
    (source,) = (tmp_path / "fw" / "lib").rglob("*_weights.c")
    text = source.read_text()
    first = text.index("= {") + 3
    source.write_text(text[:first] + "\n    99," + text[text.index(",", first) + 1 :])
    capsys.readouterr()
    arguments = [
        "run",
        str(tmp_path / "fw"),
        "--inputs",
        str(files / "eval.npz"),
        "--emulator",
        "unicorn",
        "--json",
    ]
    assert main(arguments) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["outcome"] == "WRONG_OUTPUT" and "sample 0" in data["detail"]


def test_inspect_boards_ops_doctor_export(files: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run_json(capsys, "inspect", str(files / "fw"))["model"]
    assert run_json(capsys, "inspect", str(files / "model.tflite"))["model"]
    assert {"mps2_an386", "microbit"} <= {b["name"] for b in run_json(capsys, "boards")}
    assert run_json(capsys, "boards", "mps2_an386")[0]["regions"]
    assert [o["name"] for o in run_json(capsys, "ops", "Conv2D")] == ["conv2d"]
    run_json(capsys, "doctor")
    data = run_json(capsys, "export", str(files / "fw"), "--tflite", str(tmp_path / "again.tflite"))
    assert data["bytes"] == (tmp_path / "again.tflite").stat().st_size


@pytest.mark.parametrize("arguments", [["inspect", "{fw}"], ["inspect", "{fw}", "--decisions"], ["boards"], ["ops"],
                                       ["boards", "microbit"], ["doctor"], ["completion", "zsh"]])  # fmt: skip
def test_tables_print(files: Path, capsys: Capture, arguments: list[str]) -> None:
    assert main([a.format(fw=files / "fw") for a in arguments]) == 0
    assert capsys.readouterr().out


def test_errors_name_the_thing_and_the_way_on(files: Path, tmp_path: Path, capsys: Capture) -> None:
    model, out = str(files / "model.tflite"), str(tmp_path / "fw")
    cases = {
        ("compil", model): "did you mean 'compile'",
        ("compile", model, "--out", out, "--board", "mps2_an368"): "did you mean 'mps2_an386'",
        ("compile", str(tmp_path / "gone.keras"), "--out", out): "does not exist",
        ("compile", model): "--out",
        ("compile", model, "--out", out, "--name", "9x"): "try --name",
        ("compile", model, "--out", out, "--max-drop", "1"): "needs --eval",
        ("compile", model, "--out", "/proc/fw"): "cannot write the project",
        ("compile", model, "--out", out, "--labels", str(tmp_path / "gone.txt")): "cannot be read as text",
        ("run", str(tmp_path), "--inputs", "x.npz"): "is not a tinygen project",
        ("run", str(files / "fw"), "--inputs", str(tmp_path / "gone.npz")): "does not exist",
        ("run", str(files / "fw"), "--inputs", "x", "--emulator", "qemo"): "did you mean 'qemu'",
        ("boards", "mikrobit"): "did you mean 'microbit'",
        ("ops", "Conv2E"): "did you mean 'Conv2D'",
        ("completion", "bas"): "did you mean 'bash'",
        ("inspect", str(tmp_path / "gone")): "does not exist",
    }
    for arguments, expected in cases.items():
        assert expected in fails(capsys, *arguments), arguments
    assert not (tmp_path / "fw").exists()


def test_json_errors_are_json(files: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(["boards", "nowhere", "--json"]) == 1
    assert "nowhere" in json.loads(capsys.readouterr().out)["error"]


def test_max_drop(files: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A float model whose int8 version loses more than allowed is not written."""
    from tests.support.graphs import float_graph
    from tinygen import api, frontend

    monkeypatch.setattr(api, "load_model", lambda path, shape: frontend.Loaded(float_graph()))
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 6, 5, 2)).astype(np.float32)
    np.savez(tmp_path / "r.npz", x=x, y=rng.normal(size=(30, 3)).astype(np.float32) * 0 + 1 / 3)
    common = ["compile", str(files / "model.tflite"), "--representative", str(tmp_path / "r.npz")]
    common += ["--eval", str(tmp_path / "r.npz"), "--metric", "mse", "--out", str(tmp_path / "fw")]
    message = fails(capsys, *common, "--max-drop", "-1000")
    assert "int8 loses" in message and not (tmp_path / "fw").exists()
    assert run_json(capsys, *common, "--max-drop", "1000")["float_metric"]["kind"] == "mse"


def test_float_model_needs_representative(
    files: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.graphs import float_graph
    from tinygen import api, frontend

    monkeypatch.setattr(api, "load_model", lambda path, shape: frontend.Loaded(float_graph()))
    message = fails(capsys, "compile", str(files / "model.tflite"), "--out", str(tmp_path / "fw"))
    assert "--representative is missing" in message


@pytest.mark.parametrize("text", ["96,x,3", "0,3", "", "a=", "96,-1"])
def test_input_shape_must_be_a_shape(files: Path, tmp_path: Path, capsys: Capture, text: str) -> None:
    message = fails(
        capsys, "compile", str(files / "model.tflite"), "--out", str(tmp_path), "--input-shape", text
    )
    assert "is not a shape" in message
