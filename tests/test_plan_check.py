"""The verifier of memory plans: planted defects are all caught, by a message that names what is wrong."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.programs import Toy, random_toys, toy_program
from tinygen.plan_check import PlanError, verify
from tinygen.planning import Buffer, MemoryPlan, plan
from tinygen.program import Program


def layout(arena: int, *buffers: Buffer) -> MemoryPlan:
    return MemoryPlan(buffers, arena, 0, False)


def caught(program: Program, wrong: MemoryPlan, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        verify(program, wrong)


def moved(good: MemoryPlan, tensor: str, **changes) -> MemoryPlan:
    """The plan with one buffer changed, in an arena large enough for it."""
    buffers = tuple(replace(b, **changes) if tensor in b.tensors else b for b in good.buffers)
    return replace(good, buffers=buffers, arena_bytes=max(b.offset + b.size for b in buffers))


CHAIN = toy_program(
    [("x", 16)], [Toy("a", ("x",), 16), Toy("b", ("a",), 16), Toy("c", ("b", "a"), 16)], ["c"]
)


def test_good_plan_passes():
    verify(CHAIN, plan(CHAIN))


def test_overlap_in_time_and_place():
    good = plan(CHAIN)
    caught(CHAIN, moved(good, "b", offset=good.offset("a")), "'b' and 'a' overlap in time and in place")


def test_overlap_that_the_stated_lifetimes_hide():
    # b takes over a's bytes while c still reads a; the plan lies about a's lifetime.
    wrong = layout(
        48, Buffer(("x",), 16, 16, 0, 0), Buffer(("a",), 0, 16, 0, 0), Buffer(("b",), 0, 16, 1, 2),
        Buffer(("c",), 32, 16, 2, 3),
    )  # fmt: skip
    caught(CHAIN, wrong, "'a' is used in step 1, outside 0..0")


def test_input_overwritten_before_its_last_use():
    # One buffer for a and b, as if b worked in place: c then reads b's bytes as a.
    wrong = layout(
        48, Buffer(("x",), 16, 16, 0, 0), Buffer(("a", "b"), 0, 16, 0, 2), Buffer(("c",), 32, 16, 2, 3)
    )
    allowed = toy_program(
        [("x", 16)],
        [Toy("a", ("x",), 16), Toy("b", ("a",), 16, in_place=(0,)), Toy("c", ("b", "a"), 16)],
        ["c"],
    )
    caught(allowed, wrong, "in step 2 'c': the bytes of 'a' hold 'b'")
    caught(CHAIN, wrong, r"in step 1 'b': the output overwrites \['a'\], which tg_b_s8 does not allow")


def test_in_place_needs_every_reading_position():
    # The kernel may overwrite input 0, but the same bytes are also read as input 1.
    program = toy_program([("x", 8)], [Toy("a", ("x", "x"), 8, in_place=(0,))], ["a"])
    caught(
        program,
        layout(8, Buffer(("x", "a"), 0, 8, 0, 1)),
        "the output overwrites .*, which tg_a_s8 does not allow",
    )


def test_partly_overwritten_input():
    program = toy_program([("x", 16)], [Toy("a", ("x",), 8, in_place=(0,))], ["a"])
    verify(program, layout(16, Buffer(("x", "a"), 0, 16, 0, 1)))
    grown = toy_program([("x", 8)], [Toy("a", ("x",), 16, in_place=(0,))], ["a"])
    caught(grown, layout(16, Buffer(("x", "a"), 0, 16, 0, 1)), "the output partly overwrites input 'x'")


def test_output_overwritten_after_it_was_written():
    program = toy_program([("x", 8)], [Toy("a", ("x",), 8), Toy("b", ("a",), 8, in_place=(0,))], ["a", "b"])
    wrong = layout(16, Buffer(("x",), 8, 8, 0, 0), Buffer(("a", "b"), 0, 8, 0, 2))
    caught(program, wrong, "after the run: the bytes of 'a' hold 'b'")


def test_inputs_on_top_of_each_other():
    program = toy_program([("x", 8), ("y", 8)], [Toy("a", ("x", "y"), 8)], ["a"])
    caught(
        program,
        layout(16, Buffer(("x", "y"), 0, 8, 0, 0), Buffer(("a",), 8, 8, 0, 1)),
        "before the run.*'x' hold 'y'",
    )


def test_scratch_on_an_input():
    program = toy_program([("x", 8)], [Toy("a", ("x",), 8, scratch=8)], ["a"])
    scratch = Buffer((), 0, 8, 5, 5, scratch_step=0)
    caught(
        program,
        layout(16, Buffer(("x",), 0, 8, 0, 0), Buffer(("a",), 8, 8, 0, 1), scratch),
        "scratch overlaps 'x'",
    )


def test_scratch_on_a_value_that_waits():
    program = toy_program(
        [("x", 8)], [Toy("a", ("x",), 8), Toy("b", ("a",), 8, scratch=8), Toy("c", ("b", "x"), 4)], ["c"]
    )
    good = plan(program)
    scratch = next(b for b in good.buffers if b.scratch_step == 1)
    lying = replace(scratch, offset=good.offset("x"), first=9, last=9)
    wrong = replace(good, buffers=tuple(lying if b is scratch else b for b in good.buffers))
    caught(program, wrong, "in step 2 'c': the bytes of 'x' hold nothing, or scratch")


def test_alias_elsewhere():
    program = toy_program([("x", 8)], [Toy("r", ("x",), 8, alias=True)], ["r"])
    wrong = layout(16, Buffer(("x",), 0, 8, 0, 1), Buffer(("r",), 8, 8, 0, 1))
    caught(program, wrong, "'r' must be the bytes of 'x', which 'r' aliases")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 2}, "'x' is at offset 2, not a multiple of 4"),
        ({"offset": -4}, "is not inside the arena"),
        ({"size": 12}, "value 'x' needs 16 bytes, its buffer has 12"),
        ({"tensors": ("y",)}, "value '[xy]' has"),
        ({"tensors": ("x", "x")}, "value 'x' has 2 buffers, needs 1"),
    ],
)
def test_buffers_that_cannot_be(changes, message):
    good = plan(CHAIN)
    buffers = tuple(replace(b, **changes) if "x" in b.tensors else b for b in good.buffers)
    caught(CHAIN, replace(good, buffers=buffers), message)


def test_missing_scratch():
    program = toy_program([("x", 8)], [Toy("a", ("x",), 8, scratch=8)], ["a"])
    good = plan(program)
    wrong = replace(good, buffers=tuple(b for b in good.buffers if b.scratch_step is None))
    caught(program, wrong, "scratch of step '0' has 0 buffers, needs 1")


def test_arena_too_small():
    good = plan(CHAIN)
    caught(CHAIN, replace(good, arena_bytes=good.arena_bytes - 4), "is not inside the arena")


def test_arena_below_its_bound():
    good = plan(CHAIN)
    caught(CHAIN, replace(good, lower_bound=good.arena_bytes + 4), "below its lower bound")


@given(seed=st.integers(0, 10**6))
@settings(max_examples=150)
def test_a_buffer_moved_onto_another_is_caught(seed):
    """Any two buffers that live at the same time, put at the same offset: always caught."""
    program = random_toys(seed, steps=12)
    good = plan(program)
    pairs = [
        (a, b)
        for a in good.buffers
        for b in good.buffers
        if a is not b and a.first <= b.last and b.first <= a.last
    ]
    if not pairs:
        return
    one, other = random.Random(seed).choice(pairs)
    buffers = tuple(replace(b, offset=other.offset) if b is one else b for b in good.buffers)
    arena = max(b.end for b in buffers)
    with pytest.raises(PlanError):
        verify(program, replace(good, buffers=buffers, arena_bytes=arena))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=150)
def test_the_simulation_alone_catches_a_value_overwritten(seed):
    """Two values in one buffer that claims the whole run: only reading the bytes can tell."""
    program = random_toys(seed, steps=12)
    good = plan(program)
    read = {t.name: i for i, s in enumerate(program.steps) for t in s.bound.activations}
    written = {s.bound.output.name: i for i, s in enumerate(program.steps) if not s.kernel.alias}
    born = dict(written)
    for step in program.steps:
        if step.kernel.alias:
            born[step.bound.output.name] = born.get(step.bound.activations[0].name, -1)
    victims = [
        (name, other)
        for name in read
        for other in written
        if good.buffer(name) is not good.buffer(other) and born.get(name, -1) < written[other] < read[name]
    ]
    if not victims:
        return
    name, other = random.Random(seed).choice(victims)
    joined = tuple(dict.fromkeys((*good.buffer(name).tensors, *good.buffer(other).tensors)))
    size = max(good.buffer(name).size, good.buffer(other).size)
    one = Buffer(joined, 0, size, 0, len(program.steps))
    buffers = [one] + [
        replace(b, offset=b.offset + size)
        for b in good.buffers
        if b not in (good.buffer(name), good.buffer(other))
    ]
    with pytest.raises(PlanError):
        verify(program, replace(good, buffers=tuple(buffers), arena_bytes=good.arena_bytes + size))


# ---- joins and views

JOINED = toy_program(
    [("x", 8)],
    [Toy("a", ("x",), 8), Toy("b", ("x",), 8), Toy("ab", ("a", "b"), 16, joins=((0, 0), (1, 8)))],
    ["ab"],
)


def test_parts_in_their_places_are_right():
    verify(
        JOINED,
        layout(24, Buffer(("x",), 16, 8, 0, 1), Buffer(("a", "b", "ab"), 0, 16, 0, 3, None, (0, 8, 0))),
    )


def test_parts_that_changed_places():
    wrong = layout(24, Buffer(("x",), 16, 8, 0, 1), Buffer(("a", "b", "ab"), 0, 16, 0, 3, None, (8, 0, 0)))
    caught(JOINED, wrong, "the output partly overwrites input 'a'")


def test_a_part_on_top_of_another():
    wrong = layout(24, Buffer(("x",), 16, 8, 0, 1), Buffer(("a", "b", "ab"), 0, 16, 0, 3, None, (0, 0, 0)))
    caught(JOINED, wrong, "the bytes of 'a' hold 'b'")


def test_a_part_that_reaches_out_of_its_buffer():
    wrong = layout(24, Buffer(("x",), 16, 8, 0, 1), Buffer(("a", "b", "ab"), 0, 16, 0, 3, None, (0, 12, 0)))
    caught(JOINED, wrong, "value 'b' needs 8 bytes, its buffer has 4")


def test_a_joined_part_that_is_read_later():
    program = toy_program(
        [("x", 8)],
        [
            Toy("a", ("x",), 8),
            Toy("b", ("x",), 8),
            Toy("ab", ("a", "b"), 16, joins=((0, 0), (1, 8))),
            Toy("c", ("a",), 8),
        ],
        ["ab", "c"],
    )
    wrong = layout(
        32,
        Buffer(("x",), 16, 8, 0, 1),
        Buffer(("a", "b", "ab"), 0, 16, 0, 4, None, (0, 8, 0)),
        Buffer(("c",), 24, 8, 3, 4),
    )
    caught(program, wrong, "the bytes of 'a' hold 'ab'")


VIEWED = toy_program([("x", 16)], [Toy("v", ("x",), 8, view=8), Toy("y", ("v", "x"), 4)], ["y"])


def test_a_view_is_the_bytes_of_its_source():
    verify(VIEWED, layout(20, Buffer(("x", "v"), 0, 16, 0, 1, None, (0, 8)), Buffer(("y",), 16, 4, 1, 2)))


def test_a_view_of_other_bytes():
    wrong = layout(20, Buffer(("x", "v"), 0, 16, 0, 1, None, (0, 4)), Buffer(("y",), 16, 4, 1, 2))
    caught(VIEWED, wrong, "the output partly overwrites input 'x'")


def test_a_view_whose_source_is_overwritten():
    program = toy_program(
        [("x", 16)],
        [Toy("v", ("x",), 8, view=8), Toy("z", ("x",), 16, in_place=(0,)), Toy("y", ("v", "z"), 4)],
        ["y"],
    )
    wrong = layout(20, Buffer(("x", "v", "z"), 0, 16, 0, 2, None, (0, 8, 0)), Buffer(("y",), 16, 4, 2, 3))
    caught(program, wrong, "the bytes of 'v' hold 'z'")
