"""Quantization: a fused float graph and its calibration become an int8 graph, with a record of every
decision.

The scheme is TFLite's (docs/numerics.md): activations asymmetric int8 per tensor, weights symmetric int8 per
output channel, int32 biases. Ranges, equalization and bias correction are decided by what they cost at the
outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType

import numpy as np

from tinygen import bias_correction, ops, spec
from tinygen.calibration import Calibration, Statistics, activation_bytes, recalibrate
from tinygen.calibrators import CANDIDATES, NAMED, Range, min_max
from tinygen.decisions import (
    Int16Decision,
    Options,
    QuantizationReport,
    RangeDecision,
    RewriteDecision,
    Switch,
)
from tinygen.equalization import equalize, ties
from tinygen.graph import Array, Graph, Node, QParams, Tensor
from tinygen.mixed import Widened, widened
from tinygen.precision_choice import all_able, named
from tinygen.precision_choice import choose as choose_layers
from tinygen.range_choice import Choice, Progress, choose, group_statistics, no_progress
from tinygen.scales import Group, assign, groups, separate, widen
from tinygen.simulation import Comparison, Simulator, compare, rounded_constants

CHOICE_MACS, DECISION_MACS = 800e6, 2e9
"""Multiply-accumulates that one measurement may take, of the many for ranges and the few for rewrites: they
set how many held-out samples are judged."""


STRENGTHS = (1.0, 0.5)
"""Exponents of the factors that equalization tries."""

STATE_BYTES = 300_000_000
"""Bytes that the activations of all judged samples may take."""


def quantize(
    graph: Graph, calibration: Calibration, options: Options | str = "auto", progress: Progress = no_progress
) -> QuantizationReport:
    """The int8 graph of a fused float graph, and every decision with its measured cost. Deterministic.

    options: a string is the name of the calibrator (or 'auto'). Raises UsageError for an unknown one.
    """
    options = Options(options) if isinstance(options, str) else options
    exact = {n: g.qparams for n, g in zip(graph.inputs, calibration.grids, strict=True) if g is not None}
    separated, copies = separate(widen(graph), exact)
    draft = _Draft(separated, _extended(calibration, copies), groups(separated, exact))
    draft, equalized = _equalize(draft, options)
    choices = _choose(draft, options, progress)
    chosen = {name: _final(draft, name, choice) for name, choice in choices.items()}
    qparams = assign(draft.graph, draft.tied, chosen)
    draft, qparams, int16 = _widen(draft, qparams, options, exact)
    real = draft.graph
    draft, corrected, cost = _correct_biases(draft, qparams, options.bias_correction)
    return QuantizationReport(
        spec.check(to_int8(draft.graph, qparams), quantized=True),
        _range_decisions(draft.tied, choices, qparams, graph.inputs),
        (equalized, corrected),
        calibration.count,
        len(_judge_samples(graph, calibration, DECISION_MACS)[0]),
        cost,
        real,
        int16,
        draft.graph,
    )


@dataclass(frozen=True)
class _Draft:
    """Float graph in the making, with its statistics and its tied activations."""

    graph: Graph
    calibration: Calibration
    tied: tuple[Group, ...]

    def statistics(self, group: Group) -> Statistics:
        return group_statistics(self.graph, group, self.calibration.overall)

    def observed(self, tensors: Iterable[str]) -> Statistics:
        """Statistics of activations together."""
        first, *others = (self.calibration.overall(name) for name in tensors)
        return reduce(lambda one, other: one.merged(other), others, first)

    def ranges(self, calibrator: Callable[[Statistics], Range]) -> dict[str, QParams]:
        """QParams of every activation with one calibrator for all."""
        free = [g for g in self.tied if g.anchor is None]
        return assign(self.graph, self.tied, {g.name: calibrator(self.statistics(g)).qparams for g in free})

    def simulator(self, qparams: Mapping[str, QParams], macs: float = DECISION_MACS) -> Simulator:
        """Weights rounded, over as many held-out samples as `macs` allow."""
        judge = _judge_samples(self.graph, self.calibration, macs)
        return Simulator.of(self.graph, rounded_constants(self.graph, qparams), judge)


def _judge_samples(graph: Graph, calibration: Calibration, macs: float) -> tuple[Array, ...]:
    """Held-out samples that measure, evenly spread: as many as `macs` allow, 32 ... 1024, and as fit into memory."""
    each = ops.macs(graph.bound())
    count = len(calibration.judge[0])
    room = max(4, STATE_BYTES // activation_bytes(graph))
    size = int(min(count, room, max(32, min(1024, macs / max(each, 1)))))
    chosen = (np.arange(size) * count) // size
    return tuple(a[chosen] for a in calibration.judge)


def _extended(calibration: Calibration, copies: Mapping[str, str]) -> Calibration:
    """The calibration with the statistics of inserted requantize outputs: those of what they copy."""
    fitted, held_out = (
        MappingProxyType({**part, **{new: part[old] for new, old in copies.items()}})
        for part in (calibration.fitted, calibration.held_out)
    )
    return replace(calibration, fitted=fitted, held_out=held_out)


def _equalize(draft: _Draft, options: Options) -> tuple[_Draft, RewriteDecision]:
    """Cross-layer equalization, if it lowers the cost under plain ranges."""
    name = "cross-layer equalization"
    if options.equalization == "off":
        return draft, RewriteDecision(name, False, "switched off")
    equal = {strength: _equalized(draft, strength) for strength in STRENGTHS}
    found = {strength: made for strength, made in equal.items() if made is not None}
    if not found:
        return draft, RewriteDecision(name, False, "no layers in a row with uneven channels between them")
    errors = {strength: _rough_errors(made, options.bias_correction) for strength, made in found.items()}
    best = min(errors, key=lambda strength: float(errors[strength].mean()))
    comparison = compare(_rough_errors(draft, options.bias_correction), errors[best])
    what = f"at {len(ties(draft.graph))} places, factors to the power {best:g}"
    decision = _rewrite(name, options.equalization, what, comparison)
    return (found[best] if decision.applied else draft), decision


def _equalized(draft: _Draft, strength: float) -> _Draft | None:
    """The draft with even channels; None when they are even already."""
    graph, done = equalize(draft.graph, draft.calibration.fitted, strength)
    if not done:
        return None
    return replace(draft, graph=graph, calibration=recalibrate(graph, draft.calibration))


def _rewrite(name: str, switch: Switch, what: str, comparison: Comparison) -> RewriteDecision:
    """Apply what helps, or what is told."""
    verdict = "cost falls" if comparison.better else "no gain over the standard error"
    return RewriteDecision(name, switch == "on" or comparison.better, f"{what}: {verdict}", comparison)


def _rough_errors(draft: _Draft, correction: Switch) -> Array:
    """Cost per sample with one calibrator for all activations, the better of two."""
    first = draft.ranges(min_max)
    simulator = _fair(draft, draft.simulator(first), correction)
    errors = [simulator.errors(qparams) for qparams in (first, draft.ranges(NAMED["percentile"]))]
    return min(errors, key=lambda e: float(e.mean()))


def _choose(draft: _Draft, options: Options, progress: Progress) -> dict[str, Choice]:
    """A calibrator for every group that has no anchor."""
    if options.calibration != "auto":
        return {g.name: Choice(options.calibration, {}) for g in draft.tied if g.anchor is None}
    first = draft.ranges(min_max)
    given = {m: first[m] for g in draft.tied if g.fixed for m in g.members}
    simulator = _fair(draft, draft.simulator(first, CHOICE_MACS), options.bias_correction)
    return choose(simulator, draft.tied, draft.calibration, given, progress)


def _fair(draft: _Draft, simulator: Simulator, switch: Switch) -> Simulator:
    """The simulator with biases corrected for the rounding of weights alone, where that lowers the cost.

    Else ranges would be chosen that make up for shifts which bias correction takes away later.
    """
    if switch == "off":
        return simulator
    biases = bias_correction.correct(simulator, draft.calibration.fit, {})
    corrected = replace(simulator, constants={**simulator.constants, **biases})
    return corrected if compare(simulator.errors({}), corrected.errors({})).better else simulator


def _final(draft: _Draft, name: str, choice: Choice) -> QParams:
    """QParams by the chosen calibrator, from all samples; or those that were searched for."""
    if choice.found is not None:
        return choice.found.qparams
    group = next(g for g in draft.tied if g.name == name)
    return CANDIDATES[choice.calibrator](draft.statistics(group)).qparams


def _widen(
    draft: _Draft, qparams: dict[str, QParams], options: Options, exact: Mapping[str, QParams]
) -> tuple[_Draft, dict[str, QParams], Int16Decision | None]:
    """The draft with the layers in int16 that the options ask for, its QParams, and which these layers are."""
    if options.activations == "int8" and not options.int16:
        return draft, qparams, None

    def widen(wide: frozenset[str]) -> Widened:
        return widened(draft.graph, qparams, wide, exact, draft.observed)

    layers, decision = _wide_layers(draft, qparams, options, widen)
    made = widen(layers)
    calibration = _extended(draft.calibration, made.copies)
    return _Draft(made.graph, calibration, made.tied), dict(made.qparams), decision


def _wide_layers(
    draft: _Draft,
    qparams: Mapping[str, QParams],
    options: Options,
    widen: Callable[[frozenset[str]], Widened],
) -> tuple[frozenset[str], Int16Decision]:
    """The nodes in int16: those named, all, or those that are worth it."""
    wide = named(draft.graph, draft.tied, options.int16)
    if options.activations == "auto":
        simulator = _fair(draft, draft.simulator(qparams, CHOICE_MACS), options.bias_correction)
        found, decision = choose_layers(simulator, draft.tied, qparams, widen, options.max_drop)
        return found | wide, decision
    wide |= all_able(draft.graph) if options.activations == "int16" else frozenset()
    why = "wherever an operator has that form" if options.activations == "int16" else "told by name"
    layers = tuple(b.name for b in draft.graph.bound() if b.name in wide)
    return wide, Int16Decision(layers, why)


def _correct_biases(
    draft: _Draft, qparams: Mapping[str, QParams], switch: Switch
) -> tuple[_Draft, RewriteDecision, float]:
    """Bias correction, for weights alone or activations, too, if it lowers the cost; and the final cost."""
    name = "bias correction"
    simulator = draft.simulator(qparams)
    before = simulator.errors(qparams)
    if switch == "off":
        return draft, RewriteDecision(name, False, "switched off"), float(before.mean())
    ways = {
        f"for the rounding of {what}": bias_correction.correct(simulator, draft.calibration.fit, rounded)
        for what, rounded in (("weights", {}), ("weights and activations", qparams))
    }
    errors = {
        way: replace(simulator, constants={**simulator.constants, **biases}).errors(qparams)
        for way, biases in ways.items()
    }
    best = min(errors, key=lambda way: float(errors[way].mean()))
    comparison = compare(before, errors[best])
    if not ways[best]:
        return draft, RewriteDecision(name, False, "no layer has a bias"), comparison.before
    decision = _rewrite(name, switch, f"{len(ways[best])} layers, {best}", comparison)
    if not decision.applied:
        return draft, decision, comparison.before
    tensors = {n: replace(t, data=ways[best].get(n, t.data)) for n, t in draft.graph.tensors.items()}
    return replace(draft, graph=draft.graph.evolve(tensors=tensors)), decision, comparison.after


def to_int8(graph: Graph, qparams: Mapping[str, QParams]) -> Graph:
    """The int8 graph, given the QParams of every activation: constants are quantized by their operators."""
    tensors = {n: Tensor(n, graph.tensors[n].shape, q.dtype, q) for n, q in qparams.items()}
    nodes = []
    for b in graph.bound():
        inputs = tuple(qparams[t.name] for t in b.activations)
        constants = iter(ops.get(b.node.op).quantize(b, inputs, qparams[b.output.name]))
        names = []
        for tensor in b.inputs:
            int_tensor = tensors[tensor.name] if not tensor.is_constant else next(constants)
            assert not tensor.is_constant or int_tensor.name not in tensors, (
                f"two tensors '{int_tensor.name}'"
            )
            tensors[int_tensor.name] = int_tensor
            names.append(int_tensor.name)
        node = Node(b.node.op, b.node.name, tuple(names), b.node.output, b.node.attrs)
        nodes.append(node)
    int8 = graph.evolve(nodes=tuple(nodes), tensors=tensors).pruned()
    for b in int8.bound():
        ops.get(b.node.op).check(b)
    return int8


def _range_decisions(
    tied: Sequence[Group],
    choices: Mapping[str, Choice],
    qparams: Mapping[str, QParams],
    inputs: Sequence[str],
) -> tuple[RangeDecision, ...]:
    decisions = []
    for group in tied:
        q = qparams[group.name]
        if q.bits == 16:
            decisions.append(RangeDecision(group.name, group.members, "int16", q, {}))
        elif group.name in choices:
            choice = choices[group.name]
            decisions.append(RangeDecision(group.name, group.members, choice.calibrator, q, choice.costs))
        else:
            kind = "derived" if group.fixed is None else "exact" if group.name in inputs else "fixed"
            decisions.append(RangeDecision(group.name, group.members, kind, q, {}))
    return tuple(decisions)
