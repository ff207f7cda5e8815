"""--precision float32: projects and images on every core with and without an FPU; what has no meaning there is refused;
int8 projects do not know of it. Real models: test_float32_models.py; homes: test_float32_homes.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.float_models import net, samples_for, saved
from tests.support.graphs import float_graph, int8_graph
from tests.support.in_place import Overlaid
from tests.support.nodes import random_inputs
from tinygen import api, building, evaluate, inspection, project, running
from tinygen.boards import load_board
from tinygen.cli import main
from tinygen.emission import emit_library, pair_offset
from tinygen.emulators.unicorn_ import Unicorn
from tinygen.errors import ModelError, UsageError
from tinygen.firmware import firmware_files
from tinygen.judge import Outcome
from tinygen.planning import plan
from tinygen.program import select
from tinygen.serialization import graph_from_json, graph_to_json
from tinygen.tflite.export import export_tflite
from tinygen.tolerances import tolerance, wrong_elements

# Keras's own np.array(variable) warns with numpy 2 when it saves a model.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
BOARDS = ("mps2_an386", "pico", "microbit", "mps2_an385", "mps2_an500", "mps2_an505", "mps3_an547")
"""One per core: M4, M0+, M0, M3, M7, M33, M55; pico, microbit and mps2_an385 have no FPU."""


# ---- a small model, everything around it


@pytest.fixture(scope="module")
def model() -> Any:
    return net(2)


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("float32")
    saved(model, out / "net.keras")
    np.savez(out / "x.npz", **samples_for(model, 6))
    api.compile(
        out / "net.keras",
        representative=out / "x.npz",
        board=BOARDS,
        precision="float32",
        out=out / "fw",
    )
    return out


@pytest.mark.tensorflow
@pytest.mark.arm
@pytest.mark.qemu
@pytest.mark.parametrize(
    ("board", "emulator"),
    [
        *((name, "qemu") for name in BOARDS if name != "pico"),
        ("mps2_an386", "unicorn"),
        ("pico", "unicorn"),
        ("pico", "host"),
    ],
)
def test_two_inputs_and_outputs(model: Any, folder: Path, board: str, emulator: str) -> None:
    """Every core, with and without an FPU; the elements of different outputs keep their own scale."""
    x = samples_for(model, 6)
    result = api.run(folder / "fw", inputs=folder / "x.npz", board=board, emulator=emulator).result
    assert result.passed, result.detail
    for got, want in zip(result.outputs, model.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * float(np.abs(want).max()))


@pytest.mark.tensorflow
@pytest.mark.arm
def test_cores_without_an_fpu_compute_in_single_precision(folder: Path) -> None:
    """No function of double arithmetic is linked, not even behind the C library's mathematical functions."""
    for name in ("pico", "mps2_an386"):
        symbols = building.build(folder / "fw", load_board(name)).symbols
        assert "expf" in symbols and "tanhf" in symbols
        assert not [s for s in symbols if s.startswith(("__aeabi_d", "__aeabi_f2d", "__aeabi_i2d"))], name


@pytest.mark.tensorflow
@pytest.mark.arm
def test_another_weight_is_a_wrong_output(folder: Path, tmp_path: Path) -> None:
    """The control of everything above: a weight changed by one part in thirty is seen."""
    copy = Path(shutil.copytree(folder / "fw", tmp_path / "fw", ignore=shutil.ignore_patterns("build")))
    path = copy / "lib" / "net" / "net_weights.c"
    array = next(line for line in path.read_text().splitlines() if line.startswith("const float net_conv2d"))
    head, mark, tail = path.read_text().partition(f"{array}\n    ")
    first, _, rest = tail.partition("f,")
    path.write_text(f"{head}{mark}{float(first) + 0.03!r}f,{rest}")
    result = api.run(copy, inputs=folder / "x.npz", emulator="host").result
    assert result.outcome is Outcome.WRONG_OUTPUT and "expected" in result.detail


@pytest.mark.tensorflow
def test_the_project_says_what_it_is(folder: Path) -> None:
    manifest = project.read_manifest(folder / "fw")
    assert manifest["options"]["precision"] == "float32"
    (described,) = building.read_description(folder / "fw").models
    assert described.precision == "float32" and described.output_sizes == (28, 12)
    header = (folder / "fw" / "lib" / "net" / "net.h").read_text()
    assert "float *net_input(void *arena" in header and "SCALE" not in header and "quantize" not in header


@pytest.mark.tensorflow
def test_inspect_leaves_out_what_float_has_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = api.inspect(folder / "fw")
    data = inspection.to_json(seen.program, seen.plan, seen.calibrators)
    assert data["precision"] == "float32" and data["inputs"][0]["scale"] is None
    assert main(["inspect", str(folder / "fw")]) == 0
    printed = capsys.readouterr().out
    assert "conv2d" in printed and "scale" not in printed and " zero " not in printed and "float32" in printed


@pytest.mark.tensorflow
def test_export_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a float32 project: it holds no int8 graph"):
        api.export(folder / "fw", tmp_path / "net.tflite")
    assert not (tmp_path / "net.tflite").exists()


@pytest.mark.tensorflow
def test_check_compares_a_float_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compile", str(folder / "net.keras"), "--representative", str(folder / "x.npz"), "--check"]
    command += [*(f"--board={b}" for b in BOARDS), "--out", str(folder / "fw")]
    assert main([*command, "--precision", "float32"]) == 0
    assert main(command) == 1 and "is not what would be generated now" in capsys.readouterr().err


@pytest.mark.tensorflow
def test_no_samples_are_needed_and_fit_agrees(folder: Path, tmp_path: Path) -> None:
    build = api.compile(folder / "net.keras", precision="float32", out=tmp_path / "fw")
    fits = api.fit(folder / "net.keras", board="mps2_an386", precision="float32")
    library = build.compiled.library
    assert (fits.model.arena, fits.model.constants) == (library.arena_bytes, library.constant_bytes)
    assert fits.model.exact and fits.model.precision == "float32"
    int8 = api.fit(folder / "net.keras", board="mps2_an386", optimize="portable")
    assert fits.model.arena == 4 * int8.model.arena


# ---- what has no meaning in float32


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "net.tflite"
    path.write_bytes(export_tflite(int8_graph()))
    return path


def test_an_int8_file_is_refused(tflite: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"net.tflite' is int8 already: --precision float32 needs the float"):
        api.compile(tflite, precision="float32", out=tmp_path / "fw")
    assert not (tmp_path / "fw").exists()


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"precision": "float16"}, "no precision 'float16'\n  known: int8, float32"),
        ({"calibration": "entropy"}, "--calibration entropy chooses ranges for int8"),
        ({"max_drop": 1.0}, "--max-drop limits what int8 loses"),
        ({"ci": "github", "board": "nucleo_f446re"}, "--ci github holds every output byte in Renode"),
    ],
)
def test_what_contradicts_it_is_refused(folder: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        api.compile(folder / "net.keras", **{"precision": "float32", **options})


@pytest.mark.arm
def test_an_int8_project_does_not_mention_it(tflite: Path, tmp_path: Path) -> None:
    """Its files, and so its run_id, are those of a tinygen that knows int8 only."""
    api.compile(tflite, out=tmp_path / "fw")
    assert "precision" not in (tmp_path / "fw" / "firmware.json").read_text()
    assert "precision" not in json.dumps(project.read_manifest(tmp_path / "fw"))
    for path in (tmp_path / "fw").rglob("*.[ch]"):
        assert "tg_float.h" not in path.read_text(), path


# ---- graphs, images, the judge


def test_a_float_graph_survives_its_file() -> None:
    graph = float_graph()
    again = graph_from_json(graph_to_json(graph))
    assert again.nodes == graph.nodes and dict(again.tensors) == dict(graph.tensors)
    for name, tensor in graph.tensors.items():
        if tensor.data is not None:
            assert tensor.data.tobytes() == again.tensors[name].data.tobytes()  # type: ignore[union-attr]
    with pytest.raises(ModelError):
        graph_from_json(graph_to_json(graph).replace('"float32"', '"int8"', 1))


def test_a_pair_of_arenas_keeps_inputs_of_floats_apart() -> None:
    """The second arena starts behind the first one's inputs, in bytes: here they lie at its end."""
    graph = float_graph()
    (x,) = graph.input_tensors
    plan_of_inputs: Any = Overlaid({x.name: 100}, 100 + x.size_bytes)
    assert pair_offset(graph, plan_of_inputs) == 344 >= 100 + x.size_bytes


@pytest.mark.arm
def test_one_image_holds_models_of_both_precisions(tmp_path: Path) -> None:
    board, graphs = load_board("mps2_an386"), {"eight": int8_graph(), "real": float_graph()}
    libraries = []
    for name, graph in graphs.items():
        program = select(graph, board)
        libraries.append(emit_library(program, plan(program), name))
    files = {**firmware_files(libraries, board, "0" * 16)}
    for library in libraries:
        files |= library.files
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    inputs = [random_inputs(graph, 3, 1) for graph in graphs.values()]
    expected = [evaluate.expected(g, x) for g, x in zip(graphs.values(), inputs, strict=True)]
    image = building.build(tmp_path, board)
    result = running.run_models(image, board, Unicorn(), inputs, expected)
    assert result.passed, result.detail
    assert [m.outputs[0].dtype.name for m in result.models] == ["int8", "float32"]


def test_the_tolerance_is_of_the_largest_finite_element() -> None:
    expected = np.array([[0.0, -200.0], [np.inf, 1.0]], np.float32)
    assert tolerance(expected) == pytest.approx(0.02) and tolerance(np.zeros(3, np.float32)) == 0


def test_what_is_wrong_within_a_tolerance() -> None:
    """NaN and infinities must be the same; nothing is near them."""
    nan, inf = float("nan"), float("inf")
    expected = np.array([1.0, 1.0, 1.0, nan, nan, inf, inf, inf, 0.0], np.float32)
    got = np.array([1.00009, 1.0002, nan, nan, 1.0, inf, -inf, 3e38, -0.0], np.float32)
    assert wrong_elements(got, expected, 1e-4).tolist() == [1, 2, 4, 6, 7]
    assert wrong_elements(got[:1], expected[:1], None).tolist() == [0]
