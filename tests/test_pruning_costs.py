"""What candidates cost: shrunk graphs, sizes against linked images, cycles by formulas, what pruning could reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.graphs import float_graph, int8_graph
from tinygen.boards import load_board
from tinygen.budgets import Budgets, amount, resolve
from tinygen.channels import groups
from tinygen.errors import BudgetError, ModelError, UsageError
from tinygen.graph import Graph, GraphBuilder
from tinygen.ops import add, conv2d, dense, reshape
from tinygen.ops.windows import Padding
from tinygen.placement import place
from tinygen.pruning import reach as reaching
from tinygen.pruning.costs import VARIANTS, Costs, over, peaks
from tinygen.pruning.multiples import liked
from tinygen.pruning.reach import reach
from tinygen.pruning.records import Cost
from tinygen.pruning.shrinking import shrunk
from tinygen.pruning.uniform import Families
from tinygen.wishes import Wishes

BOARD = "nucleo_l4r5zi"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return float_graph(0, 24)


def narrower(graph: Graph, kept: float) -> Graph:
    return shrunk(graph, Families.of(groups(graph)).without(kept))


def float_residual() -> Graph:
    """(16, 8, 2) -> conv, residual conv, conv with stride 2, dense."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("residual net")

    def convolution(name: str, tensor: str, outputs: int, stride: int = 1) -> str:
        shape = (outputs, 3, 3, builder.shape(tensor)[2])
        weights = builder.constant(f"{name}/weights", rng.normal(0, 0.2, shape).astype(np.float32))
        bias = builder.constant(f"{name}/bias", np.zeros(outputs, np.float32))
        attrs = conv2d.Attrs((stride, stride), padding=Padding(1, 1, 1, 1), activation="relu")
        return builder.add("conv2d", name, (tensor, weights, bias), attrs)

    stem = convolution("stem", builder.input("image", (16, 8, 2)), 12)
    joined = builder.add("add", "join", (stem, convolution("body", stem, 12)), add.Attrs())
    flat = builder.add("reshape", "flat", (convolution("narrow", joined, 4, 2),), reshape.Attrs((128,)))
    weights = builder.constant("head/weights", rng.normal(0, 0.2, (3, 128)).astype(np.float32))
    bias = builder.constant("head/bias", np.zeros(3, np.float32))
    return builder.build((builder.add("dense", "head", (flat, weights, bias), dense.Attrs()),))


# ---- figures


@pytest.mark.arm
def test_estimates_are_close_to_the_linked_and_followed_image(graph: Graph) -> None:
    costs = Costs(load_board(BOARD))
    accuracy = costs.calibrate(graph, VARIANTS[:2])
    candidate = narrower(graph, 0.8)
    guess, real = costs.estimate(candidate), costs.measure(candidate)
    assert real.measured and not guess.measured
    assert (guess.arena, guess.weights, guess.macs) == (real.arena, real.weights, real.macs)
    assert guess.sram == pytest.approx(real.sram, rel=0.02)
    assert guess.flash == pytest.approx(real.flash, rel=0.03)
    assert guess.cycles == pytest.approx(real.cycles, rel=0.05)
    assert accuracy.error == pytest.approx(0, abs=0.05) and not accuracy.warnings


@pytest.mark.arm
def test_an_image_that_does_not_fit_is_estimated(graph: Graph) -> None:
    board = load_board("nucleo_f072rb")
    tiny = replace(board, regions=tuple(replace(r, length=4096) if r.writable else r for r in board.regions))
    assert not Costs(tiny).measure(float_graph(0, 64)).measured


@pytest.mark.arm
def test_an_image_that_is_not_placed_as_wished_is_held_to_what_was_wished(graph: Graph) -> None:
    """On this board code runs from flash as fast as from SRAM: left alone, nothing is pinned, and a budget that pinned
    weights exceed would seem to be met. No bands save the whole arena."""
    board, pinned = load_board(BOARD), Wishes(pin="all", pin_code="none")
    free = Costs(board, pinned).estimate(graph)
    costs = Costs(board, pinned, Budgets(sram=free.sram - free.arena))
    assert not costs.lower(graph).as_wished
    real = costs.measure(graph)
    assert real.measured and real.pinned == free.pinned and real.sram == costs.estimate(graph).sram
    assert real.sram > free.sram - free.arena


def test_sram_is_what_a_budget_is_held_to(graph: Graph) -> None:
    """place() accepts a budget of just this many bytes (to its alignment), and none that is smaller."""
    for pin in ("none", "all"):
        costs = Costs(load_board(BOARD), Wishes(pin=pin, pin_code="none"))  # type: ignore[arg-type]
        lowered, sram = costs.lower(graph), costs.estimate(graph).sram
        place(
            lowered.needs,
            costs.board,
            replace(costs.wishes, budget_sram=sram + 8 * len(lowered.needs.movables)),
        )
        with pytest.raises(Exception, match="does not fit"):
            place(lowered.needs, costs.board, replace(costs.wishes, budget_sram=sram - 8))


def test_bands_of_rows_meet_a_budget_of_bytes_alone() -> None:
    """A float model with a block that has a shortcut: too large as a whole. Bands of a layer are one layer of the
    cost. A budget for cycles leaves it whole, because bands take more of them."""
    graph, board = float_residual(), load_board(BOARD)
    whole = Costs(board, Wishes("none")).estimate(graph)
    tight = Budgets(sram=whole.sram - whole.arena // 3)
    banded = Costs(board, Wishes("none"), tight)
    cost = banded.estimate(graph)
    assert tight.sram is not None and cost.sram <= tight.sram and banded.lower(graph).within
    assert cost.arena < whole.arena and cost.macs == whole.macs
    assert [(a.name) for a in cost.layers] == [a.name for a in whole.layers]
    assert sum(a.macs for a in cost.layers) == cost.macs
    assert max(a.live for a in cost.layers) == banded.lower(graph).plan.arena_bytes
    timed = Costs(board, Wishes("none"), replace(tight, cycles=10**9)).estimate(graph)
    assert (timed.arena, timed.macs) == (whole.arena, whole.macs)


def test_live_bytes_show_every_peak(graph: Graph) -> None:
    cost = Costs(load_board(BOARD)).estimate(graph)
    most = peaks(cost)
    assert most and all(layer.live == max(entry.live for entry in cost.layers) for layer in most)
    tied = replace(cost, layers=(*cost.layers, replace(most[0], name="other")))
    assert len(peaks(tied)) == len(most) + 1


def test_cores_without_a_cycle_model_have_no_cycles(graph: Graph) -> None:
    cost = Costs(load_board("mps3_an547")).estimate(graph)
    assert (cost.cycles, cost.ms) == (None, None) and cost.sram > 0


# ---- shrinking


def test_what_must_stay_is_refused(graph: Graph) -> None:
    found = groups(graph)
    with pytest.raises(ModelError, match="cannot be removed"):
        shrunk(graph, [next(g for g in found if not g.removable)])
    with pytest.raises(ModelError, match="nothing would be left"):
        shrunk(graph, [g for g in found if g.removable])


# ---- budgets


def cost_of(**amounts: float) -> Cost:
    known = {
        "arena": 0,
        "pinned": 0,
        "sram": 0,
        "flash": 0,
        "weights": 0,
        "macs": 0,
        "cycles": None,
        "ms": None,
    }
    return Cost(board=BOARD, measured=True, **{**known, **amounts})  # type: ignore[arg-type]


def test_budgets_are_amounts_or_shares_of_the_original() -> None:
    original = cost_of(sram=1000, macs=5000, ms=8.0, cycles=100)
    assert resolve({"sram": "80K", "macs": "60%", "ms": "25%"}, original) == Budgets(
        sram=81920, macs=3000, ms=2.0
    )
    assert amount("macs", "1.5M", None) == 1_500_000
    for text in ("", "0", "-3", "5x", "%"):
        with pytest.raises(UsageError, match="give a number greater than 0"):
            amount("macs", text, 1.0)
    with pytest.raises(UsageError, match="not known on this board"):
        amount("ms", "50%", None)


def test_the_worst_budget_comes_first() -> None:
    found = over(cost_of(sram=300, macs=200, weights=5), Budgets(sram=100, macs=100, weights=5, ms=1.0))
    assert list(found.items()) == [("sram", 3.0), ("macs", 2.0)]


# ---- reach


def test_reach_keeps_as_much_as_it_can(graph: Graph) -> None:
    costs = Costs(load_board(BOARD))
    whole = costs.estimate(graph)
    budgets = Budgets(macs=whole.macs // 3)
    found = reach(graph, costs, budgets)
    families = Families.of(groups(graph))
    assert found.kept is not None and found.cost.macs <= whole.macs // 3
    more = costs.estimate(narrower(graph, (found.left + 1) / families.largest))
    assert more.macs > whole.macs // 3
    assert f"keep about {found.kept:.0%}" in found.words
    reaching.check(found)


def test_a_budget_out_of_reach_says_what_is_left(graph: Graph) -> None:
    costs = Costs(load_board(BOARD))
    found = reach(graph, costs, Budgets(weights=10))
    assert found.kept is None and list(found.over) == ["weights"]
    assert found.cost == replace(costs.estimate(narrower(graph, 0.0)), cycles=None, ms=None)
    with pytest.raises(
        BudgetError, match="not reachable by pruning: with one channel a layer it still needs"
    ):
        reaching.check(found)


def test_int8_models_are_measured_against_all_budgets_but_not_pruned() -> None:
    int8 = int8_graph(0, 24)
    fitter = reaching.Fitter(int8)
    (answer,) = reaching.answers(fitter, int8, [load_board(BOARD)], {"macs": "50%"}, None)
    assert not answer.fits and answer.reach is None and "--budget-macs allows" in answer.reasons[0]


# ---- multiples


def test_a_multiple_is_liked_only_where_the_difference_is_certain() -> None:
    by_four = {n: 5 + 10 / n + (1.0 if n % 4 else 0.0) for n in range(9, 25)}
    assert liked(by_four) == 4
    assert liked({n: 5 + 10 / n for n in range(9, 25)}) == 1
    noises = [np.random.default_rng(seed).normal(0, 0.5, 25) for seed in range(40)]
    found = [liked({n: 5 + 10 / n + noise[n] for n in range(9, 25)}) for noise in noises]
    assert sum(m != 1 for m in found) <= 2, (
        "noise alone is liked about once in 75 times at three standard errors"
    )
