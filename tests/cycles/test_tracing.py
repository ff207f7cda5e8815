"""Following real firmware: counts equal those of Unicorn and QEMU, outputs do not change, nothing gets lost."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import pinned
from tests.support.memories import board_with
from tests.support.micro import EMPTY, Snippet, assemble, follow
from tests.support.profiled import build, built, chain_of, inputs_of, profile, profile_of, profiled
from tinygen import evaluate, running
from tinygen.boards import load_board
from tinygen.cycles import native, pipeline
from tinygen.cycles.bare import trace_elf
from tinygen.cycles.instructions import decode
from tinygen.cycles.tracing import fetches
from tinygen.emulators import Qemu, Unicorn
from tinygen.emulators.base import Emulator
from tinygen.emulators.traced import Traced
from tinygen.errors import RunError, ToolError
from tinygen.profiling import Cost

pytestmark = pytest.mark.arm

BOARDS = ("mps2_an386", "mps2_an385", "mps2_an500", "mps2_an505", "microbit")
SLOW = "nucleo_l4r5zi"
"""A board with wait states, caches and a prefetcher."""


@pytest.mark.qemu
@pytest.mark.parametrize("board", BOARDS)
def test_instructions_are_those_that_emulators_count(board: str) -> None:
    """Per inference, exactly; that the run passes shows that following it changes no output."""
    image, got = built(board), profiled(board)
    inputs = inputs_of(image)
    expected = evaluate.reference(image.compiled.graph, inputs)
    counters: tuple[Emulator, ...] = (Unicorn(count_all=True), Qemu())
    for emulator in counters:
        result = running.run(image.firmware, image.board, emulator, inputs, expected)
        assert result.passed, result.detail
        assert result.instructions == tuple(c.instructions for c in got.totals), emulator.name
    assert len(set(result.instructions)) > 1, "samples that take equally long prove little"


@pytest.mark.parametrize(("board", "pin"), [*((b, "none") for b in (*BOARDS, SLOW)), (SLOW, "all")])
def test_layers_and_what_is_outside_add_up(board: str, pin: str) -> None:
    got = profiled(board, pin)
    costs = [*(layer.cost for layer in got.layers), got.outside]
    assert [layer.name for layer in got.layers] == ["first", "second", "flat", "last", "scores"]
    for key in (
        "instructions",
        "cycles",
        "zero_wait_cycles",
        "fetch_stalls",
        "data_stalls",
        "unpinned_cycles",
    ):
        assert sum(getattr(c, key) for c in costs) == getattr(got.median, key), key
    assert all(known(c) for c in (*costs, *got.totals))
    assert all((layer.cost.instructions > 0) == (layer.kernel != "alias") for layer in got.layers)
    assert got.outside.instructions < 0.01 * got.median.instructions
    assert got.median.cycles == sorted(c.cycles or 0 for c in got.warm)[(len(got.warm) - 1) // 2]


def known(c: Cost) -> bool:
    """The parts of a cost are its sum."""
    assert c.zero_wait_cycles is not None and c.fetch_stalls is not None and c.data_stalls is not None
    return c.zero_wait_cycles + c.fetch_stalls + c.data_stalls == c.cycles


@pytest.mark.parametrize("board", BOARDS)
def test_memory_without_wait_states_makes_no_stalls(board: str) -> None:
    assert all(c.cycles == c.zero_wait_cycles == c.unpinned_cycles for c in profiled(board).totals)


@pytest.mark.parametrize("board", ["mps2_an386", SLOW])
def test_two_runs_are_equal(board: str) -> None:
    assert profile(built(board)) == profiled(board)


def test_layers_that_share_a_function_get_their_own_counts() -> None:
    """Two convolutions call one function; each takes what it takes as a model's only layer, on the same samples.
    In portable C: its branches follow the data, so that the layers differ."""

    def image_of(*seeds: int) -> pinned.Built:
        return build(chain_of(*seeds), "mps2_an386", optimize="portable")

    both = image_of(1, 2)
    assert sum(m.is_code for m in both.compiled.library.movables) == 1
    x = [a[:1] for a in inputs_of(both)]
    between = evaluate.reference(chain_of(1), x)
    alone = [profile(image_of(s), i).layers[0].cost for s, i in ((1, x), (2, between))]
    assert [layer.cost for layer in profile(both, x).layers] == alone
    assert alone[0] != alone[1]


def test_reads_of_arrays_are_those_that_a_probe_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    image = built("mps2_an386")
    x = [a[:1] for a in inputs_of(image)]
    expected = evaluate.reference(image.compiled.graph, x)
    arrays = [m.symbol for m in image.compiled.library.movables if not m.is_code]
    reads: Counter[str] = Counter()
    probe = pinned.counting_reads({a: image.run_range(a) for a in arrays}, reads)
    assert pinned.run(image, x, expected, probe, monkeypatch).passed
    monkeypatch.undo()
    objects = {o.symbol: o for o in profile(image, x).objects}
    assert {a: objects[a].bytes_read for a in arrays} == {a: reads[a] for a in arrays}
    assert all(reads.values())


def test_several_runs_make_one_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the input block holds one sample at a time: what each inference takes is the same, in the same order."""
    image = built("mps2_an386")
    runs: list[int] = []
    execute = Traced.execute

    def counting(self: Traced, *arguments: Any) -> str:
        runs.append(len(self.traces))
        return execute(self, *arguments)

    monkeypatch.setattr(Traced, "execute", counting)
    monkeypatch.setattr(
        running, "block_capacity", lambda firmware: 8 + firmware.description.models[0].record_bytes
    )
    apart = profile(image)
    assert runs == [0, 1, 2]
    assert (
        not apart.is_warm
        and apart.warm == apart.totals
        and profiled("mps2_an386").followed == (False, True, True)
    )
    assert (apart.totals, apart.layers) == (profiled("mps2_an386").totals, profiled("mps2_an386").layers)


@pytest.mark.parametrize(
    ("address", "width", "points"),
    [
        (0x6000_0000, 4, [(0, 0), (4, 1), (8, 3)]),
        (0x6000_0002, 4, [(0, 0), (2, 1), (6, 3)]),
        (0x6000_0002, 8, [(0, 0), (6, 3)]),
        (0x6000_0000, 16, [(0, 0)]),
        (0x6000_0006, 2, [(0, 0), (2, 1), (4, 1), (6, 3), (8, 3)]),
    ],
)
def test_a_block_fetches_each_unit_with_the_first_instruction_that_needs_it(
    address: int, width: int, points: list[tuple[int, int]]
) -> None:
    """adds; ldr.w; b.w with 2, 4 and 4 bytes that start in cycles 0, 1 and 3."""
    board = board_with(kind="flash", width=width, wait_states=3)
    code = decode(bytes.fromhex("8818d1f8000000f000b8"), address)
    index, found = fetches(board.regions, code, pipeline.Cost(4, (0, 1, 3)), address)
    assert board.regions[index].name == "slow" and found == points
    assert fetches(board.regions, code, pipeline.Cost(4, (0, 1, 3)), board.code.origin) == (-1, [])


# ---- pinning


def test_a_pinned_image_tells_what_it_would_take_unpinned() -> None:
    """Within 1 %: the pinned image differs in its addresses, and calls kernels in SRAM through a register."""
    pins, plain = profiled(SLOW, "all"), profiled(SLOW)
    for here, there in zip(pins.totals, plain.totals, strict=True):
        assert here.unpinned_cycles == pytest.approx(there.cycles, rel=0.01)
        assert here.cycles is not None and here.cycles < 0.99 * (there.cycles or 0)
        assert there.unpinned_cycles == there.cycles


def test_only_what_is_pinned_is_copied() -> None:
    plain, pins = profiled(SLOW).cold, profiled(SLOW, "all").cold
    assert plain is not None and pins is not None
    assert (plain.copy_cycles, plain.pays_after) == (0, None)
    assert 0 < pins.copy_cycles < pins.startup_cycles
    assert pins.startup_cycles - plain.startup_cycles == pytest.approx(pins.copy_cycles, rel=0.05)
    saved = (profiled(SLOW, "all").median.unpinned_cycles or 0) - (profiled(SLOW, "all").median.cycles or 0)
    assert pins.pays_after == -(-pins.copy_cycles // saved)


def test_objects_say_where_they_are_and_wait_no_more_in_sram() -> None:
    pins, plain = profiled(SLOW, "all").objects, profiled(SLOW).objects
    assert {o.symbol for o in pins} == {o.symbol for o in plain}
    assert all(o.pinned and o.region == "sram" and o.stalls == 0 < o.unpinned_stalls for o in pins)
    assert all(not o.pinned and o.region == "flash" and o.stalls == o.unpinned_stalls for o in plain)
    waits = sum(o.stalls for o in plain)
    total = profiled(SLOW).median
    assert waits <= (total.fetch_stalls or 0) + (total.data_stalls or 0) + len(plain)


# ---- what cannot be followed


def test_wrong_outputs_give_no_profile() -> None:
    image = built("mps2_an386")
    x = inputs_of(image)
    (expected,) = evaluate.reference(image.compiled.graph, x)
    wrong = np.array(expected)
    wrong.flat[-1] ^= 1
    with pytest.raises(RunError, match="the profiled run did not pass: WRONG_OUTPUT"):
        profile_of(image, x, [wrong])


def test_a_core_without_an_emulator_is_named() -> None:
    image = replace(built("mps2_an386"), board=load_board("mps3_an547"))
    with pytest.raises(
        RunError, match=r"cannot be profiled: Unicorn has no model of cortex-m55.*'mps3_an547'"
    ):
        profile(image)


def test_an_image_without_marks_and_one_that_stops(tmp_path: Path) -> None:
    board = load_board("mps2_an386")
    elf = assemble(board, [EMPTY], tmp_path)
    with pytest.raises(RunError, match="no symbol 'start'"):
        trace_elf(elf, board, "start", "done")
    elf = assemble(board, [Snippet("ldr r0, [r1]", "ldr r1, =0x70000000")], tmp_path)
    with pytest.raises(RunError, match=r"stopped at 0x0000[0-9a-f]{4}: Invalid memory read"):
        trace_elf(elf, board, "mark", "done")


def test_without_a_compiler_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolError, match="profiling needs a C compiler"):
        native.library()


# ---- IT blocks

BEHIND = "b 1f; 1: add r5, #1; add r5, #1; add r5, #1; 2: ldrb r0, [r1]; subs r5, #1; bne 2b"
"""Behind an IT block: 3 more in r5 (where Unicorn forgets to leave the IT state one of them is skipped), then as many
loads of a byte as r5 says, so that what is read tells the result."""
BLOCKS = {
    "itt ne; ldrne r0, [r1]; addne r5, #1": 4,
    "ite ne; ldrne r0, [r1]; moveq r5, #77": 3,
    "itte ne; ldrne r0, [r1]; strne r0, [r1]; moveq r5, #77": 3,
    "ite eq; ldreq r0, [r1]; addne r5, #2": 5,
    "itete ne; ldrne r0, [r1]; ldreq r5, [r1]; strne r0, [r1]; moveq r5, #77": 3,
    "itt ne; ldrne r0, [r1]; bne 1f": 3,
}


def results(tmp_path: Path) -> list[int]:
    """r5 behind each block; it starts as 0, Z is clear."""
    setup = "ldr r1, =0x20000100; movs r5, #0; cmp r5, #1"
    snippets = [Snippet(f"{block}; {BEHIND}", setup) for block in BLOCKS]
    trace = follow(load_board("mps2_an386"), snippets, tmp_path)
    words = [4 * block.count("ldrne") for block in BLOCKS]
    read = [i.outside.read["ssram23"] for i in trace.inferences]
    return [r - w for r, w in zip(read, words, strict=True)]


def test_hooks_inside_of_it_blocks_change_no_result(tmp_path: Path) -> None:
    assert results(tmp_path) == list(BLOCKS.values())


def test_the_trap_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same blocks, the IT state not cleared: should Unicorn mend it, tg_clear_it can go."""
    for name in ("tracer.c", "tracer.h", "memory.h"):
        shutil.copy(native.SOURCE.parent / name, tmp_path)
    source = tmp_path / "tracer.c"
    clearing = "xpsr &= ~UINT32_C(0x0600FC00);"
    assert source.read_text().count(clearing) == 1
    source.write_text(source.read_text().replace(clearing, ""))
    monkeypatch.setattr(native, "SOURCE", source)
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    assert results(tmp_path) != list(BLOCKS.values())
