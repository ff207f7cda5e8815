"""i.MX RT1062: CCM, ARM PLL, DCDC and FlexRAM as IMXRT1060RM describes them, limits of IMXRT1060CEC."""

from __future__ import annotations

from typing import ClassVar

from tests.support.clock_trees.playing import Chip, require

CACRR, CBCDR, CBCMR, CSCMR1, CSCDR1, CDHIPR, CCGR3, CCGR4, CCGR6 = (
    0x400FC000 + offset for offset in (0x10, 0x14, 0x18, 0x1C, 0x24, 0x48, 0x74, 0x78, 0x80)
)
PLL_ARM = 0x400D8000
DCDC_REG0, DCDC_REG3 = 0x40080000, 0x4008000C
GPR14, GPR16, GPR17 = 0x400AC038, 0x400AC040, 0x400AC044
MUX_AD_B0_02, MUX_AD_B0_03, PAD_AD_B0_03 = 0x401F80C4, 0x401F80C8, 0x401F82B8
LPUART6_RX_SELECT = 0x401F8550
OSC_HZ = 24_000_000
BANK_BYTES = 32 * 1024
TCM_BYTES = {0: 0, 3: 4096, 4: 8192, 5: 16384, 6: 32768, 7: 65536, 8: 131072, 9: 262144, 10: 524288}
ARM_PODF_BUSY, PERIPH_BUSY, AHB_BUSY, SEMC_BUSY = 1 << 16, 1 << 5, 1 << 1, 1 << 0


class Imxrt1062(Chip):
    """As reset leaves it; from_rom: as the boot ROM hands it over, at 396 MHz from the ARM PLL."""

    RESET: ClassVar[dict[int, int]] = {
        CACRR: 1,
        CBCDR: 0x000A8200,
        CBCMR: 0x2DAE8324,
        CSCMR1: 0x04900000,
        CSCDR1: 0x06490B00,
        CDHIPR: 0,
        CCGR3: 0,
        CCGR4: 0,
        CCGR6: 0,
        PLL_ARM: 0x00013063,
        DCDC_REG0: 0x14030111,
        DCDC_REG3: 0x0000010E,
        GPR14: 0x00880000,
        GPR16: 0x00200003,
        GPR17: 0,
        MUX_AD_B0_02: 5,
        MUX_AD_B0_03: 5,
        PAD_AD_B0_03: 0x10B0,
        LPUART6_RX_SELECT: 0,
    }

    def __init__(self, from_rom: bool = False) -> None:
        super().__init__()
        self.locked, self.settled = from_rom, True
        self.busy = self._old = 0
        if from_rom:
            self.words[PLL_ARM] = 0x00002042

    def before(self, address: int, value: int) -> None:
        """What must not be changed while the core depends on it, or while a change is under way."""
        changed = value ^ self.words[address]
        if address == PLL_ARM and self._on_pll() and not self.field(PLL_ARM, 16, 1):
            require(changed & 0x3007F == 0, "the core runs on the ARM PLL")
        if address == CBCMR and changed & 0x3000:
            require(not self.field(CBCDR, 25, 1), "PERIPH_CLK2_SEL changes while the core runs on it")
        if address == CBCMR and changed & 0xC0000:
            require(bool(self.field(CBCDR, 25, 1)), "PRE_PERIPH_CLK_SEL changes while the core runs on it")
        if address in (CBCDR, CBCMR, CACRR):
            require(self.busy == 0, f"CDHIPR is not known to be quiet ({self.busy:#x})")
        if 0x401F8000 <= address < 0x401FC000:
            require(self.field(CCGR4, 2, 2) == 3, "IOMUXC has no clock")
        if address in (DCDC_REG0, DCDC_REG3):
            require(self.field(CCGR6, 6, 2) == 3, "DCDC has no clock")
        self._old = self.words[address]

    def after(self, address: int) -> None:
        """What the write sets off, then the limits of the clocks that run now."""
        changed = self._old ^ self.words[address]
        if address == PLL_ARM and (changed & 0x107F or self.field(PLL_ARM, 12, 1)):
            self.locked = False
        if address == DCDC_REG3 and changed & 0x1F:
            self.settled = False
        if address == CACRR and changed:
            self.busy |= ARM_PODF_BUSY
        if address == CBCDR:
            self.busy |= PERIPH_BUSY if changed >> 25 & 1 else 0
            self.busy |= AHB_BUSY if changed & 0x1C00 else 0
            self.busy |= SEMC_BUSY if changed & 0x70000 else 0
        self._check_limits()

    def read(self, address: int) -> int:
        """Everything gets ready in time; the PLL locks when it has power."""
        if address == PLL_ARM:
            powered = not self.field(PLL_ARM, 12, 1)
            return self.words[PLL_ARM] | (0x80000000 if powered else 0)
        if address == DCDC_REG0:
            return self.words[DCDC_REG0] | 0x80000000
        return super().read(address)

    def seen(self, address: int, mask: int) -> None:
        """What was waited for counts."""
        if address == PLL_ARM and mask >> 31:
            self.locked = True
        if address == DCDC_REG0 and mask >> 31:
            self.settled = True
        if address == CDHIPR:
            self.busy &= ~mask

    def _check_limits(self) -> None:
        if self._on_pll() and not self.field(PLL_ARM, 16, 1):
            require(self.locked, "the core runs on an ARM PLL that is not known to be locked")
            require(self.field(PLL_ARM, 13, 1) == 1, "the ARM PLL's output is off")
        if not self.field(PLL_ARM, 16, 1):
            require(54 <= self.field(PLL_ARM, 0, 7) <= 108, "DIV_SELECT is 54 to 108")
        fastest = 600_000_000 if self.millivolts >= 1250 and self.settled else 528_000_000
        require(self._ahb_hz() <= fastest, f"core at {self._ahb_hz():,} Hz with {self.millivolts} mV")
        ipg = self._ahb_hz() // (self.field(CBCDR, 8, 2) + 1)
        require(ipg <= 150_000_000, f"IPG at {ipg:,} Hz")
        perclk = OSC_HZ if self.field(CSCMR1, 6, 1) else ipg
        if self.field(CBCDR, 25, 1) == 0 and self._ahb_hz() > 528_000_000:
            require(perclk // (self.field(CSCMR1, 0, 6) + 1) <= 75_000_000, f"PERCLK at {perclk:,} Hz")
            semc = self._periph_hz() // (self.field(CBCDR, 16, 3) + 1)
            require(self.field(CBCDR, 6, 1) == 1 or semc <= 166_000_000, f"SEMC at {semc:,} Hz")

    def _on_pll(self) -> bool:
        return self.field(CBCDR, 25, 1) == 0 and self.field(CBCMR, 18, 2) == 3

    def _pll_hz(self) -> int:
        return OSC_HZ if self.field(PLL_ARM, 16, 1) else OSC_HZ * self.field(PLL_ARM, 0, 7) // 2

    def _periph_hz(self) -> int:
        if self.field(CBCDR, 25, 1):
            second = {0: 480_000_000, 1: OSC_HZ, 2: 528_000_000}
            return second[self.field(CBCMR, 12, 2)] // (self.field(CBCDR, 27, 3) + 1)
        arm = self._pll_hz() // (self.field(CACRR, 0, 3) + 1)
        return {0: 528_000_000, 1: 396_000_000, 2: 352_000_000, 3: arm}[self.field(CBCMR, 18, 2)]

    def _ahb_hz(self) -> int:
        return self._periph_hz() // (self.field(CBCDR, 10, 3) + 1)

    @property
    def millivolts(self) -> int:
        """VDD_SOC."""
        return 800 + 25 * self.field(DCDC_REG3, 0, 5)

    @property
    def cpu_hz(self) -> int:
        """AHB_CLK_ROOT, which is the core's, when nothing is changing any more."""
        require(self.busy == 0, "CDHIPR is not known to be quiet")
        return self._ahb_hz()

    @property
    def console_hz(self) -> int:
        """UART_CLK_ROOT, when LPUART6 and its pin can work."""
        require(self.field(CCGR3, 6, 2) == 3, "LPUART6 has no clock")
        require(self.words[MUX_AD_B0_02] == 2, "the pin is not LPUART6_TX")
        require(self.words[MUX_AD_B0_03] == 2, "the pin is not LPUART6_RX")
        require(self.words[LPUART6_RX_SELECT] == 1, "LPUART6 listens to another pin")
        require(
            self.field(PAD_AD_B0_03, 12, 2) == 3 and self.field(PAD_AD_B0_03, 14, 2) > 0, "the pin floats"
        )
        source = OSC_HZ if self.field(CSCDR1, 6, 1) else 80_000_000
        return source // (self.field(CSCDR1, 0, 6) + 1)

    @property
    def tcm_bytes(self) -> tuple[int, int]:
        """ITCM and DTCM: banks given to them, which must be what the core is told."""
        require(self.words[GPR16] & 7 == 7, "banks come from the fuses, or a TCM is off")
        banks = [self.field(GPR17, 2 * bank, 2) for bank in range(16)]
        given = (banks.count(3) * BANK_BYTES, banks.count(2) * BANK_BYTES)
        told = (TCM_BYTES[self.field(GPR14, 16, 4)], TCM_BYTES[self.field(GPR14, 20, 4)])
        require(given == told, f"banks give {given}, GPR14 says {told}")
        return given
