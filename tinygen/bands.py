"""Chains of windowed layers computed band by band of rows, so that what lies between them never exists as a whole.

A rewrite of the int8 graph by operators that are there: each band is a crop of the chain's input, the layers of the
chain with the padding that is left to the band; a concatenation joins what the bands give. Every element is computed
from the same numbers as before: exact. Rows that two bands need are computed twice. Kernels and planner know nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tinygen import ops, spec
from tinygen.decisions import BandDecision
from tinygen.graph import BoundNode, Graph, Node, Tensor
from tinygen.ops import concat, crop
from tinygen.ops.windows import Pair
from tinygen.scheduling import peak_of

Tried = TypeVar("Tried")
Result = TypeVar("Result")

BAND = "/band "
"""Stands between a layer's name and the number of one of its bands."""
LONGEST = 8
"""Layers of a chain that are tried: rows that bands share grow with every layer."""

HEIGHTS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Rows of the chain's output in a band that are tried."""


@dataclass(frozen=True)
class Rows:
    """Rows first ... end - 1 of a tensor."""

    first: int
    end: int

    def hull(self, other: Rows) -> Rows:
        """The fewest rows with both."""
        return Rows(min(self.first, other.first), max(self.end, other.end))


def arrangements(graph: Graph) -> tuple[Graph, ...]:
    """Graphs with chains in bands, from few multiply-accumulates to many.

    Each has a smaller greatest sum of live bytes than those before it; none where no bands make it smaller. The order
    of nodes is kept, bands stand one behind the other.
    """
    found: list[Graph] = []
    while better := _better(found[-1] if found else graph):
        found += better
    return tuple(spec.check(g, quantized=True) for g in found)


def smallest(graph: Graph) -> Graph:
    """The arrangement whose greatest sum of live bytes is smallest; the graph itself where there is none."""
    return (graph, *arrangements(graph))[-1]


def cheapest(tried: Sequence[Tried], attempt: Callable[[Tried], Result | None]) -> Result | None:
    """What the first arrangement gives that gives something; None where the last, which needs least, does not."""
    least = attempt(tried[-1]) if tried else None
    if least is None:
        return None
    return next((made for one in tried[:-1] if (made := attempt(one)) is not None), least)


def _better(graph: Graph) -> list[Graph]:
    """One chain more in bands: of those with as many multiply-accumulates or fewer each has the smallest peak."""
    peak, found = peak_of(graph)[0], []
    tried = [(ops.macs(g.bound()), peak_of(g)[0], g) for g in _candidates(graph)]
    for _, least, candidate in sorted(tried, key=lambda t: t[:2]):
        if least < peak:
            peak = least
            found.append(candidate)
    return found


def layer_of(name: str) -> str:
    """The layer that a node was before it was one of its bands, or fetched rows for one."""
    return name.split(BAND)[0]


def decisions(before: Graph, after: Graph) -> tuple[BandDecision, ...]:
    """What bands made of a graph, as one decision; none where they are equal."""
    left = {n.name for n in after.nodes if n.op != "concat"}
    layers = tuple(n.name for n in before.nodes if n.name not in left and n.op != "concat")
    if not layers:
        return ()
    peaks, products = zip(*((peak_of(g)[0], ops.macs(g.bound())) for g in (before, after)), strict=True)
    return (BandDecision(layers, peaks, products),)


# ---- chains


def _candidates(graph: Graph) -> Iterator[Graph]:
    """Only chains with the layer that needs most can need less."""
    worst = peak_of(graph)[1]
    for chain in (c for c in chains(graph) if worst in {b.name for b in c}):
        height = chain[-1].output.shape[0]
        for rows in HEIGHTS:
            if rows < height:
                yield banded(graph, chain, rows)


def chains(graph: Graph) -> Iterator[tuple[BoundNode, ...]]:
    """Two or more layers with rows that read one tensor and give one: each the only reader of the one before it, or
    with branches that join again."""
    yield from {tuple(b.name for b in chain): chain for chain in _chains(graph)}.values()


def _chains(graph: Graph) -> Iterator[tuple[BoundNode, ...]]:
    """The same, some more than once: what one of several readers begins may depend on nothing else either."""
    bound = tuple(graph.bound())
    for source in (*graph.inputs, *(b.output.name for b in bound)):
        yield from _grown(graph, bound, source, ())
        readers = [b for b in bound if {t.name for t in b.activations} == {source} and _rows(b, Rows(0, 1))]
        for first in readers if len(graph.consumers[source]) > 1 else ():
            yield from _grown(graph, bound, first.output.name, (first,))


def _grown(
    graph: Graph, bound: Sequence[BoundNode], source: str, first: tuple[BoundNode, ...]
) -> Iterator[tuple[BoundNode, ...]]:
    """The chain `first`, which gives `source`, and whatever needs that alone, as far as it is closed at its end."""
    known, chain = {source}, list(first)
    for b in bound:
        if len(chain) == LONGEST:
            return
        if {t.name for t in b.activations} <= known and _rows(b, Rows(0, 1)):
            known.add(b.output.name)
            chain.append(b)
            if len(chain) > 1 and _closed(graph, chain):
                yield tuple(chain)


def _closed(graph: Graph, chain: Sequence[BoundNode]) -> bool:
    """True where the chain, and nobody else, reads what lies inside of it."""
    names, inside = {b.name for b in chain}, [b.output.name for b in chain[:-1]]
    readers = [{n.name for n in graph.consumers[t]} for t in inside]
    return not {*inside} & {*graph.outputs} and all(found and found <= names for found in readers)


# ---- bands


def banded(graph: Graph, chain: Sequence[BoundNode], rows: int) -> Graph:
    """The graph with a chain in bands of so many rows of its output (the last may be lower)."""
    last = chain[-1]
    height = last.output.shape[0]
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    parts = []
    for number, first in enumerate(range(0, height, rows)):
        made = _band(chain, number, Rows(first, min(first + rows, height)))
        nodes += [node for node, _ in made]
        tensors.update((tensor.name, tensor) for _, tensor in made)
        parts.append(made[-1][1].name)
    nodes.append(Node("concat", last.name, tuple(parts), last.output.name, concat.Attrs(0)))
    names = {b.name for b in chain}
    before, after = _split(graph, chain[0].name)
    kept = (*before, *nodes, *(n for n in after if n.name not in names))
    return graph.evolve(nodes=kept, tensors=tensors).pruned()


def _split(graph: Graph, name: str) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """Nodes before the one of that name, and from it on."""
    index = next(i for i, n in enumerate(graph.nodes) if n.name == name)
    return graph.nodes[:index], graph.nodes[index:]


def _band(chain: Sequence[BoundNode], number: int, wanted: Rows) -> list[tuple[Node, Tensor]]:
    """The nodes of one band, with the tensors that they write."""
    inside = {chain[-1].output.name: wanted}
    layers: list[tuple[BoundNode, Rows, Any]] = []
    for b in reversed(chain):
        needed, attrs = _needed(b, inside[b.output.name])
        layers.insert(0, (b, needed, attrs))
        for t in b.activations:
            inside[t.name] = inside[t.name].hull(needed) if t.name in inside else needed
    held: dict[str, tuple[Tensor, Rows]] = {}
    made: list[tuple[Node, Tensor]] = []
    for b, needed, attrs in layers:
        name = f"{b.name}{BAND}{number}"
        fetched, read = _fetched(b, name, needed, held)
        rows = inside[b.output.name]
        output = _part(b.output, name, rows)
        inputs = tuple(read.get(n, n) for n in b.node.inputs)
        made += [*fetched, (replace(b.node, name=name, attrs=attrs, inputs=inputs, output=name), output)]
        held[b.output.name] = output, rows
    return made


def _fetched(
    b: BoundNode, name: str, needed: Rows, held: Mapping[str, tuple[Tensor, Rows]]
) -> tuple[list[tuple[Node, Tensor]], dict[str, str]]:
    """(copies of the rows that a layer needs where more are held, what it then reads in place of its inputs)."""
    made, read = [], {}
    for t in {t.name: t for t in b.activations}.values():
        tensor, rows = held.get(t.name, (t, Rows(0, t.shape[0])))
        if rows != needed:
            made.append(_cropped(f"{name}/{t.name}", tensor, rows, needed))
            tensor = made[-1][1]
        read[t.name] = tensor.name
    return made, read


def _needed(b: BoundNode, wanted: Rows) -> tuple[Rows, Any]:
    """Rows of its inputs that a layer needs for these of its output, and its attributes then."""
    found = _rows(b, wanted)
    assert found is not None
    return Rows(*found[0]), found[1]


def _rows(b: BoundNode, wanted: Rows) -> tuple[Pair, Any] | None:
    """What the operator says of these rows of its output; None when it can only make all."""
    op = ops.get(b.node.op)
    if len(b.output.shape) != 3:
        return None
    if op.elementwise:
        return (wanted.first, wanted.end), b.attrs
    return op.rows(b, wanted.first, wanted.end) if op.rows else None


def _cropped(name: str, source: Tensor, held: Rows, needed: Rows) -> tuple[Node, Tensor]:
    """A copy of the rows that a layer of a band needs, of those that are held."""
    tensor = _part(source, name, needed)
    spans = ((needed.first - held.first, held.end - needed.end), *((0, 0) for _ in source.shape[1:]))
    return Node("crop", tensor.name, (source.name,), tensor.name, crop.Attrs(spans)), tensor


def _part(whole: Tensor, name: str, rows: Rows) -> Tensor:
    """Rows of a tensor under a name of their own: two bands may have the same ones."""
    return replace(whole, name=name, shape=(rows.end - rows.first, *whole.shape[1:]))
