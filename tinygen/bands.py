"""Chains of windowed layers computed band by band of rows, so that what lies between them never exists as a whole.

A rewrite of the int8 graph by operators that are there: each band is a crop of the chain's input, the layers of the
chain with the padding that is left to the band; a concatenation joins what the bands give. Every element is computed
from the same numbers as before: exact. Rows that two bands need are computed twice. Kernels and planner know nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinygen import ops, spec
from tinygen.decisions import BandDecision
from tinygen.graph import BoundNode, Graph, Node, Tensor
from tinygen.ops import concat, crop
from tinygen.ops.windows import Pair
from tinygen.rewriting import only_reader
from tinygen.scheduling import peak_of

LONGEST = 6
"""Layers of a chain that are tried: rows that bands share grow with every layer."""

HEIGHTS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Rows of the chain's output in a band that are tried."""


@dataclass(frozen=True)
class Rows:
    """Rows first ... end - 1 of a tensor."""

    first: int
    end: int


def smallest(graph: Graph) -> Graph:
    """The graph with the chains in bands that make the greatest sum of live bytes smallest; itself where none does.

    Of equal sums that with fewer multiply-accumulates. The order of nodes is kept, bands stand one behind the other.
    """
    best = graph
    while True:
        peak, tried = peak_of(best)[0], [*_candidates(best)]
        found = min(tried, key=lambda g: (peak_of(g)[0], ops.macs(g.bound())), default=best)
        if peak_of(found)[0] >= peak:
            return best if best is graph else spec.check(best, quantized=True)
        best = found


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
    """Two or more layers with windows, each the only reader of the one before it."""
    for b in graph.bound():
        chain = [b]
        while len(chain) < LONGEST and _rows(chain[-1], Rows(0, 1)):
            if len(chain) > 1:
                yield tuple(chain)
            reader = only_reader(graph, chain[-1].output.name)
            if reader is None:
                break
            chain.append(graph.bind(reader))


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
    layers: list[tuple[BoundNode, Rows, Rows, Node]] = []
    for b in reversed(chain):
        found = _rows(b, wanted)
        assert found is not None
        needed, attrs = Rows(*found[0]), found[1]
        layers.append((b, needed, wanted, replace(b.node, attrs=attrs)))
        wanted = needed
    source = chain[0].inputs[0]
    made = [_cropped(chain[0].name, source, number, wanted)] if wanted != Rows(0, source.shape[0]) else []
    name = made[-1][1].name if made else source.name
    for b, _, given, node in reversed(layers):
        tensor = _part(b.output, f"{b.name}/band {number}", given)
        made.append(
            (replace(node, name=tensor.name, inputs=(name, *node.inputs[1:]), output=tensor.name), tensor)
        )
        name = tensor.name
    return made


def _rows(b: BoundNode, wanted: Rows) -> tuple[Pair, Any] | None:
    """What the operator says of these rows of its output; None when it can only make all."""
    rule = ops.get(b.node.op).rows
    return rule(b, wanted.first, wanted.end) if rule and len(b.output.shape) == 3 else None


def _cropped(reader: str, source: Tensor, number: int, rows: Rows) -> tuple[Node, Tensor]:
    """A copy of the rows that the first layer of a band reads."""
    tensor = _part(source, f"{reader}/input of band {number}", rows)
    spans = ((rows.first, source.shape[0] - rows.end), *((0, 0) for _ in source.shape[1:]))
    return Node("crop", tensor.name, (source.name,), tensor.name, crop.Attrs(spans)), tensor


def _part(whole: Tensor, name: str, rows: Rows) -> Tensor:
    """Rows of a tensor under a name of their own: two bands may have the same ones."""
    return replace(whole, name=name, shape=(rows.end - rows.first, *whole.shape[1:]))
