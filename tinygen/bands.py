"""Chains of windowed layers computed band by band of rows, so that what lies between them never exists as a whole.

banding.py rewrites a chain. Here stands which chains there are, and which of them in how many bands are worth having.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tinygen import ops, spec
from tinygen.banding import BAND, Rows, banded, rows_of
from tinygen.decisions import BandDecision
from tinygen.graph import BoundNode, Graph
from tinygen.scheduling import peak_of

Tried = TypeVar("Tried")
Result = TypeVar("Result")

LONGEST = 14
"""Layers of a chain that are tried."""

WORTH = 1 / 12
"""Share of a peak that another arrangement has to save: each is built before one is taken."""

HEIGHTS = (1, 2, 4, 8, 16)
"""Rows of the chain's output in a band that are tried."""


def arrangements(graph: Graph) -> tuple[Graph, ...]:
    """Graphs with chains in bands, from few nodes to many; no multiply-accumulate is done twice.

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
    """One chain more in bands: of those with as many nodes or fewer each has a peak that is smaller by WORTH; the last
    one's is the smallest of all."""
    peak = peak_of(graph)[0]
    tried = [(len(g.nodes), peak_of(g)[0], g) for g in _candidates(graph)]
    lowest = min((least for _, least, _ in tried), default=peak)
    found = []
    for _, least, candidate in sorted(tried, key=lambda t: t[:2]):
        if least < peak and (least == lowest or least <= peak * (1 - WORTH)):
            peak = least
            found.append(candidate)
    return found


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
    """Only chains with the layer that needs most can need less; what is in bands is not put into bands again."""
    worst = peak_of(graph)[1]
    if BAND in worst:
        return
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
        readers = [b for b in bound if {t.name for t in b.activations} == {source} and rows_of(b, Rows(0, 1))]
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
        if {t.name for t in b.activations} <= known and rows_of(b, Rows(0, 1)):
            known.add(b.output.name)
            chain.append(b)
            if len(chain) > 1 and _closed(graph, chain):
                yield tuple(chain)


def _closed(graph: Graph, chain: Sequence[BoundNode]) -> bool:
    """True where the chain, and nobody else, reads what lies inside of it."""
    names, inside = {b.name for b in chain}, [b.output.name for b in chain[:-1]]
    readers = [{n.name for n in graph.consumers[t]} for t in inside]
    return not {*inside} & {*graph.outputs} and all(found and found <= names for found in readers)
