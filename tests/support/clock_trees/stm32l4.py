"""STM32L4R5: RM0432, chapters on PWR, RCC and the embedded flash memory; pins: DS12023.

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

RCC, PWR, FLASH, GPIOA, GPIOG = 0x40021000, 0x40007000, 0x40022000, 0x48000000, 0x48001800
CR, CFGR, PLLCFGR, CCIPR, CSR = RCC, RCC + 0x08, RCC + 0x0C, RCC + 0x88, RCC + 0x94
AHB2ENR, APB1ENR1, APB1ENR2 = RCC + 0x4C, RCC + 0x58, RCC + 0x5C
PWR_CR2, PWR_CR5 = PWR + 0x04, PWR + 0x80
LPUART1 = 0x40008000
RESET = {
    CR: 0x63,
    CFGR: 0,
    PLLCFGR: 0x1000,
    CCIPR: 0,
    CSR: 0x0C000600,
    FLASH: 0x600,
    GPIOG: 0xFFFFFFFF,
    AHB2ENR: 0,
    APB1ENR1: 0x400,
    APB1ENR2: 0,
    PWR_CR2: 0,
    PWR_CR5: 0x100,
}
MSI, HSI = 4e6, 16e6
HSION, HSIRDY, PLLON, PLLRDY = 1 << 8, 1 << 10, 1 << 24, 1 << 25
IOSV, R1MODE = 1 << 9, 1 << 8
PLL_FIELDS = {PLLCFGR: 0xFFFFFFFF}


def status(address: int, registers: Registers) -> int:
    """Ready bits follow their switches, SWS follows SW."""
    if address == CR:
        return (registers[CR] & HSION) << 2 | (registers[CR] & PLLON) << 1
    if address == CSR:
        return (registers[CSR] & 1) << 1
    return (registers[CFGR] & 3) << 2 if address == CFGR else 0


def gate(address: int) -> tuple[int, int] | None:
    """The clock of ports and of the power controller."""
    if PWR <= address < PWR + 0x400:
        return APB1ENR1, 1 << 28
    if GPIOA <= address < GPIOA + 0x2400:
        return AHB2ENR, 1 << (address - GPIOA) // 0x400
    return None


def decode(registers: Registers, console: int) -> Clocks:
    """The clocks. Raises ClockError where they are out of the limits of the manual or the flash cannot follow."""
    switch = registers[CFGR] & 3
    if registers[CR] & (PLLON | HSIRDY) == PLLON:
        raise ClockError("the PLL is switched on while its HSI is not known to be ready")
    if switch not in (0, 3) or registers[CR] & 0xFB != 0x63:
        raise ClockError("the core runs on another clock than the PLL and the MSI as it is after reset")
    system = _pll(registers) if switch else MSI
    core = system / prescaler(registers[CFGR] >> 4 & 15, 8, AHB)
    apb1 = core / prescaler(registers[CFGR] >> 8 & 7, 4, APB)
    within("HCLK", core, 0, 80e6 if registers[PWR_CR5] & R1MODE else 120e6)
    wait_states = registers[FLASH] & 15
    within("wait states", wait_states, 0, 5)
    within("HCLK for the flash", core, 0, 20e6 * (wait_states + 1))
    return Clocks(
        "pll" if switch else "msi", core, core, _console(registers, console, system, apb1), wait_states
    )


def _pll(registers: Registers) -> float:
    """Output R of the main PLL, fed by the HSI."""
    value = registers[PLLCFGR]
    if not registers[CR] & PLLRDY:
        raise ClockError("the core runs on a PLL that is not known to be ready")
    if value & 3 != 2:
        raise ClockError("the PLL does not run on the HSI")
    if not value & 1 << 24:
        raise ClockError("the PLL's output R is off")
    divider, factor = (value >> 4 & 15) + 1, value >> 8 & 0x7F
    within("PLLN", factor, 8, 127)
    within("PLL input", HSI / divider, 4e6, 8e6)
    vco = HSI / divider * factor
    within("VCO", vco, 64e6, 344e6)
    within("PLLCLK", vco / (2, 4, 6, 8)[value >> 25 & 3], 0, 120e6)
    return vco / (2, 4, 6, 8)[value >> 25 & 3]


def _console(registers: Registers, console: int, system: float, apb1: float) -> float:
    """Clock of LPUART1 as CCIPR says; 0 while it is off, PG7 and PG8 are not its pins or port G has no supply."""
    on = registers[APB1ENR2] & 1 and registers[PWR_CR2] & IOSV
    if console != LPUART1 or not on or not are_functions(registers, GPIOG, (7, 8), 8):
        return 0
    return {0: apb1, 1: system, 2: HSI}[registers[CCIPR] >> 10 & 3]


TREE = Tree(RESET, status, gate, decode, {PLLCFGR: (CR, PLLON)}, leap=80e6)
