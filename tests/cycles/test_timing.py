"""The timing rules, frozen: sequences whose cycles were computed by hand, run on every core that has a table.

Whoever changes tinygen/cycles/cores.py or pipeline.py must change a number here and say why: kernels are tuned by this
measure, so it must not bend to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cycles.timing_cases import POINTERS, TABLES, Case
from tests.support.micro import EMPTY, Snippet, measure
from tinygen.boards import Board, load_board

pytestmark = pytest.mark.arm

BOARDS = {
    "m0": "microbit",
    "m0plus": "pico",
    "m3": "mps2_an385",
    "m4": "mps2_an386",
    "m7": "mps2_an500",
    "m33": "mps2_an505",
}
FRAMES: Mapping[str, int] = {
    "m0": 2 + (1 + 2) + 2,  # bl refills; bx with refill; bl up to its refill
    "m0plus": 1 + (1 + 1) + 2,
    "m3": 2 + (1 + 2) + 1,
    "m4": 2 + (1 + 2) + 1,
    "m7": 1 + (1 + 2) + 1,
    "m33": 2 + (1 + 2) + 1,
}
"""Cycles of a sample without instructions: mark's way in and out."""


@cache
def measured(core: str) -> Mapping[str, int]:
    """Cycles of every case of a core, the frame included, by name; and of nothing, by the name ""."""
    return weigh(load_board(BOARDS[core]), TABLES[core])


def weigh(board: Board, cases: Sequence[Case]) -> Mapping[str, int]:
    """As `measured`, on a board."""
    names = ["", *(c.name for c in cases)]
    assert len(set(names)) == len(names), "two cases have one name"
    setup = POINTERS.replace("POINTER", hex(board.ram.origin + 0x100))
    with TemporaryDirectory() as folder:
        snippets = [EMPTY, *(Snippet(c.code, setup + c.setup) for c in cases)]
        counts = measure(board, snippets, Path(folder))
    assert not any(c.fetch + c.data for c in counts) or board.code.wait_states
    return dict(zip(names, (c.cycles for c in counts), strict=True))


@pytest.mark.parametrize("core", FRAMES)
def test_frame(core: str) -> None:
    assert measured(core)[""] == FRAMES[core]


@pytest.mark.parametrize(
    ("core", "case"), [pytest.param(k, c, id=f"{k}-{c.name}") for k, cases in TABLES.items() for c in cases]
)
def test_cycles_are_those_computed_by_hand(core: str, case: Case) -> None:
    own = FRAMES[core] - (1 if core == "m7" else 0)
    assert measured(core)[case.name] - own == case.cycles


def test_a_slow_multiplier_is_the_boards() -> None:
    """An M0+ can be built with a multiplier that takes 32 cycles."""
    board = replace(load_board("pico"), multiplier_cycles=32)
    cases = [Case("multiply", "muls r0, r5", 32), Case("two", "muls r0, r5; muls r0, r6; adds r0, #1", 65)]
    got = weigh(board, cases)
    assert [got[c.name] - FRAMES["m0plus"] for c in cases] == [c.cycles for c in cases]
