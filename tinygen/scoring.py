"""How good a compiled model is on labelled samples: before and after quantization, and on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinygen import evaluate, metrics
from tinygen.errors import DataError
from tinygen.graph import Array, Graph
from tinygen.judge import RunResult
from tinygen.metrics import Metric
from tinygen.pipeline import Compiled, Report
from tinygen.samples import Samples, quantize_inputs


def score(
    compiled: Compiled, judged: Samples, kind: metrics.Kind | None, report: Report
) -> tuple[Metric | None, Metric | None]:
    """(float metric, int8 metric) over labelled samples; None for the one that the compiled model has not."""
    graph = compiled.graph
    kind = kind or metrics.kind_of(graph, judged)
    if graph.precision == "float32":
        outputs = reference_outputs(graph, judged.x, report, "float")
        return metrics.judge(graph, judged, outputs, kind), None
    before = None
    if compiled.fused is not None:
        fused = compiled.fused
        outputs = evaluate.chunked(
            lambda x: evaluate.real(fused, x), judged.x, report=_progress(report, "float")
        )
        before = metrics.judge(fused, judged, outputs, kind)
    inputs = quantize_inputs(graph, judged.x)
    integers = reference_outputs(graph, inputs, report, "int8")
    return before, metrics.judge(graph, judged, dequantized(graph, integers), kind)


def reference_outputs(graph: Graph, inputs: Sequence[Array], report: Report, stage: str) -> tuple[Array, ...]:
    """evaluate.expected for any number of samples. stage: its name in the progress report."""
    return evaluate.chunked(lambda x: evaluate.expected(graph, x), inputs, report=_progress(report, stage))


def _progress(report: Report, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: report(f"evaluate {stage}", done, total)


def check_drop(before: Metric | None, after: Metric | None, max_drop: float | None) -> None:
    """Raise DataError when int8 loses more than allowed; no limit, or nothing to compare, is no error."""
    if max_drop is None or before is None or after is None:
        return
    lost = metrics.drop(before, after)
    if not metrics.allowed(lost, max_drop):
        unit = "%" if after.kind == "mse" else "points"
        raise DataError(
            f"int8 loses {lost:.2f} {unit} of {after.kind}, --max-drop allows {max_drop:g}: nothing was written\n"
            f"  float {before}, int8 {after}\n"
            "  give more and more typical --representative samples, or try another --calibration"
        )


def score_device(graph: Graph, data: Samples, result: RunResult, kind: metrics.Kind | None) -> Metric | None:
    """The metric of what the device gave, when all samples came back and carry labels.

    A few samples may not suffice for their metric (an AUC needs both classes): then there is none, unless `kind`
    asks for it.
    """
    if data.y is None or not result.outputs or len(result.outputs[0]) != data.count:
        return None
    try:
        return metrics.judge(graph, data, dequantized(graph, result.outputs), kind)
    except DataError:
        if kind is not None:
            raise
        return None


def dequantized(graph: Graph, outputs: Sequence[Array]) -> tuple[Array, ...]:
    """Real values of outputs (N, *shape): of int8 by their scale, of float as they are."""
    shaped = [o.reshape(len(o), *t.shape) for t, o in zip(graph.output_tensors, outputs, strict=True)]
    return tuple(
        t.q.dequantize(o) if t.qparams else o for t, o in zip(graph.output_tensors, shaped, strict=True)
    )
