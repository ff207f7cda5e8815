"""Which channel counts a kernel likes, by measured cycles: one that treats several channels at once pays for a rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tinygen import ops
from tinygen.boards import Board
from tinygen.channels import Place
from tinygen.fit import Fitter
from tinygen.graph import BoundNode, Graph, Node, Tensor
from tinygen.pruning import measuring
from tinygen.pruning.lowering import lower
from tinygen.slicing import sliced
from tinygen.wishes import NONE, Wishes

COUNTS = 16
"""Neighbouring channel counts that are compared: every rest of a division by a multiple is among them twice."""
TOGETHER = (4, 1)
"""Counts in one image: as many as fit the board."""
LARGEST = 24
"""Channels of the largest: more only take longer."""
MULTIPLES = (2, 4, 8)
WORTH = 0.02
"""Cycles per multiply-accumulate that other counts must take more, as a share, for a multiple to be preferred."""
CERTAIN = 3.0
"""Standard errors that the difference must have: where code lies in flash alone moves cycles by a few percent."""


def multiple(graph: Graph, layer: str, board: Board, wishes: Wishes = NONE) -> int:
    """The number whose multiples the layer's kernel likes on the board, in channels read and made; 1: it does not mind.

    graph: a float graph. Images with the layer at COUNTS sizes are built and followed. Layers that have no weights, or
    fewer channels than COUNTS, cores without a cycle model, and boards that the layer does not fit give 1.
    """
    b = next(b for b in graph.bound() if b.name == layer)
    most = min(LARGEST, *_classes(b)) if ops.get(b.node.op).output_axis is not None else 0
    if most < COUNTS:
        return 1
    counts = range(most - COUNTS + 1, most + 1)
    graphs = [_narrow(b, count) for count in counts]
    for size in TOGETHER:
        parts = [_taken(graphs[i : i + size], board, wishes) for i in range(0, COUNTS, size)]
        taken = [cycles for part in parts for cycles in part]
        if len(taken) == COUNTS:
            return liked(dict(zip(counts, taken, strict=True)))
    return 1


def _taken(graphs: Sequence[Graph], board: Board, wishes: Wishes) -> list[float]:
    """Cycles per multiply-accumulate of each graph's layer; [] when they do not fit the board."""
    lowered = lower(Fitter(_beside(graphs)), board, wishes)
    profile = measuring.measure(lowered).profile if lowered.fits else None
    layers = profile.layers if profile else ()
    return [row.cost.cycles / row.macs for row in layers if row.macs and row.cost.cycles]


def liked(taken: Mapping[int, float]) -> int:
    """The multiple of cycles per multiply-accumulate by channel count, what every count pays alike taken away."""
    counts = np.array(list(taken), float)
    values = np.array(list(taken.values()))
    gains = {m: _gain(counts, values, m) for m in MULTIPLES}
    best = max(gains.values())
    return 1 if best < WORTH else min(m for m in MULTIPLES if gains[m] > best - WORTH / 2)


def _gain(counts: np.ndarray, values: np.ndarray, multiple: int) -> float:
    """How much more other counts take than multiples, relative, 0 where that is not certain.

    Least squares of a + b / count + c * (no multiple).
    """
    rest = (counts % multiple != 0).astype(float)
    columns = np.stack([np.ones_like(counts), 1 / counts, rest], axis=1)
    solution, *_ = np.linalg.lstsq(columns, values, rcond=None)
    spread = np.sum((values - columns @ solution) ** 2) / (len(values) - columns.shape[1])
    error = np.sqrt(spread * np.linalg.inv(columns.T @ columns)[2, 2])
    return float(solution[2] / values.mean()) if solution[2] > CERTAIN * error else 0.0


# ---- graphs of one layer


def _classes(b: BoundNode) -> list[int]:
    """How many channels can go one by one, of the input and of the output."""
    return [len(set(entry.labels)) for entry in ops.get(b.node.op).channels(b)] or [0]


def _narrow(b: BoundNode, count: int) -> Graph:
    """The layer alone with the first `count` channels of its input and output."""
    gone: dict[Place, set[int]] = {}
    for entry in ops.get(b.node.op).channels(b):
        tensor = b.inputs[entry.place] if entry.place >= 0 else b.output
        stay = set(sorted(set(entry.labels))[:count])
        axis = entry.axis % len(tensor.shape)
        gone[tensor.name, axis] = {i for i, label in enumerate(entry.labels) if label not in stay}
    tensors = {t.name: t for t in (*b.inputs, b.output)}
    inputs = tuple(t.name for t in b.activations)
    return sliced(Graph(b.name, (b.node,), tensors, inputs, (b.output.name,)), gone)


def _beside(graphs: Sequence[Graph]) -> Graph:
    """All graphs in one, each with inputs and outputs of its own."""
    parts = [_renamed(graph, f"_{number}") for number, graph in enumerate(graphs)]
    return Graph(
        parts[0].name,
        tuple(node for part in parts for node in part.nodes),
        {name: tensor for part in parts for name, tensor in part.tensors.items()},
        tuple(name for part in parts for name in part.inputs),
        tuple(name for part in parts for name in part.outputs),
    )


def _renamed(graph: Graph, suffix: str) -> Graph:
    def node(n: Node) -> Node:
        inputs = tuple(name + suffix for name in n.inputs)
        return replace(n, name=n.name + suffix, inputs=inputs, output=n.output + suffix)

    tensors: dict[str, Tensor] = {
        name + suffix: replace(t, name=name + suffix) for name, t in graph.tensors.items()
    }
    inputs, outputs = (tuple(name + suffix for name in names) for names in (graph.inputs, graph.outputs))
    return Graph(graph.name, tuple(map(node, graph.nodes)), tensors, inputs, outputs)
