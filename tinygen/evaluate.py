"""Run a graph in numpy: in floating point (`real`), or as the int8 reference that defines every result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tinygen import ops
from tinygen.fixedpoint import Rounding
from tinygen.graph import Array, BoundNode, Graph

Visit = Callable[[str, Array], None]


def real(graph: Graph, inputs: Sequence[Array], visit: Visit | None = None) -> tuple[Array, ...]:
    """Float outputs, each (N, *shape). inputs: one (N, *shape) array per graph input. visit sees every activation.

    Values that leave float32's range become infinities or NaN without a word: calibration names their layer.
    """
    arrays = [np.asarray(x, np.float32) for x in inputs]
    with np.errstate(over="ignore", invalid="ignore"):
        return _walk(graph, arrays, lambda b, xs: ops.get(b.node.op).real(b, xs), visit)


def reference(
    graph: Graph, inputs: Sequence[Array], rounding: Rounding = Rounding.DOUBLE, visit: Visit | None = None
) -> tuple[Array, ...]:
    """int8 outputs of a quantized graph for int8 inputs: the definition that C must equal in every element."""
    assert all(x.dtype == t.dtype for x, t in zip(inputs, graph.input_tensors, strict=True))
    return _walk(graph, inputs, lambda b, xs: ops.get(b.node.op).reference(b, xs, rounding), visit)


def expected(graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """What C must give for these inputs: the int8 reference's outputs, or a float graph's own."""
    return real(graph, inputs) if graph.precision == "float32" else reference(graph, inputs)


def _walk(
    graph: Graph,
    inputs: Sequence[Array],
    apply: Callable[[BoundNode, Sequence[Array]], Array],
    visit: Visit | None,
) -> tuple[Array, ...]:
    """Evaluate node by node, forgetting arrays after their last use."""
    live = dict(zip(graph.inputs, inputs, strict=True))
    left = _reads_left(graph)
    if visit:
        for name, array in live.items():
            visit(name, array)
    for b in graph.bound():
        array = apply(b, [t.data if t.data is not None else live[t.name] for t in b.inputs])
        assert array.shape[1:] == b.output.shape, (b.name, array.shape, b.output.shape)
        live[b.output.name] = array
        if visit:
            visit(b.output.name, array)
        for name in {t.name for t in b.activations}:
            left[name] -= 1
            if left[name] == 0:
                del live[name]
    return tuple(live[o] for o in graph.outputs)


def _reads_left(graph: Graph) -> dict[str, int]:
    """How often each activation is read; graph outputs count one more, so they stay."""
    counts: Mapping[str, int] = {name: len(nodes) for name, nodes in graph.consumers.items()}
    return {name: count + (name in graph.outputs) for name, count in counts.items()}


def chunked(
    run: Callable[[Sequence[Array]], tuple[Array, ...]],
    inputs: Sequence[Array],
    size: int = 64,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Array, ...]:
    """Apply `run` to slices of at most `size` samples and join the outputs: bounds the memory of big data sets."""
    count = len(inputs[0])
    parts = []
    for start in range(0, count, size):
        parts.append(run([x[start : start + size] for x in inputs]))
        report(min(start + size, count), count)
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
