"""--profile-on-device: timestamps behind every layer, from the C library to the table that `tinygen run` prints."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from benchmarks.real_models import REAL_MODELS, RealModel
from tests.support import tinyfw
from tests.support.graphs import int8_graph
from tests.support.host import HostLibrary, write_files
from tests.support.nodes import random_inputs
from tinygen import building, evaluate, running
from tinygen.boards import load_board
from tinygen.calibration import calibrate
from tinygen.cli import main
from tinygen.device_profile import layers_of
from tinygen.emission import PROFILE_RUNS, Library, emit_library, profile_bytes
from tinygen.emulators import Host, Qemu, Unicorn, block_counter
from tinygen.emulators.base import log_limit
from tinygen.errors import BoardError, RunError, UsageError
from tinygen.firmware import FirmwareModel, firmware_files, needs_of
from tinygen.graph import Array, Graph, GraphBuilder, QParams
from tinygen.homes import HOMES
from tinygen.judge import ModelRun, Outcome, RunResult, Wanted, judge, merged
from tinygen.ops import dense, reshape
from tinygen.placement import Wishes, fixed_bytes, place
from tinygen.planning import plan
from tinygen.program import Program, select
from tinygen.quantization import quantize, to_int8
from tinygen.samples import Samples
from tinygen.simplification import simplify
from tinygen.tflite.export import export_tflite

BOARDS = ("microbit", "mps2_an386", "mps2_an505", "mps3_an547", "disco_f407vg")
"""M0, M4, M33, M55, and an M4 with pinned kernels."""
REAL = tuple(m for m in REAL_MODELS if m.file in ("kws_ds_cnn_int8.tflite", "ic_resnet8_int8.tflite"))
NAMES = ("stem", "body", "join", "head", "scores")
DEEP = 15
"""Layers of the deep graph: more than a line of the log takes."""


def deep_graph() -> Graph:
    """(6,) -> many dense layers -> (6,)."""
    rng, builder = np.random.default_rng(3), GraphBuilder("deep")
    tensor = builder.input("x", (6,))
    for i in range(DEEP):
        weights = builder.constant(f"d{i}/weights", rng.normal(size=(6, 6)).astype(np.float32) / 2)
        bias = builder.constant(f"d{i}/bias", rng.normal(size=6).astype(np.float32))
        tensor = builder.add("dense", f"d{i}", (tensor, weights, bias), dense.Attrs())
    graph = builder.build((tensor,))
    x = rng.normal(size=(40, 6)).astype(np.float32)
    return simplify(quantize(graph, calibrate(graph, Samples((x,), grids=(None,)))).graph)


GRAPHS = {"net": int8_graph(), "deep": deep_graph(), "plain": int8_graph(1)}
INPUTS = {name: random_inputs(graph, 3, seed=4) for name, graph in GRAPHS.items()}
EXPECTED = [evaluate.reference(graph, INPUTS[name]) for name, graph in GRAPHS.items()]


def library(name: str, profile: bool = True) -> Library:
    program = select(GRAPHS[name], None)
    return emit_library(program, plan(program), name, profile=profile)


LIBRARIES = [library("net"), library("deep"), library("plain", False)]


# ---- what is emitted


def test_with_the_option_lines_are_added_and_none_is_changed() -> None:
    """So without it the code is what it was before there was the option."""
    board = load_board("mps2_an386")
    off, on = (
        {**lib.files, **firmware_files([lib], board, tinyfw.RUN_ID)}
        for lib in (library("net", False), library("net"))
    )
    assert off.keys() == on.keys()
    assert not [path for path, text in off.items() if "_profile" in text or "LAYERS" in text]
    changed = {Path(path).name for path in off if off[path] != on[path]}
    assert changed == {"net.c", "net.h", "tg_harness.c", "tg_harness.h", "test_main.c", "firmware.json"}
    for path in off.keys() - {"firmware.json"}:
        rest: Iterator[str] = iter(on[path].splitlines())
        assert all(line in rest for line in off[path].splitlines()), path


@pytest.mark.parametrize("home", HOMES)
def test_every_home_records_the_option_and_holds_the_ring(home: str, tmp_path: Path) -> None:
    model = tmp_path / "net.tflite"
    model.write_bytes(export_tflite(int8_graph()))
    off, on = (tinygen.compile(model, project=home, profile_on_device=p).project for p in (False, True))
    options = [json.loads(p.contents["manifest.json"])["options"] for p in (off, on)]
    assert "profile_on_device" not in options[0] and options[1] == {**options[0], "profile_on_device": True}
    assert off.run_id != on.run_id
    header = next(data for path, data in on.contents.items() if path.endswith("/net.h"))
    assert b"#define NET_PROFILE_STEPS 5U" in header


def test_a_model_without_code_has_nothing_to_time() -> None:
    builder = GraphBuilder("names only")
    x = builder.input("x", (4, 2))
    graph = builder.build((builder.add("reshape", "flat", (x,), reshape.Attrs((8,))),))
    program = select(to_int8(graph, dict.fromkeys(("x", "flat"), QParams.per_tensor(0.1, 3))), None)
    with pytest.raises(UsageError, match="no layer of 'names only' executes code"):
        emit_library(program, plan(program), "empty", profile=True)


# ---- the C library


class Clocked:
    """The profiled library in this process, its clock a list of readings."""

    def __init__(self) -> None:
        flags = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
        self.host = HostLibrary([LIBRARIES[0]], flags)
        self.c: Any = self.host._so
        self.c.net_profile_ticks.restype = ctypes.c_uint32
        self.readings: list[int] = []
        self.callback = ctypes.CFUNCTYPE(ctypes.c_uint32)(lambda: self.readings.pop(0))

    def ticks(self, age: int) -> list[int]:
        call = self.c.net_profile_ticks
        return [call(ctypes.c_size_t(age), ctypes.c_size_t(i)) for i in range(len(NAMES))]

    def infer(self, readings: list[int]) -> tuple[Array, ...]:
        self.readings = list(readings)
        outputs = self.host.run(LIBRARIES[0], [x[:1] for x in INPUTS["net"]])
        assert not self.readings, "one reading before the first layer, one behind each"
        return outputs


@pytest.fixture(scope="module")
def clocked() -> Clocked:
    return Clocked()


def test_ring_keeps_the_last_inferences_and_differences_wrap(clocked: Clocked) -> None:
    steps = [
        [1, 20, 300, 4000, 7],
        [5, 5, 5, 5, 0],
        [9, 8, 7, 6, 5],
        [2**31, 0, 1, 2**31, 3],
        [1, 1, 2, 3, 5],
    ]
    start, nothing = 2**32 - 10, [0] * 5
    assert clocked.ticks(0) == nothing, "before the first inference"
    without = clocked.infer([])
    clocked.c.net_profile_clock(clocked.callback)
    for done, each in enumerate(steps, 1):
        stamps = [(start + sum(each[:i])) % 2**32 for i in range(6)]
        assert np.array_equal(clocked.infer(stamps)[0], without[0])
        kept = [*reversed(steps[:done]), nothing, nothing, nothing][:PROFILE_RUNS]
        assert [clocked.ticks(age) for age in range(PROFILE_RUNS)] == kept
    assert clocked.ticks(PROFILE_RUNS) == nothing and clocked.ticks(2**40) == nothing
    assert clocked.c.net_profile_ticks(ctypes.c_size_t(0), ctypes.c_size_t(5)) == 0
    names = (ctypes.c_char_p * 5).in_dll(clocked.c, "net_profile_names")
    assert tuple(name.decode() for name in names) == NAMES
    assert ctypes.c_uint32.in_dll(clocked.c, "net_profile").value == 6
    clocked.c.net_profile_clock(None)
    clocked.infer([])
    assert clocked.ticks(0) == nothing


def test_an_arena_that_is_refused_leaves_the_ring_alone(clocked: Clocked) -> None:
    before = ctypes.c_uint32.in_dll(clocked.c, "net_profile").value
    assert clocked.c.net_invoke(None, ctypes.c_size_t(10**6)) == 1
    assert ctypes.c_uint32.in_dll(clocked.c, "net_profile").value == before


def test_ring_counts_as_memory() -> None:
    """Budget and placement know of it: a board that holds the model without timestamps may not hold it with them."""
    board = load_board("mps2_an386")
    off, on = needs_of([library("net", False)]), needs_of([library("net")])
    exact = Wishes(pin="none", pin_code="none", budget_sram=fixed_bytes(board) + off.arena)
    place(off, board, exact)
    with pytest.raises(BoardError, match="does not fit --budget-sram"):
        place(on, board, exact)
    assert on.variables == profile_bytes(5) == 4 * (4 * 6 + 2)


# ---- runs


@pytest.fixture(scope="module")
def project_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Per board an image of two models with timestamps and one without."""
    projects = {}
    for name in BOARDS:
        folder = tmp_path_factory.mktemp(name)
        projects[name] = tinyfw.write(folder, firmware_files(LIBRARIES, load_board(name), tinyfw.RUN_ID))
        for lib in LIBRARIES:
            write_files(lib, folder)
    return projects


def run_all(emulator: Any, project: Path, board: str) -> RunResult:
    image = emulator.build(project, load_board(board))
    result = running.run_models(image, load_board(board), emulator, list(INPUTS.values()), EXPECTED)
    assert result.passed, result.detail
    return result


def instructions_of(run: ModelRun) -> list[list[int]]:
    """Per sample and layer. Their sum and what invoke does around the layers are the whole inference."""
    assert run.layer_ticks is not None and run.ratio is not None
    samples = []
    for ticks, whole in zip(run.layer_ticks, run.instructions, strict=True):
        assert ticks is not None and whole is not None
        samples.append([round(t * run.ratio) for t in ticks])
        assert 0 < whole - sum(samples[-1]) < 80, "entry, first and last reading, return"
    assert len({whole - sum(s) for s, whole in zip(samples, run.instructions, strict=True) if whole}) == 1
    return samples


@pytest.mark.arm
@pytest.mark.qemu
@pytest.mark.parametrize("board", BOARDS)
def test_layers_sum_up_and_emulators_agree(project_of: dict[str, Path], board: str) -> None:
    emulators = [e for e in (Qemu(), Unicorn()) if e.unavailable(load_board(board)) is None]
    results = [run_all(emulator, project_of[board], board) for emulator in emulators]
    by_layer = [instructions_of(run) for run in results[0].models[:2]]
    assert [len(samples[0]) for samples in by_layer] == [5, DEEP]
    stem, body, join, head, scores = by_layer[0][0]
    assert min(stem, body) > head > 0 and join > 0 and scores > 0, (
        "two convolutions, and a product of 3 outputs"
    )
    assert max(map(max, by_layer[1])) < 1.05 * min(map(min, by_layer[1])), "equal layers, about equal work"
    for result in results:
        assert [instructions_of(run) for run in result.models[:2]] == by_layer
        assert [m.instructions for m in result.models] == [m.instructions for m in results[0].models]
        assert result.models[2].layer_ticks is None
    image = building.build(project_of[board], load_board(board))
    assert image.symbols["net_profile"].size == profile_bytes(5) - 4, "and the clock's address"


@pytest.mark.arm
def test_without_a_compiler_the_first_sample_has_layers(
    project_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = run_all(Unicorn(), project_of["mps2_an386"], "mps2_an386").models[0].layer_ticks
    monkeypatch.setattr(block_counter, "library", lambda: None)
    few = run_all(Unicorn(), project_of["mps2_an386"], "mps2_an386").models[0].layer_ticks
    assert every and few == (every[0], None, None)


def test_host_under_sanitizers_counts_nothing(project_of: dict[str, Path]) -> None:
    result = run_all(Host(sanitize=True), project_of["microbit"], "microbit")
    assert "LAYERS 1 2 12 0 0 0\n" in result.log
    assert [m.layer_ticks for m in result.models] == [(None,) * 3, (None,) * 3, None]
    assert layers_of(result.models[0], select(GRAPHS["net"], None), load_board("microbit")) == ()


@pytest.mark.shared
@pytest.mark.arm
@pytest.mark.qemu
@pytest.mark.parametrize("model", REAL, ids=lambda m: m.file)
def test_real_models_pay_less_than_a_percent(model: RealModel, shared_data: Path, tmp_path: Path) -> None:
    def ran(board: str, profile: bool, emulator: str) -> Any:
        out, source = tmp_path / f"{board} {profile}", shared_data / "models" / model.file
        if not out.exists():
            tinygen.compile(source, board=board, out=out, samples=model.options, profile_on_device=profile)
        done = tinygen.run(out, inputs=shared_data / model.eval, emulator=emulator, count=2)
        assert done.result.passed, done.result.detail
        return done

    plain, stamped = (ran("mps2_an386", profile, "qemu") for profile in (False, True))
    pairs = zip(plain.result.instructions, stamped.result.instructions, strict=True)
    assert all(a < b < 1.01 * a for a, b in pairs)
    assert np.array_equal(plain.result.outputs[0], stamped.result.outputs[0])
    by_unicorn = ran("mps2_an386", True, "unicorn")
    by_layer = instructions_of(stamped.result.models[0])
    assert instructions_of(by_unicorn.result.models[0]) == by_layer
    assert [layer.instructions for layer in stamped.layers] == [
        min(pair) for pair in zip(*by_layer, strict=True)
    ]
    only_qemu = ran("mps3_an547", True, "qemu")
    assert len(instructions_of(only_qemu.result.models[0])[0]) == len(by_layer[0])


@pytest.mark.arm
@pytest.mark.qemu
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, inputs = tmp_path / "net.tflite", tmp_path / "x.npy"
    model.write_bytes(export_tflite(int8_graph()))
    np.save(inputs, np.random.default_rng(1).normal(size=(4, 6, 5, 2)).astype(np.float32))
    for name, options in (("off", []), ("on", ["--profile-on-device"])):
        assert main(["compile", str(model), "--out", str(tmp_path / name), *options]) == 0
    run = ["run", str(tmp_path / "on"), "--inputs", str(inputs)]
    capsys.readouterr()
    assert main([*run, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(layer["step"], layer["name"]) for layer in data["layers"]] == list(
        zip((0, 1, 2, 4, 5), NAMES, strict=True)
    )
    assert sum(layer["share"] for layer in data["layers"]) == pytest.approx(1)
    assert all(layer["seconds"] is None and not layer["coarse"] for layer in data["layers"])
    assert main([*run, "--count", "1"]) == 0
    shown = capsys.readouterr().out
    (title,) = [line.split() for line in shown.splitlines() if "kernel" in line]
    assert title == ["#", "layer", "kernel", "instructions", "at", "most", "share"]
    assert all(f" {name} " in shown for name in NAMES) and "*" not in shown
    assert main(["run", str(tmp_path / "off"), "--inputs", str(inputs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"] == []


# ---- the log and what is made of it

MODELS = (FirmwareModel("net", 256, (8,), (2,), 5), FirmwareModel("plain", 128, (4,), (2,)))
OUTPUT = np.array([1, 2], np.int8)
WANTED = tuple(Wanted(m, s, (OUTPUT,)) for m, s in ((0, 0), (0, 1), (1, 0)))
LINES = [
    "TINYGEN 1 abc",
    "SAMPLE 0 0 0 100",
    "LAYERS 0 0 0 10 20 30",
    "LAYERS 0 0 3 15 5",
    "OUT 0 0 0 0 0102",
    "SAMPLE 0 1 0 110",
    "LAYERS 0 1 0 11 21 31",
    "LAYERS 0 1 3 16 6",
    "OUT 0 1 0 0 0102",
    "SAMPLE 1 0 0 50",
    "OUT 1 0 0 0 0102",
    "STACK 4 8",
    "END 3",
    "HOST RATIO 1 5",
]
FIRST, SECOND = (10, 20, 30, 15, 5), (11, 21, 31, 16, 6)


def verdict(lines: list[str]) -> RunResult:
    return judge("\n".join(lines) + "\n", "abc", MODELS, WANTED)


def with_line(old: str, *new: str) -> list[str]:
    assert old in LINES
    return [line for known in LINES for line in (new if known == old else (known,))]


def test_whole_log_gives_ticks_of_every_layer() -> None:
    result = verdict(LINES)
    assert result.passed and result.models[0].layer_ticks == (FIRST, SECOND)
    assert result.models[0].ratio == Fraction(1, 5) and result.models[1].layer_ticks is None
    turned = [LINES[0], *LINES[-3:0:-1], *LINES[-2:]]
    assert verdict(turned).models[0].layer_ticks == (FIRST, SECOND), "order does not matter"
    assert merged([result, result]).models[0].layer_ticks == (FIRST, SECOND) * 2
    assert merged([result, result]).models[1].layer_ticks is None


@pytest.mark.parametrize(
    "damage",
    [
        (),
        ("LAYERS 0 0 3 15",),
        ("LAYERS 0 0 3 15 5 7",),
        ("LAYERS 0 0 4 15 5",),
        ("LAYERS 0 0 2 15 5",),
        ("LAYERS 0 0 3",),
        ("LAYERS 0 0 3 ",),
        ("LAYERS 0 0 3 15 -5",),
        ("LAYERS 0 0 3 15 5x",),
        ("LAYERS 0 0 3 15  5",),
        ("LAYERS 0 0 3 15 99999999999",),
        ("LAYERS 0 7 3 15 5",),
        ("LAYERS 9 0 3 15 5",),
        ("LAYERS 0 0 9999999999 15 5",),
    ],
)
def test_damaged_lines_cost_that_samples_ticks_and_nothing_else(damage: tuple[str, ...]) -> None:
    result = verdict(with_line("LAYERS 0 0 3 15 5", *damage))
    assert result.passed, result.detail
    assert result.models[0].layer_ticks == (None, SECOND)


def test_lines_that_are_there_twice_are_not_one_run() -> None:
    line = "LAYERS 0 1 3 16 6"
    result = verdict(with_line(line, line, line))
    assert result.outcome is Outcome.INCOMPLETE and "repeats itself" in result.detail


def test_ticks_nobody_asked_for_are_left_alone() -> None:
    lines = with_line("SAMPLE 1 0 0 50", "SAMPLE 1 0 0 50", "LAYERS 1 0 0 1 2 3 4 5")
    assert verdict(lines).passed and verdict(lines).models[1].layer_ticks is None
    uncounted = verdict(with_line("SAMPLE 0 0 0 100", "SAMPLE 0 0 0 0"))
    assert uncounted.passed and uncounted.models[0].layer_ticks == (None, SECOND)


@given(st.data())
def test_no_damage_raises(data: st.DataObject) -> None:
    raw = bytearray("\n".join(LINES).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from(b"LAYERS 0123456789\n-x"))
    cut = data.draw(st.integers(0, len(raw)))
    result = judge(raw[:cut].decode(), "abc", MODELS, WANTED)
    assert isinstance(result.outcome, Outcome)
    for ticks in result.models[0].layer_ticks or ():
        assert ticks is None or len(ticks) == 5


PROGRAM = select(GRAPHS["net"], None)


def layers(run: ModelRun, program: Program = PROGRAM) -> Any:
    return layers_of(run, program, load_board("pico"))


def test_median_most_and_share() -> None:
    found = layers(verdict(LINES).models[0])
    assert [layer.ticks for layer in found] == list(FIRST), "the lower of two"
    assert [layer.ticks_max for layer in found] == list(SECOND)
    assert [layer.instructions for layer in found] == [2, 4, 6, 3, 1]
    assert [layer.step for layer in found] == [0, 1, 2, 4, 5], "3 is an alias"
    assert [layer.share for layer in found] == [t / 80 for t in FIRST]
    assert {layer.seconds for layer in found} == {layer.seconds_max for layer in found} == {None}


def test_on_a_board_ticks_are_time_and_few_say_little() -> None:
    """The Pico's timer makes a tick a microsecond."""
    found = layers(verdict([*LINES[:-1], "HOST CLOCK 1000000"]).models[0])
    assert [layer.seconds for layer in found] == [t / 1e6 for t in FIRST]
    assert [layer.coarse for layer in found] == [True, False, False, True, True]
    assert {layer.instructions for layer in found} == {None}
    zeros = with_line("LAYERS 0 0 0 10 20 30", "LAYERS 0 0 0 0 0 0")
    zeros[zeros.index("LAYERS 0 0 3 15 5")] = "LAYERS 0 0 3 0 0"
    assert {layer.share for layer in layers(verdict(zeros).models[0])} == {0.0}


def test_an_image_of_other_layers_is_refused() -> None:
    with pytest.raises(RunError, match="timestamps of 5 layers, its graph 15 that execute code"):
        layers(verdict(LINES).models[0], select(GRAPHS["deep"], None))


@pytest.mark.parametrize("steps", [1, 12, 13, 200])
def test_longest_lines_are_no_flood(steps: int) -> None:
    model = FirmwareModel("net", 4, (1,), (1,), steps)
    firmware: Any = SimpleNamespace(description=SimpleNamespace(models=(model,)))
    records, most = 1000, "4294967295"
    sample = f"SAMPLE 0 {most} 0 {most}\r\nOUT 0 {most} 0 0 00\r\n"
    for first in range(0, steps, 12):
        sample += " ".join(["LAYERS", "0", most, str(first), *[most] * min(12, steps - first)]) + "\r\n"
    block = (0).to_bytes(4, "little") + records.to_bytes(4, "little")
    assert records * len(sample) < log_limit(firmware, block)
