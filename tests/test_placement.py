"""Placement: the best choice by brute force, what fits stays fit, budgets, the user's wishes, and what access costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.pinning import greedy_saving
from tests.support.graphs import int8_graph
from tests.support.host import library_of
from tinygen.access import Traffic, waiting
from tinygen.boards import Board, load_board
from tinygen.errors import BoardError, UsageError
from tinygen.firmware import needs_of
from tinygen.knapsack import GAP
from tinygen.placement import (
    Movable,
    Needs,
    Placement,
    fixed_bytes,
    place,
    rooms,
)
from tinygen.wishes import Wishes, read_wishes

MANY_REGIONS = load_board("nucleo_h743zi")
TWO_REGIONS = load_board("disco_f407vg")
EXTERNAL = load_board("nrf52840_dk")
NET = needs_of([library_of(int8_graph(0, 12))])


def with_rooms(board: Board, free: list[int]) -> Board:
    """The board with as many writable regions as given, with these bytes for arena, inputs and pinned objects."""
    kept = [r.name for r in board.writable[: len(free)]]
    extra = dict(zip(kept, free, strict=True))
    extra[board.layout.data] += fixed_bytes(board) + board.reserved.application
    regions = tuple(
        replace(r, length=extra[r.name]) if r.name in extra else r
        for r in board.regions
        if r.name in extra or not r.writable
    )
    return replace(board, regions=regions)


@st.composite
def movables(draw: st.DrawFn, index: int) -> Movable:
    size = draw(st.integers(1, 400))
    kind = draw(st.sampled_from(["data", "data", "instructions"]))
    read = draw(st.integers(0, 50)) * size
    element = 4 if kind == "instructions" else draw(st.sampled_from([1, 4]))
    role = "code" if kind == "instructions" else "weights"
    return Movable(f"net_{index}", f"layer{index}", role, Traffic(size, read, element, kind))


@st.composite
def problems(draw: st.DrawFn, boards: Sequence[Board] = (MANY_REGIONS, TWO_REGIONS)) -> tuple[Needs, Board]:
    board = with_rooms(
        draw(st.sampled_from(boards)),
        draw(st.lists(st.integers(8, 900), min_size=1, max_size=2)),
    )
    executable = tuple(replace(r, executable=draw(st.booleans())) if r.writable else r for r in board.regions)
    arena, record = draw(st.integers(1, 500)), draw(st.integers(1, 200))
    pieces = tuple(draw(movables(i)) for i in range(draw(st.integers(0, 5))))
    needs = Needs(arena, record, Traffic(arena, draw(st.integers(0, 9999)), 1), pieces)
    return needs, replace(board, regions=executable)


def brute_force(needs: Needs, board: Board, weights: str | None = None) -> float | None:
    """The most that can be saved, by trying everything; None when arena and inputs fit nowhere. weights: the home of
    arrays."""
    room, best = rooms(board), None
    array_home = board.region(weights) if weights else board.code
    names = list(room)
    objects = [Movable("", "", "", needs.arena_traffic), Movable("", "", "", Traffic(needs.record, 0, 4))]
    slowest = max(waiting(board, board.region(n), needs.arena_traffic) for n in names)
    choices: list[list[str | None]] = [list(names), list(names)]
    for m in needs.movables:
        choices.append([None, *(n for n in names if board.region(n).executable or not m.is_code)])
    objects += needs.movables
    for where in product(*choices):
        used = dict.fromkeys(names, 0)
        saved = slowest - waiting(board, board.region(str(where[0])), needs.arena_traffic)
        for index, (thing, name) in enumerate(zip(objects, where, strict=True)):
            if name is not None:
                used[name] += thing.bytes
                if index >= 2:
                    home = waiting(board, board.code if thing.is_code else array_home, thing.traffic)
                    saved += home - waiting(board, board.region(name), thing.traffic)
        if all(used[n] <= room[n] for n in names):
            best = saved if best is None else max(best, saved)
    return best


def check_legal(placement: Placement, needs: Needs, board: Board) -> None:
    """Everything is in a writable region once, within its room; no code where it cannot run."""
    used = dict.fromkeys(rooms(board), 0)
    used[placement.arena] += -(-needs.arena // 8) * 8
    used[placement.inputs] += -(-needs.record // 8) * 8
    for pin in placement.pins:
        used[pin.region] += pin.movable.bytes
        assert board.region(pin.region).executable or not pin.movable.is_code
    assert all(used[name] <= free for name, free in rooms(board).items())
    symbols = [p.movable.symbol for p in placement.pins]
    assert len(set(symbols)) == len(symbols)


@given(problems())
@settings(max_examples=150)
def test_nothing_saves_more(problem: tuple[Needs, Board]) -> None:
    needs, board = problem
    best = brute_force(needs, board)
    if best is None:
        with pytest.raises(BoardError, match="does not fit"):
            place(needs, board)
        return
    placement = place(needs, board)
    check_legal(placement, needs, board)
    price = 3e-6 * (needs.arena + 8 + sum(m.bytes for m in needs.movables))
    assert placement.saved >= best - GAP * best - price
    assert placement.bound >= placement.saved
    assert placement.saved <= best + 1e-6
    assert (
        greedy_saving(needs, board, placement) <= sum(p.saved for p in placement.pins) * (1 + 2 * GAP) + price
    )


@given(problems((load_board("disco_f746ng"),)))
@settings(max_examples=60)
def test_nothing_saves_more_where_weights_have_a_home_of_their_own(problem: tuple[Needs, Board]) -> None:
    needs, board = problem
    best = brute_force(needs, board, "qspi")
    if best is None:
        with pytest.raises(BoardError, match="does not fit"):
            place(needs, board, Wishes(weights="qspi"))
        return
    placement = place(needs, board, Wishes(weights="qspi"))
    check_legal(placement, needs, board)
    price = 3e-6 * (needs.arena + 8 + sum(m.bytes for m in needs.movables))
    assert best + 1e-6 >= placement.saved >= best - GAP * best - price
    everything = {p.movable.symbol for p in placement.pins} | {m.symbol for m in placement.loose}
    assert everything >= {m.symbol for m in needs.movables if not m.is_code}


def test_what_pinning_saves_is_counted_from_the_home() -> None:
    """Arrays from external flash, functions from where the code is."""
    placement = place(NET, EXTERNAL, Wishes("all", "all", weights="qspi"))
    for pin in placement.pins:
        home = EXTERNAL.code if pin.movable.is_code else EXTERNAL.region("qspi")
        assert pin.saved == waiting(EXTERNAL, home, pin.movable.traffic)
    assert {p.movable.is_code for p in placement.pins} == {True, False}
    assert placement.saved > 10 * place(NET, EXTERNAL, Wishes("all", "all")).saved


def test_every_copy_has_one_home() -> None:
    """Arrays and functions for one region are copied apart where their homes differ, together where not."""
    own = place(NET, EXTERNAL, Wishes("all", "all", weights="qspi")).copied("sram")
    assert [(c.name, c.home) for c in own] == [("pin_sram", "flash"), ("weights_sram", "qspi")]
    assert [{p.movable.is_code for p in c.pins} for c in own] == [{True}, {False}]
    (one,) = place(NET, EXTERNAL, Wishes("all", "all")).copied("sram")
    assert (one.name, one.home) == ("pin_sram", "flash") and len(one.pins) == len(NET.movables)


@given(problems())
@settings(max_examples=100)
def test_pinning_never_makes_a_model_unfit(problem: tuple[Needs, Board]) -> None:
    needs, board = problem
    try:
        place(needs, board, Wishes("none", "none"))
    except BoardError:
        return
    check_legal(place(needs, board), needs, board)


def test_what_saves_nothing_stays_in_flash() -> None:
    board = load_board("mps2_an386")  # all of its memory has no wait states
    assert place(NET, board).pins == ()
    assert len(place(NET, board, Wishes("all", "all")).pins) == len(NET.movables)


def test_all_and_none() -> None:
    only_arrays = place(NET, TWO_REGIONS, Wishes("all", "none"))
    assert {p.movable.symbol for p in only_arrays.pins} == {m.symbol for m in NET.movables if not m.is_code}
    assert place(NET, TWO_REGIONS, Wishes("none", "none")).pins == ()
    assert all(p.movable.is_code for p in place(NET, TWO_REGIONS, Wishes("none", "all")).pins)


def test_all_that_does_not_fit_names_the_largest_layer() -> None:
    board = with_rooms(TWO_REGIONS, [NET.arena + 600])
    with pytest.raises(BoardError, match=r"pinned [\d,]+ \(largest: (body|head)\)"):
        place(NET, board, Wishes("all", "none"))


def test_no_code_in_the_ccm_however_much_it_would_save() -> None:
    """SRAM is full, the CCM is free."""
    board = with_rooms(TWO_REGIONS, [64, 60_000])
    placement = place(NET, board, Wishes("all", "auto"))
    assert {p.region for p in placement.pins} == {"ccm"}
    assert not any(p.movable.is_code for p in placement.pins)
    with pytest.raises(BoardError, match="does not fit"):
        place(NET, board, Wishes("none", "all"))


def test_the_arena_stays_where_dma_can_reach_it() -> None:
    """disco_f407vg: SRAM and CCM are equally fast, but DMA does not reach the CCM; weights need no DMA."""
    placement = place(NET, TWO_REGIONS)
    assert placement.arena == "sram"
    assert {p.region for p in placement.pins if not p.movable.is_code} == {"ccm"}


def test_code_keeps_out_of_the_stacks_region_where_another_is_as_fast() -> None:
    """nucleo_h743zi: data in DTCM, code in ITCM."""
    placement = place(NET, MANY_REGIONS, Wishes("all", "all"))
    assert {p.region for p in placement.pins if p.movable.is_code} == {"itcm"}


def test_arena_moves_to_make_room() -> None:
    """Weights and inputs do not fit beside the arena in the one region, so it takes the other."""
    placement = place(NET, with_rooms(TWO_REGIONS, [64, 60_000]))
    assert placement.arena == "ccm"
    assert place(NET, with_rooms(TWO_REGIONS, [60_000, 64])).arena == "sram"


@given(st.integers(0, 30_000))
@settings(max_examples=30)
def test_budget_is_kept(budget: int) -> None:
    wishes = Wishes(budget_sram=budget)
    if NET.arena + fixed_bytes(TWO_REGIONS) > budget:
        with pytest.raises(BoardError, match=f"--budget-sram {budget:,}"):
            place(NET, TWO_REGIONS, wishes)
        return
    placement = place(NET, TWO_REGIONS, wishes)
    pinned = sum(p.movable.bytes for p in placement.pins)
    assert fixed_bytes(TWO_REGIONS) + NET.arena + pinned <= budget
    assert pinned <= sum(p.movable.bytes for p in place(NET, TWO_REGIONS).pins)


def layer_of(placement: Placement, layer: str) -> set[str]:
    return {p.region for p in placement.pins if p.movable.layer == layer and not p.movable.is_code}


def test_layers_go_where_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "pin.toml"
    path.write_text('default = "none"\n[layers]\nhead = "ccm"\nbody = "auto"\nstem = "flash"\n')
    wishes = read_wishes(str(path), "none")
    assert wishes == Wishes("none", "none", {"head": "ccm", "body": "auto", "stem": "flash"})
    placement = place(NET, TWO_REGIONS, wishes)
    assert layer_of(placement, "head") == {"ccm"} and layer_of(placement, "stem") == set()
    assert layer_of(placement, "body") != set(), "auto in the file comes before its default"


def test_a_layer_that_does_not_fit_where_the_file_says() -> None:
    with pytest.raises(BoardError, match=r"largest: head"):
        place(NET, with_rooms(TWO_REGIONS, [20_000, 64]), Wishes(layers={"head": "ccm"}))


def test_unknown_layers_and_regions_are_refused() -> None:
    with pytest.raises(UsageError, match=r"layer 'haed', .*did you mean 'head'\?"):
        place(NET, TWO_REGIONS, Wishes(layers={"haed": "ccm"}))
    with pytest.raises(UsageError, match=r"into 'cmm', did you mean 'ccm'\?"):
        place(NET, TWO_REGIONS, Wishes(layers={"head": "cmm"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers = 3", "is not understood"),
        ("[layers]\nhead = 3", "is not understood"),
        ('budget = "x"', "unknown key 'budget'"),
        ('default = "al"', "is 'al', did you mean 'all'"),
        ("[layers", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pin.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_wishes(str(path))


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--pin is 'non', did you mean 'none'\?"):
        read_wishes("non")
    with pytest.raises(UsageError, match="--pin-code is 'some'"):
        read_wishes("auto", "some")
    with pytest.raises(UsageError, match="cannot be read"):
        read_wishes(str(tmp_path / "absent.toml"))
    assert read_wishes("all", "none", 5) == Wishes("all", "none", {}, 5)


# ---- what access costs: numbers by hand ---------------------------------------------------------------------------


def test_flash_behind_an_accelerator() -> None:
    """nucleo_f446re: lines of 16 bytes, one access each, 5 cycles late; 128 bytes of cache for data."""
    board = load_board("nucleo_f446re")
    assert waiting(board, board.code, Traffic(128, 12_800, 1)) == 128 / 16 * 5
    assert waiting(board, board.code, Traffic(160, 12_800, 1)) == 12_800 / 16 * 5
    assert waiting(board, board.code, Traffic(1024, 12_800, 4, "instructions")) == 1024 / 16 * 5
    assert waiting(board, board.ram, Traffic(160, 12_800, 1)) == 0


def test_serial_flash_behind_a_cache_of_words() -> None:
    """pico: lines of 8 bytes; the core waits for both words, 1 + 40 cycles each, one of them its own."""
    board = load_board("pico")
    assert waiting(board, board.code, Traffic(16_384, 50_000, 1)) == 16_384 / 8 * 81
    assert waiting(board, board.code, Traffic(16_392, 50_000, 1)) == 50_000 / 8 * 81


def test_what_a_miss_brings_in() -> None:
    """nucleo_l4r5zi: 5 cycles for 8 bytes, or for the first of four such accesses, or 4 x 6 - 1 for a whole line."""
    board = load_board("nucleo_l4r5zi")
    traffic = Traffic(4096, 8192, 1)
    for fill, cycles in (("access", 8192 / 8 * 5), ("background", 8192 / 32 * 5), ("line", 8192 / 32 * 23)):
        caches = tuple(replace(c, fill=fill) for c in board.caches)
        assert waiting(replace(board, caches=caches), board.code, traffic) == cycles


def test_memory_without_a_cache() -> None:
    """Flash keeps its last word, SRAM behind a bus waits at every load."""
    plain = replace(load_board("nucleo_f446re"), caches=())
    assert waiting(plain, plain.code, Traffic(64, 1600, 1)) == 1600 / 16 * 5
    board = replace(MANY_REGIONS, caches=())
    assert waiting(board, board.region("axi_sram"), Traffic(64, 1600, 4)) == 400
