"""STM32F407 (RM0090, DS8626) and STM32F446 (RM0390, DS10693): chapters on PWR, RCC and the embedded flash memory."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.clock_trees.stm32_steps import (
    AHB,
    APB,
    ClockError,
    Clocks,
    Registers,
    Tree,
    prescaler,
    within,
)
from tests.support.clock_trees.stm32pins import are_functions

RCC, PWR, FLASH, GPIOA = 0x40023800, 0x40007000, 0x40023C00, 0x40020000
CR, PLLCFGR, CFGR, AHB1ENR, APB1ENR = RCC, RCC + 0x04, RCC + 0x08, RCC + 0x30, RCC + 0x40
PWR_CR, PWR_CSR = PWR, PWR + 0x04
USART2 = 0x40004400
HSI = 16e6
PLLON, PLLRDY = 1 << 24, 1 << 25
ODEN, ODSWEN = 1 << 16, 1 << 17
PLL_FIELDS = {PLLCFGR: 0xFFFFFFFF}
RESET = {CR: 0x83, PLLCFGR: 0x24003010, CFGR: 0, APB1ENR: 0, PWR_CSR: 0, FLASH: 0, GPIOA: 0xA8000000}
RESET_F407 = {**RESET, AHB1ENR: 0x00100000, PWR_CR: 0x4000}
RESET_F446 = {**RESET, AHB1ENR: 0, PWR_CR: 0xC000}


def status(address: int, registers: Registers) -> int:
    """PLLRDY follows PLLON, SWS follows SW, ODRDY and ODSWRDY follow their switches while the PLL is on."""
    if address == CR:
        return (registers[CR] & PLLON) << 1
    if address == CFGR:
        return (registers[CFGR] & 3) << 2
    if address == PWR_CSR and registers[CR] & PLLON:
        return registers[PWR_CR] & (ODEN | ODSWEN)
    return 0


def gate(address: int) -> tuple[int, int] | None:
    """The clock of ports and of the power controller."""
    if PWR <= address < PWR + 0x400:
        return APB1ENR, 1 << 28
    if GPIOA <= address < 0x40022C00:
        return AHB1ENR, 1 << (address - GPIOA) // 0x400
    return None


def _fastest_f407(registers: Registers) -> float:
    """Most that HCLK may be in the voltage scale that PWR_CR selects."""
    return 168e6 if registers[PWR_CR] & 0x4000 else 144e6


def _fastest_f446(registers: Registers) -> float:
    """The same; over-drive counts once its ready flags were seen."""
    over_drive = registers[PWR_CR] & registers[PWR_CSR] & (ODEN | ODSWEN) == ODEN | ODSWEN
    scale = 4 - (registers[PWR_CR] >> 14 & 3)
    return {1: (168e6, 180e6), 2: (144e6, 168e6), 3: (120e6, 120e6), 4: (120e6, 120e6)}[scale][over_drive]


def _check_f407(value: int) -> None:
    """Bits 28 to 31 of PLLCFGR are reserved and keep what reset gave them."""
    within("reserved bits of PLLCFGR", value >> 28, 2, 2)


def _check_f446(value: int) -> None:
    """Divisors R of 0 and 1 are forbidden."""
    within("PLLR", value >> 28 & 7, 2, 7)


def _decoder(
    fastest: Callable[[Registers], float], check: Callable[[int], None], apb1_most: float
) -> Callable[[Registers, int], Clocks]:
    """decode() of one chip: what HCLK may be, what PLLCFGR must hold besides, what APB1 may be (APB2: twice that)."""

    def decode(registers: Registers, console: int) -> Clocks:
        switch = registers[CFGR] & 3
        if switch not in (0, 2):
            raise ClockError("the core runs on HSE, which needs a crystal")
        core = (_pll(registers, check) if switch else HSI) / prescaler(registers[CFGR] >> 4 & 15, 8, AHB)
        apb1 = core / prescaler(registers[CFGR] >> 10 & 7, 4, APB)
        apb2 = core / prescaler(registers[CFGR] >> 13 & 7, 4, APB)
        within("HCLK", core, 0, fastest(registers))
        within("APB1", apb1, 0, apb1_most)
        within("APB2", apb2, 0, 2 * apb1_most)
        wait_states = registers[FLASH] & 15
        within("HCLK for the flash", core, 0, 30e6 * (wait_states + 1))
        return Clocks("pll" if switch else "hsi", core, core, _console(registers, console, apb1), wait_states)

    return decode


def _pll(registers: Registers, check: Callable[[int], None]) -> float:
    """Output P of the main PLL, fed by the HSI."""
    value = registers[PLLCFGR]
    if not registers[CR] & PLLRDY:
        raise ClockError("the core runs on a PLL that is not known to be ready")
    if value & 1 << 22:
        raise ClockError("the PLL runs on HSE, which needs a crystal")
    divider, factor, other = value & 63, value >> 6 & 0x1FF, value >> 24 & 15
    within("PLLM", divider, 2, 63)
    within("PLLN", factor, 50, 432)
    within("PLL input", HSI / divider, 1e6, 2e6)
    vco = HSI / divider * factor
    within("VCO", vco, 100e6, 432e6)
    within("PLLQ", other, 2, 15)
    within("48 MHz clock", vco / other, 0, 48e6)
    check(value)
    return vco / (2, 4, 6, 8)[value >> 16 & 3]


def _console(registers: Registers, console: int, apb1: float) -> float:
    """Clock of USART2; 0 while it is off or PA2 and PA3 are not its pins."""
    if (
        console != USART2
        or not registers[APB1ENR] >> 17 & 1
        or not are_functions(registers, GPIOA, (2, 3), 7)
    ):
        return 0
    return apb1


F407 = Tree(RESET_F407, status, gate, _decoder(_fastest_f407, _check_f407, 42e6), {PLLCFGR: (CR, PLLON)})
F446 = Tree(RESET_F446, status, gate, _decoder(_fastest_f446, _check_f446, 45e6), {PLLCFGR: (CR, PLLON)})
