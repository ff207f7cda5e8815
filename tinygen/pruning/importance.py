"""How much each removable channel group matters: one score per group, comparable across layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.channels import ChannelGroup
from tinygen.errors import UsageError, did_you_mean
from tinygen.graph import Array, Graph
from tinygen.ops.tensors import tensorflow
from tinygen.pruning.judging import Judge, few
from tinygen.pruning.masks import Masks
from tinygen.pruning.readers import families, readers
from tinygen.pruning.recipe import reconstructs
from tinygen.pruning.redundancy import redundancy
from tinygen.pruning.statistics import BATCH, Statistics, conditions_of, spread
from tinygen.pruning.surgery import layers_of
from tinygen.quantized_training import network
from tinygen.samples import Samples

TRIED = 0.2
"""Share of a family that `choose` removes to see what its method is worth."""
CHOOSING_SAMPLES = 512
"""Evenly spaced held-out samples on which it looks."""
DRAWS = 4
"""Random directions per sample in which `taylor` looks."""
TAYLOR_SAMPLES = 512


@dataclass(frozen=True)
class Evidence:
    """What scores are computed from. conditions: (N,) operating condition of each sample."""

    model: Any
    graph: Graph
    groups: Sequence[ChannelGroup]
    samples: Samples
    statistics: Statistics
    conditions: Array
    seed: int = 1


def scores(
    method: str,
    model: Any,
    graph: Graph,
    groups: Sequence[ChannelGroup],
    samples: Samples,
    found: Statistics,
    conditions: Array | None = None,
    seed: int = 1,
) -> Array:
    """(len(groups),) float64 >= 0, the less the sooner a group may go; infinite where it must stay.

    activation, taylor: absolute, a share of variance and a loss. magnitude, bn: relative to the mean of the layer.
    """
    if method not in METHODS:
        raise UsageError(unknown(method))
    of = conditions_of(samples) if conditions is None else conditions
    values = METHODS[method](Evidence(model, graph, groups, samples, found, of, seed))
    return np.where([group.removable for group in groups], values, np.inf)


def unknown(method: str) -> str:
    """What to say of a method that there is not."""
    known = ("auto", *METHODS)
    return f"--importance is '{method}'{did_you_mean(method, known)}\n  it must be one of {', '.join(known)}"


# ---- methods


def activation(e: Evidence) -> Array:
    """Share of the readers' output variance that goes with a group when its mean is folded, in the worst condition."""
    total = np.zeros(len(e.groups) + 1)
    for reader in readers(e.graph, e.groups):
        weights = (reader.weights**2).reshape(len(reader.owner), -1).sum(axis=1)
        left = e.statistics[reader.b.inputs[0].name].left.reshape(-1, len(weights)).mean(axis=0)
        size = max(float(e.statistics[reader.b.output.name].variance.mean(axis=0).sum()), 1e-30)
        np.add.at(total, reader.owner, weights * left / size)
    return total[:-1]


def magnitude(e: Evidence) -> Array:
    """Norm of the filters that make a group, relative to the mean norm in their layer; the mean over its layers."""
    values = np.zeros(len(e.groups))
    norms: dict[tuple[str, int], Array] = {}
    for i, group in enumerate(e.groups):
        parts = [p for p in group.constants if len(e.graph.tensors[p.tensor].shape) > 1]
        shares = []
        for p in [p for p in parts if not p.reads] or parts:
            if (p.tensor, p.axis) not in norms:
                data = np.moveaxis(np.asarray(e.graph.tensors[p.tensor].data, np.float64), p.axis, 0)
                rows = np.linalg.norm(data.reshape(len(data), -1), axis=1)
                norms[p.tensor, p.axis] = rows / max(float(rows.mean()), 1e-30)
            shares.append(norms[p.tensor, p.axis][list(p.indices)].mean())
        values[i] = np.mean(shares) if shares else 0.0
    return values


def bn(e: Evidence) -> Array:
    """|gamma| of the batch normalizations of a group, relative to the layer's mean; `magnitude` without one."""
    gammas = {}
    for path, layer in layers_of(e.model, ()):
        if type(layer).__name__ == "BatchNormalization" and layer.scale:
            gamma = np.abs(np.asarray(layer.gamma, np.float64))
            for tensor in e.graph.origins.get((*path, "scale"), ()):
                gammas[tensor] = gamma / max(float(gamma.mean()), 1e-30)
    values = magnitude(e)
    for i, group in enumerate(e.groups):
        own = [gammas[p.tensor][list(p.indices)].mean() for p in group.constants if p.tensor in gammas]
        values[i] = np.mean(own) if own else values[i]
    return values


def taylor(e: Evidence) -> Array:
    """Distillation loss by its first-order expansion in the outputs: E[(u . J d)^2] / 2, d the deviation from the mean.

    The distance from the original has its minimum, gradient 0, at the original: so its curvature counts, known from
    first derivatives alone. u: random, with the covariance that this curvature has. The worst condition decides.
    """
    tf = tensorflow()
    chosen = spread(e.samples.count, TAYLOR_SAMPLES)
    graph, generator = network.trunk(e.graph), np.random.default_rng(e.seed)
    run = tf.function(lambda xs, noise: _effects(e, graph, xs, noise), autograph=False, reduce_retracing=True)
    squares = []
    shapes = [graph.tensors[o.tensor].shape for o in network.outputs_of(e.graph)]
    for start in range(0, len(chosen), BATCH):
        part = chosen[start : start + BATCH]
        xs = [tf.constant(x[part], tf.float32) for x in e.samples.x]
        batch = np.zeros((len(part), len(e.groups)))
        for _ in range(DRAWS):
            noise = [generator.random((len(part), *shape)).astype(np.float32) for shape in shapes]
            batch += np.asarray(run(xs, [tf.constant(n) for n in noise]), np.float64)[:, :-1] ** 2
        squares.append(batch / (2 * DRAWS))
    rows, own = np.concatenate(squares), e.conditions[chosen]
    return np.asarray(np.max([rows[own == c].mean(axis=0) for c in np.unique(own)], axis=0))


def _effects(e: Evidence, graph: Graph, xs: Any, noise: Any) -> Any:
    """(N, groups + 1): derivatives of a random mix of a sample's outputs by what stays of each group."""
    tf = tensorflow()
    count = len(e.groups) + 1
    masked = {r.b.name: r for r in readers(e.graph, e.groups)}
    constants = {name: tf.constant(values) for name, values in network.constants_of(graph).items()}
    keep = tf.ones((tf.shape(xs[0])[0], count))
    with tf.GradientTape() as tape:
        tape.watch(keep)
        live = dict(zip(graph.inputs, xs, strict=True))
        for b in graph.bound():
            given = [constants[t.name] if t.is_constant else live[t.name] for t in b.inputs]
            if b.name in masked:
                own = tf.gather(keep, masked[b.name].channels % count, axis=1)
                own = tf.reshape(own, (-1, *(1,) * (len(b.inputs[0].shape) - 1), b.inputs[0].shape[-1]))
                mean = tf.constant(e.statistics[b.inputs[0].name].mean, tf.float32)
                given[0] = mean + (given[0] - mean) * own
            live[b.output.name] = ops.get(b.node.op).differentiable(b, given)
        outputs = zip(network.outputs_of(e.graph), e.graph.outputs, noise, strict=True)
        mix = tf.add_n([_mixed(e, o, name, live, n) for o, name, n in outputs])
    return tape.gradient(mix, keep)


def _mixed(e: Evidence, output: network.Output, name: str, live: Mapping[str, Any], noise: Any) -> Any:
    """Sum of u times the output's logits; u is not differentiated."""
    tf = tensorflow()
    logits = output.of(live)
    if output.kind == "linear":
        variance = max(float(e.statistics[name].variance.mean()), 1e-12)
        size = float((2 / (variance * np.prod(logits.shape[1:]))) ** 0.5)
        direction = tf.where(noise < 0.5, -size, size)
    elif output.kind == "sigmoid":
        p = tf.sigmoid(logits)
        direction = tf.cast(noise < p, tf.float32) - p
    else:
        p = tf.nn.softmax(logits)
        gumbel = logits - tf.math.log(-tf.math.log(tf.clip_by_value(noise, 1e-7, 1 - 1e-7)))
        direction = tf.one_hot(tf.argmax(gumbel, axis=-1), p.shape[-1]) - p
    return tf.reduce_sum(tf.stop_gradient(direction) * logits)


def random(e: Evidence) -> Array:
    """A control: what does not beat it is worth nothing."""
    return np.asarray(np.random.default_rng(e.seed).random(len(e.groups)))


def redundant(e: Evidence) -> Array:
    """Relative error of a group's readers, refitted, when it goes after those that score less (redundancy.py)."""
    return redundancy(e.graph, e.groups, e.samples, activation(e))


METHODS: Mapping[str, Callable[[Evidence], Array]] = {
    "activation": activation,
    "magnitude": magnitude,
    "bn": bn,
    "taylor": taylor,
    "redundancy": redundant,
    "random": random,
}
COUNTING = frozenset({"redundancy"})
"""Methods that count on refitting what reads the channels."""
UNTRIED = frozenset({"random"}) | COUNTING
"""Not among those of which `auto` chooses: a control, and those that count on what a try does without."""


def method_for(asked: str, model: Any) -> str:
    """What ranks channels of this keras.Model: autoencoders keep what the others cannot stand in for, unless asked
    otherwise."""
    return "redundancy" if asked == "auto" and reconstructs(model) else asked


def counts_on_refitting(method: str) -> bool:
    return method in COUNTING


# ---- which method


@dataclass(frozen=True)
class Choice:
    """methods: family -> the method that ranks it. scores: to be compared within a family only.

    losses: per method, the sum over families of what TRIED of that family alone loses, on held-out samples, mean-folded
    and not trained; {} where the user named the method.
    """

    methods: Mapping[str, str]
    scores: Array
    losses: Mapping[str, float]

    @property
    def method(self) -> str:
        """In words: the methods, the one that ranks most families first."""
        counts = Counter(self.methods.values()).most_common()
        if len(counts) == 1:
            return counts[0][0]
        return (
            ", ".join(f"{name} ({count} of {len(self.methods)} layers)" for name, count in counts)
            or "nothing"
        )


def choose(
    method: str,
    model: Any,
    graph: Graph,
    groups: Sequence[ChannelGroup],
    samples: Samples,
    found: Statistics,
    masks: Masks,
    judge: Judge,
    seed: int = 1,
) -> Choice:
    """The scores of a method; of `auto`, in every family those of the method that loses least when TRIED of it goes.

    One family at a time: with all at once, a model whose classes collapse tells methods apart by luck.
    """
    names = (*_able(), "random") if method == "auto" else (method,)
    tried = {name: scores(name, model, graph, groups, samples, found, seed=seed) for name in names}
    own = families(graph, groups)
    if method != "auto":
        return Choice(dict.fromkeys(own, method), tried[method], {})
    loss = cache(lambda gone: masks.loss(gone, few(judge, CHOOSING_SAMPLES)))
    lost = {
        name: {family: loss(_least(values, members)) - loss(frozenset()) for family, members in own.items()}
        for name, values in tried.items()
    }
    totals = {name: sum(values.values()) for name, values in lost.items()}
    best = {family: min(_able(), key=lambda n: (lost[n][family], totals[n])) for family in own}
    chosen = np.full(len(groups), np.inf)
    for family, members in own.items():
        chosen[list(members)] = tried[best[family]][list(members)]
    return Choice(best, chosen, totals)


def _able() -> tuple[str, ...]:
    return tuple(name for name in METHODS if name not in UNTRIED)


def _least(values: Array, members: Sequence[int]) -> frozenset[int]:
    """TRIED of a family's groups, those of least importance; one stays in any case."""
    count = min(len(members) - 1, max(1, round(TRIED * len(members))))
    return frozenset(sorted(members, key=lambda i: float(values[i]))[:count])
