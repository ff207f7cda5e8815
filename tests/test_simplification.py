"""simplify: the same int8 outputs, bit for bit, from fewer nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import evaluate, spec
from tinygen.graph import Graph, GraphBuilder, QParams, Shape
from tinygen.ops import activation, concat, crop, requantize, reshape, transpose
from tinygen.ops import pad as pad_op
from tinygen.simplification import simplify

Q = QParams.per_tensor(0.05, -3)
OTHER = QParams.per_tensor(0.07, 5)


class Net:
    """An int8 graph of data-moving operators; all tensors have the QParams Q unless said otherwise."""

    def __init__(self, shape: Shape) -> None:
        self.builder = GraphBuilder("net")
        self.builder.input("x", shape, Q)

    def add(self, op: str, attrs: Any, *inputs: str, q: QParams = Q) -> str:
        return self.builder.add(op, op, inputs, attrs, q)

    def reshape(self, x: str, *shape: int) -> str:
        return self.add("reshape", reshape.Attrs(shape), x)

    def transpose(self, x: str, *perm: int) -> str:
        return self.add("transpose", transpose.Attrs(perm), x)

    def table(self, x: str) -> str:
        return self.add("activation", activation.attrs_of("elu"), x)

    def requantize(self, x: str, clamp: str = "none", q: QParams = Q) -> str:
        return self.add("requantize", requantize.Attrs(clamp), x, q=q)

    def simplified(self, *outputs: str) -> Graph:
        """The simplified graph, checked to be well formed and equal in every bit."""
        before = spec.check(self.builder.build(outputs), quantized=True)
        after = spec.check(simplify(before), quantized=True)
        shape = before.input_tensors[0].shape
        x = np.random.default_rng(2).integers(-128, 128, (9, *shape)).astype(np.int8)
        for expected, got in zip(
            evaluate.reference(before, [x]), evaluate.reference(after, [x]), strict=True
        ):
            np.testing.assert_array_equal(got, expected)
        for old, new in zip(before.output_tensors, after.output_tensors, strict=True):
            assert (old.shape, old.qparams) == (new.shape, new.qparams)
        return after


def kinds(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def test_chain_of_reshapes_becomes_one() -> None:
    net = Net((2, 3, 4))
    graph = net.simplified(net.reshape(net.reshape(net.reshape("x", 24), 4, 6), 3, 8))
    assert kinds(graph) == ["reshape"]


def test_inverse_reshapes_cancel() -> None:
    net = Net((2, 3, 4))
    graph = net.simplified(net.table(net.reshape(net.reshape("x", 24), 2, 3, 4)))
    assert kinds(graph) == ["activation"]


def test_a_reshape_with_other_readers_stays() -> None:
    net = Net((2, 3, 4))
    flat = net.reshape("x", 24)
    graph = net.simplified(flat, net.reshape(flat, 4, 6))
    assert kinds(graph) == ["reshape", "reshape"]
    assert all(n.inputs == ("x",) for n in graph.nodes)


def test_transposes_compose_and_cancel() -> None:
    net = Net((2, 3, 4))
    once = net.transpose("x", 1, 2, 0)
    graph = net.simplified(net.transpose(once, 1, 2, 0))
    assert [n.attrs.perm for n in graph.nodes] == [(2, 0, 1)]
    net = Net((2, 3, 4))
    once = net.transpose("x", 1, 2, 0)
    assert kinds(net.simplified(net.table(net.transpose(once, 2, 0, 1)))) == ["activation"]


def test_a_transpose_that_moves_nothing_is_a_reshape() -> None:
    net = Net((1, 3, 4))
    assert kinds(net.simplified(net.transpose("x", 1, 0, 2))) == ["reshape"]
    net = Net((1, 3, 4))
    assert kinds(net.simplified(net.transpose("x", 2, 1, 0))) == ["transpose"]


NOTHING = ((0, 0), (0, 0))


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("pad", pad_op.Attrs(NOTHING)),
        ("crop", crop.Attrs(NOTHING)),
        ("concat", concat.Attrs(0)),
        ("reshape", reshape.Attrs((3, 4))),
        ("transpose", transpose.Attrs((0, 1))),
        ("requantize", requantize.Attrs()),
    ],
)
def test_operator_that_does_nothing_vanishes(op: str, attrs: Any) -> None:
    net = Net((3, 4))
    assert kinds(net.simplified(net.table(net.add(op, attrs, "x")))) == ["activation"]
    net = Net((3, 4))
    assert net.simplified(net.add(op, attrs, "x")).outputs == ("x",)


def test_pad_crop_and_concat_that_do_something_stay() -> None:
    net = Net((3, 4))
    padded = net.add("pad", pad_op.Attrs(((1, 0), (0, 0))), "x")
    cropped = net.add("crop", crop.Attrs(((0, 1), (0, 0))), padded)
    graph = net.simplified(net.add("concat", concat.Attrs(1), cropped, cropped))
    assert kinds(graph) == ["pad", "crop", "concat"]


def test_requantize_that_changes_or_clamps_stays() -> None:
    net = Net((3, 4))
    assert kinds(net.simplified(net.requantize("x", q=OTHER))) == ["requantize"]
    net = Net((3, 4))
    assert kinds(net.simplified(net.requantize("x", "relu"))) == ["requantize"]


def test_requantize_to_a_slightly_other_scale_stays() -> None:
    """It maps every int8 value to itself, but whoever reads it behind takes the other scale."""
    net = Net((3, 4))
    near = QParams.per_tensor(Q.scale[0] * 1.001, Q.zero_point[0])
    assert kinds(net.simplified(net.table(net.requantize("x", q=near)))) == ["requantize", "activation"]


def test_clamp_that_reaches_no_value_vanishes() -> None:
    """At zero_point -128 no int8 value is negative: the ReLU of this requantize does nothing."""
    builder = GraphBuilder("net")
    positive = QParams.per_tensor(0.01, -128)
    x = builder.input("x", (5,), positive)
    y = builder.add("requantize", "r", (x,), requantize.Attrs("relu"), positive)
    assert simplify(builder.build((y,))).nodes == ()
    y = builder.add("requantize", "r", (x,), requantize.Attrs("relu_0_to_1"), positive)
    assert len(simplify(builder.build((y,))).nodes) == 1, "1 / 0.01 is below 255"


def test_dead_nodes_vanish() -> None:
    net = Net((3, 4))
    net.table(net.reshape("x", 12))
    assert kinds(net.simplified(net.table("x"))) == ["activation"]


STEPS = ("reshape", "transpose", "pad", "crop", "concat", "requantize", "table")


def step(net: Net, kind: str, x: str, data: st.DataObject) -> str:
    shape = net.builder.shape(x)
    axes = range(len(shape))
    if kind == "reshape":
        return net.reshape(x, *data.draw(st.sampled_from([(int(np.prod(shape)),), (1, *shape), shape[::-1]])))
    if kind == "transpose":
        return net.transpose(x, *data.draw(st.permutations(axes)))
    if kind in ("pad", "crop"):
        limits = [1 if kind == "pad" else (size - 1) // 2 for size in shape]
        spans = tuple(tuple(data.draw(st.integers(0, m)) for _ in range(2)) for m in limits)
        return net.add(kind, (pad_op if kind == "pad" else crop).Attrs(spans), x)
    if kind == "concat":
        count = data.draw(st.integers(1, 2))
        return net.add("concat", concat.Attrs(data.draw(st.sampled_from(axes))), *[x] * count)
    if kind == "requantize":
        return net.requantize(net.requantize(x, q=OTHER)) if data.draw(st.booleans()) else net.requantize(x)
    return net.table(x)


@settings(max_examples=150)
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    net = Net((2, 3, 1))
    xs = ["x"]
    for kind in data.draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=7)):
        xs.append(step(net, kind, data.draw(st.sampled_from(xs[-2:])), data))
    net.simplified(*dict.fromkeys([xs[-1], data.draw(st.sampled_from(xs))]))
