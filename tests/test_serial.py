"""`--emulator serial`: the image that is flashed, over a pseudo terminal with QEMU or a host program at its end."""

from __future__ import annotations

import errno
import json
import re
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial
from serial.tools import list_ports, list_ports_common

from tests.support import tinyfw
from tests.support.boards_on_pty import Desk, chattering, host_board, program_on_a_port, qemu_board
from tests.support.graphs import int8_graph
from tinygen import building, running
from tinygen.board_schema import CONSOLE_KINDS
from tinygen.boards import all_boards, load_board
from tinygen.building import Firmware
from tinygen.cli import main
from tinygen.ctext import environment
from tinygen.emulators import Qemu, Unicorn, find_emulator, ports, with_port
from tinygen.emulators.serial_ import FRAME_BYTES, FRAME_WORDS, Serial, frame
from tinygen.errors import UsageError
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


def test_silence_says_what_to_press_and_how_to_flash(image: Firmware) -> None:
    with program_on_a_port(b"") as port:
        result = run(image, Serial(port, announce=0.3), "nucleo_f446re")
    assert result.outcome is Outcome.UNAVAILABLE
    assert f"the board on {port} is silent: press its black button (B2)" in result.detail
    assert "flash it: openocd" in result.detail and str(image.elf) in result.detail


def test_another_program_and_a_wrong_baud_rate_are_told_apart(image: Firmware) -> None:
    with program_on_a_port(b"of the past, before the port was opened\n") as port:
        result = run(image, Serial(port, announce=0.3))
    assert "is silent" in result.detail
    with chattering(b"Hello world\r\n") as port:
        result = run(image, Serial(port, announce=0.5))
    assert "runs another program (it prints 'Hello world" in result.detail, result.detail
    with chattering(bytes(range(128, 255))) as port:
        result = run(image, Serial(port, announce=0.5))
    assert "is 115200 its baud rate (--baud)?" in result.detail, result.detail


def test_ports_that_are_not_there_or_not_ours(image: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    board = load_board(M4)
    assert "--port is missing" in (Serial().unavailable(board) or "")
    assert "there is no /dev/ttyNOWHERE; " in (Serial("/dev/ttyNOWHERE").unavailable(board) or "")
    denied = serial.SerialException(errno.EACCES, "denied")
    assert "usermod -aG" in ports.refused("/dev/null", denied)
    assert "log in again" in ports.refused("/dev/null", denied)
    busy = serial.SerialException(errno.EBUSY, "busy")
    assert "is in use: close the program" in ports.refused("/dev/null", busy)
    result = run(image, Serial("/dev/null"))
    assert result.outcome is Outcome.UNAVAILABLE and "/dev/null cannot be opened" in result.detail
    nobody = run(image, Serial("socket://127.0.0.1:1"))
    assert nobody.outcome is Outcome.UNAVAILABLE and "is what listens there running?" in nobody.detail


def test_a_port_that_somebody_has_open(image: Firmware, desk: Desk) -> None:
    with serial.Serial(desk.port, exclusive=True):
        result = run(image, Serial(desk.port))
    assert result.outcome is Outcome.UNAVAILABLE and "is in use" in result.detail


def test_found_ports_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    info = list_ports_common.ListPortInfo("/dev/ttyACM7")
    info.description, info.hwid = "STM32 STLink", "USB VID:PID=0483:374B"
    monkeypatch.setattr(list_ports, "comports", lambda: [info])
    assert ports.listed() == "found: /dev/ttyACM7 (STM32 STLink)"
    monkeypatch.setattr(list_ports, "comports", list)
    assert "is the board plugged in" in ports.listed()


def test_port_and_baud_belong_to_serial() -> None:
    backend = with_port(find_emulator("serial"), "/dev/ttyACM0", 9600)
    assert isinstance(backend, Serial) and (backend.port, backend.baud) == ("/dev/ttyACM0", 9600)
    assert with_port(find_emulator("qemu"), None, None) is find_emulator("qemu")
    with pytest.raises(UsageError, match="belong to --emulator serial, not to 'qemu'"):
        with_port(find_emulator("qemu"), "/dev/ttyACM0", None)


def test_every_real_board_can_receive_and_says_how_it_is_reset() -> None:
    for board in all_boards():
        assert Serial("x").unavailable(board) is None
        if board.platformio is not None:
            assert board.console.reset != "press its reset button", board.name


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


# Status register, its bits that matter, their value when a byte is there, and the register it is read from. Sources:
# Arm DDI 0479 (STATE, DATA), nRF51 Reference Manual (RXDRDY, RXD), RM0390 (SR, DR), RM0385 and RM0438 (ISR, RDR),
# Arm DDI 0183 (FR, DR), IMXRT1060RM (STAT, DATA).
RECEIVERS = {
    "cmsdk_uart": (0x04, 0x02, 0x02, 0x00),
    "nrf51_uart": (0x108, 0x01, 0x01, 0x518),
    "stm32_usart": (0x00, 0x20, 0x20, 0x04),
    "stm32_usart_v2": (0x1C, 0x20, 0x20, 0x24),
    "stm32_lpuart": (0x1C, 0x20, 0x20, 0x24),
    "pl011": (0x18, 0x10, 0x00, 0x00),
    "imxrt_lpuart": (0x14, 0x0020_0000, 0x0020_0000, 0x1C),
}
RECEIVER_TEST = """
#include <stdint.h>
static uint32_t polls, words[0x600 / 4];
static uint32_t *access_to(uint32_t offset)
{{
    if (offset == {status:#x}U && polls++ == 4U) {{
        words[{status} / 4] ^= {mask:#x}U;
    }}
    return &words[offset / 4U];
}}
#define TG_REGISTER(address) (*access_to((uint32_t)(address) - {base:#x}U))
{template}
int main(void)
{{
    words[{status} / 4] = {ready:#x}U ^ {mask:#x}U;
    words[{data} / 4] = {data} == {status} ? words[{status} / 4] : 0xA5B6C7F3U;
    const int got = tg_console_get();
    (void)console_init;
    (void)tg_console_put;
    return got == 0xF3 && polls >= 5U ? 0 : 1;
}}
"""


@pytest.mark.parametrize("kind", CONSOLE_KINDS)
def test_receivers_wait_for_a_byte_and_take_it(tmp_path: Path, kind: str) -> None:
    """The template's C on registers of the host: it polls until the byte is there, then gives its eight bits."""
    status, mask, ready, data = RECEIVERS[kind]
    board = next(b for b in all_boards() if b.console.kind == kind)
    template = environment().get_template(f"firmware/console_{kind}.c.j2").render(board=board)
    text = RECEIVER_TEST.format(
        status=status, mask=mask, ready=ready, data=data, base=board.console.base, template=template
    )
    (tmp_path / "receiver.c").write_text(text)
    subprocess.run(["cc", "-std=c99", "-w", "-o", "receiver", "receiver.c"], cwd=tmp_path, check=True)
    assert subprocess.run(["./receiver"], cwd=tmp_path, timeout=10, check=False).returncode == 0
