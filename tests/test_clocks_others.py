"""nrf52840_dk, pico, teensy41: the start-up steps set the clocks that are claimed.

The clock trees and the decoders of the consoles are written from the manuals, apart from tinygen.
"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clock_trees.imxrt import Imxrt1062
from tests.support.clock_trees.nrf52 import Nrf52840
from tests.support.clock_trees.playing import Chip, StartError
from tests.support.clock_trees.rp2040 import Rp2040
from tinygen.boards import Board, StartStep, load_board
from tinygen.ctext import environment
from tinygen.errors import BoardError

Steps = tuple[StartStep, ...]
CHIPS: dict[str, Callable[[], Nrf52840 | Rp2040 | Imxrt1062]] = {
    "nrf52840_dk": Nrf52840,
    "pico": Rp2040,
    "teensy41": Imxrt1062,
    "teensy41 after its ROM": lambda: Imxrt1062(from_rom=True),
}


def board_of(name: str) -> Board:
    return load_board(name.split()[0])


@pytest.mark.parametrize("name", CHIPS)
def test_the_steps_set_the_clocks_that_are_claimed(name: str) -> None:
    chip, board = CHIPS[name](), board_of(name)
    chip.play(board.startup.steps)
    assert (chip.cpu_hz, chip.console_hz) == (board.clock_hz, board.console.clock_hz)
    assert board.timer.clock_hz == (chip.timer_hz if isinstance(chip, Rp2040) else board.clock_hz)


@pytest.mark.parametrize("name", CHIPS)
def test_the_steps_work_again_after_a_reset_that_leaves_the_clocks_on(name: str) -> None:
    chip, board = CHIPS[name](), board_of(name)
    chip.play(board.startup.steps)
    chip.play(board.startup.steps)
    assert chip.cpu_hz == board.clock_hz


CONSOLE_TEST = """#include <stdint.h>
#include <stdio.h>
static uint32_t word;
static volatile uint32_t *note(uint32_t address)
{
    static uint32_t last;
    if (last != 0U) {
        printf("%u %u\\n", last, word);
    }
    last = address;
    return &word;
}
#define TG_REGISTER(address) (*note(address))
void tg_console_put(char c);
"""


def console_writes(board: Board, folder: Path) -> dict[int, int]:
    """Register offset -> what console_init() writes there, from the template's C run on the host."""
    template = environment().get_template(f"firmware/console_{board.console.kind}.c.j2")
    main = "int main(void)\n{\n    console_init();\n    (void)note(1U);\n    return 0;\n}\n"
    (folder / "console.c").write_text(CONSOLE_TEST + template.render(board=board) + main)
    subprocess.run(["cc", "-std=c99", "-o", "console", "console.c"], cwd=folder, check=True)
    text = subprocess.run(["./console"], cwd=folder, check=True, capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in text.splitlines()]
    return {address - board.console.base: value for address, value in pairs}


def pl011_baud(words: dict[int, int], clock: int) -> float:
    """Arm DDI 0183: integer divider 0x24, 64ths 0x28; 0x30 has receiver, transmitter and UART on, 0x2C 8 bits."""
    assert words[0x30] & 0x301 == 0x301 and words[0x2C] >> 5 & 3 == 3
    return clock / (16 * (words[0x24] + words[0x28] / 64))


def lpuart_baud(words: dict[int, int], clock: int) -> float:
    """IMXRT1060RM, LPUART: 0x10 holds OSR in bits 28:24, SBR in bits 12:0; 0x18 has both directions on (18, 19)."""
    assert words[0x18] >> 18 & 3 == 3
    return clock / (((words[0x10] >> 24 & 31) + 1) * (words[0x10] & 0x1FFF))


def nrf_baud(words: dict[int, int], clock: int) -> float:
    """nRF52840 PS, UART: BAUDRATE 0x524 is a fraction of 2^32; ENABLE 0x500 is 4; STARTTX 0x008; STARTRX 0."""
    assert (words[0x500], words[0x008], words[0x50C]) == (4, 1, 6)
    assert (words[0], words[0x514]) == (1, 8)
    return clock * words[0x524] / 2**32


@pytest.mark.parametrize(
    ("name", "baud"), [("pico", pl011_baud), ("teensy41", lpuart_baud), ("nrf52840_dk", nrf_baud)]
)
def test_the_console_is_close_to_its_baud_rate(
    tmp_path: Path, name: str, baud: Callable[[dict[int, int], int], float]
) -> None:
    board = load_board(name)
    got = baud(console_writes(board, tmp_path), board.console.clock_hz)
    assert abs(got / board.console.baud - 1) < 0.01


def test_only_a_uart_that_selects_its_pin_has_one(tmp_path: Path) -> None:
    text = load_board("nrf52840_dk").text
    (tmp_path / "mine.toml").write_text(text.replace("tx_pin = 6\n", ""))
    with pytest.raises(BoardError, match=r"'tx_pin' of .console. is missing"):
        load_board(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text(text.replace('"nrf51_uart"', '"pl011"'))
    with pytest.raises(BoardError, match="unknown key 'tx_pin'"):
        load_board(tmp_path / "mine.toml")


def changed(steps: Steps, why: str, **fields: int) -> Steps:
    """The steps with one of them, found by the start of its comment, changed; without fields: left out."""
    found = [i for i, step in enumerate(steps) if step.why.startswith(why)]
    assert len(found) == 1, (why, found)
    at = found[0]
    new = (dataclasses.replace(steps[at], **fields),) if fields else ()
    return (*steps[:at], *new, *steps[at + 1 :])


OTHER_CLOCKS = [
    ("pico", "PLL_SYS_FBDIV_INT", {"value": 120}, 120_000_000),
    ("pico", "PLL_SYS_PRIM", {"value": 0x00072000}, 107_142_857),
    ("pico", "CLK_SYS_DIV", {"value": 0x200}, 62_500_000),
    ("teensy41", "PLL_ARM: powered", {"value": 99}, 594_000_000),
    ("teensy41", "CCM_CACRR", {"value": 2}, 400_000_000),
]


@pytest.mark.parametrize(("name", "why", "fields", "hz"), OTHER_CLOCKS)
def test_other_dividers_give_another_clock(name: str, why: str, fields: dict[str, int], hz: int) -> None:
    chip = CHIPS[name]()
    chip.play(changed(load_board(name).startup.steps, why, **fields))
    assert chip.cpu_hz == hz != load_board(name).clock_hz


FORBIDDEN = [
    ("nrf52840_dk", "CLOCK TASKS_HFCLKSTART", {}, "waits for ever"),
    ("nrf52840_dk", "CLOCK HFCLKSTAT", {}, "QSPI needs the crystal"),
    ("nrf52840_dk", "QSPI ENABLE", {}, "QSPI is not enabled"),
    ("nrf52840_dk", "QSPI PSEL.IO1", {"value": 22}, "pins are not those"),
    ("nrf52840_dk", "QSPI TASKS_ACTIVATE", {}, "waits for ever"),
    ("nrf52840_dk", "P0 DIRSET", {"value": 0x40}, "WP# and HOLD# float"),
    ("nrf52840_dk", "QSPI IFCONFIG0", {"value": 4}, "FASTREAD only"),
    ("pico", "XOSC_STATUS", {}, "not known to be stable"),
    ("pico", "XOSC_STARTUP", {"value": 46}, "the crystal gets 981 us"),
    ("pico", "XOSC_CTRL", {"value": 0x00FABAA1}, "waits for ever"),
    ("pico", "PLL_SYS_CS: LOCK", {}, "not known to be locked"),
    ("pico", "PLL_SYS_FBDIV_INT", {"value": 140}, r"VCO at 1,680,000,000 Hz"),
    ("pico", "PLL_SYS_PRIM", {"value": 0x00052000}, "core at 150,000,000 Hz"),
    ("pico", "PLL_SYS_PWR: post", {}, "part of PLL_SYS is off"),
    ("pico", "PLL_SYS_PWR: PLL", {}, "waits for ever"),
    ("pico", "RESET: run IO_BANK0", {}, "waits for ever"),
    ("pico", "CLK_PERI_CTRL: on", {}, "waits for ever"),
    ("teensy41", "DCDC_REG3", {}, r"core at 600,000,000 Hz with 1150 mV"),
    ("teensy41", "DCDC_REG0", {}, "core at 600,000,000 Hz with 1250 mV"),
    ("teensy41", "PLL_ARM: LOCK", {}, "not known to be locked"),
    ("teensy41", "PLL_ARM: powered", {"value": 120}, "DIV_SELECT"),
    ("teensy41", "PLL_ARM: output", {"value": 0}, "output is off"),
    ("teensy41 after its ROM", "CCM_CBCDR: core on PERIPH_CLK2", {}, "the core runs on the ARM PLL"),
    ("teensy41", "CCM_CBCDR: AHB", {"mask": 0x1C00, "value": 0}, "IPG at 200,000,000 Hz"),
    ("teensy41", "CCM_CDHIPR: dividers", {}, "not known to be quiet"),
    ("teensy41", "CCM_CSCMR1", {}, "PERCLK at 150,000,000 Hz"),
    ("teensy41", "CCM_CCGR4", {}, "IOMUXC has no clock"),
]


@pytest.mark.parametrize(("name", "why", "fields", "message"), FORBIDDEN)
def test_what_the_manuals_forbid_is_found(name: str, why: str, fields: dict[str, int], message: str) -> None:
    steps = changed(board_of(name).startup.steps, why, **fields)
    with pytest.raises(StartError, match=message):
        CHIPS[name]().play(steps)


MISSING = [
    ("pico", "GPIO0_CTRL", "console_hz", "GPIO0"),
    ("pico", "GPIO1_CTRL", "console_hz", "GPIO1 is not"),
    ("pico", "PADS_BANK0", "console_hz", "pulled up"),
    ("pico", "RESET_DONE: UART0", "console_hz", "UART0 is in reset"),
    ("pico", "CLK_SYS_SELECTED: aux", "cpu_hz", "clk_sys is not known"),
    ("teensy41", "CCM_CCGR3", "console_hz", "LPUART6 has no clock"),
    ("teensy41", "MUX_CTL GPIO_AD_B0_02", "console_hz", "LPUART6_TX"),
    ("teensy41", "MUX_CTL GPIO_AD_B0_03", "console_hz", "LPUART6_RX"),
    ("teensy41", "PAD_CTL", "console_hz", "floats"),
    ("teensy41", "LPUART6_RX_SELECT", "console_hz", "another pin"),
    ("nrf52840_dk", "P0 PIN_CNF", "console_hz", "input with a pull-up"),
    ("teensy41", "GPR16", "tcm_bytes", "fuses"),
    ("teensy41", "GPR14", "tcm_bytes", "banks give"),
]


@pytest.mark.parametrize(("name", "why", "asked", "message"), MISSING)
def test_a_missing_step_is_missed(name: str, why: str, asked: str, message: str) -> None:
    chip: Chip = CHIPS[name]()
    chip.play(changed(load_board(name).startup.steps, why))
    with pytest.raises(StartError, match=message):
        getattr(chip, asked)


def test_external_flash_of_the_nrf52840_dk() -> None:
    chip, board = Nrf52840(), load_board("nrf52840_dk")
    chip.play(board.startup.steps)
    assert chip.external_ready and chip.qspi_hz == 16_000_000
    assert board.region("qspi").wait_states + 1 == chip.external_cycles == 292


def test_pins_and_debug_port_of_the_nrf52840_dk() -> None:
    chip, steps = Nrf52840(), load_board("nrf52840_dk").startup.steps
    chip.play(steps)
    assert chip.words[0x40000558] == 0x5A and chip.words[0x4001E540] == 1, "debug port and instruction cache"
    chip = Nrf52840()
    chip.play(changed(steps, "P0 OUTSET", value=0x00C00000))
    with pytest.raises(StartError, match=r"P0\.06 floats"):
        _ = chip.console_hz


def test_flexram_of_the_teensy41_is_split_as_described() -> None:
    chip, board = Imxrt1062(), load_board("teensy41")
    chip.play(board.startup.steps)
    assert chip.tcm_bytes == (board.region("itcm").length, board.region("dtcm").length)
    assert board.reserved.stack + 4096 <= 128 * 1024, "the stack lies in the DTCM that the fuses give, too"
