"""Everything that must hold for one random model, from Keras to its C library. A violation is a Failure."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tests.fuzz.generator import random_model
from tests.fuzz.sketch import describe
from tests.support.nodes import random_inputs
from tinygen import evaluate, ops, spec
from tinygen.boards import Board
from tinygen.calibration import calibrate
from tinygen.code_size import encoding_of
from tinygen.emission import Library, emit_library
from tinygen.errors import ModelError, TinygenError
from tinygen.fixedpoint import Rounding
from tinygen.frontend.keras import load_keras_model
from tinygen.fusion import fuse
from tinygen.graph import Array, BoundNode, Graph, Tensor
from tinygen.ops.windows import Padding
from tinygen.oracle import run_litert, run_litert_layers
from tinygen.plan_check import verify
from tinygen.planning import plan
from tinygen.program import Program, select
from tinygen.quantization import Options, quantize
from tinygen.samples import Grid, Samples, quantize_inputs
from tinygen.scheduling import schedule
from tinygen.selection import RATES, Choice, candidates
from tinygen.simplification import simplify
from tinygen.tflite.export import export_tflite

CALIBRATING, REAL, EXTREME = 40, 3, 3
"""Samples that calibrate; samples run: some of those, and some of random integers with all extremes."""
CALIBRATIONS = ("min-max", "percentile", "entropy", "mse")
AUTO_EVERY = 12
"""Every so manieth model is quantized with all decisions on 'auto', which is slow."""


LITERT_SOFTMAX = 512
"""LiteRT aborts when the exponentials of a softmax, at most 1 each, add up to this."""


class Failure(Exception):
    """A model broke a rule: seed, stage and what was seen."""

    def __init__(self, seed: int, stage: str, what: str) -> None:
        super().__init__(f"seed {seed}, {stage}: {what}")
        self.seed, self.stage, self.what = seed, stage, what


class Refused(Exception):
    """tinygen refused the model with an error meant for the user."""


@dataclass(frozen=True)
class Case:
    """A model that passed everything which needs no C. expected: reference outputs, rounded doubly as in C."""

    seed: int
    graph: Graph
    library: Library
    inputs: tuple[Array, ...]
    expected: tuple[Array, ...]
    coverage: Counter[str]


def check(seed: int, board: Board | None) -> Case:
    """Generate and check the model of that seed; its C has the board's kernels. Raises Failure, or Refused."""
    with _stage(seed, "generate"):
        generated = random_model(seed)
    rng = np.random.default_rng(seed)
    with _stage(seed, "front end"):
        graph = spec.check(load_keras_model(generated.model), quantized=False)
        samples = _samples(graph, rng)
    with _stage(seed, "float"):
        fused = spec.check(fuse(graph), quantized=False)
        _check_float(generated.model, graph, fused, samples)
    with _stage(seed, "quantize"):
        final, inputs = _quantized(fused, samples, seed)
    with _stage(seed, "operators"):
        _check_operators(final, inputs)
    with _stage(seed, "LiteRT"):
        exported = _check_litert(final, inputs)
    with _stage(seed, "plan and emit"):
        program = select(final, board, _choice(final, board, seed))
        library = _library(program, f"m{seed}", board)
    coverage = generated.notes + graph_coverage(final) + Counter({f"exported={exported}": 1})
    coverage += Counter(f"kernel {step.kernel.name}" for step in program.steps)
    return Case(seed, final, library, inputs, evaluate.reference(final, inputs), coverage)


@contextmanager
def _stage(seed: int, name: str) -> Iterator[None]:
    """Turn whatever goes wrong into a Failure, or Refused for an error meant for the user."""
    try:
        yield
    except TinygenError as error:
        raise Refused(f"seed {seed}, {name}: {error}") from error
    except Exception as error:
        raise Failure(seed, name, f"{type(error).__name__}: {error}") from error


# ---- samples


def _samples(graph: Graph, rng: np.random.Generator) -> Samples:
    """Normal numbers of some scale and offset, or integers 0 ... 255 that int8 holds exactly."""
    arrays, grids = [], []
    for tensor in graph.input_tensors:
        if rng.random() < 0.2:
            arrays.append(rng.integers(0, 256, (CALIBRATING, *tensor.shape)).astype(np.float32))
            grids.append(Grid(1.0, -128))
        else:
            x = rng.normal(rng.choice([0, 0, 3]), rng.choice([0.1, 1, 1, 10]), (CALIBRATING, *tensor.shape))
            arrays.append(x.astype(np.float32))
            grids.append(None)
    return Samples(tuple(arrays), None, None, tuple(grids))


# ---- float


def _check_float(model: Any, graph: Graph, fused: Graph, samples: Samples) -> None:
    """The graph computes what Keras computes, before and after fusion."""
    x = [a[:REAL] for a in samples.x]
    wanted = keras_outputs(model, graph, x)
    assert all(np.isfinite(w).all() for w in wanted), "the generator made numbers that are not finite"
    for name, candidate in (("front end", graph), ("fuse", fused)):
        for got, want in zip(evaluate.real(candidate, x), wanted, strict=True):
            assert got.shape == want.shape, f"{name}: shape {got.shape}, Keras has {want.shape}"
            scale = max(float(np.max(np.abs(want))), 1e-3)
            worst = float(np.max(np.abs(got - want), initial=0.0)) / scale
            assert worst < 2e-3, f"{name}: relative error {worst:.3g} against Keras"


def keras_outputs(model: Any, graph: Graph, x: Sequence[Array]) -> list[Array]:
    """Keras's outputs, computed for as many samples as no axis of the model is long.

    Keras on TensorFlow takes a second addend with only one axis longer than 1 for a bias: it adds (4, 4, 1) and
    (4, 1, 1), also (1, 2, 2) and (1, 2, 1), along the wrong axis (keras/src/backend/tensorflow/numpy.py, add).
    """
    sizes = {size for tensor in graph.tensors.values() for size in tensor.shape}
    count = next(n for n in itertools.count(max(2, len(x[0]))) if n not in sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own advice about shapes is no finding
        outputs = model([np.resize(a, (count, *a.shape[1:])) for a in x], training=False)
    return [np.asarray(o)[: len(x[0])] for o in (outputs if isinstance(outputs, list | tuple) else [outputs])]


# ---- int8


def _quantized(fused: Graph, samples: Samples, seed: int) -> tuple[Graph, tuple[Array, ...]]:
    """The int8 graph, simplified and scheduled, with int8 inputs; those two stages must change no output."""
    options = Options() if seed % AUTO_EVERY == 0 else _options(seed)
    quantized = spec.check(quantize(fused, calibrate(fused, samples), options).graph, quantized=True)
    real = quantize_inputs(quantized, [a[:REAL] for a in samples.x])
    extreme = random_inputs(quantized, EXTREME, seed)
    inputs = tuple(np.concatenate(pair) for pair in zip(real, extreme, strict=True))
    final = spec.check(schedule(spec.check(simplify(quantized), quantized=True)), quantized=True)
    before, after = evaluate.reference(quantized, inputs), evaluate.reference(final, inputs)
    for want, got in zip(before, after, strict=True):
        assert np.array_equal(want, got), "simplify or schedule changed an output"
    return final, inputs


def _options(seed: int) -> Options:
    rng = np.random.default_rng(seed + 1)
    return Options(
        str(rng.choice(CALIBRATIONS)), str(rng.choice(["on", "off"])), str(rng.choice(["on", "off"]))
    )  # type: ignore[arg-type]


def _check_operators(graph: Graph, inputs: Sequence[Array]) -> None:
    """Each operator is within 1 output step of real arithmetic on the same int8 inputs; tables within half a step."""
    values: dict[str, Array] = {}
    evaluate.reference(graph, inputs, visit=lambda name, array: values.update({name: array}))
    for b in graph.bound():
        exact = _real(b, values)
        worst = float(np.max(np.abs(values[b.output.name] - exact), initial=0.0))
        limit = 0.5 if b.node.op == "activation" and not b.attrs.tflite else 1.0
        assert worst <= limit + 1e-5, (
            f"'{b.name}' ({b.node.op} {b.attrs}) is {worst:.4f} output steps from real"
        )


def _real(b: BoundNode, values: dict[str, Array]) -> Array:
    """The operator in float64 on dequantized inputs, in output steps, saturated, not rounded."""
    arrays = [t.q.dequantize(t.data if t.data is not None else values[t.name]) for t in b.inputs]
    floats = tuple(
        t if t.data is None else Tensor(t.name, t.shape, "float32", None, a.astype(np.float32))
        for t, a in zip(b.inputs, arrays, strict=True)
    )
    real = ops.get(b.node.op).real(BoundNode(b.node, floats, b.output), arrays)
    return np.clip(real / b.output.scale + b.output.zero_point, -128, 127)


def _check_litert(graph: Graph, inputs: Sequence[Array]) -> bool:
    """The exported file gives in LiteRT what the reference gives under LiteRT's rounding.

    False: the export refused the graph by name, for scales with which LiteRT would overflow; or a softmax is so long
    that LiteRT aborts the process when its inputs are nearly equal.
    """
    if any(b.node.op == "softmax" and b.output.shape[-1] >= LITERT_SOFTMAX for b in graph.bound()):
        return False
    try:
        model = export_tflite(graph)
    except ModelError as error:
        assert "TFLite's kernel would overflow" in str(error), error
        return False
    values: dict[str, Array] = {}
    expected = evaluate.reference(graph, inputs, Rounding.SINGLE, lambda n, a: values.update({n: a}))
    for want, got in zip(expected, run_litert(model, inputs), strict=True):
        if not np.array_equal(want, got.reshape(want.shape)):
            raise AssertionError(
                f"{int(np.sum(want != got.reshape(want.shape)))} outputs differ, {_first(graph, model, inputs, values)}"
            )
    return True


def _first(graph: Graph, model: bytes, inputs: Sequence[Array], values: dict[str, Array]) -> str:
    """The first layer that differs from LiteRT's."""
    layers = run_litert_layers(model, inputs)
    for b in graph.bound():
        got = layers.get(b.output.name)
        if got is not None and not np.array_equal(
            values[b.output.name], got.reshape(values[b.output.name].shape)
        ):
            return f"first '{b.name}' ({b.node.op} {b.attrs})"
    return "no layer alone"


def _choice(graph: Graph, board: Board | None, seed: int) -> Choice:
    """Kernels are chosen for an aim, every aim as often; in half of the models any that takes the layer will do."""
    rng = np.random.default_rng(seed + 2)
    aim, named = str(rng.choice(list(RATES))), ()
    if rng.integers(2):
        able = ((b.name, [k.name for k in candidates(b, board)]) for b in graph.bound())
        named = tuple((layer, str(rng.choice(names))) for layer, names in able)
    return Choice(aim, named)  # type: ignore[arg-type]


def _library(program: Program, name: str, board: Board | None) -> Library:
    memory = plan(program)
    verify(program, memory)
    assert memory.gap <= 0.02 or memory.optimal, f"arena {memory.arena_bytes}, bound {memory.lower_bound}"
    return emit_library(program, memory, name, encoding=encoding_of(board.cpu) if board else "thumb2")


# ---- coverage


def graph_coverage(graph: Graph) -> Counter[str]:
    """'int8 op' and 'int8 op attribute=value' counted over the nodes."""
    notes: Counter[str] = Counter()
    for b in graph.bound():
        name = f"int8 {b.node.op}"
        notes[name] += 1
        if b.node.op == "activation":
            notes[f"{name} function={b.attrs.function}"] += 1
            continue
        for field in fields(b.attrs):
            if field.name in ("shape", "output", "offset", "perm", "spans"):
                continue
            value = getattr(b.attrs, field.name)
            text = str(value.any) if isinstance(value, Padding) else describe(value)
            if text != "tuple":
                notes[f"{name} {field.name}={text}"] += 1
    return notes
