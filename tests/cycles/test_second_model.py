"""memory.h against a model of the same rules that was written without looking at it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memories import Clocked, board_with, cache_of


@dataclass(frozen=True)
class Geometry:
    """A memory and its cache. line: in units."""

    wait: int
    following: int
    line: int
    ways: int
    sets: int
    fill: str
    write: str


@dataclass
class Simple:
    """The same rules from scratch: when every unit of every line that is held is there, oldest use first."""

    g: Geometry
    free: int = 0
    following: int | None = None
    held: dict[int, OrderedDict[int, dict[int, int]]] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)

    def bring(self, units: list[int], now: int) -> list[int]:
        """Times at which the units are there, in the order they are asked for; those behind the first are a burst."""
        times = []
        for position, unit in enumerate(units):
            quick = position > 0 or unit == self.following
            self.free = max(now, self.free) + 1 + (self.g.following if quick else self.g.wait)
            times.append(self.free)
        return times

    def ask(self, unit: int, write: bool, now: int) -> int:
        """Stalls."""
        g = self.g
        line, lines = unit // g.line, self.held.setdefault(unit // g.line % g.sets, OrderedDict())
        if write and g.write == "through":
            self.bring([unit], now)
            self.following = unit + 1
            return 0
        if line not in lines and len(lines) == g.ways:
            oldest, _ = lines.popitem(last=False)
            if oldest in self.changed:
                self.free = max(now, self.free) + g.line * (1 + g.following)
                self.changed.remove(oldest)
        there = lines.setdefault(line, {})
        lines.move_to_end(line)
        if unit not in there:
            self.fetch(there, unit, line, now)
        if write:
            self.changed.add(line)
            return 0
        return max(0, there[unit] - now - 1)

    def fetch(self, there: dict[int, int], unit: int, line: int, now: int) -> None:
        """A miss."""
        g = self.g
        whole = [line * g.line + (unit + i) % g.line for i in range(g.line)]
        wanted = [unit] if g.fill == "access" else whole
        times = self.bring(wanted, now)
        if g.fill == "line":
            times = [times[-1]] * len(times)
        there.update(zip(wanted, times, strict=True))
        self.following = wanted[0] + 1 if g.fill == "access" else (line + 1) * g.line


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    wait = draw(st.integers(1, 7))
    fill = draw(st.sampled_from(["access", "line", "background"]))
    return Geometry(
        wait,
        draw(st.integers(0, wait)),
        draw(st.sampled_from([1, 2, 4, 8])),
        draw(st.integers(1, 4)),
        draw(st.sampled_from([1, 2, 3, 4])),
        fill,
        "through" if fill == "access" else draw(st.sampled_from(["through", "back"])),
    )


@given(
    geometries(),
    st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.sampled_from([0, 0, 1, 3, 30])), max_size=60),
)
@settings(max_examples=300)
def test_equals_a_model_written_from_the_rules(g: Geometry, accesses: list[tuple[int, bool, int]]) -> None:
    """Any geometry, any reads and writes at any times: the same stalls at each."""
    size = 8 * g.line * g.ways * g.sets
    cache = cache_of(size=size, line=8 * g.line, ways=g.ways, fill=g.fill, write=g.write)
    board = board_with([cache], kind="flash", width=8, wait_states=g.wait, sequential_wait_states=g.following)
    got = Clocked(board)
    simple = Simple(g)
    for unit, write, pause in accesses:
        got.rest(pause)
        expected = simple.ask(unit, write, got.now)
        assert got.ask(unit, write=write) == expected, (unit, write, got.now)
