"""fuse: the same real numbers from fewer nodes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import evaluate, spec
from tinygen.fusion import MAX_SPREAD, fuse, per_channel
from tinygen.graph import Array, Graph, GraphBuilder
from tinygen.ops import activation, affine, conv2d, conv2d_transpose, dense, depthwise_conv2d, max_pool2d
from tinygen.ops import pad as pad_op
from tinygen.ops import reshape as reshape_op
from tinygen.ops import transpose as transpose_op
from tinygen.ops.windows import Padding


class Net:
    """A GraphBuilder with random weights: every method appends one node and returns its output."""

    def __init__(self, *shapes: tuple[int, ...], seed: int = 3) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = GraphBuilder("net")
        self.inputs = [self.builder.input(f"x{i}", shape) for i, shape in enumerate(shapes)]

    def random(self, *shape: int) -> Array:
        return self.rng.uniform(-1, 1, shape).astype(np.float32)

    def weighted(self, op: str, x: str, weights: Array, channels: int, attrs: Any) -> str:
        inputs = (x, self.builder.constant("w", weights), self.builder.constant("b", self.random(channels)))
        return self.builder.add(op, op, inputs, attrs)

    def conv(self, x: str, channels: int = 4, kernel: int = 3, **attrs: Any) -> str:
        depth = self.builder.shape(x)[2] // attrs.get("groups", 1)
        weights = self.random(channels, kernel, kernel, depth)
        return self.weighted("conv2d", x, weights, channels, conv2d.Attrs(**attrs))

    def depthwise(self, x: str, multiplier: int = 1, **attrs: Any) -> str:
        channels = self.builder.shape(x)[2] * multiplier
        attributes = depthwise_conv2d.Attrs(**attrs)
        return self.weighted("depthwise_conv2d", x, self.random(2, 2, channels), channels, attributes)

    def transposed(self, x: str) -> str:
        height, width, depth = self.builder.shape(x)
        attrs = conv2d_transpose.Attrs(output=(height + 1, width + 1))
        return self.weighted("conv2d_transpose", x, self.random(3, 2, 2, depth), 3, attrs)

    def dense(self, x: str, channels: int = 5) -> str:
        return self.weighted(
            "dense", x, self.random(channels, self.builder.shape(x)[-1]), channels, dense.Attrs()
        )

    def affine(self, x: str, offset: bool = True, scale: Array | None = None) -> str:
        channels = self.builder.shape(x)[-1]
        factors = scale if scale is not None else self.rng.uniform(0.5, 2, channels)
        return affine.append("affine", x, factors, self.random(channels) * offset, self.builder)

    def relu(self, x: str, **parameters: float) -> str:
        return activation.append(activation.attrs_of("relu", **parameters), "relu", x, self.builder)

    def table(self, x: str, function: str) -> str:
        return activation.append(activation.attrs_of(function), function, x, self.builder)

    def pad(self, x: str, *spans: tuple[int, int]) -> str:
        return self.builder.add("pad", "pad", (x,), pad_op.Attrs(spans))

    def reshape(self, x: str, *shape: int) -> str:
        return self.builder.add("reshape", "reshape", (x,), reshape_op.Attrs(shape))

    def transpose(self, x: str, *perm: int) -> str:
        return self.builder.add("transpose", "transpose", (x,), transpose_op.Attrs(perm))

    def add(self, x: str, y: str) -> str:
        from tinygen.ops import binary

        return self.builder.add("add", "add", (x, y), binary.Attrs())

    def fused(self, *outputs: str) -> Graph:
        """The fused graph, checked to be well formed and to compute what the graph computed."""
        before = spec.check(self.builder.build(outputs), quantized=False)
        after = spec.check(fuse(before), quantized=False)
        assert_same(before, after)
        return after


def assert_same(before: Graph, after: Graph) -> None:
    rng = np.random.default_rng(5)
    inputs = [rng.normal(size=(3, *t.shape)).astype(np.float32) for t in before.input_tensors]
    assert after.inputs == before.inputs
    for expected, got in zip(evaluate.real(before, inputs), evaluate.real(after, inputs), strict=True):
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(got, expected, atol=2e-5 * scale, rtol=0)


def kinds(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


IMAGE = (6, 5, 4)


# ---- affine


@pytest.mark.parametrize("layer", ["conv", "depthwise", "transposed", "dense", "affine"])
def test_affine_folds_into_the_operator_before_it(layer: str) -> None:
    net = Net(IMAGE)
    graph = net.fused(net.affine(getattr(net, layer)("x0")))
    assert len(graph.nodes) == 1


@pytest.mark.parametrize("layer", ["conv", "depthwise", "transposed", "dense"])
@pytest.mark.parametrize("offset", [False, True])
def test_affine_of_an_input_folds_into_the_operator_behind_it(layer: str, offset: bool) -> None:
    net = Net(IMAGE)
    graph = net.fused(getattr(net, layer)(net.affine("x0", offset)))
    assert len(graph.nodes) == (2 if offset and layer == "transposed" else 1)


@pytest.mark.parametrize("offset", [False, True])
def test_padding_lets_a_scale_pass_but_no_offset(offset: bool) -> None:
    net = Net(IMAGE)
    graph = net.fused(net.conv(net.affine("x0", offset), padding=Padding(1, 1, 1, 1)))
    assert kinds(graph) == (["affine", "conv2d"] if offset else ["conv2d"])


def test_groups_and_depth_multiplier() -> None:
    net = Net(IMAGE)
    x = net.conv(net.affine("x0"), channels=6, groups=2)
    graph = net.fused(
        net.depthwise(net.relu(x), multiplier=3), net.depthwise(net.affine(net.relu(x)), multiplier=2)
    )
    assert "affine" not in kinds(graph)


def test_affine_stays_behind_a_fork_an_output_or_a_clamp() -> None:
    net = Net(IMAGE)
    x = net.conv("x0")
    graph = net.fused(net.affine(x), net.table(x, "tanh"))
    assert kinds(graph).count("affine") == 1
    net = Net(IMAGE)
    x = net.conv("x0")
    assert kinds(net.fused(net.affine(x), x)) == ["conv2d", "affine"]
    net = Net(IMAGE)
    assert kinds(net.fused(net.affine(net.relu(net.conv("x0"))))) == ["conv2d", "affine"]


def test_affine_folds_into_all_readers_or_none() -> None:
    net = Net(IMAGE)
    x = net.affine("x0")
    assert kinds(net.fused(net.conv(x), net.dense(x))) == ["conv2d", "dense"]
    net = Net(IMAGE)
    x = net.affine("x0")
    assert kinds(net.fused(net.conv(x), net.table(x, "tanh"))) == ["affine", "conv2d", "activation"]


def test_very_different_factors_are_not_folded_forwards() -> None:
    """One weight scale serves all input channels: channels with small factors would lose their resolution."""
    for spread, count in ((MAX_SPREAD * 0.9, 1), (MAX_SPREAD * 1.1, 2)):
        net = Net((7, 2))
        graph = net.fused(net.dense(net.affine("x0", scale=np.array([1.0, spread]))))
        assert len(graph.nodes) == count
    net = Net((7, 2))
    assert len(net.fused(net.dense(net.affine("x0", scale=np.array([1.0, 0.0])))).nodes) == 2


def test_affine_is_seen_through_reshapes() -> None:
    net = Net((5, 4))
    x = net.reshape(net.affine("x0"), 20)
    assert kinds(net.fused(net.dense(x))) == ["reshape", "dense"]
    net = Net((1, 5, 4))
    x = net.affine(net.reshape(net.conv("x0", kernel=1), 5, 4))
    assert kinds(net.fused(net.relu(x))) == ["conv2d", "reshape"]
    net = Net((1, 6, 4))
    x = net.affine(net.reshape(net.conv("x0", kernel=1), 3, 8))
    assert kinds(net.fused(x)) == ["conv2d", "reshape", "affine"], "8 factors do not fit 4 channels"


def test_per_channel() -> None:
    ramp = np.arange(3.0)
    np.testing.assert_array_equal(per_channel(ramp, (2, 3), (6,)), [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(per_channel(ramp, (2, 3), (1, 2, 3)), ramp)
    assert per_channel(ramp, (2, 3), (3, 2)) is None
    np.testing.assert_array_equal(per_channel(np.ones(3), (2, 3), (3, 2)), [1, 1])


def test_identity_affine_vanishes() -> None:
    net = Net(IMAGE)
    x = net.affine(net.table("x0", "tanh"), offset=False, scale=np.ones(4))
    assert kinds(net.fused(net.table(x, "tanh"))) == ["activation", "activation"]


# ---- activations


@pytest.mark.parametrize(
    ("parameters", "name"), [({}, "relu"), ({"max_value": 6.0}, "relu6"), ({"max_value": 1.0}, "relu_0_to_1")]
)
def test_clamp_merges(parameters: dict[str, float], name: str) -> None:
    net = Net(IMAGE)
    graph = net.fused(net.relu(net.affine(net.conv("x0")), **parameters))
    assert [(n.op, n.attrs.activation) for n in graph.nodes] == [("conv2d", name)]


def test_clamp_merges_into_add_and_affine() -> None:
    net = Net(IMAGE, IMAGE)
    graph = net.fused(net.relu(net.add("x0", "x1")), net.relu(net.affine(net.table("x0", "tanh"))))
    assert Counter(kinds(graph)) == {"add": 1, "activation": 1, "affine": 1}
    assert {n.attrs.activation for n in graph.nodes if n.op != "activation"} == {"relu"}


def test_clamp_rises_through_what_it_passes() -> None:
    net = Net(IMAGE)
    x = net.builder.add("max_pool2d", "pool", (net.conv("x0"),), max_pool2d.Attrs((2, 2), (1, 1)))
    x = net.pad(net.transpose(x, 2, 0, 1), (0, 1), (1, 0), (1, 1))
    graph = net.fused(net.relu(x, max_value=6.0))
    assert kinds(graph) == ["conv2d", "max_pool2d", "transpose", "pad"]
    assert graph.nodes[0].attrs.activation == "relu6"


def test_clamp_behind_a_pooling_goes_to_the_convolution() -> None:
    net = Net(IMAGE)
    graph = net.fused(
        net.relu(net.builder.add("max_pool2d", "pool", (net.conv("x0"),), max_pool2d.Attrs((2, 2), (1, 1))))
    )
    assert [(n.op, n.attrs.activation) for n in graph.nodes] == [("conv2d", "relu"), ("max_pool2d", "none")]


def test_clamp_stays_where_it_rises_in_vain() -> None:
    net = Net(IMAGE)
    assert kinds(net.fused(net.relu(net.transpose(net.table("x0", "tanh"), 2, 0, 1)))) == [
        "activation",
        "transpose",
        "activation",
    ]
    net = Net(IMAGE)
    x = net.conv("x0")
    assert "activation" in kinds(net.fused(net.relu(net.transpose(x, 2, 0, 1)), x))


def test_clamps_combine_only_where_the_result_has_a_name() -> None:
    net = Net(IMAGE)
    graph = net.fused(net.relu(net.relu(net.conv("x0"), max_value=6.0)))
    assert [n.attrs.activation for n in graph.nodes] == ["relu6"]
    net = Net(IMAGE)
    graph = net.fused(net.relu(net.relu(net.conv("x0")), max_value=2.0))
    assert kinds(graph) == ["conv2d", "activation"]


def test_other_functions_stay() -> None:
    net = Net(IMAGE)
    graph = net.fused(net.relu(net.conv("x0"), negative_slope=0.1), net.table(net.conv("x0"), "linear"))
    assert Counter(kinds(graph)) == {"conv2d": 2, "activation": 1}


def test_clamp_of_a_tensor_with_other_readers_stays() -> None:
    net = Net(IMAGE)
    x = net.conv("x0")
    assert kinds(net.fused(net.relu(x), net.table(x, "tanh"))) == ["conv2d", "activation", "activation"]


# ---- padding


def test_pad_merges_into_all_its_readers() -> None:
    net = Net(IMAGE)
    x = net.pad("x0", (1, 0), (0, 2), (0, 0))
    graph = net.fused(net.conv(x, padding=Padding(1, 1, 1, 1)), net.depthwise(x))
    assert kinds(graph) == ["conv2d", "depthwise_conv2d"]
    assert [n.attrs.padding for n in graph.nodes] == [Padding(2, 1, 1, 3), Padding(1, 0, 0, 2)]


def test_pad_of_channels_or_with_other_readers_stays() -> None:
    net = Net(IMAGE)
    assert kinds(net.fused(net.conv(net.pad("x0", (1, 1), (1, 1), (0, 1))))) == ["pad", "conv2d"]
    net = Net(IMAGE)
    x = net.pad("x0", (1, 1), (1, 1), (0, 0))
    assert kinds(net.fused(net.conv(x), net.table(x, "tanh"))) == ["pad", "conv2d", "activation"]
    net = Net(IMAGE)
    x = net.pad("x0", (1, 1), (1, 1), (0, 0))
    assert kinds(net.fused(net.conv(x), x)) == ["pad", "conv2d"]


def test_pad_in_front_of_a_1d_convolution() -> None:
    net = Net((7, 4))
    x = net.reshape(net.pad("x0", (2, 1), (0, 0)), 1, 10, 4)
    graph = net.fused(net.conv(x, kernel=1))
    assert kinds(graph) == ["reshape", "conv2d"]
    assert graph.nodes[1].attrs.padding == Padding(left=2, right=1)


def test_pad_of_nothing_vanishes() -> None:
    net = Net(IMAGE)
    assert kinds(net.fused(net.table(net.pad("x0", (0, 0), (0, 0), (0, 0)), "tanh"))) == ["activation"]


# ---- shapes


def test_1d_blocks_lose_their_reshapes() -> None:
    net = Net((16, 4))
    x = "x0"
    for _ in range(3):
        x = net.reshape(net.conv(net.reshape(x, 1, -(-16 // 1), 4), kernel=1), 16, 4)
        x = net.relu(net.affine(x))
    assert kinds(net.fused(x)) == ["reshape", "conv2d", "conv2d", "conv2d", "reshape"]


def test_elementwise_goes_up_through_a_reshape_but_not_past_another_reader() -> None:
    net = Net(IMAGE)
    x = net.reshape(net.conv("x0"), 48)
    assert kinds(net.fused(net.relu(x))) == ["conv2d", "reshape"]
    net = Net(IMAGE)
    x = net.reshape(net.conv("x0"), 48)
    assert kinds(net.fused(net.relu(x), x)) == ["conv2d", "reshape", "activation"]


def test_transposes_cancel() -> None:
    net = Net(IMAGE)
    x = net.transpose(net.transpose("x0", 2, 0, 1), 1, 2, 0)
    assert kinds(net.fused(net.table(x, "tanh"))) == ["activation"]
    net = Net(IMAGE)
    graph = net.fused(net.transpose(net.transpose("x0", 2, 0, 1), 2, 0, 1))
    assert [n.attrs.perm for n in graph.nodes] == [(1, 2, 0)]


def test_outputs_survive() -> None:
    """An input that is an output, the same output twice, an output that is merged away."""
    net = Net(IMAGE)
    y = net.relu(net.conv("x0"))
    graph = net.fused("x0", y, y)
    assert graph.outputs[0] == "x0"
    assert graph.outputs[1] == graph.outputs[2]


def test_nodes_without_readers_vanish() -> None:
    net = Net(IMAGE)
    net.conv("x0")
    assert kinds(net.fused(net.table("x0", "tanh"))) == ["activation"]


# ---- random graphs and real models

STEPS = (
    *("conv", "depthwise", "dense", "transposed", "affine", "scale", "relu", "relu6", "tanh"),
    *("pad", "flat", "add", "permute", "pool"),
)


def step(net: Net, kind: str, xs: list[str], draw: st.DataObject) -> str:
    """Append one random node to a random tensor of shape (H, W, C)."""
    x = draw.draw(st.sampled_from(xs))
    height, width, channels = net.builder.shape(x)
    if kind in ("conv", "depthwise"):
        padding = Padding(*draw.draw(st.tuples(*[st.integers(0, 2)] * 4)))
        size = {"kernel": draw.draw(st.integers(1, min(2, height, width)))} if kind == "conv" else {}
        if kind == "depthwise" and min(height + padding.vertical, width + padding.horizontal) < 2:
            padding = Padding(1, 1, 1, 1)
        return str(getattr(net, kind)(x, padding=padding, **size))
    if kind in ("dense", "transposed", "affine", "relu"):
        return str(getattr(net, kind)(x))
    if kind == "scale":
        return net.affine(x, offset=False)
    if kind == "relu6":
        return net.relu(x, max_value=6.0)
    if kind == "tanh":
        return net.table(x, "tanh")
    if kind == "pad":
        return net.pad(
            x, *draw.draw(st.tuples(*[st.tuples(st.integers(0, 1), st.integers(0, 1))] * 2)), (0, 0)
        )
    if kind == "pool":
        window = (min(2, height), min(2, width))
        return net.builder.add("max_pool2d", "pool", (x,), max_pool2d.Attrs(window, (1, 1)))
    if kind == "permute":
        return net.transpose(x, *draw.draw(st.permutations(range(3))))
    if kind == "add":
        same = [y for y in xs if net.builder.shape(y) == (height, width, channels)]
        return net.add(x, draw.draw(st.sampled_from(same)))
    through = net.reshape(
        x, *draw.draw(st.sampled_from([(height * width, channels), (width, height, channels)]))
    )
    middle = net.affine(through) if draw.draw(st.booleans()) else net.relu(through)
    return net.reshape(middle, 1, height * width, channels)


@settings(max_examples=150)
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    net = Net((3, 4, 2), seed=data.draw(st.integers(0, 1000)))
    xs = ["x0"]
    for kind in data.draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=9)):
        xs.append(step(net, kind, xs, data))
    outputs = data.draw(st.lists(st.sampled_from(xs), min_size=1, max_size=2))
    net.fused(*dict.fromkeys([*outputs, xs[-1]]))


@pytest.mark.tensorflow
@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("ad_autoencoder.keras", 10),
        ("ceiling_fan_ae.keras", 4),
        ("cwru_cnn1d.keras", 10),
        ("fan_cnn1d.keras", 10),
        ("ic_resnet8.keras", 16),
        ("kws_ds_cnn.keras", 13),
        ("vww_mobilenet_v1_025_96.keras", 31),
        ("vww_mobilenet_v1_025_96.h5", 31),
        ("ic_resnet8.h5", 16),
    ],
)
def test_real_models(shared_data: Path, name: str, nodes: int) -> None:
    from tinygen.frontend import load

    before = load(shared_data / "models" / name).graph
    after = spec.check(fuse(before), quantized=False)
    assert not {"affine", "activation", "pad"} & set(kinds(after))
    assert len(after.nodes) == nodes
    assert_same(before, after)
