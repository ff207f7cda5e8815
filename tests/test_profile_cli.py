"""`tinygen profile` as a user meets it: tables, JSON, comparisons, folded stacks, budgets and their advice, errors."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.tflite_files import small_file
from tinygen import profile_text
from tinygen.cli import main
from tinygen.profile_json import to_json

pytestmark = pytest.mark.arm

Capture = pytest.CaptureFixture[str]
BOARD = "nucleo_l4r5zi"
ROW = ("macs", "instructions", "cycles", "zero_wait_cycles", "fetch_stalls", "data_stalls", "unpinned_cycles")
COST = {*ROW[1:], "cycles_per_mac", "ms", "bytes_read", "bytes_written"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small.tflite, and projects of it: fw without pins, and fw_pinned."""
    folder = tmp_path_factory.mktemp("profile")
    (folder / "small.tflite").write_bytes(small_file())
    model = str(folder / "small.tflite")
    for name, pin in (("fw", "none"), ("fw_pinned", "all")):
        arguments = ["--board", BOARD, "--pin", pin, "--pin-code", pin, "--out", str(folder / name)]
        assert main(["compile", model, *arguments]) == 0
    return folder


def run(capsys: Capture, *arguments: str, code: int = 0) -> str:
    """What `tinygen profile` prints. code: that it must exit with."""
    capsys.readouterr()
    assert main(["profile", *arguments]) == code, capsys.readouterr().err
    return capsys.readouterr().out


def run_json(capsys: Capture, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(capsys, *arguments, "--json", code=code))


def fails(capsys: Capture, *arguments: str) -> str:
    """The message of a command that must fail, without a traceback."""
    capsys.readouterr()
    assert main(list(arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    return error


@pytest.fixture(scope="module")
def data(files: Path) -> dict[str, Any]:
    """JSON of the project without pins."""
    import tinygen

    return to_json(tinygen.profile(files / "fw"))


# ---- JSON


def test_json_of_a_project_and_of_its_model(files: Path, data: dict[str, Any], capsys: Capture) -> None:
    """The same figures, but for the options that only compiling takes."""
    assert run_json(capsys, str(files / "fw")) == {**data, "exceeded": []}
    model = [str(files / "small.tflite"), "--board", BOARD, "--pin", "none", "--pin-code", "none"]
    assert run_json(capsys, *model) == {**data, "exceeded": []}
    pinned = run_json(capsys, *model[:3], "--pin", "all", "--pin-code", "all")
    assert pinned["totals"]["cycles"] < data["totals"]["cycles"]


def test_json_has_all_keys(data: dict[str, Any]) -> None:
    assert set(data) == {
        *("schema", "model", "board", "core", "clock_hz", "run_id", "counted_by", "inferences", "totals"),
        *("latency", "cold", "layers", "outside", "memory", "objects"),
    }
    assert (data["schema"], data["model"], data["board"], data["core"]) == (1, "small", BOARD, "cortex-m4")
    assert set(data["totals"]) == {"macs", *COST} and set(data["outside"]) == COST
    for layer in data["layers"]:
        assert set(layer) == {"step", "name", "op", "kernel", "macs", "share", *COST}
    assert set(data["latency"]) == {
        *(
            "inputs",
            "warm",
            "p50_instructions",
            "max_instructions",
            "p50_cycles",
            "max_cycles",
            "p50_ms",
            "max_ms",
        )
    }
    assert set(data["cold"]) == {
        *("startup_cycles", "pin_copy_cycles", "first_inference_cycles", "first_ms", "breakeven_inferences")
    }
    assert set(data["memory"]) == {"arena", "stack", "flash", "sram", "regions"}
    assert set(data["memory"]["regions"][0]) == {"name", "kind", "origin", "length", "used", "parts"}
    assert set(data["objects"][0]) == {
        *("symbol", "layer", "role", "region", "bytes", "bytes_read", "stalls", "unpinned_stalls", "pinned"),
    }


def test_json_adds_up(data: dict[str, Any]) -> None:
    rows = [*data["layers"], {**data["outside"], "macs": 0}]
    for key in ROW:
        assert sum(r[key] for r in rows) == data["totals"][key], key
    for key in ("bytes_read", "bytes_written"):
        for region, count in data["totals"][key].items():
            assert sum(r[key].get(region, 0) for r in rows) == count
    outside = data["outside"]["cycles"] / data["totals"]["cycles"]
    assert sum(layer["share"] for layer in data["layers"]) + outside == pytest.approx(1)
    assert data["totals"]["ms"] == pytest.approx(1000 * data["totals"]["cycles"] / 120e6)
    assert data["latency"]["max_cycles"] >= data["latency"]["p50_cycles"] == data["totals"]["cycles"]
    assert data["inferences"] == 3 and data["latency"]["inputs"] == 2


def test_count_of_inputs(files: Path, capsys: Capture) -> None:
    one = run_json(capsys, str(files / "fw"), "--count", "1")
    assert one["inferences"] == one["latency"]["inputs"] == 1
    assert one["totals"]["cycles"] == one["cold"]["first_inference_cycles"]


# ---- tables


def shown(data: dict[str, Any], width: int, **options: Any) -> list[str]:
    out = io.StringIO()
    profile_text.show(Console(file=out, width=width), data, **options)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 150])
def test_table_fits_the_terminal_and_cuts_no_figure(data: dict[str, Any], width: int) -> None:
    head, *lines = shown(data, width)
    assert "cycles are modelled" in head
    assert all(len(line) <= width for line in lines) and not any("…" in line for line in lines)
    for row in (*data["layers"], data["outside"], data["totals"]):
        if row.get("kernel") != "alias":
            assert any(
                f"{row['instructions']:,} {row['cycles']:,}" in " ".join(line.split()) for line in lines
            )
    text = "\n".join(lines)
    assert ("MACs" in text) == ("bytes read" in text) == (width == 150)
    assert "flat" not in text, "steps without code are no rows"


@pytest.mark.parametrize("width", [80, 150])
def test_names_are_no_markup_and_cannot_break_the_table(data: dict[str, Any], width: int) -> None:
    hostile = ["[/red]", "[bold]x[/bold]", "a" * 200, "tab\there", "[link=x]"]
    layers = [{**layer, "name": name} for layer, name in zip(data["layers"], hostile, strict=True)]
    objects = [{**o, "layer": "[/b]"} for o in data["objects"]]
    changed = {**data, "layers": layers, "objects": objects, "model": "[/m]"}
    lines = shown(changed, width, before=changed, objects=True)
    text = "\n".join(lines[1:])
    assert "[/red]" in text and "[bold]x" in text and "[/b]" in text and "tab_here" in text
    assert all(len(line) <= width for line in lines[1:])
    assert f"{layers[2 + 1]['instructions']:,}" in text


def test_objects_are_listed_when_asked_for(files: Path, capsys: Capture) -> None:
    assert "if not pinned" not in run(capsys, str(files / "fw"))
    table = run(capsys, str(files / "fw_pinned"), "--objects")
    assert "if not pinned" in table and len(re.findall(r"weights +sram", table)) == 3
    assert "copying what is pinned" in table and "pays after" in table


# ---- comparison


def test_compare_with_a_project_and_with_json(
    files: Path, data: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    saved = tmp_path / "before.json"
    saved.write_text(json.dumps(data))
    by_folder = run_json(capsys, str(files / "fw_pinned"), "--compare", str(files / "fw"))
    by_json = run_json(capsys, str(files / "fw_pinned"), "--compare", str(saved))
    assert by_folder == by_json
    compared = by_json["compared"]
    total = compared["total"]
    assert total["before"] == data["totals"]["cycles"] and total["after"] == by_json["totals"]["cycles"]
    assert total["ratio"] == total["before"] / total["after"] > 1
    assert [row["name"] for row in compared["layers"]] == ["first", "second", "last", "scores"]
    assert compared["unit"] == "cycles" and set(compared["memory"]) == {"arena", "sram", "flash"}
    table = run(capsys, str(files / "fw_pinned"), "--compare", str(saved))
    assert f"{total['ratio']:.3f}" in table and "before / after" in table


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"schema": 2, "layers": []}', '{"schema": 1, "layers": []}', "\0", "[" * 9999],
)
def test_what_is_no_profile_is_refused(files: Path, tmp_path: Path, capsys: Capture, text: str) -> None:
    path = tmp_path / "before.json"
    path.write_text(text)
    assert "is neither a project nor a profile" in fails(
        capsys, "profile", str(files / "fw"), "--compare", str(path)
    )


def test_a_missing_file_is_refused(files: Path, capsys: Capture) -> None:
    error = fails(capsys, "profile", str(files / "fw"), "--compare", "nowhere.json")
    assert "--compare 'nowhere.json' does not exist" in error


def damaged(data: dict[str, Any], *path: Any, value: Any) -> str:
    """The profile with another value at that place."""
    copy: Any = json.loads(json.dumps(data))
    *inner, last = path
    place = copy
    for key in inner:
        place = place[key]
    place[last] = value
    return json.dumps(copy)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("layers", 0, "name"), 5, "layers[0].name is 5"),
        (("layers", 1, "cycles"), 10**400, "layers[1].cycles is 1000"),
        (("memory", "arena"), None, "memory.arena is None"),
        (("totals", "ms"), "fast", "totals.ms is 'fast'"),
        (("schema",), 2, "its schema is 2, not 1"),
    ],
)
def test_what_is_wrong_with_a_profile_is_named(
    files: Path, data: dict[str, Any], tmp_path: Path, capsys: Capture, path: Any, value: Any, words: str
) -> None:
    saved = tmp_path / "before.json"
    saved.write_text(damaged(data, *path, value=value))
    assert words in fails(capsys, "profile", str(files / "fw"), "--compare", str(saved))


def test_two_boards_at_once_are_refused(files: Path, capsys: Capture) -> None:
    error = fails(capsys, "profile", str(files / "fw"), "--board", "pico", "--board", "microbit")
    assert "one board, 2 were given: pico, microbit" in error


def test_a_single_sample_is_cold_and_said_to_be(files: Path, capsys: Capture) -> None:
    got = run_json(capsys, str(files / "fw"), "--count", "1")
    assert got["latency"]["warm"] is False and got["latency"]["inputs"] == 1
    table = run(capsys, str(files / "fw"), "--count", "1")
    assert "one cold inference" in table and "each behind a reset" in table


@pytest.mark.parametrize("option", ["--budget-sram", "--budget-flash"])
def test_budgets_are_positive(files: Path, capsys: Capture, option: str) -> None:
    assert "must be greater than 0" in fails(capsys, "profile", str(files / "fw"), option, "-5")


@pytest.mark.parametrize(
    ("more", "words"),
    [(("--project", "cmake"), "--project cmake is a library"), (("--board", "mps3_an547"), "cortex-m55")],
)
def test_a_time_budget_that_cannot_be_checked_is_refused_at_once(
    files: Path, tmp_path: Path, capsys: Capture, more: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "out"
    arguments = ("compile", str(files / "small.tflite"), "--budget-ms", "5", "--out", str(out), *more)
    assert words in fails(capsys, *arguments) and not out.exists()


# ---- folded stacks


def test_folded_stacks_add_up(files: Path, data: dict[str, Any], tmp_path: Path, capsys: Capture) -> None:
    run(capsys, str(files / "fw"), "--folded", str(tmp_path / "stacks.txt"))
    assert_folded((tmp_path / "stacks.txt").read_text(), data["totals"]["cycles"])


def assert_folded(text: str, total: int, outside: int = 2) -> None:
    """Every line is frames and a count; all counts are `total`. outside: semicolons there."""
    found = [re.fullmatch(r"((?:[^;]+;)+[^;]+) (\d+)", line) for line in text.splitlines()]
    assert all(found) and text.endswith("\n")
    assert sum(int(m[2]) for m in found if m) == total
    assert {m[1].count(";") for m in found if m} == {outside, outside + 1}


def test_folded_stacks_survive_names(data: dict[str, Any]) -> None:
    names = ["a;b", "two\nlines 5", "x\r", "ends in 12", "é\u2028\x1b[31m"]
    layers = [{**layer, "name": name} for layer, name in zip(data["layers"], names, strict=True)]
    assert_folded(profile_text.folded({**data, "model": "m;n\n", "layers": layers}), data["totals"]["cycles"])


# ---- budgets


def test_budgets_that_are_met(files: Path, data: dict[str, Any], capsys: Capture) -> None:
    memory = data["memory"]
    ms = data["latency"]["max_ms"]
    met = [
        "--budget-sram",
        str(memory["sram"]),
        "--budget-flash",
        str(memory["flash"]),
        "--budget-ms",
        str(ms),
    ]
    assert run_json(capsys, str(files / "fw"), *met)["exceeded"] == []


def test_budgets_that_are_not_met(files: Path, data: dict[str, Any], capsys: Capture) -> None:
    memory, slowest = data["memory"], data["latency"]["max_ms"]
    over = ["--budget-sram", str(memory["sram"] - 1), "--budget-flash", str(memory["flash"] - 1)]
    over += ["--budget-ms", str(0.999 * slowest)]
    time, sram, flash = run_json(capsys, str(files / "fw"), *over, code=1)["exceeded"]
    assert f"'small' takes {slowest:.4g} ms on '{BOARD}'" in time and "1.00 times too slow" in time
    assert f"takes {memory['sram']:,} bytes of sram" in sram and "most of it: stack" in sram
    assert f"takes {memory['flash']:,} bytes of flash" in flash and "most of it: code" in flash
    capsys.readouterr()
    assert main(["profile", str(files / "fw"), *over]) == 1
    captured = capsys.readouterr()
    assert time.splitlines()[0] in captured.err and "instructions" in captured.out


# ---- options


def test_options_for_models_are_refused_for_projects(files: Path, capsys: Capture) -> None:
    error = fails(capsys, "profile", str(files / "fw"), "--pin", "none")
    assert "--pin is for models" in error and "leave --pin out" in error
    assert "--pin-code is for models" in fails(capsys, "profile", str(files / "fw"), "--pin-code", "none")


def test_a_board_that_the_project_lacks(files: Path, capsys: Capture) -> None:
    assert f"it is for {BOARD}" in fails(capsys, "profile", str(files / "fw"), "--board", "mps2_an386")


@pytest.mark.qemu
def test_a_core_that_cannot_be_followed_has_instructions_only(
    files: Path, data: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    """The Cortex-M55: no cycles, so that a budget of time cannot be met."""
    model = [str(files / "small.tflite"), "--board", "mps3_an547"]
    stacks, saved = tmp_path / "stacks.txt", tmp_path / "m4.json"
    saved.write_text(json.dumps(data))
    options = ["--budget-ms", "1000", "--folded", str(stacks), "--compare", str(saved)]
    got = run_json(capsys, *model, *options, code=1)
    assert "--budget-ms 1000 cannot be checked on 'mps3_an547'" in got["exceeded"][0]
    assert got["totals"]["cycles"] is got["totals"]["ms"] is got["cold"] is None
    assert_folded(stacks.read_text(), got["totals"]["instructions"], outside=1)
    assert got["compared"]["unit"] == "instructions"
    assert got["compared"]["total"]["before"] == data["totals"]["instructions"]
    outside = got["outside"]["instructions"] / got["totals"]["instructions"]
    assert sum(layer["share"] for layer in got["layers"]) + outside == pytest.approx(1)
    assert "no cycles are modelled" in shown(got, 80)[0]


# ---- compile --budget-ms


def test_compile_writes_nothing_when_the_time_is_not_met(
    files: Path, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["compile", str(files / "small.tflite"), "--board", BOARD, "--out", str(tmp_path / "fw")]
    error = fails(capsys, *arguments, "--budget-ms", "0.1")
    assert "--budget-ms allows 0.1" in error and "most time: first" in error
    assert not list(tmp_path.iterdir())
    assert main([*arguments, "--budget-ms", "10"]) == 0
    assert (tmp_path / "fw" / "firmware.json").is_file()
