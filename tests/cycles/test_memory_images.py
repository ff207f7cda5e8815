"""Memories under whole images: code and data in a region SLOW, followed in Unicorn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.memories import SLOW, board_with, cache_of
from tests.support.micro import EMPTY, Snippet, follow, measure

pytestmark = pytest.mark.arm


def test_memory_without_wait_states_costs_nothing(tmp_path: Path) -> None:
    data = f'.section .in_{SLOW}, "a"\ntable: .word 1, 2, 3, 4\n'
    code = "ldr r0, [r1]; ldr r2, [r1, #8]; ldrd r4, r5, [r1]"
    snippets = [EMPTY, Snippet(code, "ldr r1, =table")]
    quick = measure(board_with(kind="flash", width=4, wait_states=0), snippets, tmp_path, data)
    assert [(c.fetch, c.data) for c in quick] == [(0, 0), (0, 0)]
    slow = measure(board_with(kind="flash", width=4, wait_states=3), snippets, tmp_path, data)
    assert slow[1].data == 4 * 3 and slow[1].read[SLOW] == 16  # words 0, 2, 0, 1
    assert [c.cycles for c in slow] == [c.cycles for c in quick]


@pytest.mark.parametrize(
    ("code", "stalls", "read"),
    [
        (
            "ldr r0, [r1, #2]",
            3 + 3,
            4,
        ),  # across two words: the second access is a cycle of its own (test_timing.py)
        ("ldrh r0, [r1, #3]", 3 + 3, 2),
        ("ldrb r0, [r1, #3]", 3, 1),
        ("ldm r1, {r4-r7}", 4 * 3, 16),
        ("vldr d0, [r1]; ldr r0, [r1]", 3 * 3, 12),
        (
            "str r4, [r1]; ldr r5, [r1, #4]",
            6,
            4,
        ),  # written until cycle 4, read until 8, asked for in cycle 1: 8 - 1 - 1
        ("str r4, [r1]; nop; nop; nop; ldr r5, [r1, #4]", 3, 4),
    ],
)
def test_every_unit_of_an_access_waits(tmp_path: Path, code: str, stalls: int, read: int) -> None:
    """SRAM of 4 bytes an access and 3 wait states."""
    board = board_with(kind="sram", width=4, wait_states=3)
    got = measure(board, [EMPTY, Snippet(code, "ldr r1, =0x60000000")], tmp_path)[1]
    assert (got.data, got.read[SLOW]) == (stalls, read)


def test_a_word_from_narrow_memory_takes_several_accesses(tmp_path: Path) -> None:
    """2 bytes an access, 3 wait states: 4 + 4 cycles for one word, one of them the core's own."""
    board = board_with(kind="sram", width=2, wait_states=3)
    got = measure(board, [EMPTY, Snippet("ldr r0, [r1]", "ldr r1, =0x60000000")], tmp_path)[1]
    assert got.data == 4 + 4 - 1


def test_code_in_slow_memory_waits_once_per_unit_and_round(tmp_path: Path) -> None:
    """Six instructions of 2 bytes in units of 4, called once and twice: 3 fetches of 4 bytes each time."""
    data = f""".section .in_{SLOW}, "ax"
.thumb_func
slow: adds r0, #1
adds r0, #1
adds r0, #1
adds r0, #1
adds r0, #1
bx lr
"""
    snippets = [Snippet("blx r1", "ldr r1, =slow + 1"), Snippet("blx r1; blx r1", "ldr r1, =slow + 1")]
    board = board_with(kind="flash", width=4, wait_states=3)
    trace = follow(board, snippets, tmp_path, data)
    assert [i.outside.fetch for i in trace.inferences] == [9, 18]
    wide = follow(board_with(kind="flash", width=16, wait_states=3), snippets, tmp_path, data)
    assert [i.outside.fetch for i in wide.inferences] == [3, 0]  # still in the buffer


def test_memory_wider_than_a_line_delivers_a_line(tmp_path: Path) -> None:
    """16 bytes an access behind a cache of lines of 8."""
    cache = cache_of(size=64, line=8, ways=2, fill="line")
    board = board_with([cache], kind="flash", width=16, wait_states=3)
    code = "ldr r0, [r1]; ldr r0, [r1, #4]; ldr r0, [r1, #8]; ldr r0, [r1]"
    got = measure(board, [EMPTY, Snippet(code, "ldr r1, =0x60000000")], tmp_path)[1]
    assert got.data == 3 + 3


def test_a_load_does_not_wait_for_what_is_fetched_later(tmp_path: Path) -> None:
    """Flash that holds code and data, 4 bytes an access, 3 wait states; 2 instructions in each unit of code.

    By hand: the load is the second half of a unit, whose fetch is done; its word is there 4 cycles later.
    """
    board = board_with(kind="flash", width=4, wait_states=3)
    board = replace(board, layout=replace(board.layout, code=SLOW))
    waits = [
        Snippet(f".balign 4; nop; ldr r0, [r1]; {'; '.join(['nop'] * count)}", "ldr r1, =0x60000100")
        for count in (0, 2, 6, 40)
    ]
    assert [c.data for c in measure(board, waits, tmp_path)] == [3] * 4
