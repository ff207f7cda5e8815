"""nRF52840: clock, QSPI and GPIO registers as its Product Specification describes them."""

from __future__ import annotations

from typing import ClassVar

from tests.support.clock_trees.playing import Chip, require

HFCLKSTART, HFCLKSTAT = 0x40000000, 0x4000040C
APPROTECT_DISABLE = 0x40000558
ICACHECNF = 0x4001E540
TX_PIN = 6
PIN_CNF_8 = 0x50000720
OUTSET, DIRSET = 0x50000508, 0x50000518
QSPI = 0x40029000
ACTIVATE, READY, ENABLE = QSPI, QSPI + 0x100, QSPI + 0x500
SCK, CSN, IO0, IO1, IO2, IO3 = (QSPI + offset for offset in (0x524, 0x528, 0x530, 0x534, 0x538, 0x53C))
XIPOFFSET, IFCONFIG0, IFCONFIG1 = QSPI + 0x540, QSPI + 0x544, QSPI + 0x600
CRYSTAL = 0x00010001
DISCONNECTED = 0xFFFFFFFF
FAST_READ = 0
SLOW_MODE_HZ = 33_000_000
"""MX25R6435F in the ultra low power mode it starts in: fastest clock of reads on one line."""


class Nrf52840(Chip):
    """64 MHz always: from the RC oscillator, or from the crystal when that was started and waited for."""

    RESET: ClassVar[dict[int, int]] = {
        **dict.fromkeys(
            (APPROTECT_DISABLE, HFCLKSTART, ICACHECNF, OUTSET, DIRSET, ACTIVATE, READY, ENABLE), 0
        ),
        **dict.fromkeys((SCK, CSN, IO0, IO1, IO2, IO3), DISCONNECTED),
        HFCLKSTAT: 0x00010000,
        PIN_CNF_8: 2,
        XIPOFFSET: 0,
        IFCONFIG0: 0,
        IFCONFIG1: 0x00040480,
    }

    def __init__(self) -> None:
        super().__init__()
        self.crystal = self.external_ready = False

    def after(self, address: int) -> None:
        """Tasks take effect."""
        if address == HFCLKSTART:
            self.words[HFCLKSTAT] = CRYSTAL
        if address == ACTIVATE:
            require(bool(self.words[ENABLE]), "QSPI is not enabled")
            require(self.crystal, "QSPI needs the crystal")
            self._check_qspi()
            self.words[READY] = 1

    def seen(self, address: int, mask: int) -> None:
        """The crystal runs; the external flash can be read."""
        self.crystal |= address == HFCLKSTAT and mask & CRYSTAL == CRYSTAL
        self.external_ready |= address == READY

    def _check_qspi(self) -> None:
        pins = {0x13: SCK, 0x11: CSN, 0x14: IO0, 0x15: IO1}
        require(all(self.words[r] == pin for pin, r in pins.items()), "pins are not those of the DK")
        driven = self.words[OUTSET] & self.words[DIRSET]
        require(driven >> 22 & 3 == 3, "WP# and HOLD# float")
        require(self.field(IFCONFIG0, 0, 3) == FAST_READ, "decoded is FASTREAD only")
        require(self.field(IFCONFIG0, 6, 1) == 0, "the flash takes 24 address bits")
        require(self.field(IFCONFIG1, 25, 1) == 0, "SPI mode 0 is decoded only")
        require(self.qspi_hz <= SLOW_MODE_HZ, f"QSPI at {self.qspi_hz:,} Hz")

    @property
    def cpu_hz(self) -> int:
        """HFCLK."""
        return 64_000_000

    @property
    def console_hz(self) -> int:
        """PCLK16M, when the pin idles high while the UART does not drive it."""
        require(self.words[OUTSET] & self.words[DIRSET] & 1 << TX_PIN != 0, "P0.06 floats")
        require(self.words[PIN_CNF_8] == 0xC, "P0.08 is not an input with a pull-up")
        return 16_000_000

    @property
    def qspi_hz(self) -> int:
        """IFCONFIG1.SCKFREQ divides 32 MHz."""
        return 32_000_000 // (self.field(IFCONFIG1, 28, 4) + 1)

    @property
    def external_cycles(self) -> int:
        """Core cycles of one word: command, address, dummy and data bits, chip select high (in 62.5 ns)."""
        return (8 + 24 + 8 + 32) * self.cpu_hz // self.qspi_hz + 4 * self.field(IFCONFIG1, 0, 8)
