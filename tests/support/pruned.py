"""Channel groups in tests: choosing some, masking them in the graph, and holding a smaller model to the masked one."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tests.fuzz.checks import keras_outputs
from tinygen import evaluate, spec
from tinygen.channels import ChannelGroup, groups
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Array, Graph
from tinygen.pruning.shrinking import shrunk
from tinygen.pruning.surgery import remove

ROUNDING = 1e-5
"""Relative error of float32 sums taken in another order."""
SMALLEST = 1e-3
"""Outputs whose largest element is below it are differences of greater numbers: errors are relative to this then."""


def masked(graph: Graph, chosen: Iterable[ChannelGroup]) -> Graph:
    """The graph with zeros in all weights that read the chosen channels."""
    tensors = dict(graph.tensors)
    for part in (s for group in chosen for s in group.constants if s.reads):
        data = np.array(tensors[part.tensor].data)
        np.moveaxis(data, part.axis, 0)[list(part.indices)] = 0
        tensors[part.tensor] = replace(tensors[part.tensor], data=data)
    return graph.evolve(tensors=tensors)


def choose(graph: Graph, found: Sequence[ChannelGroup], seed: int, share: float = 0.5) -> list[ChannelGroup]:
    """A random share of the removable groups, without those that would leave nothing of a tensor."""
    removable = [group for group in found if group.removable]
    random.Random(seed).shuffle(removable)
    gone: Counter[tuple[str, int]] = Counter()
    chosen = []
    for group in removable[: round(len(removable) * share + 0.5)]:
        more = Counter({(s.tensor, s.axis): len(s.indices) for s in (*group.activations, *group.constants)})
        if all(gone[place] + n < graph.tensors[place[0]].shape[place[1]] for place, n in more.items()):
            gone += more
            chosen.append(group)
    return chosen


def error(got: Sequence[Array], want: Sequence[Array]) -> float:
    """The largest difference between outputs, relative to the largest element wanted."""
    worst = 0.0
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        worst = max(worst, float(np.max(np.abs(g - w)) / max(float(np.max(np.abs(w))), SMALLEST)))
    return worst


def assert_equals_masked(
    model: Any,
    graph: Graph,
    chosen: Sequence[ChannelGroup],
    x: Sequence[Array],
    keras_error: float = ROUNDING,
) -> Any:
    """Remove the groups; every activation of the smaller model must be what stays of the masked graph's. Returns it.

    keras_error: how far Keras's own arithmetic may be from the smaller model's graph.
    """
    before = [np.array(w) for w in model.get_weights()]
    smaller = remove(model, graph, chosen)
    assert all(np.array_equal(a, b) for a, b in itertools.zip_longest(before, model.get_weights()))
    own = spec.check(load_keras_model(smaller), quantized=False)
    _assert_sizes(graph, own, chosen)
    _assert_same(shrunk(graph, chosen), own)
    want, got = activations(masked(graph, chosen), x), activations(own, x)
    for name, indices in _gone(graph, chosen).items():
        assert error([got[name]], [np.delete(want[name], indices, axis=-1)]) < ROUNDING, name
    assert error(keras_outputs(smaller, own, x), [want[name] for name in graph.outputs]) < keras_error
    return smaller


def _assert_same(quick: Graph, loaded: Graph) -> None:
    """What stays without Keras is what Keras keeps."""
    assert quick.nodes == loaded.nodes and quick.tensors == loaded.tensors
    for name, tensor in loaded.tensors.items():
        if tensor.data is not None:
            assert np.array_equal(quick.tensors[name].data, tensor.data), name


def activations(graph: Graph, x: Sequence[Array]) -> dict[str, Array]:
    """All activations (N, *shape) by name."""
    seen: dict[str, Array] = {}
    evaluate.real(graph, x, seen.__setitem__)
    return seen


def _gone(graph: Graph, chosen: Iterable[ChannelGroup]) -> dict[str, list[int]]:
    """The channels that are removed from each activation, often none."""
    gone: dict[str, list[int]] = {name: [] for name, t in graph.tensors.items() if not t.is_constant}
    for part in (s for group in chosen for s in group.activations):
        gone[part.tensor] += part.indices
    return gone


def _assert_sizes(graph: Graph, own: Graph, chosen: Sequence[ChannelGroup]) -> None:
    """Every activation and constant is smaller by exactly what was to go: nothing is left as zeros."""
    shapes = {name: list(t.shape) for name, t in graph.tensors.items()}
    for group in chosen:
        for part in (*group.activations, *group.constants):
            shapes[part.tensor][part.axis] -= len(part.indices)
    assert {name: list(t.shape) for name, t in own.tensors.items()} == shapes


def random_inputs(graph: Graph, seed: int, count: int = 2) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(count, *t.shape)).astype(np.float32) for t in graph.input_tensors]


def check_model(model: Any, seeds: Iterable[int] = range(3), keras_error: float = ROUNDING) -> int:
    """Random halves of the model's groups, removed; returns how many groups went in all."""
    graph = load_keras_model(model)
    found, count = groups(graph), 0
    for seed in seeds:
        chosen = choose(graph, found, seed)
        count += len(chosen)
        if chosen:
            assert_equals_masked(model, graph, chosen, random_inputs(graph, seed), keras_error)
    return count
