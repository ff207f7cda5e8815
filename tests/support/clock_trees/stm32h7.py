"""STM32H743 of silicon revision Y: RM0433, chapters on PWR, RCC and the embedded flash memory; DS12110, PLL limits."""

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

RCC, PWR, ACR = 0x58024400, 0x58024800, 0x52002000
CR, CFGR, D1CFGR, D2CFGR, D3CFGR = RCC, RCC + 0x10, RCC + 0x18, RCC + 0x1C, RCC + 0x20
PLLCKSELR, PLLCFGR, PLL1DIVR, D2CCIP2R = RCC + 0x28, RCC + 0x2C, RCC + 0x30, RCC + 0x54
AHB2ENR, AHB4ENR, APB1LENR = RCC + 0xDC, RCC + 0xE0, RCC + 0xE8
CSR1, CR3, D3CR = PWR + 0x04, PWR + 0x0C, PWR + 0x18
USART3 = 0x40004800
RESET = {
    CR: 0x1, CFGR: 0, D1CFGR: 0, D2CFGR: 0, D3CFGR: 0, PLLCKSELR: 0x02020200, PLLCFGR: 0x01FF0000,
    PLL1DIVR: 0x01010280, D2CCIP2R: 0, CSR1: 0, CR3: 0x6, D3CR: 0x4000, ACR: 0x37,
}  # fmt: skip
HSI = 64e6
PLL1ON, PLL1RDY, READY = 1 << 24, 1 << 25, 1 << 13
LIMITS = {3: (400e6, 200e6, 100e6), 2: (300e6, 150e6, 75e6), 1: (200e6, 100e6, 50e6)}
"""Field VOS -> most of core, AXI and AHB, APB; 3 is VOS1."""
FLASH = {3: (70e6, 140e6, 210e6, 225e6), 2: (55e6, 110e6, 165e6, 225e6), 1: (45e6, 90e6, 135e6, 180e6, 225e6)}
"""Field VOS -> most of the AXI clock with 0, 1, 2 ... wait states."""
INPUTS = ((1e6, 2e6), (2e6, 4e6), (4e6, 8e6), (8e6, 16e6))


def status(address: int, registers: Registers) -> int:
    """PLL1RDY follows PLL1ON, SWS follows SW; voltages are ready once the supply is locked to the LDO alone."""
    locked = registers[CR3] & 7 == 2
    if address == CR:
        return (registers[CR] & PLL1ON) << 1
    if address == CFGR:
        return (registers[CFGR] & 7) << 3
    if address == CSR1 and locked:
        return READY | registers[D3CR] & 0xC000
    if address == D3CR and locked and registers[CSR1] & READY:
        return READY
    return 0


def gate(address: int) -> tuple[int, int] | None:
    """The clocks of the ports; VOS may be changed in Run mode only, which the locked supply brings."""
    if 0x58020000 <= address < 0x58022C00:
        return AHB4ENR, 1 << ((address - 0x58020000) // 0x400)
    return (CSR1, READY) if address == D3CR else None


def decode(registers: Registers, console: int) -> Clocks:
    """The clocks. Raises ClockError where they are out of the limits of the manual or the flash cannot follow."""
    switch, scale = registers[CFGR] & 7, registers[D3CR] >> 14
    if switch not in (0, 3):
        raise ClockError("the core runs on HSE or CSI")
    system = _pll(registers) if switch else _hsi(registers)
    core = system / prescaler(registers[D1CFGR] >> 8 & 15, 8, AHB)
    axi = core / prescaler(registers[D1CFGR] & 15, 8, AHB)
    fields = ((D1CFGR, 4), (D2CFGR, 4), (D2CFGR, 8), (D3CFGR, 4))
    apb3, apb1, apb2, apb4 = (axi / prescaler(registers[r] >> shift & 7, 4, APB) for r, shift in fields)
    most_core, most_axi, most_apb = LIMITS[scale]
    within("core", core, 0, most_core)
    within("AXI", axi, 0, most_axi)
    for name, hz in (("APB1", apb1), ("APB2", apb2), ("APB3", apb3), ("APB4", apb4)):
        within(name, hz, 0, most_apb if switch else HSI)  # the chip starts with 64 MHz everywhere
    wait_states = registers[ACR] & 15
    within("AXI for the flash", axi, 0, FLASH[scale][min(wait_states, len(FLASH[scale]) - 1)])
    within("WRHIGHFREQ", registers[ACR] >> 4 & 3, 0 if axi <= 70e6 else 1 if axi <= 185e6 else 2, 3)
    console_hz = _console(registers, console, apb1)
    return Clocks("pll" if switch else "hsi", core, axi, console_hz, wait_states)


def _hsi(registers: Registers) -> float:
    return HSI / (1 << (registers[CR] >> 3 & 3))


def _pll(registers: Registers) -> float:
    """Output P of PLL1, fed by the HSI, without fraction."""
    select, config, dividers = registers[PLLCKSELR], registers[PLLCFGR], registers[PLL1DIVR]
    if not registers[CR] & PLL1RDY or not registers[D3CR] & READY:
        raise ClockError("the core runs on a PLL or a voltage that is not known to be ready")
    if select & 3 or config & 1 or not config & 1 << 16:
        raise ClockError("PLL1 does not run on the HSI, has a fraction, or its output P is off")
    divider, factor, divisor = select >> 4 & 63, (dividers & 0x1FF) + 1, (dividers >> 9 & 127) + 1
    within("DIVM1", divider, 1, 63)
    within("DIVN1", factor, 4, 512)
    within("PLL input", _hsi(registers) / divider, *INPUTS[config >> 2 & 3])
    vco = _hsi(registers) / divider * factor
    if config & 2:
        within("VCO", vco, 150e6, 420e6)
    else:
        within("PLL input of the wide VCO", _hsi(registers) / divider, 2e6, 16e6)
        within("VCO", vco, 192e6, 836e6)
    if divisor % 2 and divisor > 1:
        raise ClockError(f"DIVP1 is {divisor}, which is odd")
    return vco / divisor


def _console(registers: Registers, console: int, apb1: float) -> float:
    """Clock of USART3: D2CCIP2R says from where, 0 is APB1; the enable bit must be set in the end."""
    assert console == USART3
    if not registers.get(APB1LENR, 0) >> 18 & 1:
        return 0
    return {0: apb1, 3: _hsi(registers)}[registers[D2CCIP2R] & 7]


LOCK = (CR, PLL1ON)
TREE = Tree(RESET, status, gate, decode, {PLLCKSELR: LOCK, PLLCFGR: LOCK, PLL1DIVR: LOCK})
