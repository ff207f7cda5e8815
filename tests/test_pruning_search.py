"""The search of one pruning step, on a chain of convolutions whose cost is computed by hand (pruning/search.py)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.budgets import Budgets
from tinygen.pruning.records import Cost, LayerCost
from tinygen.pruning.search import (
    Family,
    Oracle,
    binding,
    cheapest,
    even,
    excess,
    narrowest,
    plans,
    saved,
    sensitivity,
    targets,
    worst,
)

SIZES = (16, 16, 32)
PIXELS = (64, 16, 4)
"""Outputs per channel of the three layers: the first holds most of the arena, the last most of the weights."""


def families(multiple: int = 1, sizes: tuple[int, ...] = SIZES) -> tuple[Family, ...]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(
        Family(f"conv_{i}", tuple(range(start, start + size)), multiple)
        for i, (start, size) in enumerate(zip(starts, sizes, strict=True))
    )


def cost(gone: frozenset[int]) -> Cost:
    """A chain of 3x3 convolutions: input of 3 channels, then SIZES less what is gone."""
    left = [sum(g not in gone for g in family.order) for family in families()]
    inputs = [3, *left[:-1]]
    weights = [9 * i * o for i, o in zip(inputs, left, strict=True)]
    macs = [w * p for w, p in zip(weights, PIXELS, strict=True)]
    live = [p * (i + o) for i, o, p in zip(inputs, left, PIXELS, strict=True)]
    layers = tuple(
        LayerCost(f"conv_{i}", m, 2.0 * m, v) for i, (m, v) in enumerate(zip(macs, live, strict=True))
    )
    arena, total = max(live), sum(weights)
    cycles = 2.0 * sum(macs)
    return Cost(
        "toy", arena, total, arena + total, total, total, sum(macs), cycles, cycles / 1e6, False, layers
    )


def oracle(harm: dict[int, float] | None = None) -> Oracle:
    """Every group loses `harm` (1 unless told), groups later in their family more."""
    harm = harm or {}
    order = {g: i for family in families() for i, g in enumerate(family.order)}
    return Oracle(cost, lambda gone: sum(harm.get(g, 1.0) * (1 + order[g]) for g in gone))


def curves(given: Oracle, multiple: int = 1):  # type: ignore[no-untyped-def]
    return sensitivity(families(multiple), given.loss, lambda done, total: None)


ORIGINAL = cost(frozenset())


def test_the_binding_budget_is_the_one_exceeded_most() -> None:
    assert binding(ORIGINAL, Budgets(macs=ORIGINAL.macs // 2, weights=ORIGINAL.weights - 1)) == "macs"
    assert binding(ORIGINAL, Budgets(macs=ORIGINAL.macs)) is None
    assert excess(ORIGINAL, Budgets(macs=ORIGINAL.macs // 2)) == pytest.approx(math.log(2), rel=1e-3)


def test_a_resource_that_the_board_does_not_have_is_no_budget() -> None:
    unknown = replace(ORIGINAL, cycles=None, ms=None)
    assert excess(unknown, Budgets(ms=1e-6)) == 0


@pytest.mark.parametrize("share", [0.8, 0.6, 0.4])
def test_both_plans_meet_their_target_and_take_no_more_than_needed(share: float) -> None:
    budgets = Budgets(macs=int(share * ORIGINAL.macs))
    for plan in plans(curves(oracle()), oracle(), budgets, 0.0):
        assert plan.cost.macs <= share * ORIGINAL.macs
        assert plan.cost == cost(plan.groups)
        assert sum(plan.counts.values()) == len(plan.groups)
    plan = cheapest(curves(oracle()), oracle(), budgets, 0.0)
    for family in families():
        count = plan.counts.get(family.name, 0)
        assert plan.groups & set(family.order) == set(family.order[:count]), "least important first"
        if count:
            back = plan.groups - {family.order[count - 1]}
            assert cost(back).macs > budgets.macs, f"a channel of {family.name} went for nothing"  # type: ignore[operator]


def test_where_sram_peaks_that_layers_channels_go_first() -> None:
    pinned_none = Oracle(lambda gone: replace(cost(gone), sram=cost(gone).arena), oracle().loss)
    plan = cheapest(curves(oracle()), pinned_none, Budgets(sram=int(0.8 * ORIGINAL.arena)), 0.0)
    assert set(plan.counts) == {"conv_0"}, plan.counts


def test_of_two_layers_that_tie_for_the_peak_each_counts() -> None:
    tied = replace(
        ORIGINAL, layers=tuple(replace(layer, live=100) for layer in ORIGINAL.layers), arena=100, sram=100
    )
    one = replace(tied, layers=(replace(tied.layers[0], live=80), *tied.layers[1:]))
    assert one.arena == tied.arena, "the maximum stays"
    assert saved(tied, one, Budgets(sram=50)) > 0


def test_free_channels_go_first() -> None:
    free = dict.fromkeys(families()[2].order[:8], 0.0)
    plan = cheapest(curves(oracle(free)), oracle(free), Budgets(weights=int(0.85 * ORIGINAL.weights)), 0.0)
    assert plan.counts.keys() == {"conv_2"} and plan.predicted == 0


def test_what_a_portion_takes_too_much_comes_back() -> None:
    """conv_2 goes in portions of 2 channels, of 9 * 16 weights each; 3 are enough."""
    dear = dict.fromkeys((*families()[0].order, *families()[1].order), 1e6)
    given_oracle = oracle(dear)
    budgets = Budgets(weights=ORIGINAL.weights - 3 * 9 * 16)
    assert cheapest(curves(given_oracle), given_oracle, budgets, 0.0).counts == {"conv_2": 3}


@pytest.mark.parametrize("share", [0.9, 0.8, 0.7])
def test_a_dear_layer_keeps_its_channels_while_others_are_cheap(share: float) -> None:
    """Also those that were asked first, and those whose first channels were cheap."""
    dear = dict.fromkeys((*families()[0].order, *families()[2].order[4:]), 1000.0)
    given_oracle = oracle(dear)
    plan = cheapest(curves(given_oracle), given_oracle, Budgets(macs=int(share * ORIGINAL.macs)), 0.0)
    assert set(plan.counts) <= {"conv_1", "conv_2"} and plan.counts.get("conv_2", 0) <= 4


@pytest.mark.parametrize("share", [0.9, 0.8, 0.7, 0.5])
def test_what_is_left_is_a_good_multiple(share: float) -> None:
    plan = cheapest(curves(oracle(), 4), oracle(), Budgets(macs=int(share * ORIGINAL.macs)), 0.0)
    for family in families(4):
        assert (len(family.order) - plan.counts.get(family.name, 0)) % 4 == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), st.floats(0.45, 0.95))
def test_the_cheapest_plan_loses_no_more_than_the_even_one(harms: list[float], share: float) -> None:
    """Within a fifth: layers multiply each other, which curves of one layer at a time do not see."""
    by_group = {g: h for family, h in zip(families(), harms, strict=True) for g in family.order}
    given_oracle = oracle(by_group)
    budgets = Budgets(macs=int(share * ORIGINAL.macs))
    greedy = cheapest(curves(given_oracle), given_oracle, budgets, 0.0)
    evenly = even(curves(given_oracle), given_oracle, budgets, 0.0)
    if excess(evenly.cost, budgets) == 0:
        assert excess(greedy.cost, budgets) == 0
        assert greedy.predicted <= 1.2 * evenly.predicted


def test_a_step_takes_at_most_half_of_a_family() -> None:
    for plan in plans(curves(oracle()), oracle(), Budgets(macs=1), 0.0):
        for family in families():
            assert plan.counts.get(family.name, 0) <= len(family.order) // 2


def test_the_even_plan_leaves_the_bottleneck_of_an_autoencoder() -> None:
    narrow = Family("code", tuple(range(100, 108)))
    assert narrowest((*families(), narrow)) == {"code"} == narrowest((*families()[:2], narrow))
    assert narrowest(()) == narrowest(families()[:2]) == frozenset(), "all as wide as each other"
    budgets = Budgets(macs=int(0.6 * ORIGINAL.macs))
    plan = even(curves(oracle()), oracle(), budgets, 0.0, frozenset({"conv_1"}))
    assert plan.counts.keys() == {"conv_0", "conv_2"} and plan.cost.macs <= 0.6 * ORIGINAL.macs
    shares = [plan.counts[f.name] / len(f.order) for f in families() if f.name != "conv_1"]
    assert abs(shares[0] - shares[1]) < 1 / 16


def test_targets_fall_evenly_to_nothing() -> None:
    assert list(targets(1.0, 1.0, 0.4)) == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert list(targets(0.1, 0.1, 0.4)) == [0.0]


def test_budgets_that_fall_together_take_no_more_steps_than_the_worst_of_them() -> None:
    both = Budgets(macs=ORIGINAL.macs // 2, weights=int(0.6 * ORIGINAL.weights))
    assert worst(ORIGINAL, both) == pytest.approx(math.log(2), rel=1e-3)
    assert excess(ORIGINAL, both) > 1.5 * worst(ORIGINAL, both)
    found = list(targets(excess(ORIGINAL, both), worst(ORIGINAL, both), 0.35))
    assert found == pytest.approx([excess(ORIGINAL, both) / 2, 0.0])
    assert worst(ORIGINAL, Budgets(macs=ORIGINAL.macs)) == 0.0


def test_losses_of_a_curve_never_fall() -> None:
    wild = Oracle(cost, lambda gone: 1.0 if len(gone) == 4 else 0.5)
    for curve in sensitivity(families(), wild.loss, lambda done, total: None):
        assert list(curve.losses) == sorted(curve.losses)
        assert curve.counts[0] == 0 and curve.counts[-1] < len(curve.family.order)
