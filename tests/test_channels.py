"""Which channels can only be removed together: one small model per way in which operators couple them.

Each is also made smaller in random ways and held to its masked original (tests/support/pruned.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.pruned import check_model
from tests.support.pruned_models import CASES, Case, Parts, steps
from tinygen import ops
from tinygen.channels import ChannelGroup, groups
from tinygen.frontend.keras import load_keras_model
from tinygen.graph import Graph, GraphBuilder
from tinygen.heavy import import_keras
from tinygen.ops import add, coupling, crop, dense, pad

pytestmark = pytest.mark.tensorflow


def parts(group: ChannelGroup) -> Parts:
    """What it holds, as Case.parts."""
    activations = {s.tensor: s.indices for s in group.activations}
    return activations | {f"{s.tensor}:{s.axis}": s.indices for s in group.constants}


def group_of(graph: Graph, tensor: str, channel: int) -> ChannelGroup:
    (found,) = [
        g for g in groups(graph) if any(s.tensor == tensor and channel in s.indices for s in g.activations)
    ]
    return found


@pytest.fixture(scope="module")
def keras() -> Any:
    return import_keras()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_group_and_removal(keras: Any, case: Case) -> None:
    model = _random_weights(case.make(keras.layers, keras))
    group = group_of(load_keras_model(model), case.tensor, case.channel)
    assert parts(group) == case.parts
    assert group.removable == case.removable
    assert check_model(model) > 0 or not case.removable


def test_time_distributed_steps_are_one_layer(keras: Any) -> None:
    model = _random_weights(steps(keras.layers, keras))
    found = parts(group_of(load_keras_model(model), "c", 1))
    own = {key: indices for key, indices in found.items() if key.startswith("inner/weights")}
    assert own == {f"inner/weights{suffix}:3": (1,) for suffix in ("", "_1", "_2", "_3")}
    assert check_model(model) > 0


def _random_weights(model: Any) -> Any:
    """Biases and statistics that matter."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if "int" not in str(variable.dtype) and "/ad/" not in f"/{variable.path}":
            variable.assign(np.abs(rng.normal(0.5, 0.4, variable.shape)) + 0.05 * rng.integers(-6, 2))
    for layer in model._flatten_layers():
        if type(layer).__name__ == "BatchNormalization":
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
    return model


# ---- graphs that no Keras model gives


def test_every_operator_but_softmax_says_what_it_couples() -> None:
    assert [op.name for op in ops.OPS if op.channels is coupling.frozen] == ["softmax"]


@pytest.mark.parametrize("op, spans", [("pad", ((0, 0), (1, 0))), ("crop", ((0, 0), (0, 1)))])
def test_channels_that_are_added_or_cut_off_freeze_all(op: str, spans: Any) -> None:
    b = GraphBuilder("g")
    attrs = pad.Attrs(spans) if op == "pad" else crop.Attrs(spans)
    y = b.add(op, op, (_dense(b, "a", b.input("x", (3, 2)), 4),), attrs)
    graph = b.build((_dense(b, "h", y, 2),))
    for tensor, channel in (("a", 1), (op, 2)):
        assert group_of(graph, tensor, channel).frozen == f"'{op}' needs all channels of '{tensor}'"


def test_constants_of_elementwise_operators_shrink() -> None:
    b = GraphBuilder("g")
    y = _dense(b, "a", b.input("x", (3, 2)), 4)
    y = b.add("add", "plus", (b.constant("wide", np.ones((3, 1), np.float32)), y), add.Attrs())
    y = b.add("add", "more", (y, b.constant("row", np.ones((4,), np.float32))), add.Attrs())
    graph = b.build((_dense(b, "h", y, 2),))
    found = parts(group_of(graph, "more", 3))
    assert found["row:0"] == (3,) and not any(key.startswith("wide") for key in found)


def test_every_channel_is_in_one_group() -> None:
    b = GraphBuilder("g")
    graph = b.build((_dense(b, "h", _dense(b, "a", b.input("x", (3, 2)), 4), 2),))
    found = [(s.tensor, i) for g in groups(graph) for s in g.activations for i in s.indices]
    assert sorted(found) == [(t.name, i) for t in _activations(graph) for i in range(t.shape[-1])]


def _activations(graph: Graph) -> list[Any]:
    return sorted((t for t in graph.tensors.values() if not t.is_constant), key=lambda t: t.name)


def _dense(b: GraphBuilder, name: str, x: str, units: int) -> str:
    weights = b.constant(f"{name}/weights", np.ones((units, b.shape(x)[-1]), np.float32))
    return b.add(
        "dense", name, (x, weights, b.constant(f"{name}/bias", np.zeros(units, np.float32))), dense.Attrs()
    )
