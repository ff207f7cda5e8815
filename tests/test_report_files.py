"""The report as a file: alone, small, harmless; what it is made from, and the command that makes it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import pruning_runs
from tests.support.graphs import float_graph, int8_graph
from tests.support.reports import (
    HISTORY,
    HOSTILE,
    ladder_of,
    profile_of,
    small_data,
    small_model,
    small_samples,
)
from tests.test_bench import CELL
from tinygen import api, bundle, inspection, pipeline
from tinygen.bench_baseline import append_history
from tinygen.boards import load_board
from tinygen.cli import main
from tinygen.errors import DataError, ModelError, OutputError, UsageError
from tinygen.project import write_project
from tinygen.pruning import log
from tinygen.quantization_error import from_json
from tinygen.report import head, history, page, sources
from tinygen.report.figure import Figure
from tinygen.tflite.export import export_tflite

ROOT = Path(__file__).resolve().parents[1]


# ---- head and page


def test_head() -> None:
    data = small_data()
    cards = {card.key: card for card in head.cards(data)}
    assert data.profile is not None
    assert cards["cycles"].value == f"{data.profile['totals']['cycles']:,}"
    assert cards["score"].value == "90.00 %" and cards["score"].note == "float 91.00 %, n = 120"
    assert "constants" in {card.key for card in head.cards(replace(data, profile=None))}


def test_page_is_the_same_twice_small_and_alone() -> None:
    text = page.render(small_data())
    assert text == page.render(small_data()) and len(text.encode()) < 2_000_000
    markup = text[: text.index('<script type="application/json"')]
    assert "http" not in markup and "url(" not in markup and "@import" not in markup


def test_every_figure_has_a_sentence_without_its_data() -> None:
    data = small_data(profile=None, error=None, before=None, ladder=None, history=None, pruning=None)
    drawn = {f.key for f in page.figures(data) if f.charts}
    assert drawn == {"arena", "model"}
    assert all(f.says for f in page.figures(data))


def test_hostile_names_stay_text() -> None:
    """No name ends a script or becomes a tag; all are in the charts' data, unchanged."""
    text = page.render(small_data(hostile=True))
    for name in HOSTILE.values():
        assert "<" not in name or name not in text
    assert text.count("</script>") == 3
    start = text.index('<script type="module">')
    assert "<img" not in text[:start] and "pwned=1>" not in text[:start], (
        "but for the library, of which it is part"
    )
    start = text.index('id="data">') + len('id="data">')
    charts = json.loads(text[start : text.index("</script>", start)])
    shown = json.dumps(charts["specs"]["graph"], ensure_ascii=False)
    assert all(json.dumps(name, ensure_ascii=False)[1:-1] in shown for name in HOSTILE.values())


def test_library_cannot_end_its_script() -> None:
    assert page.script_safe("a</script>b<!--") == "a<\\/script>b<\\!--"


# ---- files and the command


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on disk that was never built."""
    folder = tmp_path_factory.mktemp("report") / "fw"
    board, options = load_board("nucleo_l4r5zi"), pipeline.Options("small")
    manifest = bundle.manifest_of(Path(__file__), None, [board], options, bundle.SampleOptions())
    write_project(bundle.make_project([small_model()], [board], manifest, small_samples(), options), folder)
    return folder


def saved(project: Path, path: Path, **changes: Any) -> Path:
    """A profile of the project, as a file."""
    seen = api.inspect(project)
    layers = inspection.to_json(seen.program, seen.plan)["layers"]
    run_id = json.loads((project / "manifest.json").read_text())["run_id"]
    path.write_text(json.dumps({**profile_of(layers), "run_id": run_id, **changes}))
    return path


def test_command_with_a_saved_profile(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = saved(project, tmp_path / "p.json")
    (tmp_path / "h.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in HISTORY))
    (tmp_path / "l.json").write_text(json.dumps(ladder_of(Path(__file__).stem)))
    arguments = ["report", str(project), "-o", str(tmp_path / "r.html"), "--profile", str(profile), "--json"]
    arguments += [
        "--compare",
        str(profile),
        "--history",
        str(tmp_path / "h.jsonl"),
        "--ladder",
        str(tmp_path / "l.json"),
    ]
    assert main([*arguments, "--budget-ms", "9"]) == 0
    text = (tmp_path / "r.html").read_text()
    assert json.loads(capsys.readouterr().out)["bytes"] == len(text.encode())
    assert text.count('<div class="chart"') == 12 and "(+0.0 %)" in text and "9.00 ×" in text


def test_command_without_a_profile(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(project), "-o", str(tmp_path / "r.html"), "--no-profile"]) == 0
    assert "r.html" in capsys.readouterr().out.replace("\n", "")
    assert 'id="chart-snr"' in (tmp_path / "r.html").read_text()


def test_files_that_are_wrong_are_named(project: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('[{"model": "x"}]')
    good = saved(project, tmp_path / "p.json")
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"ladder": bad}, DataError, "--ladder.*bad.json.*KeyError"),
        ({"history": bad}, DataError, "--history.*bad.json"),
        ({"history": tmp_path / "gone.json"}, DataError, "--history.*FileNotFoundError"),
        ({"profile": bad}, DataError, "--profile.*bad.json"),
        ({"compare": bad}, DataError, "--compare.*bad.json"),
        ({"profile": "none", "compare": good}, UsageError, "--compare needs a profile"),
        (
            {"profile": saved(project, tmp_path / "other.json", run_id="f" * 16)},
            UsageError,
            "another build: run_id f",
        ),
        ({"profile": saved(project, tmp_path / "board.json", board="pico")}, UsageError, "on pico"),
    ]
    for given, kind, message in cases:
        with pytest.raises(kind, match=message):
            api.report(project, tmp_path / "r.html", **{"profile": good, **given})
    assert not (tmp_path / "r.html").exists()


def test_history_is_read_as_bench_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append_history(path, [CELL], "abc-dirty")
    append_history(path, [replace(CELL, model="ad", cycles=None)], None)
    rows = history.rows(small_data(history=sources.read_history(path)))
    assert [(r["cell"], r["commit"]) for r in rows] == [(CELL.name, "abc-dirty"), ("ad@pico", "no commit")]


def test_damaged_quantization_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "quantization.json").write_text('{"schema": 7}')
    with pytest.raises(ModelError, match=r"quantization.json.*schema 7"):
        sources.read_error(tmp_path)
    assert sources.read_error(tmp_path / "nowhere") is None


def test_a_project_of_a_pruned_model_keeps_its_log(tmp_path: Path) -> None:
    """Compiled beside the log whose result it is; the log of another model, or a damaged one, is none."""
    pruned, log_file, out = (tmp_path / name for name in ("pruned.keras", "pruning_log.json", "fw"))
    pruned.write_bytes(export_tflite(int8_graph()))
    made = pruning_runs.run(5, end=False)
    last = replace(made.entries[-1].step, sha256=hashlib.sha256(pruned.read_bytes()).hexdigest())
    made = replace(made, entries=(*made.entries[:-1], replace(made.entries[-1], step=last)))
    log_file.write_text(log.to_json(replace(made, end=pruning_runs.ending())))
    build = api.compile(pruned, out=out)
    assert build.notes == () and "pruning_log.json" in project_files(out)
    assert (out / "pruning_log.json").read_text() == log.to_json(made, seconds=False)
    run_id = build.project.run_id
    text = api.report(out, profile="none")
    assert text.count('<div class="chart" id="chart-tradeoff-') == 3 and "2.00 × fewer MACs" in text
    (out / "pruning_log.json").write_text("{")
    with pytest.raises(OutputError, match=r"pruning_log\.json' is not a log.*\n.*generate the project again"):
        api.report(out, profile="none")
    assert main(["compile", str(pruned), "--out", str(out), "--check"]) == 1
    log_file.write_text("{")
    build = api.compile(pruned, out=out, force=True)
    assert "report will say nothing of pruning" in build.notes[0] and build.project.run_id == run_id
    log_file.write_text(log.to_json(pruning_runs.run()))
    assert api.compile(pruned, out=out).notes == ()
    assert "pruning_log.json" not in project_files(out) and "Nothing was pruned" in api.report(
        out, profile="none"
    )


def project_files(folder: Path) -> dict[str, str]:
    """Files that the manifest names; each is there."""
    files: dict[str, str] = json.loads((folder / "manifest.json").read_text())["files"]
    assert all((folder / name).is_file() for name in files)
    return files


def test_float32_project(tmp_path: Path) -> None:
    """Nothing is quantized: all other figures are there."""
    board, options = load_board("nucleo_l4r5zi"), pipeline.Options("small", precision="float32")
    compiled = pipeline.compile_graph(float_graph(), None, board, options)
    manifest = bundle.manifest_of(Path(__file__), None, [board], options, bundle.SampleOptions())
    write_project(bundle.make_project([compiled], [board], manifest, None, options), tmp_path / "fw")
    data = sources.collect(tmp_path / "fw", profile="none")
    figures: dict[str, Figure] = {f.key: f for f in page.figures(data)}
    assert "float32" in figures["quantization"].says and figures["model"].charts and figures["arena"].charts


def test_nothing_but_report_loads_the_plotting_library() -> None:
    code = (
        "import sys, tinygen.api, tinygen.cli.reporting, tinygen.cli.main\n"
        "print([m for m in ('altair', 'vl_convert', 'fast_sugiyama') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_int8_model_has_histograms_of_the_samples_that_are_given(tmp_path: Path) -> None:
    """--representative needs not calibrate anything; it says so on the page. Without, there is a sentence."""
    (tmp_path / "m.tflite").write_bytes(export_tflite(int8_graph()))
    np.save(tmp_path / "x.npy", small_samples().x[0])
    api.compile(tmp_path / "m.tflite", representative=tmp_path / "x.npy", out=tmp_path / "fw")
    error = from_json((tmp_path / "fw" / "quantization.json").read_text())
    assert not error.compared and error.samples == 16
    text = api.report(tmp_path / "fw", profile="none")
    assert "came as int8" in text and 'id="chart-histograms"' in text and 'id="chart-snr"' not in text
    api.compile(tmp_path / "m.tflite", out=tmp_path / "bare")
    assert "The project has no quantization.json" in api.report(tmp_path / "bare", profile="none")
