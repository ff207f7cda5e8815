"""What --precision float32 excludes, and what is excluded by it: refused before any work is done."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from tinygen import pipeline
from tinygen.errors import UsageError
from tinygen.graph import Graph


def check(options: pipeline.Options, graph: Graph, model: str | Path, max_drop: float | None) -> None:
    """Raise UsageError for an unknown precision, and for what has no meaning in float32."""
    known = get_args(pipeline.Precision)
    if options.precision not in known:
        raise UsageError(f"there is no precision '{options.precision}'\n  known: {', '.join(known)}")
    if options.precision == "int8":
        return
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
