"""The start-up steps of the F0, G0, F4 and L4+ boards give the clocks that their descriptions claim.

The decoders of tests/support/clock_trees refuse what the manuals forbid after every single step: PLL inputs, VCOs,
buses and flash out of their limits, waiting for what nobody switched on, registers that have no clock yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from tests.support.clock_trees import stm32f0, stm32f4, stm32g0, stm32l4
from tests.support.clock_trees.stm32_steps import ClockError, Clocks, play
from tinygen.boards import Board, StartStep, load_board

TREES = {
    "nucleo_f072rb": stm32f0.TREE,
    "nucleo_g071rb": stm32g0.TREE,
    "disco_f407vg": stm32f4.F407,
    "nucleo_f446re": stm32f4.F446,
    "nucleo_l4r5zi": stm32l4.TREE,
}
PLL_FIELDS = {
    "nucleo_f072rb": stm32f0.PLL_FIELDS,
    "nucleo_g071rb": stm32g0.PLL_FIELDS,
    "disco_f407vg": stm32f4.PLL_FIELDS,
    "nucleo_f446re": stm32f4.PLL_FIELDS,
    "nucleo_l4r5zi": stm32l4.PLL_FIELDS,
}
# Wait states at the claimed clock: RM0091 FLASH_ACR; RM0444, RM0090, RM0390, RM0432: tables of read access latency.
WAIT_STATES = {
    "nucleo_f072rb": (48_000_000, 1),
    "nucleo_g071rb": (64_000_000, 2),
    "disco_f407vg": (168_000_000, 5),
    "nucleo_f446re": (180_000_000, 5),
    "nucleo_l4r5zi": (120_000_000, 5),
}
ENABLES_OF_TIM2 = {"nucleo_f072rb": stm32f0.APB1ENR, "nucleo_g071rb": stm32g0.APBENR1}
PLLON = 1 << 24
Steps = Sequence[StartStep]


def check(board: Board, steps: Steps) -> tuple[Clocks, dict[int, int]]:
    """Play the steps; ClockError, too, where the result is not what the board claims."""
    clocks, registers = play(steps, TREES[board.name], board.console.base)
    found = (clocks.core, clocks.console, clocks.wait_states)
    claimed = (board.clock_hz, board.console.clock_hz, board.code.wait_states)
    if found != claimed:
        raise ClockError(f"core, console, wait states are {found}, claimed {claimed}")
    return clocks, registers


def check_pll_first(board: Board, steps: Steps, fields: Mapping[int, int]) -> None:
    """ClockError unless the PLL's fields are final when PLLON is set: they must not change afterwards."""
    tree = TREES[board.name]
    first = next(i for i, s in enumerate(steps) if s.kind == "write" and s.value & s.mask == PLLON == s.mask)
    before, after = (play(part, tree, board.console.base)[1] for part in (steps[: first + 1], steps))
    for address, mask in fields.items():
        if (before.get(address, 0) ^ after.get(address, 0)) & mask:
            raise ClockError(f"{address:#x} changes after PLLON")


@pytest.mark.parametrize("name", TREES)
def test_the_steps_give_what_the_board_claims(name: str) -> None:
    board = load_board(name)
    clocks, _ = check(board, board.startup.steps)
    assert (clocks.core, clocks.wait_states) == WAIT_STATES[name]
    assert board.timer.clock_hz == board.clock_hz


@pytest.mark.parametrize("name", TREES)
def test_the_pll_is_set_before_it_is_switched_on(name: str) -> None:
    board = load_board(name)
    check_pll_first(board, board.startup.steps, PLL_FIELDS[name])


@pytest.mark.parametrize("name", ENABLES_OF_TIM2)
def test_the_timer_has_the_clock_of_the_core(name: str) -> None:
    """RM0091 and RM0444: a timer gets PCLK where the APB is undivided; then PCLK is what USART2 gets."""
    board = load_board(name)
    _, registers = check(board, board.startup.steps)
    assert registers[ENABLES_OF_TIM2[name]] & 1
    assert board.timer.kind == "stm32_timer"
    assert board.timer.clock_hz == board.console.clock_hz


@pytest.mark.parametrize("name", TREES)
def test_the_baud_rate_is_met_within_a_hundredth(name: str) -> None:
    console = load_board(name).console
    scale, low, high = (256, 0x300, 1 << 20) if console.kind == "stm32_lpuart" else (1, 16, 1 << 16)
    divider = (scale * console.clock_hz + console.baud // 2) // console.baud
    assert low <= divider < high
    assert scale * console.clock_hz / divider == pytest.approx(console.baud, rel=0.01)


def test_boost_has_its_microsecond_at_half_the_clock() -> None:
    """RM0432, PWR: above 80 MHz the AHB runs at half for 1 us at least; LSI needs 80 us from switch to ready."""
    steps = load_board("nucleo_l4r5zi").startup.steps
    lsi = next(
        i for i, s in enumerate(steps) if s.kind == "wait" and s.address == stm32l4.CSR and s.mask == 2
    )
    halved, _ = play(steps[: lsi + 1], stm32l4.TREE, stm32l4.LPUART1)
    full, _ = play(steps, stm32l4.TREE, stm32l4.LPUART1)
    assert (halved.source, halved.core, full.core) == ("pll", 60e6, 120e6)


def test_the_ccm_is_for_data_of_the_core_alone() -> None:
    """RM0090, 2.3.1: D bus only. Its clock is on after reset and stays on."""
    board = load_board("disco_f407vg")
    ccm = board.region("ccm")
    assert (ccm.origin, ccm.length, ccm.executable, ccm.dma) == (0x1000_0000, 64 * 1024, False, False)
    assert board.ram.name == "sram"
    _, registers = check(board, board.startup.steps)
    assert registers[stm32f4.AHB1ENR] & 1 << 20


def without(steps: Steps, why: str) -> Steps:
    left = [s for s in steps if why not in s.why]
    assert len(left) == len(steps) - 1
    return left


def changed(steps: Steps, why: str, value: int) -> Steps:
    assert sum(why in s.why for s in steps) == 1
    return [replace(s, value=value) if why in s.why else s for s in steps]


NEEDED = [
    ("nucleo_f072rb", "FLASH_ACR: 1", "waits for ever"),
    ("nucleo_f072rb", "PLL takes", "PLL output is 8e"),
    ("nucleo_f072rb", "PLLON", "waits for ever"),
    ("nucleo_f072rb", "PLLRDY", "not known to be ready"),
    ("nucleo_f072rb", "RCC_AHBENR", "no clock"),
    ("nucleo_f072rb", "RCC_APB1ENR", "claimed"),
    ("nucleo_f072rb", "GPIOA_AFRL", "claimed"),
    ("nucleo_g071rb", "RCC_PLLCFGR", "does not run on the HSI"),
    ("nucleo_g071rb", "PLLON", "waits for ever"),
    ("nucleo_g071rb", "PLLRDY", "not known to be ready"),
    ("nucleo_g071rb", "RCC_IOPENR", "no clock"),
    ("nucleo_g071rb", "GPIOA_MODER", "claimed"),
    ("disco_f407vg", "PWREN", "no clock"),
    ("disco_f407vg", "PLLRDY", "not known to be ready"),
    ("disco_f407vg", "RCC_AHB1ENR", "no clock"),
    ("disco_f407vg", "RCC_APB1ENR: USART2", "claimed"),
    ("nucleo_f446re", "ODEN", "waits for ever"),
    ("nucleo_f446re", "ODSWRDY", "HCLK is"),
    ("nucleo_l4r5zi", "PWREN", "no clock"),
    ("nucleo_l4r5zi", "R1MODE", "HCLK is"),
    ("nucleo_l4r5zi", "HSION", "waits for ever"),
    ("nucleo_l4r5zi", "HSIRDY", "not known to be ready"),
    ("nucleo_l4r5zi", "RCC_CFGR: AHB / 2", "at once"),
    ("nucleo_l4r5zi", "RCC_CSR: LSION", "waits for ever"),
    ("nucleo_l4r5zi", "IOSV", "claimed"),
    ("nucleo_l4r5zi", "RCC_APB1ENR2", "claimed"),
]
WRONG = [
    ("nucleo_f072rb", "PLL takes", 0x0024_0000, "claimed"),  # times 11
    ("nucleo_f072rb", "PLL takes", 0x002C_0000, "PLL output is 5.2e"),
    ("nucleo_f072rb", "PLL takes", 0x0029_0000, "needs a crystal"),
    ("nucleo_f072rb", "RCC_CFGR: AHB / 1", 0x402, "claimed"),  # APB / 2
    ("nucleo_g071rb", "RCC_PLLCFGR", 0x3000_0F12, "claimed"),  # N 15
    ("nucleo_g071rb", "RCC_PLLCFGR", 0x3000_1112, "PLLRCLK is 6.8e"),
    ("nucleo_g071rb", "RCC_PLLCFGR", 0x3000_0802, "PLL input"),
    ("nucleo_g071rb", "RCC_PLLCFGR", 0x3000_0A12, "VCO is 8e"),
    ("nucleo_g071rb", "RCC_PLLCFGR", 0x2000_1012, "output R is off"),
    ("disco_f407vg", "RCC_PLLCFGR", 0x2700_29C8, "claimed"),  # N 167
    ("disco_f407vg", "RCC_PLLCFGR", 0x2700_2A48, "is 4.82857e"),  # N 169: more than 48 MHz for USB
    ("disco_f407vg", "RCC_PLLCFGR", 0x2800_2A48, "HCLK is 1.69e"),
    ("disco_f407vg", "RCC_PLLCFGR", 0x0700_2A08, "reserved"),
    ("disco_f407vg", "RCC_PLLCFGR", 0x2700_2A07, "PLL input"),
    ("disco_f407vg", "PWR_CR: VOS", 0, "HCLK is"),
    ("disco_f407vg", "RCC_CFGR: APB1", 0x9002, "APB1 is"),
    ("disco_f407vg", "RCC_CFGR: APB1", 0x1402, "APB2 is"),
    ("nucleo_f446re", "RCC_PLLCFGR", 0x2800_2CC8, "claimed"),  # N 179
    ("nucleo_f446re", "RCC_PLLCFGR", 0x0400_2D08, "48 MHz clock"),
    ("nucleo_f446re", "RCC_PLLCFGR", 0x0800_2D08, "PLLR"),
    ("nucleo_l4r5zi", "RCC_PLLCFGR", 0x0100_1D12, "claimed"),  # N 29
    ("nucleo_l4r5zi", "RCC_PLLCFGR", 0x0100_1F12, "PLLCLK is 1.24e"),
    ("nucleo_l4r5zi", "RCC_PLLCFGR", 0x0100_0F02, "PLL input"),
    ("nucleo_l4r5zi", "RCC_PLLCFGR", 0x0000_1E12, "output R is off"),
]


@pytest.mark.parametrize(("name", "why", "message"), NEEDED)
def test_a_missing_step_is_noticed(name: str, why: str, message: str) -> None:
    board = load_board(name)
    with pytest.raises(ClockError, match=message):
        check(board, without(board.startup.steps, why))


@pytest.mark.parametrize(("name", "why", "value", "message"), WRONG)
def test_a_wrong_value_is_noticed(name: str, why: str, value: int, message: str) -> None:
    board = load_board(name)
    with pytest.raises(ClockError, match=message):
        check(board, changed(board.startup.steps, why, value))


@pytest.mark.parametrize("name", TREES)
def test_too_few_wait_states_are_noticed(name: str) -> None:
    board = load_board(name)
    steps = [replace(s, value=s.value - 1) if "FLASH_ACR" in s.why else s for s in board.startup.steps]
    with pytest.raises(ClockError, match="for the flash"):
        check(board, steps)


@pytest.mark.parametrize("name", TREES)
def test_a_pll_that_is_set_too_late_is_noticed(name: str) -> None:
    board = load_board(name)
    setting = next(s for s in board.startup.steps if s.address in PLL_FIELDS[name])
    late = [*without(board.startup.steps, setting.why), setting]
    with pytest.raises(ClockError):
        check_pll_first(board, late, PLL_FIELDS[name])
