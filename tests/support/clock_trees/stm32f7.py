"""STM32F74x and F76x: RM0385 and RM0410, chapters on PWR, RCC and the embedded flash memory."""

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

RCC, PWR, FLASH, QUADSPI = 0x40023800, 0x40007000, 0x40023C00, 0xA0001000
CR, PLLCFGR, CFGR = RCC, RCC + 0x04, RCC + 0x08
AHB1ENR, AHB3ENR, APB1ENR, APB2ENR, DCKCFGR2 = RCC + 0x30, RCC + 0x38, RCC + 0x40, RCC + 0x44, RCC + 0x90
CR1, CSR1 = PWR, PWR + 0x04
USART1, USART3 = 0x40011000, 0x40004800
RESET = {
    CR: 0x83,
    PLLCFGR: 0x24003010,
    CFGR: 0,
    AHB1ENR: 0x00100000,
    CR1: 0xC000,
    CSR1: 0,
    FLASH: 0,
    DCKCFGR2: 0,
}
HSI = 16e6
PLLON, PLLRDY = 1 << 24, 1 << 25
ODEN, ODSWEN = 1 << 16, 1 << 17


def status(address: int, registers: Registers) -> int:
    """PLLRDY follows PLLON, SWS follows SW, ODRDY and ODSWRDY follow their switches while the PLL is on."""
    if address == CR:
        return (registers[CR] & PLLON) << 1
    if address == CFGR:
        return (registers[CFGR] & 3) << 2
    if address == CSR1 and registers[CR] & PLLON:
        return registers[CR1] & (ODEN | ODSWEN)
    return 0


def gate(address: int) -> tuple[int, int] | None:
    """The clock of ports, of the QUADSPI and of the power controller."""
    if PWR <= address < PWR + 0x400:
        return APB1ENR, 1 << 28
    if 0x40020000 <= address < 0x40022C00:
        return AHB1ENR, 1 << ((address - 0x40020000) // 0x400)
    if QUADSPI <= address < QUADSPI + 0x400:
        return AHB3ENR, 2
    return None


def decode(registers: Registers, console: int) -> Clocks:
    """The clocks. Raises ClockError where they are out of the limits of the manual or the flash cannot follow."""
    switch = registers[CFGR] & 3
    if switch not in (0, 2):
        raise ClockError("the core runs on HSE, which needs a crystal")
    over_drive = registers[CSR1] & registers[CR1] & (ODEN | ODSWEN) == ODEN | ODSWEN
    core = (_pll(registers) if switch else HSI) / prescaler(registers[CFGR] >> 4 & 15, 8, AHB)
    apb1 = core / prescaler(registers[CFGR] >> 10 & 7, 4, APB)
    apb2 = core / prescaler(registers[CFGR] >> 13 & 7, 4, APB)
    within("HCLK", core, 0, 216e6 if over_drive else 180e6)
    within("APB1", apb1, 0, 54e6 if over_drive else 45e6)
    within("APB2", apb2, 0, 108e6 if over_drive else 90e6)
    wait_states = registers[FLASH] & 15
    within("HCLK for the flash", core, 0, min(30e6 * (wait_states + 1), 216e6))
    return Clocks(
        "pll" if switch else "hsi", core, core, _console(registers, console, apb1, apb2), wait_states
    )


def _pll(registers: Registers) -> float:
    """Output P of the main PLL, fed by the HSI."""
    value = registers[PLLCFGR]
    if not registers[CR] & PLLRDY:
        raise ClockError("the core runs on a PLL that is not known to be ready")
    if value & 1 << 22:
        raise ClockError("the PLL runs on HSE, which needs a crystal")
    divider, factor = value & 63, value >> 6 & 0x1FF
    within("PLLM", divider, 2, 63)
    within("PLLN", factor, 50, 432)
    within("PLL input", HSI / divider, 1e6, 2e6)
    vco = HSI / divider * factor
    within("VCO", vco, 100e6, 432e6)
    within("PLLQ", value >> 24 & 15, 2, 15)
    within("48 MHz clock", vco / (value >> 24 & 15), 0, 48e6)
    return vco / (2, 4, 6, 8)[value >> 16 & 3]


def _console(registers: Registers, console: int, apb1: float, apb2: float) -> float:
    """Clock of the USART: DCKCFGR2 says from where, 0 is its APB; the enable bit must be set in the end."""
    field, enable, bus = {USART1: (0, (APB2ENR, 4), apb2), USART3: (4, (APB1ENR, 18), apb1)}[console]
    if not registers.get(enable[0], 0) >> enable[1] & 1:
        return 0
    return {0: bus, 2: HSI}[registers[DCKCFGR2] >> field & 3]


TREE = Tree(RESET, status, gate, decode, {PLLCFGR: (CR, PLLON)})
