"""Boards in detail: what `extends` merges, and what is refused about caches, layout, start-up steps and flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_boards import GOOD
from tinygen.boards import all_boards, board_names, load_board
from tinygen.errors import BoardError
from tinygen.flash import limited

CACHED = GOOD.replace("wait_states = 3", 'wait_states = 3\ncaches = ["art"]').replace(
    "[reserved]",
    """[[cache]]
name = "art"
owner = "memory"
serves = "both"
size = 1024
line = 16
ways = 4
source = "its manual"

[layout]
code = "flash"
data = "sram"
header = "none"

[startup]
source = "its manual"
steps = [
    { write = 0x4002_3800, mask = 0x1, value = 0x1, why = "clock on" },
    { wait = 0x4002_3800, mask = 0x2, value = 0x2, why = "clock runs" },
    { write = 0x4002_3804, value = 0x1234, why = "whole word" },
]

[reserved]""",
)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


# ---- caches, layout, start-up


def test_caches_layout_and_startup_are_read(tmp_path: Path) -> None:
    board = load_board(write(tmp_path, "mine", CACHED))
    (cache,) = board.caches
    assert board.caches_of(board.code) == (cache,) and board.caches_of(board.ram) == ()
    assert (cache.owner, cache.serves, cache.size, cache.line, cache.ways) == ("memory", "both", 1024, 16, 4)
    assert (board.layout.code, board.layout.data, board.layout.header) == ("flash", "sram", "none")
    kinds = [(s.kind, s.mask, s.value) for s in board.startup.steps]
    assert kinds == [("write", 1, 1), ("wait", 2, 2), ("write", 0xFFFF_FFFF, 0x1234)]


def cached(line: int, width: int) -> str:
    """CACHED with a cache of 4 such lines in front of memory of that width."""
    text = CACHED.replace("size = 1024", f"size = {4 * line}").replace("line = 16", f"line = {line}")
    return text.replace('caches = ["art"]', f'caches = ["art"]\nwidth = {width}')


def test_a_line_has_as_many_accesses_as_the_cycle_model_follows(tmp_path: Path) -> None:
    assert load_board(write(tmp_path, "mine", cached(256, 4))).caches[0].line == 256
    assert load_board(write(tmp_path, "mine", cached(64, 1))).code.width == 1
    with pytest.raises(BoardError, match="a line is 1 to 64 whole accesses"):
        load_board(write(tmp_path, "mine", cached(68, 1)))


def test_as_many_regions_as_the_cycle_model_follows(tmp_path: Path) -> None:
    more = "".join(
        f'[[region]]\nname = "r{i}"\nkind = "sram"\norigin = {0x3000_0000 + i * 4096}\nlength = 4096\nsource = "x"\n'
        for i in range(16)
    )
    text = GOOD.replace("[reserved]", more + "[reserved]", 1)
    with pytest.raises(BoardError, match=r"there are 18 regions\n  at most 16"):
        load_board(write(tmp_path, "mine", text))


def test_flags_have_the_defaults_of_their_kind(tmp_path: Path) -> None:
    text = GOOD.replace(
        "[reserved]",
        """[[region]]
name = "ccm"
kind = "tcm"
origin = 0x1000_0000
length = 0x1_0000
executable = false
source = "its manual"

[reserved]""",
    )
    board = load_board(write(tmp_path, "mine", text))
    ccm, sram, flash = board.region("ccm"), board.region("sram"), board.region("flash")
    assert (ccm.executable, ccm.dma, ccm.writable) == (False, False, True)
    assert (sram.executable, sram.dma, flash.writable) == (True, True, False)
    assert [r.name for r in board.writable] == ["sram", "ccm"]


WRONG = [
    ('caches = ["art"]', 'caches = ["arts"]', "names cache 'arts'"),
    ('caches = ["art"]', 'caches = "art"', "list of strings"),
    ("size = 1024", "size = 1000", "no whole sets of 4 ways"),
    ('owner = "memory"', 'owner = "bus"', "it must be one of core, memory"),
    ('serves = "both"', 'serves = "all"', "one of instructions, data, both"),
    ("ways = 4", "ways = 0", "is 0"),
    ('caches = ["art"]', 'caches = ["art"]\nwidth = 3', "delivers 3 bytes at once, a line of cache"),
    ('data = "sram"', 'data = "flash"', "'data' of .layout. is 'flash'"),
    ('data = "sram"', 'data = "sramm"', "did you mean 'sram'"),
    ('code = "flash"', 'code = "sram"', "'code' of .layout. is 'sram'"),
    ('header = "none"', 'header = "rp2040"', "is 'rp2040'"),
    ('header = "none"', 'heder = "none"', "unknown key 'heder'"),
    ("length = 0x0002_0000", "length = 0x0002_0000\nexecutable = 1", "it must be true or false"),
    ("length = 0x0002_0000", 'length = 0x0002_0000\ndma = "no"', "it must be true or false"),
    ("length = 0x0002_0000", "length = 0x0002_0000\nwidth = 0", "'width' of .region. is 0"),
]


@pytest.mark.parametrize(("old", "new", "words"), WRONG, ids=[w[1][:28] for w in WRONG])
def test_wrong_detail_is_refused_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in CACHED
    text = CACHED.replace(old, new, 1)
    path = write(tmp_path, "mine", text)
    with pytest.raises(BoardError, match=words) as problem:
        load_board(path)
    assert str(problem.value).startswith(f"{path}:{line_of(text, new.splitlines()[-1])}: ")


STEPS = [
    ("mask = 0x1, value = 0x1", "mask = 0x1, value = 0x3", "steps 1: .*0x3 has bits outside mask 0x1"),
    ("wait = 0x4002_3800", "wait = 0x4002_3801", "steps 2: .wait. of .startup. is 1,073,887,233"),
    ("wait = 0x4002_3800", "await = 0x4002_3800", "steps 2: .*write"),
    (', why = "whole word"', "", "steps 3: .*'why' of .* is missing"),
    ('why = "clock on"', 'why = "clock on", msk = 1', "steps 1: .*unknown key 'msk'"),
    ("value = 0x1234", "value = 0x1_0000_0000", "steps 3: "),
]


@pytest.mark.parametrize(("old", "new", "words"), STEPS, ids=[w[1][:28] or "no why" for w in STEPS])
def test_wrong_step_is_refused_by_its_number(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in CACHED
    path = write(tmp_path, "mine", CACHED.replace(old, new, 1))
    with pytest.raises(BoardError, match=words) as problem:
        load_board(path)
    assert str(problem.value).startswith(f"{path}:{line_of(CACHED, 'steps = [')}: ")


def test_a_cache_in_front_of_nothing_or_named_twice(tmp_path: Path) -> None:
    alone = CACHED.replace('caches = ["art"]\n', "")
    with pytest.raises(BoardError, match="'art' is named twice or by no region"):
        load_board(write(tmp_path, "mine", alone))
    cache = CACHED[CACHED.index("[[cache]]") : CACHED.index("[layout]")]
    with pytest.raises(BoardError, match="'art' is named twice"):
        load_board(write(tmp_path, "mine", CACHED.replace("[layout]", f"{cache}[layout]")))


# ---- extends

VARIANT = """extends = "mine"
name = "variant"
clock_hz = 50_000_000

[[region]]
name = "sram"
length = 0x1_0000

[[region]]
name = "ccm"
kind = "tcm"
origin = 0x1000_0000
length = 0x1000
source = "its other manual"

[reserved]
application = 512
"""


@pytest.fixture
def variant(tmp_path: Path) -> Path:
    """A folder of a user's own with two boards, one made from the other."""
    write(tmp_path, "mine", CACHED)
    write(tmp_path, "variant", VARIANT)
    return tmp_path


def test_a_variant_says_only_what_differs(variant: Path) -> None:
    board, base = load_board("variant", [variant]), load_board("mine", [variant])
    assert (board.name, board.clock_hz, board.title) == ("variant", 50_000_000, base.title)
    assert board.region("sram").length == 0x1_0000 and board.region("sram").origin == 0x2000_0000
    assert [r.name for r in board.regions] == ["flash", "sram", "ccm"]
    assert (board.reserved.stack, board.reserved.application) == (2048, 512)
    assert (board.caches, board.startup, board.console) == (base.caches, base.startup, base.console)


def test_its_text_is_complete(variant: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    board = load_board("variant", [variant])
    alone = load_board(write(tmp_path_factory.mktemp("alone"), "variant", board.text))
    assert alone.regions == board.regions and alone.reserved == board.reserved and "extends" not in board.text


def test_a_variant_of_ours_by_name_or_of_a_file_by_path(tmp_path: Path) -> None:
    text = 'extends = "nucleo_f446re"\nname = "slow"\nclock_hz = 16_000_000\n'
    board = load_board(write(tmp_path, "slow", text))
    assert board.clock_hz == 16_000_000 and board.regions == load_board("nucleo_f446re").regions
    (tmp_path / "sub").mkdir()
    path = write(tmp_path / "sub", "slower", 'extends = "../slow.toml"\nname = "slower"\n')
    assert load_board(path).clock_hz == 16_000_000


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("clock_hz = 50_000_000", "clock_hz = 0", "'clock_hz' is 0"),
        ("length = 0x1_0000", "length = 3", "'length' of .region. is 3"),
        ("origin = 0x1000_0000", "origin = 0x2000_0000", "'ccm' .* overlaps 'sram'"),
        ("length = 0x1000\n", "lengths = 0x1000\n", "'length' of .region. is missing"),
        ("application = 512", "application = 0x1_0000", "stack . application are 67,584 bytes"),
    ],
)
def test_an_error_of_the_variant_names_the_variant(variant: Path, old: str, new: str, words: str) -> None:
    assert old in VARIANT
    path = write(variant, "variant", VARIANT.replace(old, new))
    with pytest.raises(BoardError, match=words) as problem:
        load_board("variant", [variant])
    assert str(problem.value).startswith(f"{path}:") or "stack" in words


def test_an_error_of_the_base_names_the_base(variant: Path) -> None:
    text = CACHED.replace("wait_states = 3", "wait_states = -3")
    path = write(variant, "mine", text)
    with pytest.raises(BoardError, match="is -3") as problem:
        load_board("variant", [variant])
    assert str(problem.value).startswith(f"{path}:{line_of(text, 'wait_states = -3')}: ")


def test_circles_end(tmp_path: Path) -> None:
    path = write(tmp_path, "a", 'extends = "a"\nname = "a"\n')
    with pytest.raises(BoardError, match=r"a\.toml:1: .*cannot extend itself|cannot extend itself"):
        load_board(path, [tmp_path])
    for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
        write(tmp_path, one, f'name = "{one}"\nextends = "{other}"\n')
    with pytest.raises(BoardError, match="cannot extend itself") as problem:
        load_board("a", [tmp_path])
    assert str(problem.value).startswith(f"{tmp_path / 'c.toml'}:2: ")


def test_an_unknown_base_is_corrected(tmp_path: Path) -> None:
    path = write(tmp_path, "a", 'extends = "nucleo_f466re"\nname = "a"\n')
    with pytest.raises(BoardError, match="did you mean 'nucleo_f446re'"):
        load_board(path)


# ---- the user's folders


def test_own_boards_are_listed_beside_ours_and_come_first(variant: Path) -> None:
    assert {"mine", "variant"} <= set(board_names([variant])) and "mine" not in board_names()
    write(variant, "microbit", CACHED.replace('name = "mine"', 'name = "microbit"'))
    boards = {b.name: b for b in all_boards([variant])}
    assert boards["microbit"].cpu == "cortex-m4" and load_board("microbit").cpu == "cortex-m0"
    with pytest.raises(BoardError, match="did you mean 'variant'"):
        load_board("varient", [variant])


def test_a_budget_shrinks_the_code_region_only() -> None:
    board = load_board("nucleo_f446re")
    small = limited(board, 100_000)
    assert small.code.length == 100_000 and small.ram == board.ram
    assert limited(board, None) is board and limited(board, 1 << 30) is board
    with pytest.raises(BoardError, match="too little"):
        limited(board, 100)


# ---- memory that needs a loader of its own

EXTERNAL = """
extends = "nrf52840_dk"
name = "mine"
[[region]]
name = "{region}"
programming = "{command}"
"""


def test_how_a_region_is_filled_is_read_and_checked(tmp_path: Path) -> None:
    good = write(tmp_path, "mine", EXTERNAL.format(region="qspi", command="loader -w {hex}"))
    assert load_board(good).region("qspi").programming == "loader -w {hex}"
    assert load_board(good).code.programming == ""
    for region, command in (("sram", "loader -w {hex}"), ("qspi", "loader -w weights")):
        text = EXTERNAL.format(region=region, command=command)
        with pytest.raises(BoardError, match=f"region '{region}' of kind .* has programming") as problem:
            load_board(write(tmp_path, "mine", text))
        assert f"mine.toml:{line_of(text, 'programming')}: " in str(problem.value)
