"""Ports, what is said when one does not work, and the receivers of all kinds of console."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from serial.tools import list_ports, list_ports_common

from tests.support import tinyfw
from tests.support.boards_on_pty import Desk, chattering, host_board, program_on_a_port
from tinygen import building, running
from tinygen.board_schema import CONSOLE_KINDS
from tinygen.boards import all_boards, load_board
from tinygen.building import Firmware
from tinygen.ctext import environment
from tinygen.emulators import find_emulator, ports, with_port
from tinygen.emulators.serial_ import Serial
from tinygen.errors import UsageError
from tinygen.judge import Outcome, RunResult

M4 = "mps2_an386"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """The toy model for this machine."""
    return building.build_host(tinyfw.project(tmp_path_factory.mktemp("host"), load_board(M4)))


@pytest.fixture
def desk(image: Firmware) -> Iterator[Desk]:
    with host_board(image) as found:
        yield found


def run(image: Firmware, backend: Serial, board: str = M4) -> RunResult:
    return running.run(image, load_board(board), backend, tinyfw.inputs(2), None, 20.0)


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
