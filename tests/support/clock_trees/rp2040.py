"""RP2040: oscillators, PLL, clock multiplexers and resets as the RP2040 Datasheet describes them (2.14 to 2.18)."""

from __future__ import annotations

from typing import ClassVar

from tests.support.clock_trees.playing import Chip, require

XOSC_CTRL, XOSC_STATUS, XOSC_STARTUP = 0x40024000, 0x40024004, 0x4002400C
REF_CTRL, REF_DIV, REF_SELECTED = 0x40008030, 0x40008034, 0x40008038
SYS_CTRL, SYS_DIV, SYS_SELECTED, PERI_CTRL = 0x4000803C, 0x40008040, 0x40008044, 0x40008048
RESETS, RESET_DONE = 0x4000C000, 0x4000C008
PLL_CS, PLL_PWR, PLL_FBDIV, PLL_PRIM = 0x40028000, 0x40028004, 0x40028008, 0x4002800C
TICK, GPIO0_CTRL, GPIO1_CTRL, GPIO1_PAD = 0x4005802C, 0x40014004, 0x4001400C, 0x4001C008
PLL_RESET = {PLL_CS: 0x1, PLL_PWR: 0x2D, PLL_FBDIV: 0x0, PLL_PRIM: 0x77000}
IO_BANK0, PADS_BANK0, PLL_SYS, TIMER, UART0 = 5, 8, 12, 21, 22
CRYSTAL_HZ = 12_000_000
STARTUP_SECONDS = 1e-3


class Rp2040(Chip):
    """As the boot ROM leaves it: on the ring oscillator, all but the flash's pads and IO in reset."""

    RESET: ClassVar[dict[int, int]] = {
        XOSC_CTRL: 0,
        XOSC_STATUS: 0,
        XOSC_STARTUP: 0xC4,
        PERI_CTRL: 0,
        TICK: 0x200,
        GPIO0_CTRL: 0x1F,
        GPIO1_CTRL: 0x1F,
        GPIO1_PAD: 0x56,
        REF_CTRL: 0,
        REF_DIV: 0x100,
        REF_SELECTED: 1,
        SYS_CTRL: 0,
        SYS_DIV: 0x100,
        SYS_SELECTED: 1,
        RESETS: 0x01FFFFFF & ~(1 << 6 | 1 << 9),
        RESET_DONE: 0,
        **PLL_RESET,
    }

    def __init__(self) -> None:
        super().__init__()
        self.stable = self.locked = False
        self.out_of_reset = 0

    def before(self, address: int, value: int) -> None:
        """What must not be changed while it is in use, or in reset."""
        if address in PLL_RESET:
            require(bool(self.out_of_reset >> PLL_SYS & 1), "PLL_SYS is in reset")
            require(not self._on_pll(), "the core runs on PLL_SYS")
        if address in (GPIO0_CTRL, GPIO1_CTRL, GPIO1_PAD):
            require(
                self.out_of_reset >> IO_BANK0 & self.out_of_reset >> PADS_BANK0 & 1 == 1, "IO is in reset"
            )
        if address == SYS_CTRL and self.words[SYS_SELECTED] == 2:
            require((value ^ self.words[SYS_CTRL]) >> 5 & 7 == 0, "AUXSRC of clk_sys changes while used")
        if address == PERI_CTRL and self.field(PERI_CTRL, 11, 1):
            require((value ^ self.words[PERI_CTRL]) >> 5 & 7 == 0, "AUXSRC of clk_peri changes while on")
        if address == RESETS and value >> PLL_SYS & 1:
            require(not self._on_pll(), "the core runs on PLL_SYS")

    def after(self, address: int) -> None:
        """Resets reset; multiplexers switch to what runs."""
        if address == RESETS:
            self.out_of_reset &= ~self.words[RESETS]
            if self.field(RESETS, PLL_SYS, 1):
                self.words.update(PLL_RESET)
                self.locked = False
        if address == PLL_PWR and self.words[PLL_PWR] & 0x21:
            self.locked = False
        if address == REF_CTRL:
            require(self.field(REF_CTRL, 0, 2) != 2 or self.stable, "the crystal is not known to be stable")
        if address == SYS_CTRL and self.field(SYS_CTRL, 0, 1):
            self._check_pll()

    def _check_pll(self) -> None:
        require(self.field(SYS_CTRL, 5, 3) == 0, "decoded is PLL_SYS only")
        require(self.locked, "PLL_SYS is not known to be locked")
        require(self.words[PLL_PWR] & 0x29 == 0, "part of PLL_SYS is off")
        require(CRYSTAL_HZ // self.field(PLL_CS, 0, 6) >= 5_000_000, "reference below 5 MHz")
        require(16 <= self.words[PLL_FBDIV] <= 320, "FBDIV")
        require(750_000_000 <= self._vco_hz() <= 1_600_000_000, f"VCO at {self._vco_hz():,} Hz")
        first, second = self.field(PLL_PRIM, 16, 3), self.field(PLL_PRIM, 12, 3)
        require(first >= second >= 1, "post dividers")
        require(self._pll_hz() <= 133_000_000, f"core at {self._pll_hz():,} Hz")

    def read(self, address: int) -> int:
        """Status registers follow what was written."""
        if address == XOSC_STATUS:
            return 0x80001000 if self.field(XOSC_CTRL, 12, 12) == 0xFAB and self._crystal_range() else 0
        if address == PLL_CS:
            return self.words[PLL_CS] | (0x80000000 if self.words[PLL_PWR] & 0x21 == 0 and self.stable else 0)
        if address == REF_SELECTED:
            return 1 << self.field(REF_CTRL, 0, 2)
        if address == SYS_SELECTED:
            return 1 << self.field(SYS_CTRL, 0, 1)
        if address == RESET_DONE:
            clocked = WITHOUT_PERI | (self.field(PERI_CTRL, 11, 1) << UART0)
            return ~self.words[RESETS] & 0x01FFFFFF & clocked
        return super().read(address)

    def seen(self, address: int, mask: int) -> None:
        """What was waited for counts."""
        if address == XOSC_STATUS:
            started = self.words[XOSC_STARTUP] * 256 / CRYSTAL_HZ
            require(started > STARTUP_SECONDS, f"the crystal gets {started * 1e6:.0f} us")
            self.stable = True
        if address == PLL_CS and mask >> 31:
            self.locked = True
        if address == RESET_DONE:
            self.out_of_reset |= self.read(RESET_DONE) & mask
        if address in (REF_SELECTED, SYS_SELECTED):
            self.words[address] = self.read(address)

    def _crystal_range(self) -> bool:
        return self.field(XOSC_CTRL, 0, 12) == 0xAA0

    def _on_pll(self) -> bool:
        return self.words[SYS_SELECTED] != 1 or self.field(SYS_CTRL, 0, 1) == 1

    def _vco_hz(self) -> int:
        return CRYSTAL_HZ // self.field(PLL_CS, 0, 6) * self.words[PLL_FBDIV]

    def _pll_hz(self) -> int:
        return self._vco_hz() // self.field(PLL_PRIM, 16, 3) // self.field(PLL_PRIM, 12, 3)

    @property
    def reference_hz(self) -> int:
        """clk_ref, once on the crystal."""
        require(self.words[REF_SELECTED] == 4, "clk_ref is not known to run on the crystal")
        return CRYSTAL_HZ * 0x100 // self.words[REF_DIV]

    @property
    def cpu_hz(self) -> int:
        """clk_sys."""
        require(self.words[SYS_SELECTED] == 2, "clk_sys is not known to run on PLL_SYS")
        return self._pll_hz() * 0x100 // self.words[SYS_DIV]

    @property
    def console_hz(self) -> int:
        """clk_peri, when UART0 and its pin can work."""
        require(self.field(PERI_CTRL, 11, 1) == 1 and self.field(PERI_CTRL, 5, 3) == 0, "clk_peri")
        require(self.out_of_reset >> UART0 & 1 == 1, "UART0 is in reset")
        require(self.field(GPIO0_CTRL, 0, 5) == 2, "GPIO0 is not UART0 TX")
        require(self.field(GPIO1_CTRL, 0, 5) == 2, "GPIO1 is not UART0 RX")
        require(
            self.words[GPIO1_PAD] >> 7 == 0 and self.field(GPIO1_PAD, 6, 1) == 1, "the input of GPIO1 is off"
        )
        require(self.field(GPIO1_PAD, 2, 2) == 2, "GPIO1 is not pulled up alone")
        return self.cpu_hz

    @property
    def timer_hz(self) -> int:
        """Ticks of TIMER."""
        require(self.out_of_reset >> TIMER & 1 == 1, "TIMER is in reset")
        require(self.field(TICK, 9, 1) == 1, "the tick is off")
        return self.reference_hz // self.field(TICK, 0, 9)


WITHOUT_PERI = 0x01FFFFFF & ~(1 << UART0)
