"""STM32L552: RM0438, chapters on PWR, RCC and the embedded flash memory; DS12737, PLL limits."""

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

RCC, PWR, ACR, ICACHE = 0x40021000, 0x40007000, 0x40022000, 0x40030400
CR, CFGR, PLLCFGR = RCC, RCC + 0x08, RCC + 0x0C
AHB2ENR, APB1ENR1, APB1ENR2, CCIPR1 = RCC + 0x4C, RCC + 0x58, RCC + 0x5C, RCC + 0x88
CR1, CR2, SR2 = PWR, PWR + 0x04, PWR + 0x14
LPUART1, GPIOA = 0x40008000, 0x42020000
RESET = {CR: 0x63, CFGR: 0, PLLCFGR: 0x1000, CR1: 0x400, CR2: 0, ACR: 0, CCIPR1: 0, ICACHE: 4}
MSI, HSI = 4e6, 16e6
PLLON, PLLRDY, VOSF = 1 << 24, 1 << 25, 1 << 10
MOST = {0: 110e6, 1: 80e6, 2: 26e6}
"""Voltage range -> most of the AHB's clock."""
FLASH = {
    0: (20e6, 40e6, 60e6, 80e6, 100e6, 110e6),
    1: (8e6, 40e6, 60e6, 80e6),
    2: (8e6, 16e6, 26e6),
}
"""Voltage range -> most of the AHB's clock with 0, 1, 2 ... wait states."""


def status(address: int, registers: Registers) -> int:
    """Ready bits follow their switches; the voltage is still on its way while the controller has no clock."""
    if address == CR:
        return (registers[CR] & PLLON) << 1 | (registers[CR] & 1 << 8) << 2
    if address == CFGR:
        return (registers[CFGR] & 3) << 2
    if address == SR2:
        return 0 if registers[CR1] >> 9 & 3 == 0 else VOSF
    return 0


def gate(address: int) -> tuple[int, int] | None:
    """The clocks of the power controller and of the ports."""
    if PWR <= address < PWR + 0x400:
        return APB1ENR1, 1 << 28
    if GPIOA <= address < GPIOA + 8 * 0x400:
        return AHB2ENR, 1 << ((address - GPIOA) // 0x400)
    return None


def decode(registers: Registers, console: int) -> Clocks:
    """The clocks. Raises ClockError where they are out of the limits of the manual or the flash cannot follow."""
    switch, scale = registers[CFGR] & 3, registers[CR1] >> 9 & 3
    if switch not in (0, 3):
        raise ClockError("the core runs neither on the MSI nor on the PLL")
    if registers[CR] & 0x9 != 1:
        raise ClockError("the MSI is off or not at its reset range")
    core = (_pll(registers, scale) if switch else MSI) / prescaler(registers[CFGR] >> 4 & 15, 8, AHB)
    apb1 = core / prescaler(registers[CFGR] >> 8 & 7, 4, APB)
    within("HCLK", core, 0, MOST[scale])
    wait_states = registers[ACR] & 15
    within("HCLK for the flash", core, 0, FLASH[scale][min(wait_states, len(FLASH[scale]) - 1)])
    console_hz = _console(registers, console, apb1)
    return Clocks("pll" if switch else "msi", core, core, console_hz, wait_states)


def _pll(registers: Registers, scale: int) -> float:
    """Output R of the PLL."""
    value = registers[PLLCFGR]
    if not registers[CR] & PLLRDY:
        raise ClockError("the core runs on a PLL that is not known to be ready")
    if value & 3 != 1 or not value & 1 << 24:
        raise ClockError("the PLL does not run on the MSI or its output R is off")
    within("PLLN", value >> 8 & 127, 8, 86)
    entry = MSI / ((value >> 4 & 15) + 1)
    within("PLL input", entry, 4e6, 16e6)
    vco = entry * (value >> 8 & 127)
    within("VCO", vco, 64e6, 344e6 if scale < 2 else 128e6)
    return vco / (2, 4, 6, 8)[value >> 25 & 3]


def _console(registers: Registers, console: int, apb1: float) -> float:
    """Clock of LPUART1: CCIPR1 says from where, 0 is APB1; the enable bit must be set in the end."""
    assert console == LPUART1
    if not registers.get(APB1ENR2, 0) & 1:
        return 0
    return {0: apb1, 2: HSI}[registers[CCIPR1] >> 10 & 3]


TREE = Tree(RESET, status, gate, decode, {PLLCFGR: (CR, PLLON)}, leap=80e6)
