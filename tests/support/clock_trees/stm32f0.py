"""STM32F072: RM0091, chapters on RCC and the embedded flash memory; pins: DS9826."""

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

RCC, FLASH, GPIOA = 0x40021000, 0x40022000, 0x48000000
CR, CFGR, AHBENR, APB1ENR = RCC, RCC + 0x04, RCC + 0x14, RCC + 0x1C
CFGR2, CFGR3 = RCC + 0x2C, RCC + 0x30
USART2 = 0x40004400
RESET = {CR: 0x83, CFGR: 0, AHBENR: 0x14, APB1ENR: 0, CFGR2: 0, CFGR3: 0, FLASH: 0, GPIOA: 0x28000000}
HSI, HSI48 = 8e6, 48e6
PLLON, PLLRDY = 1 << 24, 1 << 25
PLL_FIELDS = {CFGR: 0x003F8000, CFGR2: 0xF}


def status(address: int, registers: Registers) -> int:
    """PLLRDY follows PLLON, SWS follows SW."""
    if address == CR:
        return (registers[CR] & PLLON) << 1
    return (registers[CFGR] & 3) << 2 if address == CFGR else 0


def gate(address: int) -> tuple[int, int] | None:
    """The clock of ports."""
    if GPIOA <= address < GPIOA + 0x1800:
        return AHBENR, 1 << 17 + (address - GPIOA) // 0x400
    return None


def decode(registers: Registers, console: int) -> Clocks:
    """The clocks. Raises ClockError where they are out of the limits of the manual or the flash cannot follow."""
    switch = registers[CFGR] & 3
    if switch not in (0, 2):
        raise ClockError("the core runs on HSE, which needs a crystal, or on HSI48, which nobody switched on")
    system = _pll(registers) if switch else HSI
    core = system / prescaler(registers[CFGR] >> 4 & 15, 8, AHB)
    apb = core / prescaler(registers[CFGR] >> 8 & 7, 4, APB)
    wait_states = registers[FLASH] & 7
    within("wait states", wait_states, 0, 1)
    within("SYSCLK for the flash", system, 0, 24e6 * (wait_states + 1))
    return Clocks(
        "pll" if switch else "hsi", core, core, _console(registers, console, system, apb), wait_states
    )


def _pll(registers: Registers) -> float:
    """Output of the PLL, fed by the HSI. Code 15 of the factor is 16, too."""
    if not registers[CR] & PLLRDY:
        raise ClockError("the core runs on a PLL that is not known to be ready")
    source, factor = registers[CFGR] >> 15 & 3, min((registers[CFGR] >> 18 & 15) + 2, 16)
    if source > 1:
        raise ClockError("the PLL runs on HSE, which needs a crystal, or on HSI48, which nobody switched on")
    fed = HSI / ((registers[CFGR2] & 15) + 1) if source else HSI / 2
    within("PLL input", fed, 1e6, 24e6)
    within("PLL output", fed * factor, 16e6, 48e6)
    return fed * factor


def _console(registers: Registers, console: int, system: float, apb: float) -> float:
    """Clock of USART2 as CFGR3 says; 0 while it is off or PA2 and PA3 are not its pins."""
    if (
        console != USART2
        or not registers[APB1ENR] >> 17 & 1
        or not are_functions(registers, GPIOA, (2, 3), 1)
    ):
        return 0
    return {0: apb, 1: system, 3: HSI}[registers[CFGR3] >> 16 & 3]


TREE = Tree(RESET, status, gate, decode)
