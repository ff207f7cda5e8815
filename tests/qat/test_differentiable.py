"""Every operator's differentiable form: its values are those of `real`, its gradients those of finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.ops.test_float32 import NODES, activations
from tests.support.nodes import float_twin, random_inputs
from tinygen import evaluate, ops
from tinygen.graph import Array, Graph
from tinygen.ops.tensors import tensorflow

pytestmark = pytest.mark.tensorflow


def differentiable(graph: Graph, inputs: list[Array]) -> list[Array]:
    """The graph's activations by the differentiable forms, in order of execution."""
    tf = tensorflow()
    live = {name: tf.constant(x) for name, x in zip(graph.inputs, inputs, strict=True)}
    for b in graph.bound():
        xs = [tf.constant(t.data) if t.data is not None else live[t.name] for t in b.inputs]
        live[b.output.name] = ops.get(b.node.op).differentiable(b, xs)
    return [live[o].numpy() for o in graph.outputs]


def assert_equal(graph: Graph, inputs: list[Array]) -> None:
    for got, want in zip(differentiable(graph, inputs), evaluate.real(graph, inputs), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(np.max(np.abs(want), initial=1.0)))


@pytest.mark.parametrize("kind", NODES)
def test_values_are_those_of_the_float_evaluation(kind: str) -> None:
    @settings(max_examples=4, phases=[Phase.generate])
    @given(st.lists(NODES[kind], min_size=8, max_size=8), st.integers(0, 1000))
    def agrees(graphs: list[Graph], seed: int) -> None:
        twin = float_twin(graphs)
        assert_equal(twin, random_inputs(twin, 3, seed))

    agrees()


def test_values_of_every_function_of_one_variable() -> None:
    graph = activations()
    assert_equal(graph, [np.linspace(-6, 6, 300, dtype=np.float32)[np.newaxis]])


def test_every_operator_is_covered() -> None:
    covered = {"activation", "requantize", "rescale", "reshape"}
    joint = {"pooling", "two inputs", "pad, crop"}
    assert {op.name for op in ops.OPS} <= covered | set(NODES) - joint | {
        "average_pool2d", "max_pool2d", "add", "sub", "mul", "maximum", "minimum", "pad", "crop",
    }  # fmt: skip


@pytest.mark.parametrize("kind", NODES)
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    """Of a random sum of the outputs, along a random direction of all inputs and constants, in float64."""
    tf = tensorflow()

    @settings(max_examples=6, phases=[Phase.generate])
    @given(NODES[kind], st.integers(0, 1000))
    def agrees(graph: Graph, seed: int) -> None:
        (b,) = float_twin([graph]).bound()
        rng = np.random.default_rng(seed)
        xs = [rng.normal(size=t.shape if t.data is not None else (2, *t.shape)) for t in b.inputs]
        steps = [rng.normal(size=x.shape) for x in xs]
        weights = rng.normal(size=(2, *b.output.shape))

        def value(distance: float) -> float:
            moved = [x + distance * step for x, step in zip(xs, steps, strict=True)]
            return float(np.sum(ops.get(b.node.op).real(b, moved) * weights))

        with tf.GradientTape() as tape:
            tensors = [tf.constant(x) for x in xs]
            tape.watch(tensors)
            total = tf.reduce_sum(ops.get(b.node.op).differentiable(b, tensors) * weights)
        slopes = tape.gradient(total, tensors, unconnected_gradients="zero")
        got = sum(float(np.sum(slope.numpy() * step)) for slope, step in zip(slopes, steps, strict=True))
        want = (value(1e-7) - value(-1e-7)) / 2e-7
        assert got == pytest.approx(want, rel=1e-4, abs=1e-4)

    agrees()
