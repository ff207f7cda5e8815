"""What a model would lose without some of its channel groups, asked of one compiled function: no model is rebuilt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinygen.channels import ChannelGroup
from tinygen.graph import Array, Graph
from tinygen.ops.tensors import tensorflow
from tinygen.pruning import folding
from tinygen.pruning.judging import Judge
from tinygen.pruning.statistics import Statistics
from tinygen.qat import network

BATCH = 64


class Masks:
    """The graph with masks over its removable groups; outputs equal folding.fold's within float rounding.

    mean: what goes leaves its mean in the biases behind; else zeros.
    """

    def __init__(
        self, graph: Graph, groups: Sequence[ChannelGroup], found: Statistics, mean: bool = True
    ) -> None:
        tf = tensorflow()
        self.graph, self.count = graph, len(groups)
        self._shares = folding.shares(graph, groups, found)
        self._gained = {share.bias for share in self._shares} if mean else set()
        self._same = {name: names for names in graph.origins.values() for name in names}
        self._run = tf.function(self._outputs, autograph=False, reduce_retracing=True)

    def outputs(self, gone: Iterable[int], x: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs (N, *shape) without these groups, for inputs (N, *shape)."""
        tf = tensorflow()
        keep = np.ones(self.count + 1, np.float32)
        keep[list(gone)] = 0
        parts = []
        for i in range(0, len(x[0]), BATCH):
            batch = [tf.constant(a[i : i + BATCH], tf.float32) for a in x]
            parts.append([np.asarray(y) for y in self._run(batch, tf.constant(keep))])
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))

    def loss(self, gone: Iterable[int], judge: Judge) -> float:
        """Mean distance from the original's outputs on the judge's samples."""
        return judge.distance(self.outputs(gone, judge.samples.x)).mean

    def _outputs(self, xs: Any, keep: Any) -> list[Any]:
        """keep: (groups + 1,), 0 for those that go."""
        tf = tensorflow()
        constants = {name: tf.constant(values) for name, values in network.constants_of(self.graph).items()}
        gains = {}
        for share in self._shares:
            weights, owner = share.reader.b.inputs[1], share.reader.owner
            mask = tf.gather(keep, owner % (self.count + 1))
            shape = [1] * len(weights.shape)
            shape[share.reader.axis] = -1
            constants[weights.name] *= tf.reshape(mask, shape)
            gains[share.bias] = tf.linalg.matvec(tf.constant(share.gain.T, tf.float32), 1 - mask)
        for bias in self._gained:
            calls = self._same.get(bias, (bias,))
            constants[bias] += tf.add_n([gains[name] for name in calls]) / len(calls)
        state = network.real(self.graph, xs, constants)
        return [state[name] for name in self.graph.outputs]
