"""QEMU, Unicorn and the host on real kernels: equal outputs, and equal, exact instruction counts."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support import tinyfw
from tests.support.host import library_of
from tests.support.nodes import quantized_node, random_inputs
from tinygen import building, doctor, evaluate, running
from tinygen.boards import Board, all_boards, load_board
from tinygen.emulators import EMULATORS, Host, Qemu, Unicorn, block_counter, find_emulator
from tinygen.emulators.base import Emulator, log_limit
from tinygen.emulators.process import Console, watch
from tinygen.emulators.qemu import icount_shift, ticks_per_instruction
from tinygen.emulators.thumb import count_instructions
from tinygen.errors import RunError, UsageError
from tinygen.firmware import firmware_files
from tinygen.graph import Array, Graph, QParams
from tinygen.judge import RunResult
from tinygen.ops import conv2d, dense, depthwise_conv2d, softmax
from tinygen.ops.windows import same_padding

QP = QParams.per_tensor
BOARDS = ("microbit", "mps2_an385", "mps2_an386", "mps2_an500", "mps2_an505", "mps3_an547")
RNG = np.random.default_rng(5)


def _constants(weights: tuple[int, ...], channels: int) -> tuple[Array, Array]:
    return RNG.normal(size=weights), RNG.normal(size=channels)


GRAPHS: dict[str, Graph] = {
    "conv": quantized_node(
        "conv2d",
        conv2d.Attrs((2, 1), (1, 1), same_padding((7, 6), (3, 3), (2, 1)), 1, "relu"),
        [((7, 6, 5), QP(0.05, 3))],
        _constants((6, 3, 3, 5), 6),
        QP(0.03, -128),
    ),
    "depthwise": quantized_node(
        "depthwise_conv2d",
        depthwise_conv2d.Attrs(padding=same_padding((6, 6), (3, 3), (1, 1))),
        [((6, 6, 7), QP(0.05, -5))],
        _constants((3, 3, 7), 7),
        QP(0.05, 9),
    ),
    "dense": quantized_node(
        "dense", dense.Attrs(), [((33,), QP(0.1, 0))], _constants((9, 33), 9), QP(0.2, 1)
    ),
    "softmax": quantized_node("softmax", softmax.Attrs(), [((11,), QP(0.1, 4))]),
}
INPUTS = {name: random_inputs(graph, 4, seed=9) for name, graph in GRAPHS.items()}
EXPECTED = {name: evaluate.reference(graph, INPUTS[name]) for name, graph in GRAPHS.items()}


@pytest.fixture(scope="module")
def project_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One image per board that holds all four models."""
    libraries = [library_of(graph, name) for name, graph in GRAPHS.items()]
    projects = {}
    for board in BOARDS:
        files = dict(firmware_files(libraries, load_board(board), tinyfw.RUN_ID))
        for library in libraries:
            files |= library.files
        projects[board] = tinyfw.write(tmp_path_factory.mktemp(board), files)
    return projects


def run_all(emulator: Emulator, project: Path, board: Board, timeout: float = 60.0) -> RunResult:
    """All models on all of their samples."""
    image = emulator.build(project, board)
    inputs, expected = list(INPUTS.values()), list(EXPECTED.values())
    return running.run_models(image, board, emulator, inputs, expected, timeout)


@pytest.mark.arm
@pytest.mark.qemu
@pytest.mark.parametrize("board_name", BOARDS)
def test_kernels_are_exact_and_counts_are_equal(project_of: dict[str, Path], board_name: str) -> None:
    board, project = load_board(board_name), project_of[board_name]
    by_qemu = run_all(Qemu(), project, board)
    assert by_qemu.passed, by_qemu.detail
    counts = [m.instructions for m in by_qemu.models]
    assert [len(c) for c in counts] == [4, 4, 4, 4]
    assert all(n is not None and n > 100 for c in counts for n in c)
    assert [m.instructions for m in run_all(Qemu(), project, board).models] == counts, "deterministic"
    if Unicorn().unavailable(board):
        return
    by_unicorn = run_all(Unicorn(), project, board)
    assert by_unicorn.passed, by_unicorn.detail
    assert [m.instructions for m in by_unicorn.models] == counts
    assert by_unicorn.stack_bytes == by_qemu.stack_bytes


@pytest.mark.arm
def test_without_a_compiler_the_first_sample_of_each_model_is_counted(
    project_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python hook gives what the native one gives."""
    board = load_board("mps2_an386")
    every = run_all(Unicorn(), project_of[board.name], board)
    monkeypatch.setattr(block_counter, "library", lambda: None)
    first = run_all(Unicorn(), project_of[board.name], board)
    for few, all_of_them in zip(first.models, every.models, strict=True):
        assert few.instructions == (all_of_them.instructions[0], None, None, None)
        assert all(np.array_equal(a, b) for a, b in zip(few.outputs, all_of_them.outputs, strict=True))


@pytest.mark.arm
@pytest.mark.parametrize("native", [True, False])
def test_counting_does_not_depend_on_what_ran_before(
    tmp_path: Path, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toy model's work is the same for every sample: so are the counts, hooked or counted all along."""
    if not native:
        monkeypatch.setattr(block_counter, "library", lambda: None)
    board, x = load_board("mps2_an385"), tinyfw.inputs(5)
    image = building.build(tinyfw.project(tmp_path, board), board)
    result = running.run(image, board, Unicorn(count_all=True), x, tinyfw.expected(x))
    assert len(set(result.instructions)) == 1


@pytest.mark.parametrize("sanitize", [False, True])
def test_host_runs_any_boards_project(project_of: dict[str, Path], sanitize: bool) -> None:
    result = run_all(Host(sanitize), project_of["microbit"], load_board("microbit"))
    assert result.passed, result.detail
    assert result.stack_bytes is None and result.instructions == (None,) * 4


@pytest.mark.arm
@pytest.mark.parametrize("emulator", [Unicorn(), Host()], ids=lambda e: e.name)
def test_outputs_come_back_without_expectation(project_of: dict[str, Path], emulator: Emulator) -> None:
    board = load_board("mps2_an386")
    image = emulator.build(project_of[board.name], board)
    result = running.run_models(image, board, emulator, list(INPUTS.values()), [None] * 4)
    assert result.passed
    for run, expected in zip(result.models, EXPECTED.values(), strict=True):
        assert np.array_equal(run.outputs[0], expected[0].reshape(4, -1))


@pytest.mark.arm
def test_arrays_that_do_not_fit_the_image_are_refused(tmp_path: Path) -> None:
    board = load_board("mps2_an386")
    image = building.build(tinyfw.project(tmp_path, board), board)
    a, b = tinyfw.inputs(2)

    def refused(inputs: Sequence[Array], words: str, expected: Sequence[Array] | None = None) -> None:
        with pytest.raises(RunError, match=words):
            running.run(image, board, Unicorn(), inputs, expected)

    refused([a], "'toy' has 2 inputs, 1 arrays were given")
    refused([a, b[:1]], r"input 1 of 'toy' is int8 of shape \(1, 3\)")
    refused([a[:, :99], b], r"input 0 of 'toy' is int8 of shape \(2, 99\)")
    refused([a.astype(np.float32), b], "input 0 of 'toy' is float32")
    refused([a[:0], b[:0]], r"shape \(0, 100\)")
    refused([a, b], "output 1 of 'toy'", [a, b])
    with pytest.raises(RunError, match=r"holds 1 models \(toy\); given are inputs for 2"):
        running.run_models(image, board, Unicorn(), [[a, b], [a, b]], [None])


def test_chunks_cover_all_records_within_the_capacity() -> None:
    records = [bytes(n) for n in (16, 16, 36, 16, 8, 8, 8)]
    parts = list(running.chunks(records, 44))
    assert parts == [(0, 2), (2, 3), (3, 6), (6, 7)]
    assert all(8 + sum(len(r) for r in records[a:b]) <= 44 for a, b in parts)


@pytest.mark.parametrize("board", all_boards(), ids=lambda b: b.name)
def test_clock_of_qemu_resolves_single_instructions(board: Board) -> None:
    """Readings are off by less than one tick: rounding is right when an instruction takes more than two."""
    ticks = ticks_per_instruction(board)
    assert ticks > 2 and ticks == Fraction(board.timer.clock_hz * 2 ** icount_shift(board), 10**9)
    faster = dataclasses.replace(board, clock_hz=7 * board.clock_hz)
    assert ticks_per_instruction(faster) == ticks, "the core's clock is not the timer's"
    for count in (1, 7, 1000, 123_457, 10**8 + 1):
        for phase in (Fraction(0), Fraction(1, 3), Fraction(999, 1000)):
            read = int(phase + count * ticks) - int(phase)
            assert {round((read + e) / ticks) for e in (-1, 0, 1) if abs(read + e - count * ticks) < 1} == {
                count
            }


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("", 0),
        ("70470000", 2),
        ("4ff08043", 1),
        ("00bf4ff080437047", 3),
        ("fff7feff7047", 2),
        ("c043ffe77047", 3),
    ],
)
def test_thumb_instructions_are_counted(code: str, count: int) -> None:
    assert count_instructions(bytes.fromhex(code)) == count


@pytest.mark.arm
def test_one_image_of_many_models(tmp_path: Path) -> None:
    """Thirty prefixed copies, oddly named ones too, link without a clash and run one after the other."""
    board = load_board("mps2_an386")
    names = [f"toy_{i:02}" for i in range(20)]
    names += ["id", "run", "arena", "models", "input", "main_model", "string", "stdint", "harness", "port"]
    files = dict(firmware_files([tinyfw.model(n) for n in names], board, tinyfw.RUN_ID))
    for name in names:
        files |= tinyfw.library_files(name)
    image = building.build(tinyfw.write(tmp_path, files), board)
    xs = [tinyfw.inputs(2, seed=i) for i in range(30)]
    result = running.run_models(image, board, Unicorn(), xs, [tinyfw.expected(x) for x in xs])
    assert result.passed and [m.name for m in result.models] == names


@pytest.mark.arm
def test_sections_and_symbols_are_measured(tmp_path: Path) -> None:
    board = load_board("mps2_an386")
    body = """    static int32_t initialised[4] = {1, 2, 3, 4};
    if (initialised[3] != 4) { return TOY_ERROR; }
    initialised[0] = base[0];"""
    image = building.build(tinyfw.project(tmp_path, board, body), board)
    assert image.target == "board" and "arm-none-eabi-gcc" in image.compiler
    assert image.sections[".data"] == 16 and image.sections[".vectors"] == 48 * 4
    assert image.code_bytes == sum(image.sections[s] for s in (".vectors", ".text", ".rodata", ".data"))
    assert image.ram_bytes == 4096 + 512 + 16 + image.sections[".arena"]
    assert image.symbols["__stack_start"].address == board.ram.origin
    x = tinyfw.inputs(2)
    assert running.run(image, board, Unicorn(), x, tinyfw.expected(x)).passed, "the data was copied"


@pytest.mark.skipif(shutil.which("cppcheck") is None, reason="cppcheck is not installed (make setup)")
@pytest.mark.parametrize("board_name", BOARDS)
def test_firmware_is_clean_under_cppcheck(tmp_path: Path, board_name: str) -> None:
    project = tinyfw.project(tmp_path, load_board(board_name))
    enabled = "--enable=warning,style,performance,portability"
    done = subprocess.run(
        ["cppcheck", "--quiet", "--error-exitcode=1", enabled, "--std=c99", "-Isrc", "src", "host"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_emulators_are_found_by_name() -> None:
    assert [e.name for e in EMULATORS] == ["qemu", "unicorn", "host", "host-sanitized", "renode", "serial"]
    assert find_emulator("unicorn") is EMULATORS[1]
    with pytest.raises(UsageError, match="no emulator 'unicor', did you mean 'unicorn'"):
        find_emulator("unicor")


def test_unavailable_says_why_and_what_instead() -> None:
    board = load_board("mps2_an386")
    assert "use --emulator qemu" in (Unicorn().unavailable(load_board("mps3_an547")) or "")
    assert "no machine" in (Qemu().unavailable(dataclasses.replace(board, qemu=None)) or "")
    odd = dataclasses.replace(board.regions[1], length=0x3FFE00)
    shorter = dataclasses.replace(board, regions=(board.regions[0], odd))
    assert "region 'ssram23'" in (Unicorn().unavailable(shorter) or "")


def test_doctor_has_a_matrix_and_knows_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = doctor.examine()
    assert {(c.board, c.emulator) for c in here.matrix} == {
        (b.name, e.name) for b in all_boards() for e in EMULATORS
    }
    assert [c.reason is None for c in here.matrix if c.board == "mps3_an547" and c.emulator == "unicorn"] == [
        False
    ]
    monkeypatch.setenv("PATH", str(tmp_path))
    bare = doctor.examine()
    assert not bare.ready
    missing = {f.need.name for f in bare.findings if f.version is None}
    assert missing == {"arm-none-eabi-gcc", "newlib", "qemu-system-arm", "renode", "gcc", "cppcheck"}
    data = doctor.to_json(bare)
    assert data["ready"] is False and len(data["needs"]) == len(doctor.NEEDS)


def test_console_finds_the_last_line_across_pieces() -> None:
    console = Console(limit=1000)
    for piece in (b"TINYGEN 1 a\nEN", b"D 3", b"", b"\n"):
        assert not console.finished
        console.add(piece)
    assert console.finished and console.lines == 2 and not console.floods


def test_watch_stops_silence_floods_and_sees_the_end() -> None:
    silent = watch([sys.executable, "-u", "-c", "import time; print('a'); time.sleep(60)"], 4.0, 10_000)
    assert silent.timed_out and silent.raw == b"a\n" and silent.returncode is None
    flood = watch([sys.executable, "-u", "-c", "while 1: print('x' * 99)"], 20.0, 10_000)
    assert flood.flooded and len(flood.raw) < 200_000
    ended = watch([sys.executable, "-c", "import sys; print('b'); sys.exit('told')"], 20.0, 10_000)
    assert (ended.returncode, ended.raw, ended.stderr) == (1, b"b\n", "told\n")
    done = watch([sys.executable, "-u", "-c", "import time; print('END 1'); time.sleep(60)"], 20.0, 10_000)
    assert done.raw == b"END 1\n" and not done.timed_out


def test_log_limit_is_above_an_honest_log(tmp_path: Path) -> None:
    board = load_board("mps2_an386")
    image = Host().build(tinyfw.project(tmp_path, board), board)
    x = tinyfw.inputs(50)
    result = running.run(image, board, Host(), x, tinyfw.expected(x))
    block = b"TNG1" + (50).to_bytes(4, "little")
    assert result.passed and len(result.log) < log_limit(image, block) < 5 * len(result.log) + (1 << 16)
