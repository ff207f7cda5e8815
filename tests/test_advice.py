"""What a profile advises when a budget of time is not met: layers, pins, pruning, boards."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.support.profiled import profiled
from tinygen import advice
from tinygen.advice import exceeded
from tinygen.boards import load_board
from tinygen.budgets import Budgets
from tinygen.profiling import Profile

pytestmark = pytest.mark.arm

BOARD = "nucleo_l4r5zi"


def time_message(p: Profile, share: float) -> list[str]:
    """Lines about a budget of this share of the time."""
    (message,) = exceeded(p, Budgets(ms=share * (p.milliseconds(p.worst.cycles) or 0)))
    return message.splitlines()


def test_advice_names_the_slowest_layers_first() -> None:
    p = profiled(BOARD)
    line = time_message(p, 0.5)[1]
    by_time = sorted(p.layers, key=lambda layer: -(layer.cost.cycles or 0))[:3]
    assert re.findall(r"(\w+) [\d.]+ ms", line) == [layer.name for layer in by_time]
    assert "prune it" in "\n".join(time_message(p, 0.5))
    assert "more than pruning alone" in "\n".join(time_message(p, 0.1))


def test_advice_to_pin_names_what_waits_fits_and_is_not_pinned() -> None:
    p = profiled(BOARD)
    assert any("pin code of 'scores'" in line for line in time_message(p, 0.9))
    assert [o.symbol for o in advice.worth_pinning(p)] == [o.symbol for o in p.objects if o.stalls]
    assert not any(line.strip().startswith("pin ") for line in time_message(profiled(BOARD, "all"), 0.9))
    assert not advice.worth_pinning(profiled(BOARD, "all"))


def test_advice_to_pin_keeps_what_the_application_needs() -> None:
    """Leave room for all but one of the arrays: code does not fit."""
    p = profiled(BOARD)
    left = sum(o.bytes for o in p.objects if o.role != "code") - 8
    sram = p.board.layout.data
    free = sum(
        q.bytes for o in p.regions if o.region.name == sram for q in o.parts if q.kind in ("free", "inputs")
    )
    tight = replace(p, board=replace(p.board, reserved=replace(p.board.reserved, application=free - left)))
    chosen = advice.worth_pinning(tight)
    assert chosen and sum(o.bytes for o in chosen) <= left
    assert not any(o.role == "code" for o in chosen)
    assert any(o.bytes <= left and o.stalls and o not in chosen and o.role != "code" for o in p.objects)


def test_advice_names_faster_boards_of_the_same_core() -> None:
    p = profiled(BOARD)
    lines = [line for line in time_message(p, 0.9) if "same core" in line]
    named = [load_board(re.findall(r"'(\w+)'", line)[0]) for line in lines]
    assert named and all(b.cpu == "cortex-m4" and b.clock_hz > p.board.clock_hz for b in named)
    assert [b.clock_hz for b in named] == sorted((b.clock_hz for b in named), reverse=True)
    assert all("not enough on its own" not in line for line in lines)
    assert all("not enough on its own" in line for line in time_message(p, 0.1) if "same core" in line)
