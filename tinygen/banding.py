"""A chain of windowed layers, rewritten into bands of rows: operators that are there, every element as before.

Each band computes the rows of each layer that no band before it has computed. What a layer reads of a tensor of the
chain stands in a tile: rows kept from the band before, and the new ones behind them. So no row is computed twice, and
of each tensor inside there are never more rows than its readers need for one band. Where kept rows lie, whether they
have to be moved, and that parts are made where they will be joined, is up to the planner (tinygen/lifetimes.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinygen import ops
from tinygen.graph import BoundNode, Graph, Node, Tensor
from tinygen.ops import concat, crop
from tinygen.ops.windows import Pair

BAND = "/band "
"""Stands between a layer's name and the number of one of its bands."""

Made = list[tuple[Node, Tensor]]
"""Nodes in the order of execution, each with the tensor that it writes."""


@dataclass(frozen=True)
class Rows:
    """Rows first ... end - 1 of a tensor; none where end is first."""

    first: int
    end: int

    def hull(self, other: Rows) -> Rows:
        """The fewest rows with both."""
        return Rows(min(self.first, other.first), max(self.end, other.end))

    def behind(self, end: int) -> Rows:
        """Those of them from `end` on."""
        return Rows(max(self.first, min(end, self.end)), self.end)

    def before(self, end: int) -> Rows:
        """Those of them in front of `end`."""
        return Rows(self.first, max(self.first, min(end, self.end)))

    def __bool__(self) -> bool:
        return self.end > self.first


@dataclass(frozen=True)
class Tile:
    """Rows of a tensor of the chain, as a tensor of their own."""

    tensor: Tensor
    rows: Rows


@dataclass(frozen=True)
class Work:
    """What a band has of a layer. rows: those that its readers need. new: those of them to compute. needed: the rows of
    its inputs for that. attrs: its attributes then."""

    layer: BoundNode
    rows: Rows
    new: Rows
    needed: Rows
    attrs: Any


def layer_of(name: str) -> str:
    """The layer that a node was before it was one of its bands, or fetched rows for one."""
    return name.split(BAND)[0]


def rows_of(b: BoundNode, wanted: Rows) -> tuple[Pair, Any] | None:
    """What the operator says of these rows of its output: (rows of its inputs, attributes); None when it can only make
    all."""
    op = ops.get(b.node.op)
    if len(b.output.shape) != 3:
        return None
    if op.elementwise:
        return (wanted.first, wanted.end), b.attrs
    return op.rows(b, wanted.first, wanted.end) if op.rows else None


def banded(graph: Graph, chain: Sequence[BoundNode], rows: int) -> Graph:
    """The graph with a chain in bands of so many rows of its output (the last may be lower)."""
    last = chain[-1]
    made: Made = []
    parts: list[str] = []
    held: dict[str, Tile] = {}
    for number, first in enumerate(range(0, last.output.shape[0], rows)):
        wanted = Rows(first, min(first + rows, last.output.shape[0]))
        for work in _works(chain, wanted, held):
            made += _computed(work, number, held)
        parts.append(held.pop(last.output.name).tensor.name)
        held[last.output.name] = Tile(last.output, Rows(0, wanted.end))  # so far it is done
    joined = Node("concat", last.name, tuple(parts), last.output.name, concat.Attrs(0))
    names = {b.name for b in chain}
    before, after = _split(graph, chain[0].name)
    kept = (*before, *(node for node, _ in made), joined, *(n for n in after if n.name not in names))
    tensors = {**graph.tensors, **{tensor.name: tensor for _, tensor in made}}
    return graph.evolve(nodes=kept, tensors=tensors).pruned()


def _split(graph: Graph, name: str) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """Nodes before the one of that name, and from it on."""
    index = next(i for i, n in enumerate(graph.nodes) if n.name == name)
    return graph.nodes[:index], graph.nodes[index:]


def _works(chain: Sequence[BoundNode], wanted: Rows, held: Mapping[str, Tile]) -> list[Work]:
    """What one band has to do, in the order of execution; nothing of layers that it needs no new rows of."""
    inside = {chain[-1].output.name: wanted}
    works: list[Work] = []
    for b in reversed(chain):
        rows = inside.get(b.output.name)
        if rows is None:
            continue
        done = held[b.output.name].rows.end if b.output.name in held else 0
        new = rows.behind(done)
        needed, attrs = _needed(b, new) if new else (new, None)
        works.insert(0, Work(b, rows, new, needed, attrs))
        for t in b.activations if new else ():
            inside[t.name] = inside[t.name].hull(needed) if t.name in inside else needed
    return works


def _needed(b: BoundNode, wanted: Rows) -> tuple[Rows, Any]:
    """Rows of its inputs that a layer needs for these of its output, and its attributes then."""
    found = rows_of(b, wanted)
    assert found is not None
    return Rows(*found[0]), found[1]


def _computed(work: Work, number: int, held: dict[str, Tile]) -> Made:
    """The nodes of one layer in one band; `held` has its tile from then on."""
    b, name = work.layer, f"{work.layer.name}{BAND}{number}"
    before = held.get(b.output.name)
    made: Made = []
    parts: list[Tensor] = []
    if before and (kept := work.rows.before(before.rows.end)):
        made += _fetched(f"{name}/kept", before, kept)
        parts.append(made[-1][1] if made else before.tensor)
    if work.new:
        read: dict[str, str] = {}
        for t in {t.name: t for t in b.activations}.values():
            source = held.get(t.name, Tile(t, Rows(0, t.shape[0])))
            fetched = _fetched(f"{name}/{t.name}", source, work.needed)
            made += fetched
            read[t.name] = (fetched[-1][1] if fetched else source.tensor).name
        inputs = tuple(read.get(n, n) for n in b.node.inputs)
        parts.append(_part(b.output, name, work.new))
        made.append((replace(b.node, name=name, attrs=work.attrs, inputs=inputs, output=name), parts[-1]))
    if len(parts) > 1:
        tile = _part(b.output, f"{name}/tile", work.rows)
        names = tuple(t.name for t in parts)
        made.append((Node("concat", tile.name, names, tile.name, concat.Attrs(0)), tile))
        parts = [tile]
    held[b.output.name] = Tile(parts[0], work.rows)
    return made


def _fetched(name: str, source: Tile, needed: Rows) -> Made:
    """A copy of the rows that are needed, of those that are held; nothing where they are the same."""
    if source.rows == needed:
        return []
    tensor = _part(source.tensor, name, needed)
    cut = (needed.first - source.rows.first, source.rows.end - needed.end)
    spans = (cut, *((0, 0) for _ in tensor.shape[1:]))
    return [(Node("crop", tensor.name, (source.tensor.name,), tensor.name, crop.Attrs(spans)), tensor)]


def _part(whole: Tensor, name: str, rows: Rows) -> Tensor:
    """Rows of a tensor under a name of their own: two bands may have the same ones."""
    return replace(whole, name=name, shape=(rows.end - rows.first, *whole.shape[1:]))
