"""What a user gave, checked and made ready for the stages: shapes, samples, precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from tinygen import metrics, pipeline
from tinygen.errors import UsageError
from tinygen.graph import Graph, Shape
from tinygen.pipeline import Precision
from tinygen.samples import Options as SampleOptions
from tinygen.samples import Samples, load_samples


def check_precision(
    options: pipeline.Options, graph: Graph, model: str | Path, max_drop: float | None
) -> None:
    """Raise UsageError for an unknown precision, and for what has no meaning in float32."""
    known = get_args(pipeline.Precision)
    if options.precision not in known:
        raise UsageError(f"there is no precision '{options.precision}'\n  known: {', '.join(known)}")
    if options.precision == "int8":
        check_activations(options, graph, model)
        return
    if options.activations != "int8" or options.int16:
        raise UsageError(
            "--activations and --int16 choose integers, --precision float32 has none\n  leave one of them out"
        )
    if pipeline.is_quantized(graph):
        raise UsageError(
            f"'{model}' is int8 already: --precision float32 needs the float model it was made from\n"
            "  give the .keras or .h5 file, or leave --precision out"
        )
    if options.calibration != "auto":
        raise UsageError(
            f"--calibration {options.calibration} chooses ranges for int8, --precision float32 has none\n"
            "  leave one of them out"
        )
    if options.ci is not None:
        raise UsageError(
            f"--ci {options.ci} holds every output byte in Renode, which float32 does not promise for any compiler\n"
            "  leave --ci out: 'pio test' and 'tinygen run' compare float32 within its tolerance"
        )
    if max_drop is not None:
        raise UsageError(
            "--max-drop limits what int8 loses against float, --precision float32 is the float model\n"
            "  leave one of them out"
        )


def check_activations(options: pipeline.Options, graph: Graph, model: str | Path) -> None:
    """Raise UsageError for unknown activations, and where a file has made the choice already."""
    told = options.quantization
    if pipeline.is_quantized(graph) and (told.activations != "int8" or told.int16):
        raise UsageError(
            f"'{model}' is quantized already: its layers keep the types they have\n"
            "  give the .keras or .h5 file to choose them, or leave --activations and --int16 out"
        )


def input_shapes(shapes: Sequence[Any]) -> Shape | Mapping[str, Shape] | None:
    """What the front end takes: None, one shape, or input name -> shape."""
    if not shapes:
        return None
    if all(isinstance(s, int) for s in shapes):
        return tuple(shapes)
    named = {name: shape for name, shape in shapes if name}
    if named and len(named) == len(shapes):
        return named
    if len(shapes) == 1:
        shape: Shape = shapes[0][1]
        return shape
    raise UsageError("several --input-shape need names: --input-shape image=96,96,3 --input-shape meta=4")


def representative(
    graph: Graph, model: str | Path, path: str | Path | None, options: SampleOptions, precision: Precision
) -> Samples | None:
    """The calibration samples of a float model; for int8 and float32 those that the project stores, if any."""
    if path is None and (pipeline.is_quantized(graph) or precision == "float32"):
        return None
    if path is None:
        raise UsageError(
            f"'{model}' is a float model: --representative is missing\n"
            "  give a file with samples of the model's input, to measure the ranges for int8 (.npy, .npz or a folder)"
        )
    return load_samples(path, graph, options)


def labelled(
    graph: Graph,
    path: str | Path | None,
    options: SampleOptions,
    metric: metrics.Kind | None,
    max_drop: float | None,
) -> Samples | None:
    """The samples to judge by, their labels checked before the long work."""
    if not path:
        if max_drop is not None:
            raise UsageError("--max-drop needs --eval: labelled samples to judge by")
        return None
    judged = load_samples(path, graph, options)
    metrics.check_labels(graph, judged, metric)
    return judged
