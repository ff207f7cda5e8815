"""nrf52840_dk, pico, teensy41: the start-up steps set the clocks that are claimed; boot headers suit the ROMs.

The clock trees and decoders here are written from the manuals, apart from tinygen.
"""

from __future__ import annotations

import dataclasses
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.support.clock_trees.imxrt import Imxrt1062
from tests.support.clock_trees.nrf52 import Nrf52840
from tests.support.clock_trees.playing import Chip, StartError
from tests.support.clock_trees.rp2040 import Rp2040
from tinygen.boards import Board, StartStep, load_board
from tinygen.ctext import environment

Steps = tuple[StartStep, ...]
CHIPS: dict[str, Callable[[], Nrf52840 | Rp2040 | Imxrt1062]] = {
    "nrf52840_dk": Nrf52840,
    "pico": Rp2040,
    "teensy41": Imxrt1062,
    "teensy41 after its ROM": lambda: Imxrt1062(from_rom=True),
}


def board_of(name: str) -> Board:
    return load_board(name.split()[0])


@pytest.mark.parametrize("name", CHIPS)
def test_the_steps_set_the_clocks_that_are_claimed(name: str) -> None:
    chip, board = CHIPS[name](), board_of(name)
    chip.play(board.startup.steps)
    assert (chip.cpu_hz, chip.console_hz) == (board.clock_hz, board.console.clock_hz)
    assert board.timer.clock_hz == (chip.timer_hz if isinstance(chip, Rp2040) else board.clock_hz)


@pytest.mark.parametrize("name", CHIPS)
def test_the_steps_work_again_after_a_reset_that_leaves_the_clocks_on(name: str) -> None:
    chip, board = CHIPS[name](), board_of(name)
    chip.play(board.startup.steps)
    chip.play(board.startup.steps)
    assert chip.cpu_hz == board.clock_hz


@pytest.mark.parametrize(("name", "device"), [("pico", 1 / 64), ("teensy41", 1.0)])
def test_the_console_is_close_to_its_baud_rate(name: str, device: float) -> None:
    """PL011 divides by 64ths of 16 clocks, LPUART by whole multiples of 16 clocks."""
    console = load_board(name).console
    divider = round(console.clock_hz / (16 * console.baud * device)) * device
    assert abs(console.clock_hz / (16 * divider) / console.baud - 1) < 0.02


def changed(steps: Steps, why: str, **fields: int) -> Steps:
    """The steps with one of them, found by the start of its comment, changed; without fields: left out."""
    found = [i for i, step in enumerate(steps) if step.why.startswith(why)]
    assert len(found) == 1, (why, found)
    at = found[0]
    new = (dataclasses.replace(steps[at], **fields),) if fields else ()
    return (*steps[:at], *new, *steps[at + 1 :])


OTHER_CLOCKS = [
    ("pico", "PLL_SYS_FBDIV_INT", {"value": 120}, 120_000_000),
    ("pico", "PLL_SYS_PRIM", {"value": 0x00072000}, 107_142_857),
    ("pico", "CLK_SYS_DIV", {"value": 0x200}, 62_500_000),
    ("teensy41", "PLL_ARM: powered", {"value": 99}, 594_000_000),
    ("teensy41", "CCM_CACRR", {"value": 2}, 400_000_000),
]


@pytest.mark.parametrize(("name", "why", "fields", "hz"), OTHER_CLOCKS)
def test_other_dividers_give_another_clock(name: str, why: str, fields: dict[str, int], hz: int) -> None:
    chip = CHIPS[name]()
    chip.play(changed(load_board(name).startup.steps, why, **fields))
    assert chip.cpu_hz == hz != load_board(name).clock_hz


FORBIDDEN = [
    ("nrf52840_dk", "CLOCK TASKS_HFCLKSTART", {}, "waits for ever"),
    ("nrf52840_dk", "CLOCK HFCLKSTAT", {}, "QSPI needs the crystal"),
    ("nrf52840_dk", "QSPI ENABLE", {}, "QSPI is not enabled"),
    ("nrf52840_dk", "QSPI PSEL.IO1", {"value": 22}, "pins are not those"),
    ("nrf52840_dk", "QSPI TASKS_ACTIVATE", {}, "waits for ever"),
    ("nrf52840_dk", "P0 DIRSET", {"value": 0x40}, "WP# and HOLD# float"),
    ("nrf52840_dk", "QSPI IFCONFIG0", {"value": 4}, "FASTREAD only"),
    ("pico", "XOSC_STATUS", {}, "not known to be stable"),
    ("pico", "XOSC_STARTUP", {"value": 46}, "the crystal gets 981 us"),
    ("pico", "XOSC_CTRL", {"value": 0x00FABAA1}, "waits for ever"),
    ("pico", "PLL_SYS_CS: LOCK", {}, "not known to be locked"),
    ("pico", "PLL_SYS_FBDIV_INT", {"value": 140}, r"VCO at 1,680,000,000 Hz"),
    ("pico", "PLL_SYS_PRIM", {"value": 0x00052000}, "core at 150,000,000 Hz"),
    ("pico", "PLL_SYS_PWR: post", {}, "part of PLL_SYS is off"),
    ("pico", "PLL_SYS_PWR: PLL", {}, "waits for ever"),
    ("pico", "RESET: run IO_BANK0", {}, "waits for ever"),
    ("pico", "CLK_PERI_CTRL: on", {}, "waits for ever"),
    ("teensy41", "DCDC_REG3", {}, r"core at 600,000,000 Hz with 1150 mV"),
    ("teensy41", "DCDC_REG0", {}, "core at 600,000,000 Hz with 1250 mV"),
    ("teensy41", "PLL_ARM: LOCK", {}, "not known to be locked"),
    ("teensy41", "PLL_ARM: powered", {"value": 120}, "DIV_SELECT"),
    ("teensy41", "PLL_ARM: output", {"value": 0}, "output is off"),
    ("teensy41 after its ROM", "CCM_CBCDR: core on PERIPH_CLK2", {}, "the core runs on the ARM PLL"),
    ("teensy41", "CCM_CBCDR: AHB", {"mask": 0x1C00, "value": 0}, "IPG at 200,000,000 Hz"),
    ("teensy41", "CCM_CDHIPR: dividers", {}, "not known to be quiet"),
    ("teensy41", "CCM_CSCMR1", {}, "PERCLK at 150,000,000 Hz"),
    ("teensy41", "CCM_CCGR4", {}, "IOMUXC has no clock"),
]


@pytest.mark.parametrize(("name", "why", "fields", "message"), FORBIDDEN)
def test_what_the_manuals_forbid_is_found(name: str, why: str, fields: dict[str, int], message: str) -> None:
    steps = changed(board_of(name).startup.steps, why, **fields)
    with pytest.raises(StartError, match=message):
        CHIPS[name]().play(steps)


MISSING = [
    ("pico", "GPIO0_CTRL", "console_hz", "GPIO0"),
    ("pico", "RESET_DONE: UART0", "console_hz", "UART0 is in reset"),
    ("pico", "CLK_SYS_SELECTED: aux", "cpu_hz", "clk_sys is not known"),
    ("teensy41", "CCM_CCGR3", "console_hz", "LPUART6 has no clock"),
    ("teensy41", "MUX_CTL", "console_hz", "pin"),
    ("teensy41", "GPR16", "tcm_bytes", "fuses"),
    ("teensy41", "GPR14", "tcm_bytes", "banks give"),
]


@pytest.mark.parametrize(("name", "why", "asked", "message"), MISSING)
def test_a_missing_step_is_missed(name: str, why: str, asked: str, message: str) -> None:
    chip: Chip = CHIPS[name]()
    chip.play(changed(load_board(name).startup.steps, why))
    with pytest.raises(StartError, match=message):
        getattr(chip, asked)


def test_external_flash_of_the_nrf52840_dk() -> None:
    chip, board = Nrf52840(), load_board("nrf52840_dk")
    chip.play(board.startup.steps)
    assert chip.external_ready and chip.qspi_hz == 16_000_000
    assert board.region("qspi").wait_states + 1 == chip.external_cycles == 304


def test_flexram_of_the_teensy41_is_split_as_described() -> None:
    chip, board = Imxrt1062(), load_board("teensy41")
    chip.play(board.startup.steps)
    assert chip.tcm_bytes == (board.region("itcm").length, board.region("dtcm").length)
    assert board.reserved.stack + 4096 <= 128 * 1024, "the stack lies in the DTCM that the fuses give, too"


# ---- boot headers


def header(board: Board, folder: Path) -> bytes:
    """The bytes in front of the vectors, from an ELF with the header, a vector table and nothing else."""
    template = environment().get_template(f"firmware/header_{board.layout.header}.S.j2")
    size = {"rp2040_boot2": 0x100, "imxrt_flexspi": 0x2000}[board.layout.header]
    (folder / "header.S").write_text(template.render(board=board))
    (folder / "rest.S").write_text('.section .vectors, "a"\n.global tg_vectors\ntg_vectors: .word 0, 0\n')
    (folder / "link.ld").write_text(
        f"SECTIONS {{ . = {board.code.origin}; .boot_header : {{ KEEP(*(.boot_header)) }} "
        f".vectors {board.code.origin + size} : {{ KEEP(*(.vectors)) }} }}"
    )
    command = ["arm-none-eabi-gcc", f"-mcpu={board.cpu}", "-mthumb", "-nostdlib", "-Wl,-T,link.ld,-e,0"]
    command += ["-Werror", "-Wl,--fatal-warnings", "-Wl,--no-warn-rwx-segments", "header.S", "rest.S"]
    subprocess.run([*command, "-o", "header.elf"], cwd=folder, check=True)
    with (folder / "header.elf").open("rb") as file:
        section = ELFFile(file).get_section_by_name(".boot_header")
        assert section["sh_addr"] == board.code.origin
        data = bytes(section.data())
    assert len(data) == size
    return data


def crc32_not_reflected(data: bytes) -> int:
    """CRC-32, polynomial 0x04C11DB7, from 0xFFFFFFFF, most significant bit first, nothing inverted at the end."""
    register = 0xFFFFFFFF
    for bit in (byte >> shift & 1 for byte in data for shift in range(7, -1, -1)):
        carry = (register >> 31) ^ bit
        register = (register << 1) & 0xFFFFFFFF
        register ^= 0x04C11DB7 * carry
    return register


def test_crc_of_the_catalogue() -> None:
    """CRC-32/MPEG-2 of "123456789" is in every catalogue of CRCs."""
    assert crc32_not_reflected(b"123456789") == 0x0376E6E7


@pytest.mark.arm
def test_second_stage_of_the_rp2040_has_its_crc(tmp_path: Path) -> None:
    board = load_board("pico")
    data = header(board, tmp_path)
    assert struct.unpack_from("<I", data, 252)[0] == crc32_not_reflected(data[:252])
    for at in (0, 100, 251):
        damaged = bytearray(data)
        damaged[at] ^= 1
        assert struct.unpack_from("<I", data, 252)[0] != crc32_not_reflected(bytes(damaged[:252]))


@pytest.mark.arm
def test_second_stage_of_the_rp2040_sets_the_ssi_up_and_starts_the_vectors(tmp_path: Path) -> None:
    """Run at the address in SRAM to which the boot ROM copies it."""
    uc = pytest.importorskip("unicorn")
    arm = pytest.importorskip("unicorn.arm_const")
    board, writes = load_board("pico"), []
    core = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS)
    core.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M0)
    base, stack, reset = 0x20041F00, 0x20001000, 0x10000201
    core.mem_map(0x20041000, 0x1000)
    core.mem_map(board.code.origin, 0x1000)
    core.mem_write(base, header(board, tmp_path))
    core.mem_write(board.code.origin + 0x100, struct.pack("<II", stack, reset))

    def status(_core: object, offset: int, _size: int, _data: object) -> int:
        assert offset == 0x28
        return 4

    def note(page: int) -> Callable[..., None]:
        return lambda _core, offset, _size, value, _data: writes.append((page + offset, value))

    for page in (0x40020000, 0x18000000, 0xE000E000):
        core.mmio_map(page, 0x1000, status, None, note(page), None)
    core.emu_start(base | 1, reset & ~1, count=1000)
    assert core.reg_read(arm.UC_ARM_REG_PC) == reset & ~1
    assert core.reg_read(arm.UC_ARM_REG_SP) == stack
    assert (0xE000ED08, board.code.origin + 0x100) == writes[-1]
    check_ssi([(address - 0x18000000, value) for address, value in writes if address >> 24 == 0x18], board)


def check_ssi(writes: list[tuple[int, int]], board: Board) -> None:
    """Offsets and values written to the SSI (RP2040 Datasheet, 4.10.13), in order: how is a word read in the end?"""
    words: dict[int, int] = {}
    sent = []
    for offset, value in writes:
        if offset == 0x60:
            assert words[0x08] == 1
            sent.append(value)
        assert offset in (0x08, 0x60) or words.get(0x08) == 0, "settings are taken while SSIENR is 0 only"
        words[offset] = value
    assert sent == [0xEB, 0xA0] and words[0x08] == 1
    control, serial = words[0x00], words[0xF4]
    assert (control >> 21 & 3, control >> 16 & 31, control >> 8 & 3) == (2, 31, 3), (
        "quad, 32 bits, EEPROM read"
    )
    assert (serial & 3, serial >> 8 & 3, serial >> 24) == (2, 0, 0xA0), "address on four lines, no command"
    address, dummy = serial >> 2 & 15, serial >> 11 & 31
    assert (address, dummy) == (8, 4)
    divider = words[0x14]
    assert divider % 2 == 0 and board.clock_hz / divider <= 133e6, (
        "W25Q16JV, fast read quad I/O: up to 133 MHz"
    )
    assert board.code.wait_states == (address + dummy + 8) * divider


LUT_COMMAND, LUT_ADDRESS, LUT_MODE8, LUT_READ, LUT_DUMMY, LUT_STOP = 0x01, 0x02, 0x07, 0x09, 0x0C, 0


@pytest.mark.arm
def test_flexspi_header_of_the_teensy41(tmp_path: Path) -> None:
    board = load_board("teensy41")
    data = header(board, tmp_path)
    tag, version, zero = struct.unpack_from("<4sII", data, 0)
    assert (tag, version >> 24, zero) == (b"FCFB", ord("V"), 0)
    assert tuple(data[0x0C:0x10]) == (1, 3, 3, 0), "sampling by the looped-back strobe: up to 133 MHz"
    assert data[0x10] == data[0x1C] == 0, "nothing is written to the flash"
    assert tuple(data[0x44:0x48]) == (1, 4, 3, 0), "serial NOR, four lines, 60 MHz, no own sequences"
    assert struct.unpack_from("<4I", data, 0x50) == (8 << 20, 0, 0, 0)
    assert struct.unpack_from("<2I", data, 0x1C0) == (256, 4096)
    read = [(i >> 10, 1 << (i >> 8 & 3), i & 0xFF) for i in struct.unpack_from("<6H", data, 0x80)]
    assert read == [
        (LUT_COMMAND, 1, 0xEB),
        (LUT_ADDRESS, 4, 24),
        (LUT_MODE8, 4, 0),
        (LUT_DUMMY, 4, 4),
        (LUT_READ, 4, 4),
        (LUT_STOP, 1, 0),
    ]
    clocks = 8 + 24 // 4 + 8 // 4 + 4 + board.code.width * 8 // 4
    assert board.code.wait_states + 1 == clocks * board.clock_hz // 60_000_000 == 840


@pytest.mark.arm
def test_image_vector_table_of_the_teensy41(tmp_path: Path) -> None:
    board = load_board("teensy41")
    data, base = header(board, tmp_path), board.code.origin
    assert tuple(data[0x1000:0x1004]) == (0xD1, 0x00, 0x20, 0x41)
    entry, _, configuration, boot_data, itself, signature, _ = struct.unpack_from("<7I", data, 0x1004)
    assert (entry, itself) == (base + 0x2000, base + 0x1000)
    assert (configuration, signature) == (0, 0)
    start, length, plugin = struct.unpack_from("<3I", data, boot_data - base)
    assert (start, plugin) == (base, 0)
    assert 0x2000 < length <= board.code.length
