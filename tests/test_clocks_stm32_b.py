"""The start-up steps of the F7, H7 and L5 boards give the clocks that their descriptions claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.support.clock_trees import stm32f7, stm32h7, stm32l5
from tests.support.clock_trees.stm32_steps import ClockError, Clocks, Tree, play
from tinygen.boards import Board, StartStep, load_board

TREES = {
    "disco_f746ng": stm32f7.TREE,
    "nucleo_f767zi": stm32f7.TREE,
    "nucleo_h743zi": stm32h7.TREE,
    "nucleo_l552ze_q": stm32l5.TREE,
}
# Port, pin and alternate function of the console's TX and RX: data sheets, tables of alternate functions.
PINS = {
    "disco_f746ng": ((0x40020000, 9, 7), (0x40020400, 7, 7)),
    "nucleo_f767zi": ((0x40020C00, 8, 7), (0x40020C00, 9, 7)),
    "nucleo_h743zi": ((0x58020C00, 8, 7), (0x58020C00, 9, 7)),
    "nucleo_l552ze_q": ((0x42021800, 7, 8), (0x42021800, 8, 8)),
}
Steps = Sequence[StartStep]


def clocks_of(board: Board, steps: Steps, tree: Tree) -> Clocks:
    return play(steps, tree, board.console.base)[0]


@pytest.mark.parametrize("name", TREES)
def test_the_steps_give_the_clocks_that_the_board_claims(name: str) -> None:
    board = load_board(name)
    clocks = clocks_of(board, board.startup.steps, TREES[name])
    assert clocks.core == board.clock_hz == board.timer.clock_hz
    assert clocks.console == board.console.clock_hz
    # A region's wait states count the core's clocks, a register's those of the flash's bus.
    assert (clocks.wait_states + 1) * clocks.core / clocks.flash - 1 == board.code.wait_states


@pytest.mark.parametrize("name", TREES)
def test_the_console_pins_are_connected(name: str) -> None:
    board = load_board(name)
    registers = play(board.startup.steps, TREES[name], board.console.base)[1]
    for port, pin, function in PINS[name]:
        assert registers[port] >> 2 * pin & 3 == 2
        assert registers[port + 0x20 + 4 * (pin // 8)] >> 4 * (pin % 8) & 15 == function


@pytest.mark.parametrize("name", TREES)
def test_the_baud_rate_is_met_within_a_hundredth(name: str) -> None:
    console = load_board(name).console
    scale = 256 if console.kind == "stm32_lpuart" else 1
    divider = (scale * console.clock_hz + console.baud // 2) // console.baud
    assert divider < (1 << 20 if scale == 256 else 1 << 16)
    assert scale * console.clock_hz / divider == pytest.approx(console.baud, rel=0.01)


def test_the_banks_of_the_h7_have_clocks() -> None:
    board = load_board("nucleo_h743zi")
    registers = play(board.startup.steps, stm32h7.TREE, board.console.base)[1]
    assert registers[stm32h7.AHB2ENR] >> 29 == 7


def test_the_serial_flash_of_the_disco_is_mapped() -> None:
    """RM0385, QUADSPI registers: DCR.FSIZE, CR.PRESCALER, CCR; the chip's data sheet: command, dummies."""
    board = load_board("disco_f746ng")
    clocks, registers = play(board.startup.steps, stm32f7.TREE, board.console.base)
    region, base = board.region("qspi"), stm32f7.QUADSPI
    assert region.length == 2 << (registers[base + 4] >> 16 & 31)
    prescaler = (registers[base] >> 24) + 1
    assert registers[base] & 1 and clocks.core / prescaler <= 80e6
    config = registers[base + 0x14]
    assert (config >> 26 & 3, config & 0xFF, config >> 18 & 31) == (3, 0x3B, 8)
    assert (config >> 8 & 3, config >> 10 & 3, config >> 12 & 3) == (1, 1, 2)  # one line, one line, 24 bits
    lines = {1: 1, 2: 2, 3: 4}[config >> 24 & 3]
    line = 8 + 24 + 8 + 32 * 8 // lines + (registers[base + 4] >> 8 & 7) + 1
    assert -(-line * prescaler // (32 // region.width)) - 1 == region.wait_states


def test_the_disco_forbids_reads_beyond_its_serial_flash() -> None:
    """Armv7-M Architecture Reference Manual, B3.5: the region of the higher number wins; size is 2 << SIZE."""
    board = load_board("disco_f746ng")
    written = [(s.address, s.value) for s in board.startup.steps if s.kind == "write"]
    mpu = [(a, v) for a, v in written if 0xE000ED90 <= a < 0xE000EDC0]
    assert [a & 0xFF for a, _ in mpu] == [0x98, 0x9C, 0xA0, 0x98, 0x9C, 0xA0, 0x94]
    (_, first), (_, base), (_, forbidden), (_, second), (_, chip), (_, allowed), (_, control) = mpu
    region = board.region("qspi")
    assert 0 < first < second and control == 5 and base == chip == region.origin
    assert (forbidden >> 24 & 7, forbidden >> 28 & 1, 2 << (forbidden >> 1 & 31)) == (0, 1, 256 << 20)
    assert (allowed >> 24 & 7, allowed >> 28 & 1, 2 << (allowed >> 1 & 31)) == (6, 0, region.length)
    assert forbidden & allowed & 1 and allowed >> 16 & 3 == 2
    assert written.index(mpu[-1]) < written.index((stm32f7.QUADSPI + 0x14, 0x0E20253B))


def without(steps: Steps, why: str) -> Steps:
    left = [s for s in steps if why not in s.why]
    assert len(left) == len(steps) - 1
    return left


def changed(steps: Steps, why: str, value: int) -> Steps:
    assert sum(why in s.why for s in steps) == 1
    return [replace(s, value=value) if why in s.why else s for s in steps]


MISSING = [
    ("disco_f746ng", "RCC_APB1ENR: PWREN", "no clock"),
    ("disco_f746ng", "PWR_CR1: ODEN", "waits for ever"),
    ("disco_f746ng", "PWR_CSR1: ODSWRDY", "HCLK is"),
    ("disco_f746ng", "RCC_CR: PLLON", "waits for ever"),
    ("disco_f746ng", "RCC_CR: PLLRDY", "not known to be ready"),
    ("disco_f746ng", "RCC_AHB1ENR", "no clock"),
    ("disco_f746ng", "RCC_AHB3ENR", "no clock"),
    ("nucleo_f767zi", "FLASH_ACR: 7", "waits for ever"),
    ("nucleo_f767zi", "RCC_PLLCFGR", "not the clock"),
    ("nucleo_f767zi", "RCC_APB1ENR: USART3", "not the clock"),
    ("nucleo_h743zi", "PWR_CR3", "waits for ever"),
    ("nucleo_h743zi", "PWR_CSR1: ACTVOSRDY", "no clock"),
    ("nucleo_h743zi", "PWR_D3CR: VOS1", "core is 4e.08, allowed are 0 to 2e.08"),
    ("nucleo_h743zi", "RCC_D1CFGR", "AXI is"),
    ("nucleo_h743zi", "RCC_D2CFGR", "APB1 is"),
    ("nucleo_h743zi", "RCC_PLLCKSELR", "PLL input"),
    ("nucleo_h743zi", "RCC_AHB4ENR", "no clock"),
    ("nucleo_l552ze_q", "PWR_CR1", "waits for ever"),
    ("nucleo_l552ze_q", "RCC_CR: PLLON", "waits for ever"),
    ("nucleo_l552ze_q", "RCC_CFGR: AHB / 1", "not the clock"),
    ("nucleo_l552ze_q", "RCC_AHB2ENR", "no clock"),
]
WRONG = [
    ("disco_f746ng", "RCC_PLLCFGR", 0x29003605, "PLL input"),
    ("disco_f746ng", "RCC_PLLCFGR", 0x29003648, "VCO"),
    ("disco_f746ng", "RCC_PLLCFGR", 0x290035C8, "not the clock"),
    ("disco_f746ng", "RCC_PLLCFGR", 0x29403608, "HSE"),
    ("disco_f746ng", "RCC_CFGR: APB1 / 4", 0x00008002, "APB1"),
    ("nucleo_f767zi", "RCC_DCKCFGR2", 0x20, "not the clock"),
    ("nucleo_h743zi", "RCC_PLL1DIVR", 0x01070283, "VCO"),
    ("nucleo_h743zi", "RCC_PLL1DIVR", 0x0107047C, "odd"),
    ("nucleo_h743zi", "RCC_PLL1DIVR", 0x0107027B, "not the clock"),
    ("nucleo_h743zi", "RCC_PLLCFGR", 0x0001000C, "PLL input"),
    ("nucleo_h743zi", "RCC_D2CCIP2R", 3, "not the clock"),
    ("nucleo_l552ze_q", "RCC_PLLCFGR", 0x01003711, "PLL input"),
    ("nucleo_l552ze_q", "RCC_PLLCFGR", 0x01005701, "PLLN"),
    ("nucleo_l552ze_q", "RCC_PLLCFGR", 0x01003801, "HCLK"),
    ("nucleo_l552ze_q", "RCC_CFGR: AHB / 2", 0x03, "at once"),
    ("nucleo_l552ze_q", "PWR_CR1", 0x200, "waits for ever"),
]


def check(name: str, steps: Steps) -> None:
    """What the first test checks, as an exception."""
    board = load_board(name)
    clocks = clocks_of(board, steps, TREES[name])
    if (clocks.core, clocks.console) != (board.clock_hz, board.console.clock_hz):
        raise ClockError(f"not the clock that was claimed: {clocks}")


@pytest.mark.parametrize(("name", "why", "message"), MISSING)
def test_a_missing_step_is_noticed(name: str, why: str, message: str) -> None:
    steps = without(load_board(name).startup.steps, why)
    with pytest.raises(ClockError, match=message):
        check(name, steps)


@pytest.mark.parametrize(("name", "why", "value", "message"), WRONG)
def test_a_wrong_value_is_noticed(name: str, why: str, value: int, message: str) -> None:
    steps = changed(load_board(name).startup.steps, why, value)
    with pytest.raises(ClockError, match=message):
        check(name, steps)


@pytest.mark.parametrize("name", TREES)
def test_too_few_wait_states_are_noticed(name: str) -> None:
    steps = [
        replace(s, value=s.value & ~15 | (s.value & 15) - 1) if "FLASH_ACR" in s.why else s
        for s in load_board(name).startup.steps
    ]
    with pytest.raises(ClockError, match="for the flash"):
        check(name, steps)


@pytest.mark.parametrize("name", TREES)
def test_the_pll_is_not_changed_while_it_runs(name: str) -> None:
    board = load_board(name)
    steps = [*board.startup.steps, next(s for s in board.startup.steps if "RCC_PLLCFGR" in s.why)]
    with pytest.raises(ClockError, match="frozen"):
        check(name, steps)
