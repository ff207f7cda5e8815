"""The order of operators: the topological order whose greatest sum of live bytes is smallest.

A set of executed nodes decides which bytes are live, whatever the order in which they ran. So the best
order is a path through such sets whose worst step is smallest: found by a shortest-path search that expands
sets by their worst step so far (exact), given up for the best order known when more than MOST_SETS would
have to be expanded.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tinygen.graph import BoundNode, Graph
from tinygen.lifetimes import aligned
from tinygen.planning import needs
from tinygen.program import Program, Step, choose_kernel

MOST_SETS = 20_000
"""Sets of executed nodes looked at before the search gives up: about 2 s."""


@dataclass(frozen=True)
class _Task:
    """One node. reads: the buffers it reads. writes: the buffer it makes (None: an alias of what it reads).

    extra: bytes needed only while it runs (scratch). overwrites: buffers it may take over when they die.
    """

    needs: int  # bit mask of the nodes that must have run
    reads: tuple[int, ...]
    writes: int | None
    extra: int
    overwrites: tuple[int, ...]


@dataclass
class _Buffer:
    """Bytes that values share. readers: bit mask of nodes. kept: read after the run."""

    size: int
    readers: int
    kept: bool


@dataclass(frozen=True)
class _State:
    """Nodes executed (bit mask), bytes live after them, the worst step so far, and the order they ran in."""

    done: int
    live: int
    peak: int
    order: tuple[int, ...]


def schedule(graph: Graph) -> Graph:
    """The graph with its nodes in the best order found; unchanged when no order needs fewer bytes."""
    problem = _Problem(graph)
    given = problem.follow(range(len(graph.nodes)))
    best = problem.search(min(given, problem.greedy(), key=lambda state: state.peak))
    return graph.evolve(nodes=tuple(graph.nodes[i] for i in best.order)) if best.peak < given.peak else graph


def peak_of(graph: Graph) -> tuple[int, str]:
    """The greatest sum of live bytes when the nodes run as they stand, and the first node that needs it."""
    chosen = [(b, choose_kernel(b, None)) for b in graph.bound()]
    live = needs(Program(graph, tuple(Step(b, kernel, kernel.scratch(b)) for b, kernel in chosen)))
    most = max(live, default=0)
    return most, chosen[min(live.index(most), len(chosen) - 1)][0].name if chosen else ""


class _Problem:
    """Nodes and buffers by number, as the portable kernels use them."""

    def __init__(self, graph: Graph) -> None:
        self.buffers: list[_Buffer] = []
        self.tasks: list[_Task] = []
        self._of: dict[str, int] = {t.name: self._buffer(t.size_bytes) for t in graph.input_tensors}
        index = {node.output: i for i, node in enumerate(graph.nodes)}
        for b in graph.bound():
            needs = sum({1 << index[t.name] for t in b.activations if t.name in index})
            self.tasks.append(self._task(b, needs))
        for i, task in enumerate(self.tasks):
            for read in task.reads:
                self.buffers[read].readers |= 1 << i
        for name in graph.outputs:
            self.buffers[self._of[name]].kept = True
        self.start = _State(0, sum(self.buffers[self._of[i]].size for i in graph.inputs), 0, ())

    def _buffer(self, size: int) -> int:
        self.buffers.append(_Buffer(aligned(size), 0, False))
        return len(self.buffers) - 1

    def _task(self, b: BoundNode, needs: int) -> _Task:
        kernel = choose_kernel(b, None)
        reads = [self._of[t.name] for t in b.activations]
        if kernel.alias:
            self._of[b.output.name] = reads[0]
            return _Task(needs, tuple(reads), None, 0, ())
        permitted = kernel.in_place(b)
        kept = {r for i, r in enumerate(reads) if i not in permitted}
        fits = [reads[i] for i in permitted if b.activations[i].size_bytes == b.output.size_bytes]
        self._of[b.output.name] = written = self._buffer(b.output.size_bytes)
        extra = aligned(kernel.scratch(b))
        return _Task(
            needs, tuple(dict.fromkeys(reads)), written, extra, tuple(r for r in fits if r not in kept)
        )

    def run(self, state: _State, number: int) -> _State:
        """Execute one node."""
        task = self.tasks[number]
        done = state.done | 1 << number
        dying = [r for r in task.reads if not self._needed(r, done)]
        freed = sum(self.buffers[r].size for r in dying)
        if task.writes is None:
            return _State(done, state.live - freed, max(state.peak, state.live), (*state.order, number))
        size = self.buffers[task.writes].size
        during = state.live + task.extra + (0 if any(r in task.overwrites for r in dying) else size)
        kept = size if self._needed(task.writes, done) else 0
        return _State(done, state.live + kept - freed, max(state.peak, during), (*state.order, number))

    def _needed(self, buffer: int, done: int) -> bool:
        """Whether a buffer is read by a node that has not run, or after the run."""
        return self.buffers[buffer].kept or bool(self.buffers[buffer].readers & ~done)

    def follow(self, order: Iterable[int]) -> _State:
        """Execute all nodes in this order."""
        state = self.start
        for number in order:
            state = self.run(state, number)
        return state

    def ready(self, state: _State) -> list[_State]:
        """The states one step further."""
        return [
            self.run(state, number)
            for number, task in enumerate(self.tasks)
            if not state.done >> number & 1 and not task.needs & ~state.done
        ]

    def greedy(self) -> _State:
        """Always the node that leaves the fewest bytes live."""
        state = self.start
        while len(state.order) < len(self.tasks):
            state = min(self.ready(state), key=lambda s: (s.peak, s.live))
        return state

    def search(self, known: _State) -> _State:
        """The best complete state, or `known` when nothing is better or the search gives up."""
        heap: list[tuple[int, int, int, _State]] = [(0, 0, 0, self.start)]
        pushed = 0  # equally good states leave the heap in the order in which they entered
        seen: set[int] = set()
        while heap and len(seen) < MOST_SETS:
            state = heapq.heappop(heap)[-1]
            if len(state.order) == len(self.tasks):
                return state if state.peak < known.peak else known
            if state.done in seen:
                continue
            seen.add(state.done)
            for after in _worthwhile(state, self.ready(state)):
                if after.peak < known.peak and after.done not in seen:
                    pushed += 1
                    heapq.heappush(heap, (after.peak, -len(after.order), pushed, after))
        return known


def _worthwhile(state: _State, further: Sequence[_State]) -> Sequence[_State]:
    """One step that costs nothing is taken at once: freeing bytes early never hurts a later step."""
    for after in further:
        if after.live <= state.live and after.peak <= state.peak:
            return (after,)
    return further
