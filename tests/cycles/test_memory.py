"""memory.h against sequences computed by hand, and against a second model that knows nothing of it.

An access takes 1 + wait states; the core's own cycle of it is no stall. `by hand` comments count the cycles that pass.
"""

from __future__ import annotations

import pytest

from tests.support.memories import Clocked, board_with, cache_of
from tinygen.boards import Cache


def memory(*caches: Cache, kind: str = "flash", **region: object) -> Clocked:
    """8 bytes an access, 5 wait states, unless said otherwise."""
    described = {"kind": kind, "width": 8, "wait_states": 5, **region}
    return Clocked(board_with(caches, **described))


# ---- without caches


@pytest.mark.parametrize("wait", [1, 2, 7])
def test_sram_waits_at_every_access(wait: int) -> None:
    assert memory(kind="sram", wait_states=wait).read(0, 0, 1, 9, 1) == [wait] * 5


def test_flash_keeps_what_it_delivered_last() -> None:
    slow = memory()
    assert slow.read(0, 0, 0, 1, 1, 0) == [5, 0, 0, 5, 0, 5]


def test_a_burst_that_goes_on_waits_less() -> None:
    slow = memory(wait_states=7, sequential_wait_states=3)
    assert slow.read(4, 5, 6, 9, 10, 9) == [7, 3, 3, 7, 3, 7]


def test_nobody_waits_for_a_write_but_the_next_one_who_reads() -> None:
    slow = memory(kind="sram", wait_states=3)
    assert slow.write(0) == [0]
    assert slow.read(1) == [6]  # at 101: busy until 104, there at 108, 108 - 101 - 1
    slow.rest()
    assert slow.write(0, 1) == [0, 0]
    slow.rest(20)
    assert slow.read(1) == [3]


def test_fetches_and_data_share_the_buffer_of_flash() -> None:
    slow = memory()
    assert [*slow.fetch(0), *slow.read(0, 9), *slow.fetch(0)] == [5, 0, 5, 5]


# ---- prefetch


def test_fetches_in_order_are_read_ahead() -> None:
    """By hand: 100 + 6 there, unit 1 read from 106 to 112: a fetch at 106 waits 5, one at 110 waits 1, at 116 none."""
    assert memory(prefetch=True).fetch(0, 1, 2, 3) == [5, 5, 5, 5]
    assert memory(prefetch=True).fetch(0, 1, 2, 3, apart=4) == [
        5,
        2,
        2,
        2,
    ]  # at 106 + 3: there at 112, 112 - 109 - 1
    assert memory(prefetch=True).fetch(0, 1, 2, 3, apart=10) == [5, 0, 0, 0]
    assert memory(prefetch=False).fetch(0, 1, 2, 3, apart=10) == [5, 5, 5, 5]


def test_a_jump_waits_for_what_is_read_ahead_in_vain() -> None:
    slow = memory(prefetch=True)
    assert slow.fetch(0, 9) == [5, 11]  # at 106: unit 1 until 112, unit 9 until 118, 118 - 106 - 1
    slow.rest()
    assert slow.fetch(10, 0) == [
        0,
        10,
    ]  # 10 was read ahead; 11 is being read from 1118 to 1124, 0 until 1130: 1130 - 1119 - 1


def test_data_is_not_read_ahead_and_waits_for_the_prefetcher() -> None:
    slow = memory(prefetch=True)
    assert slow.read(0, 1) == [5, 5]
    assert [*slow.fetch(4), *slow.read(9)] == [5, 11]


def test_what_a_cache_holds_is_not_read_ahead() -> None:
    """A branch cache in front of flash: the second round neither waits nor keeps the memory from data."""
    slow = memory(cache_of(size=64, line=8, ways=8, fill="access", serves="instructions"), prefetch=True)
    assert slow.fetch(0, 1, 2, apart=10) == [5, 0, 0]
    assert slow.fetch(0, 1, 2, apart=10) == [0, 0, 0]
    assert slow.read(40) == [5]


# ---- caches: fills


def cached(fill: str, size: int = 128, line: int = 32, ways: int = 2, write: str = "through") -> Clocked:
    """2 sets of 2 ways of 4 units; a whole line is 4 accesses of 6 cycles."""
    return memory(cache_of(size=size, line=line, ways=ways, fill=fill, write=write))


def test_fill_access_brings_what_was_asked_for() -> None:
    slow = cached("access")
    assert slow.read(0, 0, 1, 3, 2, 1, 0, 3) == [5, 0, 5, 5, 5, 0, 0, 0]


def test_fill_line_waits_for_all_of_it() -> None:
    slow = cached("line")
    assert slow.read(2, 0, 1, 2, 3, 4) == [23, 0, 0, 0, 0, 23]


def test_fill_line_in_bursts() -> None:
    slow = memory(cache_of(size=128, line=32, ways=2, fill="line"), wait_states=7, sequential_wait_states=1)
    assert slow.read(2, 3, 4) == [7 + 3 * 2, 0, 1 + 3 * 2]  # the second line follows the first one


def test_fill_background_goes_on_at_once() -> None:
    """By hand: unit 0 there at 106, then 1 at 112, 2 at 118, 3 at 124."""
    assert cached("background").read(0, 1, 2, 3, 3) == [5, 5, 5, 5, 0]
    slow = cached("background")
    assert slow.read(0) == [5]
    slow.rest(8)
    assert slow.read(2, 1, 0, 3) == [118 - 114 - 1, 0, 0, 124 - 120 - 1]
    slow = cached("background")
    assert slow.read(0, 0, 0) == [5, 0, 0]
    slow.rest(30)
    assert slow.read(3, 2, 1) == [0, 0, 0]


def test_fill_background_wraps_behind_the_first_unit() -> None:
    """By hand: unit 2 there at 106, 3 at 112, 0 at 118, 1 at 124."""
    assert cached("background").read(2, 1) == [5, 124 - 106 - 1]
    assert cached("background").read(2, 0, 3, 1) == [5, 118 - 106 - 1, 0, 124 - 119 - 1]


def test_a_miss_waits_for_the_fill_in_the_background() -> None:
    slow = cached("background")
    assert slow.read(0, 4) == [5, 130 - 106 - 1]  # the line until 124, then an access
    slow.rest()
    assert slow.read(1, 5) == [0, 0]


def test_a_hit_waits_for_its_own_line_though_another_is_filled_behind_it() -> None:
    slow = cached("background", write="back")
    assert slow.read(0) == [5]
    assert slow.write(4) == [0]  # its line begins at 124
    assert slow.read(3) == [124 - 107 - 1]
    assert slow.read(4) == [130 - 124 - 1]


# ---- caches: what they keep


def test_the_line_that_was_used_last_stays() -> None:
    """One set of two ways. FIFO would drop line 0 for line 2, the other way round drops line 0, too."""
    slow = cached("line", size=64)
    assert slow.read(0, 4, 0, 8) == [23, 23, 0, 23]
    assert slow.read(0, 8) == [0, 0]
    assert slow.read(4) == [23]


def test_one_line_more_than_ways_thrashes_its_set() -> None:
    slow = cached("line")
    lines = [0, 2, 4]  # all in set 0
    assert slow.read(*[4 * n for n in lines * 3]) == [23] * 9
    assert slow.read(4, 12, 4, 12) == [23, 23, 0, 0]  # lines 1 and 3: set 1 was left alone


def test_what_fits_stays() -> None:
    slow = cached("line")
    assert slow.read(*[4 * n for n in range(4)] * 3) == [23] * 4 + [0] * 8


def test_caches_of_instructions_and_of_data_are_apart() -> None:
    kinds = [
        cache_of(name=n, serves=n, size=64, line=32, ways=1, fill="line") for n in ("instructions", "data")
    ]
    slow = memory(*kinds)
    assert [*slow.fetch(0), *slow.read(0), *slow.fetch(0), *slow.read(0)] == [23, 23, 0, 0]


def test_a_cache_of_instructions_leaves_data_to_the_buffer() -> None:
    slow = memory(cache_of(size=64, line=32, ways=1, fill="line", serves="instructions"))
    assert [*slow.fetch(0), *slow.read(0, 0, 1)] == [23, 5, 0, 5]


# ---- caches: writes


def test_write_through_goes_past() -> None:
    slow = cached("line")
    assert slow.write(0) == [0]
    slow.rest()
    assert slow.read(0) == [23]
    assert slow.write(1) == [0]  # the line stays right
    assert slow.read(0, 1, 4) == [0, 0, 23 + 3]  # at 126: memory busy until 130 (write at 124), 24 more
    slow.rest()
    assert slow.read(0) == [0]


def test_write_back_allocates() -> None:
    slow = cached("line", write="back")
    assert slow.write(0) == [0]
    slow.rest()
    assert slow.read(0, 1) == [0, 0]


def test_a_read_behind_a_write_that_allocates_waits_for_the_line() -> None:
    slow = cached("line", write="back")
    assert slow.write(0) == [0]
    assert slow.read(0) == [124 - 101 - 1]


def test_a_line_that_was_written_to_goes_back_first() -> None:
    slow = cached("line", size=32, ways=1, write="back")
    slow.write(0)
    slow.rest()
    assert slow.read(4) == [24 + 23]
    slow.rest()
    assert slow.read(0) == [23]  # line 1 was only read
