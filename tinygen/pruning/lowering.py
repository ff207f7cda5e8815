"""A candidate as the compiler would make it for a board: its program, arena, library and places. Values are made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from tinygen import banding, bands, ops, pipeline, sram
from tinygen.boards import Board
from tinygen.emission import Library
from tinygen.errors import BoardError
from tinygen.firmware import needs_of
from tinygen.fit import Fitter
from tinygen.flash import Shares, flash_shares
from tinygen.graph import Graph
from tinygen.placement import Movable, Needs, Placement, place
from tinygen.planning import MemoryPlan
from tinygen.program import Program
from tinygen.pruning.records import Cost, LayerCost
from tinygen.wishes import Wishes

Key = tuple[object, ...]


@dataclass(frozen=True)
class Lowered:
    """wishes: of the user. placement: None where the image does not fit the board, whatever is pinned; as_wished: it
    is one that has everything where the user wants it."""

    board: Board
    wishes: Wishes
    graph: Graph
    program: Program
    plan: MemoryPlan
    library: Library
    needs: Needs
    placement: Placement | None
    as_wished: bool

    @cached_property
    def demanded(self) -> tuple[Movable, ...]:
        """What must lie in writable memory besides the arena; what --pin auto adds is given back where it is needed."""
        return sram.demanded(self.needs, self.board, self.wishes)

    @property
    def extra(self) -> int:
        """Bytes of what is pinned though it need not be."""
        must = {m.symbol for m in self.demanded}
        pins = self.placement.pins if self.placement else ()
        return sum(p.movable.traffic.footprint for p in pins if p.movable.symbol not in must)

    @property
    def flash(self) -> int:
        """Estimated bytes of the code region."""
        return self._read_only[0].needed

    @property
    def fits(self) -> bool:
        """True when it fits the board's memories as the user wants it placed."""
        return self.as_wished and not any(shares.over for shares in self._read_only)

    @cached_property
    def _read_only(self) -> tuple[Shares, ...]:
        return flash_shares(self.library, self.board, self.wishes.weights)

    def cost(self, cycles: Mapping[str, float] | None, outside: float = 0.0) -> Cost:
        """The cost with these cycles per layer and outside of them; None where cycles are unknown."""
        layers = self._layers(cycles or {})
        total = None if cycles is None else sum(cycles.values()) + outside
        return Cost(
            board=self.board.name,
            arena=self.needs.arena,
            pinned=sum(m.traffic.footprint for m in self.demanded),
            sram=sram.sram_bytes(self.needs, self.board, self.demanded),
            flash=self.flash,
            weights=self.library.constant_bytes,
            macs=sum(layer.macs for layer in layers),
            cycles=total,
            ms=None if total is None else 1000.0 * total / self.board.clock_hz,
            measured=False,
            layers=layers,
        )

    @property
    def within(self) -> bool:
        """True when it fits the board as the user wants it placed, and keeps to the budget for SRAM."""
        budget = self.wishes.budget_sram
        return self.fits and (budget is None or self.cost(None).sram <= budget)

    def _layers(self, cycles: Mapping[str, float]) -> tuple[LayerCost, ...]:
        """What the layers take; bands of one are one."""
        found: dict[str, LayerCost] = {}
        for time, step in enumerate(self.program.steps):
            b, name = step.bound, banding.layer_of(step.bound.name)
            known = found.get(name, LayerCost(name, 0, 0.0, 0))
            macs = known.macs + ops.get(b.node.op).macs(b)
            own = known.cycles + cycles.get(b.name, 0.0)
            found[name] = LayerCost(name, macs, own, max(known.live, self.plan.live(time)))
        return tuple(found.values())


def lower(fitter: Fitter, board: Board, wishes: Wishes, banded: bool = False) -> Lowered:
    """As pipeline.lower, but whether or not the result fits the board. banded: in bands of rows, too, where it fits in
    no other way; where it does not fit in any, what needs less.

    Where what must be pinned does not fit, it is placed as it could run today: with --pin auto.
    """
    plain = _lowered(fitter, board, wishes)
    if plain.within or not banded or not fitter.banded:
        return plain

    def attempt(arranged: Fitter) -> Lowered | None:
        made = _lowered(arranged, board, wishes)
        return made if made.within else None

    if found := bands.cheapest(fitter.banded, attempt):
        return found
    least = _lowered(fitter.banded[-1], board, wishes)
    return min(plain, least, key=lambda lowered: lowered.cost(None).sram)


def _lowered(fitter: Fitter, board: Board, wishes: Wishes) -> Lowered:
    _, program, memory = fitter.planned(board)
    library = fitter.library(board)
    needs = needs_of([library])
    wished = _placed(needs, board, wishes)
    placement = wished or _placed(needs, board, Wishes(weights=wishes.weights))
    return Lowered(
        board, wishes, fitter.graph, program, memory, library, needs, placement, wished is not None
    )


def _placed(needs: Needs, board: Board, wishes: Wishes) -> Placement | None:
    try:
        return place(needs, board, wishes)
    except BoardError:
        return None


def key_of(graph: Graph) -> Key:
    """What sizes and cycles depend on: operators, attributes and shapes, not values."""
    shapes = tuple((name, t.shape, t.dtype) for name, t in graph.tensors.items())
    nodes = tuple((n.op, n.name, n.inputs, n.output, repr(n.attrs)) for n in graph.nodes)
    return shapes, nodes, graph.inputs, graph.outputs, pipeline.is_quantized(graph)
