"""Boards: those that travel with tinygen are sound; a wrong description is refused with file and line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tinygen import locate
from tinygen.boards import CORES, Board, all_boards, board_names, load_board
from tinygen.errors import BoardError
from tinygen.firmware import check_guard

GOOD = """name = "mine"
title = "A board of mine"
cpu = "cortex-m4"
isa = ["dsp"]
fpu = "fpv4-sp-d16"
clock_hz = 100_000_000
source = "its manual"

[[region]]
name = "flash"
kind = "flash"
origin = 0x0800_0000
length = 0x0008_0000
wait_states = 3
source = "its manual"

[[region]]
name = "sram"
kind = "sram"
origin = 0x2000_0000
length = 0x0002_0000
source = "its manual"

[reserved]
stack = 2048
application = 1024
source = "its maker"

[console]
kind = "cmsdk_uart"
base = 0x4000_4000
source = "its manual"

[timer]
kind = "cmsdk_timer"
base = 0x4000_0000
clock_hz = 25_000_000
source = "its manual"
"""


def board_file(folder: Path, text: str = GOOD) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_every_shipped_board_loads_and_is_named_as_its_file() -> None:
    boards = all_boards()
    assert [b.name for b in boards] == list(board_names()) == [b.path.stem for b in boards]
    assert {b.cpu for b in boards} == set(CORES)
    for board in boards:
        check_guard(board)
        assert not board.code.writable and board.code.executable and board.ram.writable
        assert board.qemu is not None or board.platformio is not None


@pytest.mark.parametrize("name", board_names())
def test_every_table_of_a_shipped_board_names_its_source(name: str) -> None:
    board = load_board(name)
    tables = [board, *board.regions, *board.caches, board.startup, board.reserved, board.console, board.timer]
    tables += [board.qemu, board.unicorn, board.renode, board.platformio]
    assert all(len(table.source) > 10 for table in tables if table is not None)


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    board = load_board(board_file(tmp_path))
    assert (board.name, board.qemu, board.unicorn) == ("mine", None, None)
    assert board.code.wait_states == 3 and board.ram.wait_states == 0 and board.ram.width == 4
    assert board.ram.end == 0x2002_0000
    assert board.compiler_flags == ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")


def test_soft_float_where_there_is_no_fpu(tmp_path: Path) -> None:
    board = load_board(board_file(tmp_path, GOOD.replace('"fpv4-sp-d16"', '"none"')))
    assert board.compiler_flags[-1] == "-mfloat-abi=soft"


def test_unknown_name_is_corrected() -> None:
    with pytest.raises(BoardError, match=r"no board 'mps2_an368', did you mean 'mps2_an38.'"):
        load_board("mps2_an368")


WRONG = [
    ("clock_hz = 100", "clock_hz = 0\nclok = 100", 6, "must be an integer from 1"),
    ('isa = ["dsp"]', 'isa = ["dsp"]\nclok_hz = 3', 5, "unknown key 'clok_hz', did you mean 'clock_hz'"),
    (
        "wait_states = 3",
        "waitstates = 3",
        14,
        r"unknown key 'waitstates' in \[region\], did you mean 'wait_states'",
    ),
    ("wait_states = 3", "wait_states = -1", 14, "is -1"),
    (
        "origin = 0x2000_0000",
        "origin = 0x0807_FFE0",
        20,
        "'sram' .0x0807ffe0 to 0x0809ffdf. overlaps 'flash'",
    ),
    ("length = 0x0002_0000", "length = 0", 21, "'length' of .region. is 0"),
    ("length = 0x0002_0000", "length = 0xE000_0020", 21, "ends at 0x100000020"),
    ("length = 0x0002_0000", "length = 0x0002_0001", 21, "multiple of 32"),
    ("length = 0x0002_0000", 'length = "128K"', 21, "is '128K'"),
    ("length = 0x0002_0000", "length = true", 21, "is True"),
    ("length = 0x0002_0000", "length = 1.5", 21, "is 1.5"),
    ('name = "sram"', 'name = "flash"', 18, "two regions are named 'flash'"),
    ('name = "sram"', 'name = "S RAM"', 18, "lower-case letters"),
    ('kind = "sram"', 'kind = "ram"', 19, "is 'ram', did you mean 'sram'"),
    ('kind = "sram"', 'kind = "external"', 9, "no region of kind 'sram'"),
    ('kind = "flash"', 'kind = "sram"', 9, "no region of kind 'flash'"),
    ('cpu = "cortex-m4"', 'cpu = "cortex-m44"', 3, "did you mean 'cortex-m4'"),
    ('isa = ["dsp"]', 'isa = ["mve"]', 4, "this core can have: dsp"),
    ('isa = ["dsp"]', 'isa = ["dsp", "dsp"]', 4, "each once"),
    ('isa = ["dsp"]', 'isa = "dsp"', 4, "list of strings"),
    ('fpu = "fpv4-sp-d16"', 'fpu = "fpv5-d16"', 5, "did you mean|must be one of none, fpv4-sp-d16"),
    (
        "stack = 2048",
        "stack = 131_072\n#",
        25,
        "stack . application are 132,096 bytes",
    ),
    ("stack = 2048", "stack = 2044", 25, "multiple of 8"),
    ("base = 0x4000_4000", "base = 0x4000_4001", 31, "multiple of 4"),
    ('title = "A board of mine"', 'title = ""', 2, "not empty"),
    ('title = "A board of mine"', "title = 3", 2, "string on one line"),
    ('source = "its maker"\n', "", 24, "'source' of .reserved. is missing"),
    ("[timer]", "[timmer]", 1, "'timer' is missing"),
    ("[console]", "[[console]]", 29, "must be a table"),
]


@pytest.mark.parametrize(("old", "new", "line", "words"), WRONG, ids=[w[1][:24] for w in WRONG])
def test_wrong_description_is_refused_with_file_and_line(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    assert old in GOOD
    path = board_file(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(BoardError, match=words) as problem:
        load_board(path)
    assert str(problem.value).startswith(f"{path}:{line}: ")
    assert len(str(problem.value).splitlines()) <= 3


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe\x00", b"[[region]\n", b""])
def test_what_is_not_a_description_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(BoardError, match=r"mine\.toml"):
        load_board(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="No such file"):
        load_board(tmp_path / "none.toml")
    with pytest.raises(BoardError, match="cannot read"):
        (tmp_path / "folder.toml").mkdir()
        load_board(tmp_path / "folder.toml")


def test_memory_below_the_stack_leaves_no_room_for_its_guard(tmp_path: Path) -> None:
    near = GOOD.replace("origin = 0x0800_0000", "origin = 0x1FF8_0000")
    with pytest.raises(BoardError, match=r"cannot be guarded .* region 'flash' is there"):
        check_guard(load_board(board_file(tmp_path, near)))


# ---- PlatformIO's figures

FIGURES = {
    "nucleo_f446re": (512, 128),
    "nucleo_l4r5zi": (2048, 640),
    "disco_f746ng": (1024, 320),
    "nucleo_f767zi": (2048, 512),
    "nucleo_h743zi": (2048, 512),
    "nucleo_f072rb": (128, 16),
    "nucleo_g071rb": (128, 36),
    "nrf52840_dk": (1024, 256),
    "pico": (2048, 264),
}
"""Board -> KB of flash and RAM, as read from PlatformIO itself; the other boards' TOML cites it."""

COUNTED = {
    "disco_f407vg": ("sram",),
    "disco_f746ng": ("dtcm", "sram"),
    "nucleo_f767zi": ("dtcm", "sram"),
    "nucleo_h743zi": ("axi_sram",),
    "teensy41": ("dtcm", "itcm"),
}
"""Board -> regions that PlatformIO counts as RAM, where it leaves some out."""
LEFT_OUT = {"nucleo_l552ze_q": 64}
"""Board -> KB that PlatformIO does not count of them: SRAM2, which follows SRAM1."""

WITH_PLATFORMIO = [b.name for b in all_boards() if b.platformio is not None]


def memory_difference(board: Board) -> str:
    """What does not agree between the board's regions and PlatformIO's figures; empty where all does."""
    assert board.platformio is not None
    counted = COUNTED.get(board.name, tuple(r.name for r in board.writable))
    ram = sum(board.region(name).length for name in counted) - 1024 * LEFT_OUT.get(board.name, 0)
    stated = (board.platformio.flash, board.platformio.ram)
    if stated != (board.code.length, ram):
        return f"regions say {board.code.length, ram}, [platformio] says {stated}"
    known = FIGURES.get(board.name)
    if known is not None and stated != (1024 * known[0], 1024 * known[1]):
        return f"[platformio] says {stated}, PlatformIO {known} KB"
    return ""


def resized(board: Board, region: str, length: int) -> Board:
    regions = tuple(replace(r, length=length) if r.name == region else r for r in board.regions)
    return replace(board, regions=regions)


@pytest.mark.parametrize("name", WITH_PLATFORMIO)
def test_memory_is_as_large_as_platformio_says(name: str) -> None:
    assert memory_difference(load_board(name)) == ""


@pytest.mark.parametrize("name", WITH_PLATFORMIO)
def test_a_planted_wrong_length_is_found(name: str) -> None:
    board = load_board(name)
    for region in (board.code.name, COUNTED.get(name, (board.ram.name,))[0]):
        length = board.region(region).length
        for wrong in (length - 32, length + 32, 2 * length):
            assert "regions say" in memory_difference(resized(board, region, wrong))


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_wrong_figures_of_platformio_are_found(name: str) -> None:
    board = load_board(name)
    assert board.platformio is not None
    stated = replace(board.platformio, flash=2 * board.platformio.flash)
    wrong = replace(resized(board, board.code.name, 2 * board.code.length), platformio=stated)
    assert "PlatformIO (" in memory_difference(wrong)


def test_all_boards_of_the_promise_are_there() -> None:
    promised = (
        "microbit mps2_an385 mps2_an386 mps2_an500 mps2_an505 mps3_an547 nucleo_f072rb nucleo_g071rb pico "
        "disco_f407vg nucleo_f446re nucleo_l4r5zi nrf52840_dk disco_f746ng nucleo_f767zi nucleo_h743zi "
        "nucleo_l552ze_q teensy41"
    )
    assert set(promised.split()) <= set(board_names())


def test_locator_names_both_places_when_nothing_is_there() -> None:
    assert (locate.folder("boards") / "microbit.toml").is_file()
    with pytest.raises(FileNotFoundError, match="reinstall"):
        locate.folder("no_such_folder")
