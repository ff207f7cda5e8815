"""Boot headers of pico and teensy41: what the boot ROMs read, decoded by the manuals and not by our templates."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.support import tinyfw
from tinygen import building
from tinygen.boards import Board, load_board
from tinygen.ctext import environment


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
    import unicorn as uc
    from unicorn import arm_const as arm

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


@pytest.mark.arm
@pytest.mark.parametrize(("name", "size"), [("pico", 0x100), ("teensy41", 0x2000)])
def test_a_whole_image_starts_with_its_boot_header(tmp_path: Path, name: str, size: int) -> None:
    board = load_board(name)
    image = building.build(tinyfw.project(tmp_path / "project", board), board)
    with image.elf.open("rb") as file:
        elf = ELFFile(file)
        found, vectors = (elf.get_section_by_name(n) for n in (".boot_header", ".vectors"))
        assert (found["sh_addr"], vectors["sh_addr"]) == (board.code.origin, board.code.origin + size)
        assert found.data() == header(board, tmp_path)
        stack, reset = struct.unpack_from("<II", vectors.data())
    assert board.ram.origin < stack <= board.ram.end and board.code.origin < reset < board.code.end
