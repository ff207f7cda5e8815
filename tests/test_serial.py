"""`--emulator serial`: the image that is flashed, over a pseudo terminal with QEMU or a host program at its end."""

from __future__ import annotations

import json
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import tinyfw
from tests.support.boards_on_pty import Desk, host_board, qemu_board
from tests.support.graphs import int8_graph
from tinygen import api, building, running
from tinygen.boards import load_board
from tinygen.building import Firmware
from tinygen.cli import main
from tinygen.emulators import Qemu, Unicorn, ports
from tinygen.emulators.serial_ import FRAME_BYTES, FRAME_WORDS, Serial, frame
from tinygen.judge import Outcome, RunResult
from tinygen.tflite.export import export_tflite

M4 = "mps2_an386"
SAMPLES = 40
X = tinyfw.inputs(SAMPLES)
EXPECTED = tinyfw.expected(X)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """The toy model for this machine."""
    return building.build_host(tinyfw.project(tmp_path_factory.mktemp("host"), load_board(M4)))


@pytest.fixture
def desk(image: Firmware) -> Iterator[Desk]:
    with host_board(image) as found:
        yield found


def run(
    image: Firmware, backend: Serial, board: str = M4, timeout: float = 20.0, samples: int = SAMPLES
) -> RunResult:
    x, y = (tuple(a[:samples] for a in arrays) for arrays in (X, EXPECTED))
    return running.run(image, load_board(board), backend, x, y, timeout)


@pytest.mark.arm
@pytest.mark.qemu
@pytest.mark.parametrize("board_name", ["microbit", M4, "mps2_an505"])
def test_a_flashed_image_runs_many_chunks_bit_exact(tmp_path: Path, board_name: str) -> None:
    """Nobody filled the block: the board asks for inputs, runs them, and asks for the next ones, without a reset."""
    board = load_board(board_name)
    image = building.build(tinyfw.project(tmp_path, board), board)
    with qemu_board(image, board) as desk:
        backend = Serial(desk.port, most_bytes=1600)
        result = run(image, backend, board_name)
        again = run(image, backend, board_name, samples=3)
    assert result.passed, result.detail
    assert [len(o) for o in result.outputs] == [SAMPLES, SAMPLES] and again.passed
    assert result.log.count("TINYGEN 1") == 3, "several chunks"
    assert result.instructions == (None,) * SAMPLES, "real time is not a number of instructions"
    assert all(s is not None and 0 <= s < 1 for s in result.seconds)
    assert f"HOST CLOCK {board.timer.clock_hz}" in result.log and result.stack_bytes


@pytest.mark.arm
@pytest.mark.qemu
def test_a_flashed_image_of_another_project_is_stale(tmp_path: Path) -> None:
    board = load_board(M4)
    flashed = building.build(tinyfw.project(tmp_path / "old", board, run_id="00000000deadbeef"), board)
    image = building.build(tinyfw.project(tmp_path / "new", board), board)
    with qemu_board(flashed, board) as desk:
        result = run(image, Serial(desk.port))
    assert result.outcome is Outcome.STALE
    assert "00000000deadbeef" in result.detail and "flash it: " in result.detail
    assert str(image.elf) in result.detail


@pytest.mark.arm
@pytest.mark.qemu
def test_a_board_that_is_unplugged_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first sample is out: the second one never ends."""
    board = load_board(M4)
    body = '    static int32_t runs;\n    if (++runs == 2) { for (;;) { __asm volatile(""); } }'
    image = building.build(tinyfw.project(tmp_path, board, body), board)
    real, seen = ports.opened, bytearray()
    with qemu_board(image, board) as desk:

        def watch(data: bytes) -> bytes:
            seen.extend(data)
            if re.search(rb"OUT 0 0 1 0 ..\n", seen) and desk.process.poll() is None:
                desk.unplug()
            return data

        monkeypatch.setattr(ports, "opened", lambda p, b: Line(real(p, b), DAMAGE["none"], watch))
        result = run(image, Serial(desk.port))
    assert result.outcome is Outcome.INCOMPLETE
    assert "went away (unplugged?)" in result.detail, result.detail
    assert [len(o) for o in result.outputs] == [1, 1]


@pytest.mark.arm
@pytest.mark.qemu
def test_faults_and_endless_loops_are_reported(tmp_path: Path) -> None:
    board = load_board(M4)
    second = "    static volatile int32_t runs;\n    runs = runs + 1;\n    if (runs == 2) {{ {} }}"
    bodies = {
        "fault": second.format("base[0] = *(volatile int8_t *)0xF0000000U;"),
        "loop": second.format('for (;;) { __asm volatile(""); }'),
    }
    results = {}
    for name, body in bodies.items():
        image = building.build(tinyfw.project(tmp_path / name, board, body), board)
        with qemu_board(image, board) as desk:
            results[name] = run(image, Serial(desk.port), timeout=2.0)
    assert results["fault"].outcome is Outcome.FAULTED and "in toy_invoke()" in results["fault"].detail
    assert results["loop"].outcome is Outcome.TIMED_OUT and "after 1 of" in results["loop"].detail


@pytest.mark.arm
@pytest.mark.parametrize("emulator", [Qemu(), Unicorn()], ids=lambda e: e.name)
def test_a_filled_block_runs_once_and_is_not_run_again(tmp_path: Path, emulator: Any) -> None:
    """What emulators do: no READY, and MAGIC is gone, so that a reset would not run old inputs."""
    board = load_board(M4)
    body = "    extern uint32_t __tg_input_start[]; if (__tg_input_start[0] != 0U) { return TOY_ERROR; }"
    image = emulator.build(tinyfw.project(tmp_path, board, body), board)
    result = running.run(image, board, emulator, X, EXPECTED)
    assert result.passed, result.detail
    assert "READY" not in result.log and result.log.count("END") == 1
    assert result.seconds == (None,) * SAMPLES


@pytest.mark.arm
@pytest.mark.qemu
@pytest.mark.parametrize("board_name", ["microbit", "mps3_an547"])
def test_layers_of_a_board_are_times(tmp_path: Path, board_name: str) -> None:
    """compile --profile-on-device: the very table that emulators give, from the board's own timer."""
    model, project, inputs = tmp_path / "model.tflite", tmp_path / "fw", tmp_path / "x.npy"
    model.write_bytes(export_tflite(int8_graph()))
    np.save(inputs, np.random.default_rng(1).normal(size=(70, 6, 5, 2)).astype(np.float32))
    api.compile(model, board=board_name, out=project, profile_on_device=True)
    board = load_board(board_name)
    with qemu_board(building.build(project, board), board) as desk:
        ran = api.run(project, inputs=inputs, emulator="serial", port=desk.port)
    assert ran.result.passed, ran.result.detail
    (of_model,) = ran.result.models
    assert of_model.layer_ticks is not None and len(of_model.layer_ticks) == 70
    for ticks, whole in zip(of_model.layer_ticks, of_model.seconds, strict=True):
        assert ticks is not None and len(ticks) == 5 and whole is not None
        assert 0 < sum(ticks) <= whole * board.timer.clock_hz + 1e-3, "the rest is entry and return"
    assert [layer.name for layer in ran.layers] == ["stem", "body", "join", "head", "scores"]
    assert all(layer.instructions is None for layer in ran.layers), (
        "real time is not a number of instructions"
    )
    assert [layer.seconds for layer in ran.layers] == [t.ticks / board.timer.clock_hz for t in ran.layers]


class Line:
    """An open port whose traffic gets damaged."""

    def __init__(self, line: Any, sent: Callable[[int, bytes], bytes], got: Callable[[bytes], bytes]) -> None:
        self.__dict__.update(line=line, sent=sent, got=got, count=0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.line, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "timeout":
            self.line.timeout = value
        else:
            self.__dict__[name] = value

    def write(self, data: bytes) -> None:
        """Only frames are damaged."""
        if len(data) == FRAME_BYTES and data[:1] == b"\x01":
            self.count += 1
            data = self.sent(self.count, data)
        self.line.write(data)

    def read(self, size: int) -> bytes:
        """What the board said, perhaps changed on its way."""
        data: bytes = self.got(self.line.read(size))
        return data


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


DAMAGE: dict[str, Callable[[int, bytes], bytes]] = {
    "none": lambda n, data: data,
    "a bit": lambda n, data: flipped(data, 100) if n in (1, 4) else data,
    "a bit of the offset": lambda n, data: flipped(data, 2) if n == 3 else data,
    "the offset becomes 0": lambda n, data: data[:1] + bytes(4) + data[5:] if n == 5 else data,
    "the total": lambda n, data: flipped(data, 6) if n == 2 else data,
    "the CRC": lambda n, data: flipped(data, 268) if n == 2 else data,
    "a byte is lost": lambda n, data: data[:50] + data[51:] if n in (1, 3) else data,
    "the first byte is lost": lambda n, data: data[1:] if n == 3 else data,
    "half a frame is lost": lambda n, data: data[:130] if n == 2 else data,
    "a byte too many": lambda n, data: data[:9] + b"\x01" + data[9:] if n == 3 else data,
    "noise before": lambda n, data: b"\xff\x00?" + data if n == 2 else data,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_inputs_are_sent_again(
    image: Firmware, desk: Desk, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ports.opened
    monkeypatch.setattr(ports, "opened", lambda p, b: Line(real(p, b), DAMAGE[damage], lambda data: data))
    monkeypatch.setattr("tinygen.emulators.serial_.ANSWER_SECONDS", 0.3)
    result = run(image, Serial(desk.port), samples=16)
    assert result.passed, result.detail


def test_a_lost_answer_is_asked_for_again(
    image: Firmware, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ports.opened
    answers: list[bytes] = []

    def spoil(data: bytes) -> bytes:
        """The first, the third and the fourth answer lose a letter."""
        if b"T " in data:
            answers.append(data)
            return data.replace(b"T ", b"# ") if len(answers) in (1, 3, 4) else data
        return data

    monkeypatch.setattr(ports, "opened", lambda p, b: Line(real(p, b), DAMAGE["none"], spoil))
    monkeypatch.setattr("tinygen.emulators.serial_.ANSWER_SECONDS", 0.3)
    result = run(image, Serial(desk.port), samples=16)
    assert result.passed and len(answers) > 5, result.detail


def test_a_line_that_damages_everything_is_given_up(
    image: Firmware, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ports.opened
    spoil: Callable[[int, bytes], bytes] = lambda n, data: flipped(data, 20)  # noqa: E731
    monkeypatch.setattr(ports, "opened", lambda p, b: Line(real(p, b), spoil, lambda data: data))
    result = run(image, Serial(desk.port), samples=4)
    assert result.outcome is Outcome.UNAVAILABLE
    assert "from byte 0 on do not arrive undamaged: look at wiring and baud rate" in result.detail


def test_an_interrupted_transfer_does_not_hurt_the_next_run(image: Firmware, desk: Desk) -> None:
    """Ctrl-C in the middle of a frame: the next run finds the board in the middle of it, too."""
    line = ports.opened(desk.port, 115200)
    block = bytes(1000)
    line.write(frame(block, 0))
    time.sleep(0.2)
    line.write(frame(block, FRAME_WORDS)[:99])
    line.close()
    assert run(image, Serial(desk.port), samples=8).passed


def test_frames_are_what_the_firmware_reads() -> None:
    block = bytes(range(256)) * 3
    data = frame(block, 64)
    assert len(data) == FRAME_BYTES and data[0] == 1 and struct.unpack_from("<II", data, 1) == (64, 192)
    assert data[9:265] == block[256:512]
    assert zlib.crc32(data[1:265]) == struct.unpack_from("<I", data, 265)[0]
    assert frame(block, 0)[9:13] == bytes(4), "MAGIC is not sent: a reset must not find it in the block"
    assert frame(block[:260], 64)[9:][:8] == block[256:260] + bytes(4)


@pytest.mark.arm
@pytest.mark.qemu
def test_command_line_from_model_to_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """compile, flash, run: what a user with a board on his desk types."""
    project, inputs = tmp_path / "fw", tmp_path / "eval.npz"
    (tmp_path / "model.tflite").write_bytes(export_tflite(int8_graph()))
    rng = np.random.default_rng(1)
    np.savez(inputs, x=rng.normal(size=(12, 6, 5, 2)).astype(np.float32), y=rng.integers(0, 3, 12))
    assert main(["compile", str(tmp_path / "model.tflite"), "--out", str(project)]) == 0
    board = load_board(M4)
    flashed = building.build(project, board)
    command = ["run", str(project), "--emulator", "serial", "--inputs", str(inputs)]
    with qemu_board(flashed, board) as desk:
        capsys.readouterr()
        assert main([*command, "--port", desk.port, "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        assert main([*command, "--port", desk.port, "--count", "2"]) == 0
        shown = capsys.readouterr().out
    assert data["outcome"] == "PASSED" and data["samples"] == 12 and data["metric"]["kind"] == "accuracy"
    assert data["instructions_median"] is None and data["milliseconds_median"] >= 0
    assert "time per inference" in shown and " ms (" in shown
    assert main(command) == 1 and "--port is missing" in capsys.readouterr().err
    assert main(["run", str(project), "--inputs", str(inputs), "--port", "/dev/null"]) == 1
    assert "belong to --emulator serial" in capsys.readouterr().err
