"""`tinygen prune` as a user meets it, with a made-up driver behind: options, tables, resume, rollback, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from tests.support import pruning_runs as runs
from tests.support.graphs import int8_graph
from tests.test_cli import fails
from tinygen.cli import main, pruning_text
from tinygen.errors import DataError
from tinygen.pruning import checkpoints, journal
from tinygen.pruning.log import End, Log
from tinygen.pruning.outcome import Pruned
from tinygen.pruning.registry import read
from tinygen.samples import Options as SampleOptions
from tinygen.tflite.export import export_tflite

Capture = pytest.CaptureFixture[str]
CALLS: list[dict[str, Any]] = []


def prune(
    model: Path, *, out: Path, report: Any, on_step: Any, resume: bool, force: bool, **given: Any
) -> Pruned:
    """What the driver does, without models. `max_minutes` 1: it ends after three steps."""
    given = {"importance": "auto", "max_minutes": None, "model": model, **given}
    if given["importance"] == "early":
        raise KeyboardInterrupt
    CALLS.append({"resume": resume, "force": force, **given})
    same = runs.inputs(options={key: given[key] for key in ("budget_sram", "max_drop")})
    if resume:
        begun = journal.resume(out, same, on_step).journal
    else:
        begun = journal.start(out, same, runs.BUDGETS, given, force, on_step)
    with begun as made:
        for number in range(made.log.next_number, 3 if given["max_minutes"] == 1 else 7):
            report("prune", number, 7)
            runs.put(made, number)
        if given["importance"] == "crash":
            raise DataError("label 12 is out of range 0 .. 11")
        if given["importance"] == "interrupt":
            raise KeyboardInterrupt
        made.finish(ending)
        return Pruned(out, made.log, ("the drop is judged on 100 samples only",))


def rollback(out: Path, step: int, *, report: Any) -> Pruned:
    with journal.open_run(out) as made:
        made.rollback(step, ending)
        return Pruned(out, made.log)


def ending(log: Log) -> End:
    """Reached only by the last steps, as the made-up costs have it."""
    good = log.line[-1].after.cost.sram <= 20_480
    return replace(runs.ending(), reached=good, why="every budget is met" if good else "time is up")


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made = ModuleType("tinygen.prune_api")
    made.prune, made.rollback = prune, rollback  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tinygen.prune_api", made)
    monkeypatch.setattr(checkpoints, "to_bytes", lambda model: model)
    CALLS.clear()
    yield


def command(out: Path, *more: str) -> list[str]:
    return ["prune", "net.keras", "--board", "pico", "--budget-sram", "20K", "--out", str(out), *more]


def test_a_run_says_each_step_and_where_everything_is(tmp_path: Path, capsys: Capture) -> None:
    assert (
        main(command(tmp_path / "out", "--input-scale", "0.5", "--eval", "e.npz", "--qat", "--max-drop", "3"))
        == 0
    )
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert lines[2] == (
        "step 2: prune (conv -6): loss 0.12, accuracy 84.00 %, SRAM 26,600 of 20,480, ms 7.5 of 8"
    )
    assert [line.split(":")[0] for line in lines[:7]] == [f"step {n}" for n in range(7)]
    assert lines[7] == "note: the drop is judged on 100 samples only"
    cells = [line.split() for line in said.out.splitlines()]
    assert ["accuracy,", "float", "90.00", "%", "88.00", "%", "-2.00"] in cells
    assert ["✓", "accuracy,", "int8", "90.00", "%", "87.00", "%", "-3.00", "-3"] in cells
    assert "every budget is met" in said.out and f"model    {tmp_path / 'out' / 'pruned.keras'}" in said.out
    (call,) = CALLS
    assert (
        call["samples"] == SampleOptions(scale=0.5) and call["eval"] == Path("e.npz") and call["qat"] is True
    )
    assert (call["budget_sram"], call["budget_ms"], call["board"], call["seed"]) == ("20K", None, "pico", 0)


def test_the_table_marks_what_is_over_and_what_binds(capsys: Capture) -> None:
    for width in (80, 160):
        console = Console(width=width, color_system=None)
        with console.capture() as captured:
            console.print(pruning_text.steps_table(runs.run(), width))
        text = captured.get()
        assert max(len(line) for line in text.splitlines()) <= width
        rows = {
            line.split()[0]: line for line in text.splitlines() if line.split() and line.split()[0].isdigit()
        }
        assert "≤ 20,480" in text and "accuracy" in text and list(rows) == [str(n) for n in range(7)]
        assert "▸33,800" in rows["0"] and "160,000" in rows["0"] and "90.00 %" in rows["0"]
        assert "▸" not in rows["6"] and "19,400" in rows["6"] and "85.00 %" in rows["6"]
        assert "conv" in rows["2"] and "-6" in rows["2"]
    many = replace(
        runs.run(),
        entries=tuple(
            replace(e, step=replace(e.step, removed=3 * e.step.removed)) for e in runs.run().entries
        ),
    )
    with console.capture() as captured:
        console.print(pruning_text.steps_table(many, 80))
    assert "-18 in 3 layers" in captured.get()
    slower = replace(runs.BUDGETS, ms=3.0)
    with console.capture() as captured:
        console.print(pruning_text.steps_table(replace(runs.run(), budgets=slower), 120))
    assert "▸10" in captured.get() and "▸33,800" not in captured.get(), "time binds when it is exceeded more"


def test_json_has_budgets_steps_and_scores(tmp_path: Path, capsys: Capture) -> None:
    assert main(command(tmp_path / "out", "--json")) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["budgets"]["sram"] == {
        "resource": "sram", "budget": 20480, "before": 33800, "after": 19400, "met": True,
    }  # fmt: skip
    assert data["budgets"]["flash"]["met"] is None and data["reached"] is True
    assert data["scores"]["drop"] == pytest.approx(3.0) and data["scores"]["int8"]["value"] == 0.87
    assert [s["removed"] for s in data["steps"]][2:5] == [{"conv": 6}, {}, {"conv": 8}]
    assert data["steps"][3]["metric"]["value"] == 177 / 200 and data["seconds"] == 31.5


def test_a_budget_that_is_not_met_is_exit_code_1(tmp_path: Path, capsys: Capture) -> None:
    assert main(command(tmp_path / "out", "--max-minutes", "1")) == 1
    said = capsys.readouterr().out
    assert "time is up" in said and "✗" in said and "26,600" in said


def test_resume_needs_no_other_option(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.keras").write_text("")
    out = tmp_path / "out"
    assert main(command(out, "--importance", "crash", "--max-minutes", "1")) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: label 12 is out of range 0 .. 11"
    assert read(out).points[-1].name == "step 2" and not (out / "pruned.keras").exists()
    monkeypatch.chdir("/")
    assert main(["prune", "--resume", "--importance", "auto", "--max-minutes", "30", "--out", str(out)]) == 0
    first, second = CALLS
    changed = {
        "resume": True,
        "importance": "auto",
        "max_minutes": 30.0,
        "model": str(tmp_path / "net.keras"),
    }
    assert second == {**first, **changed}
    assert [s.number for s in journal.read(out).line] == list(range(7))
    assert "--budget-sram is 30K, it was 20K" in fails(
        capsys, "prune", "--resume", "--budget-sram", "30K", "--out", str(out)
    )
    assert "--resume goes on" not in fails(capsys, "prune", "--resume", "--out", str(tmp_path / "gone"))


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, capsys: Capture) -> None:
    assert main(command(tmp_path / "out", "--importance", "interrupt")) == 1
    assert f"--resume --out {tmp_path / 'out'}" in capsys.readouterr().err.splitlines()[-1]
    assert main(["prune", "none.keras", "--importance", "early", "--out", str(tmp_path / "no")]) == 1
    assert capsys.readouterr().err.strip() == "error: interrupted: nothing was written"


def test_rollback_and_forth(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert main(command(out)) == 0
    capsys.readouterr()
    assert main(["prune", "--rollback", "2", "--out", str(out)]) == 1, "step 2 does not meet the budget"
    said = capsys.readouterr().out
    assert "rolled back: 3, 4, 5, 6; --rollback" in said and "26,600" in said and "19,400" not in said
    assert main(["prune", "--rollback", "6", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rolled_back"] == []


def test_errors_say_what_to_do(tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "out")
    assert main(command(tmp_path / "out")) == 0
    cases = {
        ("prune", "--out", out): "MODEL is missing",
        ("prune", "net.keras", "--budget-sram", "80X", "--out", out): "--budget-sram is '80X'",
        ("prune", "net.keras", "--budget-sram", "1K"): "--out",
        ("prune", "--rollback", "1", "--seed", "3", "--out", out): "--rollback takes no --seed",
        ("prune", "net.keras", "--rollback", "1", "--out", out): "--rollback takes no MODEL",
        ("prune", "--rollback", "12", "--out", out): "its steps are 0 .. 6",
        ("prune", "--rollback", "1", "--out", str(tmp_path)): "holds no pruning run",
        ("prune", "--resume", "--out", str(tmp_path)): "cannot be read",
        tuple(command(tmp_path / "out")): "--resume, begin anew with --force",
    }
    for arguments, expected in cases.items():
        assert expected in fails(capsys, *arguments), arguments
    assert main(command(tmp_path / "out", "--force", "--max-minutes", "1")) == 1


def test_compile_prunes_first(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is of the smaller model, has the original's name and the log; a second time nothing is pruned."""
    content = export_tflite(int8_graph())
    monkeypatch.setattr(checkpoints, "to_bytes", lambda model: content)
    monkeypatch.setattr(runs, "content", lambda number: content)
    out, model = tmp_path / "fw", tmp_path / "kws net.keras"
    model.write_bytes(b"stays unread")
    arguments = ["compile", str(model), "--out", str(out), "--budget-sram", "20480", "--board", "pico"]
    assert main([*arguments, "--prune"]) == 0
    assert (out / "lib" / "kws_net").is_dir() and (out / "pruning_log.json").is_file()
    assert CALLS[0]["board"] == "pico" and CALLS[0]["budget_sram"] == "20480" and not CALLS[0]["resume"]
    assert journal.read(tmp_path / "fw-pruned").current == 6
    assert main([*arguments, "--prune"]) == 0 and CALLS[1]["resume"]
    for more, says in (
        (("--check",), "exclude each other"),
        (("--precision", "float32"), "one --board and --precision int8"),
        (("--board", "mps2_an386"), "one --board"),
    ):
        assert says in fails(capsys, *arguments, "--prune", *more)
    assert "needs a budget" in fails(capsys, "compile", str(model), "--out", str(out), "--prune")
    assert "that is for --prune" in fails(capsys, *arguments, "--budget-sram", "60%")
