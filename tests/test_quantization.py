"""From a float graph to an int8 graph: tied scales, ranges that are chosen, rewrites that are measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tinygen import evaluate, ops, spec
from tinygen.calibration import Calibration, calibrate
from tinygen.calibrators import NAMED
from tinygen.equalization import equalize, ties
from tinygen.errors import UsageError
from tinygen.graph import Array, Graph, GraphBuilder, QParams
from tinygen.quantization import Options, QuantizationReport, RangeDecision, quantize
from tinygen.samples import Grid, Samples, quantize_inputs
from tinygen.scales import exposed, groups, separate
from tinygen.simulation import compare, probability_distance, rounded

OFF = Options("min-max", "off", "off")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def add(b: GraphBuilder, op: str, name: str, inputs: Sequence[str], *attrs: object, **named: object) -> str:
    """Append a node; attrs are the operator's own."""
    return b.add(op, name, tuple(inputs), ops.get(op).attrs(*attrs, **named))


def dense(
    b: GraphBuilder, name: str, x: str, weights: Array, bias: Array | None = None, **attrs: object
) -> str:
    """Append a dense layer with weights (N, K)."""
    constants = (weights, np.zeros(len(weights)) if bias is None else bias)
    names = [b.constant(f"{name}/{part}", np.asarray(c)) for part, c in zip("wb", constants, strict=True)]
    return add(b, "dense", name, (x, *names), **attrs)


def samples_for(graph: Graph, count: int = 64, seed: int = 1) -> Samples:
    return Samples(
        tuple(rng(seed).normal(size=(count, *t.shape)).astype(np.float32) for t in graph.input_tensors)
    )


def quantized(graph: Graph, options: Options = OFF, samples: Samples | None = None) -> QuantizationReport:
    return quantize(graph, calibrate(graph, samples or samples_for(graph)), options)


def error(graph: Graph, int8: Graph, x: Sequence[Array]) -> float:
    """Greatest difference of the int8 reference from float, in steps of the output."""
    floats = evaluate.real(graph, x)
    ints = evaluate.reference(int8, quantize_inputs(int8, x))
    pairs_of = zip(int8.output_tensors, floats, ints, strict=True)
    return max(float(np.abs(t.q.dequantize(i) - f).max() / t.q.scale[0]) for t, f, i in pairs_of)


# ---- tied scales


def joined(*branches: str) -> Graph:
    """Branches of x (4,) joined by concat: 'x', 'dense', 'sigmoid', 'softmax', 'tanh', 'rescale', 'pool'."""
    b = GraphBuilder("joined")
    x = b.input("x", (4,))
    tensors = [branch(b, kind, f"{kind}_{i}", x) for i, kind in enumerate(branches)]
    return b.build((add(b, "concat", "join", tensors, axis=0),))


def branch(b: GraphBuilder, kind: str, name: str, x: str) -> str:
    if kind == "x":
        return x
    wide = dense(b, f"{name}/dense", x, rng(len(name)).normal(size=(4, 4)) / 2)
    if kind == "dense":
        return wide
    if kind == "rescale":
        return add(b, "rescale", name, (wide,), factor=0.5)
    if kind == "softmax":
        return add(b, "softmax", name, (wide,))
    return add(b, "activation", name, (wide,), kind)


def scales_of(report: QuantizationReport) -> dict[str, QParams]:
    return {name: t.q for name, t in report.graph.tensors.items() if not t.is_constant}


def test_concat_ties_its_inputs() -> None:
    report = quantized(joined("dense", "dense"))
    scales = scales_of(report)
    assert scales["dense_0/dense"] == scales["dense_1/dense"] == scales["join"] != scales["x"]
    assert all(node.op != "requantize" for node in report.graph.nodes)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax", "tanh"])
def test_fixed_scales_alone_stay(kind: str) -> None:
    report = quantized(joined(kind, kind))
    scales = scales_of(report)
    assert scales["join"] == scales[f"{kind}_0"] and all(n.op != "requantize" for n in report.graph.nodes)


@pytest.mark.parametrize(
    ("branches", "inserted"),
    [
        (("sigmoid", "dense"), 1),
        (("sigmoid", "tanh"), 2),
        (("softmax", "dense", "sigmoid"), 2),
        (("rescale", "dense"), 1),
        (("rescale", "rescale"), 2),
        (("x", "dense"), 0),
    ],
)
def test_requantize_stands_where_bound_scales_meet_others(branches: tuple[str, ...], inserted: int) -> None:
    graph = joined(*branches)
    report = quantized(graph)
    assert sum(node.op == "requantize" for node in report.graph.nodes) == inserted
    spec.check(report.graph, quantized=True)
    assert error(graph, report.graph, samples_for(graph, 32, seed=1).x) < 4


def test_exact_input_keeps_its_scale_beside_others() -> None:
    graph = joined("x", "dense")
    x = rng(3).integers(0, 256, (64, 4)).astype(np.float32)
    report = quantized(graph, samples=Samples((x,), grids=(Grid(1.0, -128),)))
    assert scales_of(report)["x"] == QParams.per_tensor(1.0, -128)
    assert [n.name for n in report.graph.nodes if n.op == "requantize"] == ["join/requantize"]
    decision = next(d for d in report.ranges if d.group == "x")
    assert decision.calibrator == "exact" and decision.range.low == 0 and decision.range.high == 255


def test_one_tensor_read_twice_by_one_node_is_requantized_once() -> None:
    b = GraphBuilder("twice")
    x = b.input("x", (4,))
    s = branch(b, "sigmoid", "s", x)
    d = branch(b, "dense", "d", x)
    graph = b.build((add(b, "concat", "join", (s, d, s), axis=0),))
    report = quantized(graph)
    assert sum(node.op == "requantize" for node in report.graph.nodes) == 1
    assert error(graph, report.graph, samples_for(graph).x) < 4


def test_chains_of_moving_operators_share_one_scale() -> None:
    b = GraphBuilder("chain")
    x = b.input("x", (4, 4, 2))
    pooled = add(b, "max_pool2d", "pool", (x,), window=(2, 2), stride=(2, 2))
    graph = b.build((add(b, "reshape", "flat", (pooled,), (8,)),))
    separated, copies = separate(graph, {})
    (group,) = groups(separated, {})
    assert group.members == ("x", "pool", "flat") and not copies and group.anchor is None
    assert exposed(separated, group) == ("flat",)


def test_range_ignores_what_pooling_drops() -> None:
    """The input reaches -1000, but only the pool's output, never below 0, is seen by anyone."""
    b = GraphBuilder("pooled")
    x = b.input("x", (4, 4, 1))
    graph = b.build((add(b, "max_pool2d", "pool", (x,), window=(2, 2), stride=(2, 2)),))
    data = np.abs(rng().normal(size=(32, 4, 4, 1))).astype(np.float32)
    data[:, ::2, ::2] = -1000
    report = quantized(graph, samples=Samples((data,)))
    assert report.graph.tensors["x"].q.zero_point == (-128,)
    assert error(graph, report.graph, (data,)) <= 0.51


def test_derived_scales_follow_their_rule() -> None:
    b = GraphBuilder("halved")
    x = b.input("x", (4,))
    graph = b.build((add(b, "rescale", "half", (x,), factor=0.5),))
    report = quantized(graph)
    scales = scales_of(report)
    assert scales["half"].scale[0] == pytest.approx(scales["x"].scale[0] / 2)
    assert {d.group: d.calibrator for d in report.ranges} == {"x": "min-max", "half": "derived"}


def test_several_inputs_and_outputs() -> None:
    b = GraphBuilder("several")
    left, right = b.input("left", (3,)), b.input("right", (3,))
    total = add(b, "add", "total", (left, right))
    product = add(b, "mul", "product", (left, right))
    graph = b.build((total, product, left))
    report = quantized(graph)
    assert report.graph.outputs == ("total", "product", "left")
    assert error(graph, report.graph, samples_for(graph).x) < 3


# ---- the int8 graph


def test_zeros_and_constants_quantize() -> None:
    """Activations that are always 0, weights that are all 0, a bias alone."""
    b = GraphBuilder("zeros")
    x = b.input("x", (4,))
    dead = dense(b, "dead", x, np.zeros((3, 4)), activation="relu")
    graph = b.build((dense(b, "constant", dead, rng().normal(size=(2, 3)), np.array([3.0, -1.0])),))
    for options in (OFF, Options()):
        report = quantized(graph, options)
        assert error(graph, report.graph, samples_for(graph).x) < 1.01
    zero = Samples((np.zeros((9, 4), np.float32),))
    assert error(graph, quantized(graph, OFF, zero).graph, zero.x) < 1.01


def test_same_input_gives_the_same_graph() -> None:
    graph = joined("sigmoid", "dense", "tanh")
    first, second = (quantized(graph, Options()) for _ in range(2))
    assert first.graph.nodes == second.graph.nodes and dict(first.graph.tensors) == dict(second.graph.tensors)
    assert first.decisions == second.decisions
    for name, tensor in first.graph.tensors.items():
        assert tensor.data is None or np.array_equal(tensor.data, second.graph.tensors[name].data)


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="did you mean 'entropy'"):
        Options("entropie")
    with pytest.raises(UsageError, match="equalization is 'yes'"):
        Options(equalization="yes")  # type: ignore[arg-type]
    graph = joined("dense")
    for name in NAMED:
        report = quantize(graph, calibrate(graph, samples_for(graph)), name)
        assert {d.calibrator for d in report.ranges} == {name}


# ---- choice of ranges


def classifier(seed: int = 0, features: int = 6, spread: float = 3.0) -> Graph:
    """Two dense layers and a softmax over 4 classes."""
    b = GraphBuilder("classifier")
    x = b.input("x", (features,))
    hidden = dense(b, "hidden", x, rng(seed).normal(size=(16, features)), activation="relu")
    logits = dense(b, "logits", hidden, spread * rng(seed + 1).normal(size=(4, 16)) / 4)
    return b.build((add(b, "softmax", "classes", (logits,)),))


def test_input_with_outliers_is_given_a_smaller_range() -> None:
    """One value in 2,000 is 100 times as large: min-max would leave the others 2 steps."""
    graph = classifier()
    x = rng(4).normal(size=(600, 6)).astype(np.float32)
    x[::333, 0] *= 100
    auto, plain = (quantized(graph, options, Samples((x,))) for options in (Options(), OFF))
    decision = next(d for d in auto.ranges if d.group == "x")
    assert decision.calibrator != "min-max" and decision.range.high < 0.7 * x.max()
    assert decision.costs[decision.calibrator] < 0.5 * decision.costs["min-max"]
    assert auto.cost < 0.5 * plain.cost


def test_autoencoders_keep_what_is_unusual() -> None:
    """The same outliers at the input of a model that reconstructs it: nothing may be cut off."""
    b = GraphBuilder("encoder")
    x = b.input("x", (6,))
    code = dense(b, "code", x, rng(1).normal(size=(4, 6)), activation="relu")
    graph = b.build((dense(b, "decoded", code, rng(2).normal(size=(6, 4))),))
    data = rng(4).normal(size=(600, 6)).astype(np.float32)
    data[::333] *= 100
    report = quantized(graph, Options(), Samples((data,)))
    kept = {d.group: d for d in report.ranges}
    assert kept["x"].calibrator == "min-max" and kept["decoded"].calibrator == "min-max"
    assert kept["x"].range.high >= 0.99 * data.max()


def test_auto_is_never_worse_than_min_max_by_its_own_measure() -> None:
    for seed in range(4):
        graph = classifier(seed)
        x = rng(seed).standard_t(2, size=(300, 6)).astype(np.float32)
        auto, plain = (quantized(graph, Options(c, "off", "off"), Samples((x,))) for c in ("auto", "min-max"))
        assert auto.cost <= 1.05 * plain.cost


def test_decisions_read_well() -> None:
    report = quantized(classifier(), Options())
    texts = [str(d) for d in report.decisions]
    assert texts[0].startswith("cross-layer equalization: ") and texts[1].startswith("bias correction: ")
    assert any(text.startswith("x: ") and "[" in text for text in texts)
    assert all(isinstance(d, RangeDecision) for d in report.ranges) and report.samples == 64


# ---- equalization


def uneven() -> Graph:
    """A depthwise convolution behind channels of very different sizes, as MobileNets have them."""
    b = GraphBuilder("uneven")
    x = b.input("x", (6, 6, 3))
    sizes = 2.0 ** -np.arange(8)
    w1 = b.constant("w1", rng(1).normal(size=(8, 1, 1, 3)) * sizes[:, None, None, None])
    c1 = add(b, "conv2d", "first", (x, w1, b.constant("b1", 0.1 * sizes)), activation="relu")
    w2 = b.constant("w2", rng(2).normal(size=(3, 3, 8)) / sizes)
    c2 = add(b, "depthwise_conv2d", "second", (c1, w2, b.constant("b2", np.zeros(8))), activation="relu")
    pooled = add(b, "reshape", "flat", (c2,), (4 * 4 * 8,))
    return b.build((dense(b, "third", pooled, rng(3).normal(size=(4, 128)) / 10),))


def test_equalization_changes_no_result() -> None:
    graph = uneven()
    calibration = calibrate(graph, samples_for(graph))
    equal, done = equalize(graph, calibration.fitted)
    assert [str(tie) for tie in done] == ["first -> second", "second -> third"]
    x = samples_for(graph, 16, seed=9).x
    assert np.allclose(evaluate.real(graph, x)[0], evaluate.real(equal, x)[0], rtol=1e-4, atol=1e-4)


def test_residual_additions_tie_their_branches() -> None:
    """What a residual block adds up has the same factors in both branches, and for all its readers."""
    b = GraphBuilder("residual")
    x = b.input("x", (6, 6, 3))
    sizes = 2.0 ** -np.arange(8)

    def conv(name: str, source: str, channels: int, uneven: Array, activation: str) -> str:
        weights = rng(len(name)).normal(size=(8, 1, 1, channels)) * uneven[:, None, None, None]
        constants = b.constant(f"{name}/w", weights), b.constant(f"{name}/b", 0.1 * uneven)
        return add(b, "conv2d", name, (source, *constants), activation=activation)

    stem = conv("stem", x, 3, sizes, "relu")
    inner = conv("inner", stem, 8, np.ones(8), "relu")
    outer = conv("outermost", inner, 8, sizes, "none")
    total = add(b, "add", "sum", (stem, outer), activation="relu")
    pooled = add(b, "mean", "mean", (total,))
    graph = b.build((dense(b, "end", pooled, rng(9).normal(size=(3, 8)) / sizes),))
    assert {str(tie) for tie in ties(graph)} == {"inner -> outermost", "stem, outermost -> inner, end"}
    calibration = calibrate(graph, samples_for(graph))
    equal, done = equalize(graph, calibration.fitted)
    data = samples_for(graph, 16, seed=9).x
    assert len(done) == 2
    assert np.allclose(evaluate.real(graph, data)[0], evaluate.real(equal, data)[0], rtol=1e-4, atol=1e-4)
    before, after = (calibrate(g, samples_for(g)).fitted["sum"].channels for g in (graph, equal))
    assert after.max() / after.min() < 0.3 * before.max() / before.min()


def test_whole_averages_get_a_scale_of_their_own() -> None:
    """Values up to 100 whose averages stay below 2: with the scale of the values, 5 steps would be left."""
    b = GraphBuilder("average")
    x = b.input("x", (8, 8, 4))
    pooled = add(b, "average_pool2d", "pool", (x,), window=(8, 8), stride=(8, 8))
    graph = b.build((add(b, "reshape", "flat", (pooled,), (4,)),))
    data = np.zeros((64, 8, 8, 4), np.float32)
    data[np.arange(64), 3, np.arange(64) % 8] = rng(3).uniform(0, 100, (64, 4))
    report = quantized(graph, samples=Samples((data,)))
    assert [node.op for node in report.graph.nodes] == ["mean", "reshape"]
    assert report.graph.tensors["pool"].shape == (1, 1, 4)
    assert report.graph.tensors["pool"].q.scale[0] < 0.02 * report.graph.tensors["x"].q.scale[0]


def test_equalization_evens_out_channels() -> None:
    graph = uneven()
    calibration = calibrate(graph, samples_for(graph))
    equal, _ = equalize(graph, calibration.fitted)
    before = calibration.fitted["first"].channels
    after = calibrate(equal, samples_for(graph)).fitted["first"].channels
    assert before.max() / before.min() > 20 and after.max() / after.min() < 10


def test_equalization_is_applied_where_it_helps_and_only_there() -> None:
    graph = uneven()
    helped = quantized(graph, Options("min-max", "auto", "off"))
    assert helped.rewrites[0].applied and helped.rewrites[0].comparison is not None
    assert helped.cost < 0.7 * quantized(graph, OFF).cost
    lone = quantized(joined("dense"), Options("min-max", "auto", "off"))
    assert not lone.rewrites[0].applied and "no layers in a row" in lone.rewrites[0].why


def test_no_tie_at_an_input_an_output_or_a_bounded_activation() -> None:
    def graph_of(between: str) -> Graph:
        b = GraphBuilder(between)
        x = b.input("x", (4,))
        activation = "relu6" if between == "relu6" else "relu"
        first = dense(b, "first", x, rng().normal(size=(4, 4)), activation=activation)
        second = dense(b, "second", first, rng(1).normal(size=(4, 4)))
        if between == "input":
            return b.build((dense(b, "third", add(b, "add", "sum", (first, x)), rng(2).normal(size=(2, 4))),))
        if between == "softmax":
            return b.build((add(b, "softmax", "soft", (first,)), second))
        return b.build((first, second) if between == "output" else (second,))

    assert [str(tie) for tie in ties(graph_of("plain"))] == ["first -> second"]
    assert all(not ties(graph_of(kind)) for kind in ("input", "softmax", "output", "relu6"))


def test_ties_stop_where_factors_cannot_pass() -> None:
    """Groups share their weights' input axis, padded channels have no factor, broadcasting mixes channels."""

    def graph_of(kind: str) -> Graph:
        b = GraphBuilder(kind)
        x = b.input("x", (4, 4, 4))

        def conv(name: str, source: str, depth: int, groups: int = 1) -> str:
            weights = b.constant(f"{name}/w", rng(depth).normal(size=(4, 1, 1, depth)))
            constants = weights, b.constant(f"{name}/b", np.zeros(4))
            return add(b, "conv2d", name, (source, *constants), groups=groups)

        first = conv("first", x, 4)
        if kind == "groups":
            return b.build((conv("last", first, 2, groups=2),))
        if kind == "channels":
            padded = add(b, "pad", "pad", (first,), ((0, 0), (0, 0), (0, 4)))
            return b.build((conv("last", padded, 8),))
        if kind == "rows":
            padded = add(b, "pad", "pad", (first,), ((1, 0), (0, 0), (0, 0)))
            return b.build((conv("last", padded, 4),))
        pooled = add(b, "max_pool2d", "pool", (first,), window=(4, 4), stride=(4, 4))
        return b.build((conv("last", add(b, "add", "sum", (first, pooled)), 4),))

    assert [str(tie) for tie in ties(graph_of("rows"))] == ["first -> last"]
    assert all(not ties(graph_of(kind)) for kind in ("groups", "channels", "broadcast"))


def test_factors_reach_every_output_of_a_depth_multiplier() -> None:
    """Weights (KH, KW, C * multiplier) hold the outputs of one input channel beside each other."""
    b = GraphBuilder("multiplier")
    x = b.input("x", (4, 4, 3))
    sizes = 2.0 ** -np.arange(4)
    w1 = b.constant("w1", rng(1).normal(size=(4, 1, 1, 3)) * sizes[:, None, None, None])
    first = add(b, "conv2d", "first", (x, w1, b.constant("b1", 0.1 * sizes)), activation="relu")
    w2, b2 = b.constant("w2", rng(2).normal(size=(3, 3, 12))), b.constant("b2", np.zeros(12))
    graph = b.build((add(b, "depthwise_conv2d", "second", (first, w2, b2)),))
    equal, done = equalize(graph, calibrate(graph, samples_for(graph)).fitted)
    assert [str(tie) for tie in done] == ["first -> second"]
    data = samples_for(graph, 16, seed=9).x
    assert np.allclose(evaluate.real(graph, data)[0], evaluate.real(equal, data)[0], rtol=1e-4, atol=1e-4)


# ---- bias correction


def test_bias_correction_takes_back_shifted_means() -> None:
    """Inputs far from 0 turn the rounding of weights into a shift of the outputs."""
    b = GraphBuilder("shifted")
    x = b.input("x", (64,))
    graph = b.build((dense(b, "y", x, rng(1).normal(size=(8, 64)) ** 3),))
    data = Samples(((50 + rng(2).normal(size=(128, 64))).astype(np.float32),))
    corrected, plain = (
        quantized(graph, Options("min-max", "off", switch), data) for switch in ("auto", "off")
    )  # type: ignore[arg-type]
    assert corrected.rewrites[1].applied and corrected.cost < 0.3 * plain.cost

    def shift(report: QuantizationReport) -> float:
        """Mean shift of the outputs of the int8 reference."""
        floats = evaluate.real(graph, data.x)[0]
        ints = evaluate.reference(report.graph, quantize_inputs(report.graph, data.x))[0]
        return float(np.abs((report.graph.output_tensors[0].q.dequantize(ints) - floats).mean(axis=0)).mean())

    assert shift(corrected) < 0.5 * shift(plain)


def test_rewrites_can_be_forced_and_forbidden() -> None:
    graph = uneven()
    forced = quantized(graph, Options("min-max", "on", "on"))
    assert all(decision.applied for decision in forced.rewrites)
    off = quantized(graph, OFF)
    assert not any(d.applied for d in off.rewrites) and off.rewrites[0].why == "switched off"


# ---- simulation


def test_simulation_is_near_the_reference() -> None:
    """Its cost must predict that of the int8 reference: it decides everything."""
    for seed in range(3):
        graph = classifier(seed)
        data = samples_for(graph, 200, seed)
        report = quantized(graph, Options("min-max", "off", "off"), data)
        calibration: Calibration = calibrate(graph, data)
        floats = evaluate.real(graph, calibration.judge)[0]
        seen: dict[str, Array] = {}
        evaluate.reference(
            report.graph, quantize_inputs(report.graph, calibration.judge), visit=seen.__setitem__
        )
        real_logits = report.graph.tensors["logits"].q.dequantize(seen["logits"])
        odds = np.exp(real_logits - real_logits.max(axis=1, keepdims=True))
        exact = probability_distance(floats, odds / odds.sum(axis=1, keepdims=True)).mean()
        assert report.cost == pytest.approx(exact, rel=0.35)


def test_rounded_is_quantize_and_back() -> None:
    q = QParams.per_tensor(0.1, -28)
    x = np.linspace(-20, 20, 999).astype(np.float32)
    assert np.abs(rounded(x, q) - q.dequantize(q.quantize(x))).max() <= 0.1 + 1e-6
    assert np.mean(np.abs(rounded(x, q) - q.dequantize(q.quantize(x))) < 1e-5) > 0.99


def test_comparison_asks_for_more_than_luck() -> None:
    before = np.array([1.0, 1.0, 1.0, 1.0])
    assert compare(before, before * 0.9).better
    assert not compare(before, np.array([0.0, 2.1, 0.1, 1.7])).better
    assert not compare(before, before).better and compare(before, before - 0.25).gain == pytest.approx(0.25)
