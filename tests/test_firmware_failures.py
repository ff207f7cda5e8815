"""Every way in which firmware can fail, with real images: each gives its own Outcome and says why."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import pytest

from tests.support import tinyfw
from tinygen import building, running
from tinygen.boards import Board, load_board
from tinygen.boards import Qemu as QemuMachine
from tinygen.emulators import Host, Qemu, Unicorn
from tinygen.emulators.base import Emulator
from tinygen.errors import BoardError, OutputError, ToolError
from tinygen.firmware import GUARD_BYTES, MAGIC
from tinygen.judge import Outcome, RunResult, Wanted, judge

M4 = "mps2_an386"
BOARDS = ("microbit", "mps2_an385", M4, "mps2_an500", "mps2_an505", "mps3_an547")
QEMU = [pytest.param(Qemu(), b, marks=[pytest.mark.qemu, pytest.mark.arm], id=f"qemu-{b}") for b in BOARDS]
UNICORN = [pytest.param(Unicorn(), b, marks=pytest.mark.arm, id=f"unicorn-{b}") for b in BOARDS[:-1]]
EVERYWHERE = pytest.mark.parametrize(("emulator", "board_name"), [*QEMU, *UNICORN])
ON_M4 = pytest.mark.parametrize(("emulator", "board_name"), [QEMU[2], UNICORN[2]])

PROJECTS: dict[tuple[str, str, str], Path] = {}
"""Board, body, declarations -> the project that holds them."""

ON_SECOND = "    static volatile int32_t runs;\n    runs = runs + 1;\n    if (runs == 2) {{ {} }}"
RECURSE = """
__attribute__((noinline)) static int32_t deeper(int32_t n)
{
    volatile int32_t frame[16];
    frame[n & 15] = n;
    return n <= 0 ? 0 : deeper(n - 1) + frame[n & 15];
}
"""


def run(
    folder: Path,
    board: Board,
    emulator: Emulator,
    body: str,
    declarations: str = "",
    timeout: float = 20.0,
    samples: int = 3,
) -> RunResult:
    """The toy model with `body` in its invoke, built (once per test process) and run on some samples."""
    key = (board.name, body, declarations)
    project = PROJECTS.setdefault(key, folder)
    if project == folder:
        tinyfw.project(folder, board, body, declarations)
    x = tinyfw.inputs(samples)
    image = emulator.build(project, board)
    return running.run(image, board, emulator, x, tinyfw.expected(x), timeout)


@EVERYWHERE
def test_healthy_firmware_passes(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    result = run(tmp_path, load_board(board_name), emulator, "    (void)arena_bytes;")
    assert result.outcome is Outcome.PASSED, result.detail
    assert result.stack_bytes is not None and 64 < result.stack_bytes < 1024


@EVERYWHERE
def test_hard_fault_is_reported_with_function(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    nowhere = "0x30000000U" if board_name == "microbit" else "0xF0000000U"
    body = ON_SECOND.format(f"base[0] = *(volatile int8_t *){nowhere};")
    result = run(tmp_path, load_board(board_name), emulator, body)
    assert result.outcome is Outcome.FAULTED
    assert "after 1 sample:" in result.detail and "in toy_invoke()" in result.detail
    assert [len(o) for o in result.outputs] == [1, 1]


@EVERYWHERE
def test_undefined_instruction_is_a_fault(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    result = run(tmp_path, load_board(board_name), emulator, ON_SECOND.format('__asm volatile("udf #0");'))
    assert result.outcome is Outcome.FAULTED and "in toy_invoke()" in result.detail


@EVERYWHERE
def test_stack_overflow_is_named(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    result = run(tmp_path, load_board(board_name), emulator, "    base[0] = (int8_t)deeper(100000);", RECURSE)
    assert result.outcome is Outcome.FAULTED
    assert "stack overflow" in result.detail, result.detail


@pytest.mark.parametrize(("emulator", "board_name"), QEMU[1:4])
def test_guard_below_sram_is_the_memory_protection_units(
    tmp_path: Path, emulator: Emulator, board_name: str
) -> None:
    """On silicon something may answer below SRAM: it must be denied, not left to the bus."""
    board = load_board(board_name)
    for address in (board.ram.origin - 4, board.ram.origin - GUARD_BYTES):
        body = f"    base[0] = *(volatile int8_t *){address:#x}U;"
        result = run(tmp_path / hex(address), board, emulator, body)
        assert result.outcome is Outcome.FAULTED and "data access denied" in result.detail, result.detail


@pytest.mark.parametrize(("emulator", "board_name"), QEMU[4:])
def test_guard_below_sram_is_the_stack_limit(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    result = run(tmp_path, load_board(board_name), emulator, "    base[0] = (int8_t)deeper(100000);", RECURSE)
    assert result.outcome is Outcome.FAULTED and "stack limit reached" in result.detail, result.detail


@EVERYWHERE
def test_deep_but_allowed_stack_is_measured(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    body = "    if (deeper(12) != 78) { return TOY_ERROR; }"
    result = run(tmp_path, load_board(board_name), emulator, body, RECURSE)
    assert result.outcome is Outcome.PASSED, result.detail
    assert result.stack_bytes is not None and 12 * 64 < result.stack_bytes < 2048


@ON_M4
def test_data_is_initialised_and_zeroed(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    """Every word of the user's own variables, the first and the last one, too."""
    declarations = "int32_t first[3] = {11, 22, 33}; int32_t last[200];"
    checks = """
    int32_t sum = 0;
    for (int32_t i = 0; i < 200; ++i) {
        sum |= last[i];
    }
    if (first[0] != 11 || first[1] != 22 || first[2] != 33 || sum != 0) {
        return TOY_ERROR;
    }
    ++first[0];
    --first[0];
    last[199] = 0;"""
    result = run(tmp_path, load_board(board_name), emulator, checks, declarations)
    assert result.outcome is Outcome.PASSED, result.detail


@EVERYWHERE
def test_floating_point_is_on_where_the_core_has_it(
    tmp_path: Path, emulator: Emulator, board_name: str
) -> None:
    """Kernels need none, but the application around them may."""
    body = "    volatile float x = 1.5f; x *= (float)arena_bytes; if (x < 366.0f) { return TOY_ERROR; }"
    result = run(tmp_path, load_board(board_name), emulator, body)
    assert result.outcome is Outcome.PASSED, result.detail


@ON_M4
def test_stack_used_to_its_last_word_is_a_fault(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    """The canary: whoever touched the lowest word may have touched more."""
    body = "    extern uint32_t __stack_start[]; __stack_start[0] = 0U;"
    result = run(tmp_path, load_board(board_name), emulator, body)
    assert result.outcome is Outcome.FAULTED and "all of its 4,096 bytes of stack" in result.detail


@EVERYWHERE
def test_endless_loop_times_out(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    body = ON_SECOND.format('for (;;) { __asm volatile(""); }')
    result = run(tmp_path, load_board(board_name), emulator, body, timeout=2.0)
    assert result.outcome is Outcome.TIMED_OUT
    assert "for 2 seconds, after 1 of 3 samples" in result.detail


@ON_M4
def test_write_to_code_is_a_fault_where_memory_is_modelled(
    tmp_path: Path, emulator: Emulator, board_name: str
) -> None:
    """QEMU's mps2 code memory is SRAM and takes the write; Unicorn maps what the board's TOML says."""
    body = ON_SECOND.format("*(volatile uint32_t *)0x1000U = 1U;")
    result = run(tmp_path, load_board(board_name), emulator, body)
    assert (result.outcome is Outcome.FAULTED) == (emulator.name == "unicorn"), result.detail


@pytest.mark.arm
@pytest.mark.parametrize(
    "address", ["0x00400000U", "0x1FFFFFFCU", "0x20400000U", "0x40001000U", "0x40004FF0U"]
)
@pytest.mark.parametrize("write", [False, True])
def test_unicorn_refuses_every_address_outside_the_board(tmp_path: Path, address: str, write: bool) -> None:
    access = f"*(volatile uint32_t *){address}"
    body = f"    {access} = 1U;" if write else f"    (void){access};"
    result = run(tmp_path, load_board(M4), Unicorn(), body)
    assert result.outcome is Outcome.FAULTED
    assert ("write" if write else "read") in result.detail and address[2:-1].lower() in result.detail


@ON_M4
def test_wrong_output_names_the_element(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    board = load_board(board_name)
    x = tinyfw.inputs(3)
    right = tinyfw.expected(x)
    wrong = [y.copy() for y in right]
    wrong[0][1, 70] ^= 1
    wrong[1][2, 0] ^= 1
    image = emulator.build(tinyfw.project(tmp_path, board), board)
    result = running.run(image, board, emulator, x, wrong)
    assert result.outcome is Outcome.WRONG_OUTPUT
    got, want = right[0][1, 70], wrong[0][1, 70]
    assert f"sample 1, output 0 of 'toy', element 70: got {got}, expected {want} (2 of 303" in result.detail


@ON_M4
def test_image_of_another_project_is_stale(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    board = load_board(board_name)
    image = emulator.build(tinyfw.project(tmp_path, board, run_id="00000000deadbeef"), board)
    tinyfw.project(tmp_path, board)
    old = building.load_firmware(tmp_path, image.elf)
    x = tinyfw.inputs(1)
    result = running.run(old, board, emulator, x, tinyfw.expected(x))
    assert result.outcome is Outcome.STALE
    assert "00000000deadbeef" in result.detail and tinyfw.RUN_ID in result.detail


@pytest.mark.arm
def test_changed_sources_are_built_again(tmp_path: Path) -> None:
    board, x = load_board(M4), tinyfw.inputs(1)
    first = building.build(tinyfw.project(tmp_path, board), board).elf.read_bytes()
    changed = tinyfw.project(tmp_path, board, run_id="00000000deadbeef")
    image = building.build(changed, board)
    assert image.elf.read_bytes() != first
    assert running.run(image, board, Unicorn(), x, tinyfw.expected(x)).passed


@pytest.mark.arm
def test_damaged_image_is_built_again(tmp_path: Path) -> None:
    board, x = load_board(M4), tinyfw.inputs(1)
    elf = building.build(tinyfw.project(tmp_path, board), board).elf
    whole = elf.read_bytes()
    elf.write_bytes(whole[:1000])
    image = building.build(tmp_path, board)
    assert image.elf.read_bytes() == whole, "the same sources give the same bytes"
    assert running.run(image, board, Unicorn(), x, tinyfw.expected(x)).passed
    assert sorted(p.name for p in elf.parent.iterdir()) == ["fingerprint", "firmware.elf"]


@pytest.mark.arm
def test_unwritable_project_is_an_output_error(tmp_path: Path) -> None:
    board = load_board(M4)
    project = tinyfw.project(tmp_path, board)
    (project / "build").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="cannot write"):
        building.build(project, board)
    with pytest.raises(OutputError, match=r"has no firmware: cannot read firmware\.json"):
        building.build(tmp_path / "nothing", board)


@pytest.mark.arm
def test_unchanged_sources_are_not_built_again(tmp_path: Path) -> None:
    board = load_board(M4)
    first = building.build(tinyfw.project(tmp_path, board), board).elf.stat().st_mtime_ns
    assert building.build(tmp_path, board).elf.stat().st_mtime_ns == first


@ON_M4
def test_console_that_is_not_text(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    """Bytes in the middle of the log spoil it; the log stays text and the sentence shows them."""
    declarations = "void tg_console_put(char c);"
    spoil = "for (int32_t i = 0; i < 256; ++i) { tg_console_put((char)(i ^ 0x80)); } tg_console_put(10);"
    result = run(tmp_path, load_board(board_name), emulator, ON_SECOND.format(spoil), declarations)
    assert result.log.isascii() and result.log.isprintable() is False and "\\x80\\x81" in result.log
    assert result.outcome is Outcome.PASSED, "noise on lines of its own harms nothing"


@ON_M4
def test_noise_within_a_line_is_incomplete(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    body = ON_SECOND.format("tg_console_put((char)0xFE);")
    result = run(tmp_path, load_board(board_name), emulator, body, "void tg_console_put(char c);")
    assert result.outcome is Outcome.INCOMPLETE
    assert "sample 1 of 'toy'" in result.detail and "\\xfe" in result.detail


@ON_M4
def test_printing_without_end_is_stopped(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    body = ON_SECOND.format("for (;;) { tg_console_put('x'); tg_console_put(10); }")
    result = run(tmp_path, load_board(board_name), emulator, body, "void tg_console_put(char c);")
    assert result.outcome is Outcome.INCOMPLETE and "printed without end" in result.detail
    assert len(result.log) < 1_000_000


@ON_M4
def test_restart_in_the_middle_is_incomplete(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    """Firmware that starts again (a watchdog, a wild jump) repeats itself: that is not one run."""
    again = """    extern uint32_t __handler_stack_start[];
    extern void tg_start(void);
    if (__handler_stack_start[0] != 0xC0FFEEU) { __handler_stack_start[0] = 0xC0FFEEU; tg_start(); }"""
    result = run(tmp_path, load_board(board_name), emulator, again)
    assert result.outcome is Outcome.INCOMPLETE and "started more than once" in result.detail


@ON_M4
def test_status_that_is_not_ok(tmp_path: Path, emulator: Emulator, board_name: str) -> None:
    result = run(tmp_path, load_board(board_name), emulator, ON_SECOND.format("return TOY_ERROR;"))
    assert result.outcome is Outcome.FAULTED and "toy_invoke returned status 1" in result.detail


@ON_M4
@pytest.mark.parametrize(
    ("block", "words"),
    [
        (b"", "input block was not filled"),
        (struct.pack("<II", MAGIC ^ 1, 1), "input block was not filled"),
        (struct.pack("<IIII", MAGIC, 1, 1, 0), "names no model"),
        (struct.pack("<II", MAGIC, 2) + bytes(112) + struct.pack("<II", 9, 0), "names no model"),
    ],
)
def test_bad_input_block(
    tmp_path: Path, emulator: Emulator, board_name: str, block: bytes, words: str
) -> None:
    board = load_board(board_name)
    image = emulator.build(tinyfw.project(tmp_path, board), board)
    log = emulator.execute(image, board, block, 10.0)
    result = judge(log, tinyfw.RUN_ID, image.description.models, [Wanted(0, 0, None)])
    assert result.outcome is Outcome.FAULTED and words in result.detail


def with_arena(folder: Path, board: Board, arena: int) -> Path:
    """A project whose arena has grown since it was placed: only the linker can see that it does not fit."""
    project = tinyfw.project(folder, board)
    source = project / "test" / "test_model" / "test_main.c"
    text = source.read_text()
    assert "tg_arena[61]" in text
    source.write_text(text.replace("tg_arena[61]", f"tg_arena[{arena // 4}]"))
    return project


@pytest.mark.arm
@pytest.mark.parametrize("board_name", ["microbit", M4])
def test_image_that_does_not_fit_fails_to_link(tmp_path: Path, board_name: str) -> None:
    """The linker script's ASSERT fires and names region and board; how much too many is told."""
    board = load_board(board_name)
    project = with_arena(tmp_path, board, board.ram.length - board.reserved.stack - 300)
    with pytest.raises(BoardError) as problem:
        building.build(project, board)
    text = str(problem.value)
    assert "the image does not fit" in text and f"bytes too many in {board.ram.name}" in text
    assert f"region '{board.ram.name}' of board '{board_name}'" in text
    assert not (project / "build" / board.name / "firmware.elf").exists()


@pytest.mark.arm
def test_inputs_that_do_not_fit_fail_to_link(tmp_path: Path) -> None:
    """Everything but the inputs of one sample fits: the ASSERT on the input block alone tells."""
    board = load_board(M4)
    small = building.build(with_arena(tmp_path / "small", board, 4096), board)
    room = board.ram.end - small.symbols["__tg_input_start"].address
    building.build(with_arena(tmp_path / "most", board, 4096 + room - 256), board)
    with pytest.raises(BoardError, match="the image does not fit"):
        building.build(with_arena(tmp_path / "all", board, 4096 + room), board)


@pytest.mark.arm
def test_application_reserve_is_kept_free(tmp_path: Path) -> None:
    """Bytes kept for the application count: an arena that would take them does not link."""
    board = load_board(M4)
    reserved = dataclasses.replace(board.reserved, application=board.ram.length // 2)
    half = dataclasses.replace(board, reserved=reserved)
    arena = board.ram.length // 2 - 4096
    with pytest.raises(BoardError, match="the image does not fit"):
        building.build(with_arena(tmp_path / "half", half, arena), half)
    building.build(with_arena(tmp_path / "whole", board, arena), board)


@pytest.mark.arm
def test_code_that_does_not_fit_fails_to_link(tmp_path: Path) -> None:
    board = load_board("microbit")
    declarations = "const volatile int8_t weights[262144] = {1};"
    project = tinyfw.project(tmp_path, board, "    base[0] = weights[base[0] & 127];", declarations)
    with pytest.raises(BoardError, match="code and weights do not fit region 'flash'"):
        building.build(project, board)


@pytest.mark.arm
def test_input_block_takes_what_is_left(tmp_path: Path) -> None:
    board = load_board("microbit")
    image = building.build(tinyfw.project(tmp_path, board, arena_bytes=60_000), board)
    capacity = running.block_capacity(image)
    assert 2000 < capacity < 3000
    x = tinyfw.inputs(60)
    seen: list[tuple[int, int]] = []
    result = running.run(
        image, board, Unicorn(), x, tinyfw.expected(x), progress=lambda done, of: seen.append((done, of))
    )
    assert result.passed and len(result.outputs[0]) == 60
    assert len(seen) == -(-60 // ((capacity - 8) // 112)) and seen[-1] == (60, 60)


@pytest.mark.arm
def test_source_that_does_not_compile_is_a_tool_error(tmp_path: Path) -> None:
    board = load_board(M4)
    project = tinyfw.project(tmp_path, board, "    int32_t unused;")
    with pytest.raises(ToolError, match=r"(?s)refuses .*toy\.c.*unused"):
        building.build(project, board)


@pytest.mark.arm
def test_generated_c_is_clean_on_every_board(tmp_path: Path) -> None:
    """-Wall -Wextra -Werror -Wconversion -Wshadow are in every build: that it builds is the proof."""
    for name in BOARDS:
        image = building.build(tinyfw.project(tmp_path / name, load_board(name)), load_board(name))
        assert image.sections[".text"] > 1000


def test_missing_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board, qemu = load_board(M4), Qemu(program="qemu-system-arm-absent")
    reason = qemu.unavailable(board)
    assert reason is not None and "apt-get install" in reason and "--emulator unicorn" in reason
    image = fake_image(tmp_path, board)
    result = running.run(image, board, qemu, tinyfw.inputs(1), None)
    assert result.outcome is Outcome.UNAVAILABLE and result.detail == reason


def test_missing_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    board = load_board(M4)
    with pytest.raises(ToolError, match=r"apt-get install .*gcc-arm-none-eabi libnewlib-arm-none-eabi"):
        building.build(tinyfw.project(tmp_path / "fw", board), board)
    with pytest.raises(ToolError, match="gcc is not installed"):
        building.build_host(tmp_path / "fw")
    assert Host().unavailable(board) is not None


@pytest.mark.qemu
def test_qemu_that_ends_by_itself(tmp_path: Path) -> None:
    """An ELF that is none: QEMU refuses it, the sentence says what QEMU said."""
    board = load_board(M4)
    image = fake_image(tmp_path, board)
    image.elf.write_bytes(b"not an image")
    unknown = dataclasses.replace(board, qemu=QemuMachine("mps9-an999", (), "none"))
    result = running.run(image, unknown, Qemu(), tinyfw.inputs(1), None, timeout=5.0)
    assert result.outcome is Outcome.INCOMPLETE and "unsupported machine" in result.detail


def test_damaged_image_is_a_tool_error(tmp_path: Path) -> None:
    project = tinyfw.project(tmp_path, load_board(M4))
    elf = tmp_path / "damaged.elf"
    for content in (b"", b"\x7fELF", b"\x7fELF" + bytes(range(256)) * 8):
        elf.write_bytes(content)
        with pytest.raises(ToolError, match="cannot be read as an ELF image"):
            building.load_firmware(project, elf)


@pytest.mark.parametrize("sanitize", [False, True])
def test_host_crash_is_a_fault(tmp_path: Path, sanitize: bool) -> None:
    body = ON_SECOND.format("volatile int8_t *volatile nowhere = NULL; *nowhere = 1;")
    result = run(tmp_path, load_board(M4), Host(sanitize), body)
    assert result.outcome is Outcome.FAULTED


def test_sanitizer_sees_what_the_plain_host_does_not(tmp_path: Path) -> None:
    """One byte behind the arena: harmless to the outputs, an error to ASan."""
    body = "    volatile int8_t *const p = base; p[arena_bytes] = 1;"
    assert run(tmp_path / "plain", load_board(M4), Host(), body).passed
    result = run(tmp_path / "asan", load_board(M4), Host(sanitize=True), body)
    assert result.outcome is Outcome.FAULTED and "AddressSanitizer" in result.detail


def test_host_endless_loop_times_out(tmp_path: Path) -> None:
    result = run(
        tmp_path, load_board(M4), Host(), ON_SECOND.format('for (;;) { __asm volatile(""); }'), timeout=1.0
    )
    assert result.outcome is Outcome.TIMED_OUT


def fake_image(folder: Path, board: Board) -> building.Firmware:
    """A Firmware that was never built: for what must fail before it is looked at."""
    project = tinyfw.project(folder / "fake", board)
    symbols = {name: building.Symbol(0x20000000 + i * 0x1000, 0) for i, name in enumerate(SYMBOLS)}
    description = building.read_description(project)
    return building.Firmware(project, project / "fake.elf", "board", description, "none", {}, symbols)


SYMBOLS = ("__tg_input_start", "__tg_input_end", "__stack_start", "tg_mark")
