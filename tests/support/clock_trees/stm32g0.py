"""STM32G071: RM0444, chapters on PWR, RCC and the embedded flash memory; pins: DS12232.

The PLL's limits are the narrower ones of manual and data sheet; the voltage range stays 1, as after reset.
"""

from __future__ import annotations

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

RCC, FLASH, GPIOA = 0x40021000, 0x40022000, 0x50000000
CR, CFGR, PLLCFGR = RCC, RCC + 0x08, RCC + 0x0C
IOPENR, APBENR1, CCIPR = RCC + 0x34, RCC + 0x3C, RCC + 0x54
USART2 = 0x40004400
RESET = {
    CR: 0x500,
    CFGR: 0,
    PLLCFGR: 0x1000,
    IOPENR: 0,
    APBENR1: 0,
    CCIPR: 0,
    FLASH: 0x40600,
    GPIOA: 0xEBFFFFFF,
}
HSI = 16e6
PLLON, PLLRDY = 1 << 24, 1 << 25
PLL_FIELDS = {PLLCFGR: 0xFFFFFFFF}
FASTEST = (24e6, 48e6, 64e6)


def status(address: int, registers: Registers) -> int:
    """PLLRDY follows PLLON, SWS follows SW."""
    if address == CR:
        return (registers[CR] & PLLON) << 1
    return (registers[CFGR] & 7) << 3 if address == CFGR else 0


def gate(address: int) -> tuple[int, int] | None:
    """The clock of ports."""
    if GPIOA <= address < GPIOA + 0x1800:
        return IOPENR, 1 << (address - GPIOA) // 0x400
    return None


def decode(registers: Registers, console: int) -> Clocks:
    """The clocks. Raises ClockError where they are out of the limits of the manual or the flash cannot follow."""
    switch = registers[CFGR] & 7
    if switch not in (0, 2):
        raise ClockError("the core runs on HSE, which needs a crystal, or on a slow clock")
    system = _pll(registers) if switch else HSI / (1 << (registers[CR] >> 11 & 7))
    core = system / prescaler(registers[CFGR] >> 8 & 15, 8, AHB)
    apb = core / prescaler(registers[CFGR] >> 12 & 7, 4, APB)
    wait_states = registers[FLASH] & 7
    within("wait states", wait_states, 0, 2)
    within("HCLK for the flash", core, 0, FASTEST[wait_states])
    return Clocks(
        "pll" if switch else "hsi", core, core, _console(registers, console, system, apb), wait_states
    )


def _pll(registers: Registers) -> float:
    """Output R of the PLL, fed by the HSI."""
    value = registers[PLLCFGR]
    if not registers[CR] & PLLRDY:
        raise ClockError("the core runs on a PLL that is not known to be ready")
    if value & 3 != 2:
        raise ClockError("the PLL does not run on the HSI")
    if not value & 1 << 28:
        raise ClockError("the PLL's output R is off")
    divider, factor, last = (value >> 4 & 7) + 1, value >> 8 & 0x7F, (value >> 29 & 7) + 1
    within("PLLN", factor, 8, 86)
    within("PLLR", last, 2, 8)
    within("PLL input", HSI / divider, 4e6, 8e6)
    within("VCO", HSI / divider * factor, 96e6, 344e6)
    within("PLLRCLK", HSI / divider * factor / last, 0, 64e6)
    return HSI / divider * factor / last


def _console(registers: Registers, console: int, system: float, apb: float) -> float:
    """Clock of USART2 as CCIPR says; 0 while it is off or PA2 and PA3 are not its pins."""
    if (
        console != USART2
        or not registers[APBENR1] >> 17 & 1
        or not are_functions(registers, GPIOA, (2, 3), 1)
    ):
        return 0
    return {0: apb, 1: system, 2: HSI}[registers[CCIPR] >> 2 & 3]


TREE = Tree(RESET, status, gate, decode, {PLLCFGR: (CR, PLLON)})
