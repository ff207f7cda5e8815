"""What tinygen supports, as data: for `tinygen ops`, docs/ops.md and its test. Made from the operators themselves."""

from __future__ import annotations

from typing import Any

from tinygen import ops
from tinygen.ops.base import Constraint, Op


def rule(constraint: Constraint) -> str:
    """The constraint's docstring on one line."""
    return " ".join((constraint.__doc__ or "").split())


def entry(op: Op) -> dict[str, Any]:
    """One operator as JSON-ready data."""
    return {
        "name": op.name,
        "summary": op.summary,
        "keras": sorted({*op.keras, *op.keras_notes}),
        "keras_notes": dict(op.keras_notes),
        "tflite": sorted(op.from_tflite),
        "exports": op.to_tflite is not None,
        "kernels": [k.name for k in op.kernels],
        "constraints": [rule(c) for c in op.constraints],
    }


def keras_text(item: dict[str, Any]) -> str:
    """The Keras layers of an entry, each with its note: "Conv2D, SeparableConv2D (pointwise part)"."""
    notes = item["keras_notes"]
    return ", ".join(f"{kind} ({notes[kind]})" if kind in notes else kind for kind in item["keras"])


def catalog() -> list[dict[str, Any]]:
    """All operators, in the order of ops.OPS."""
    return [entry(op) for op in ops.OPS]


def structural_layers() -> list[str]:
    """Keras layers that the front end itself takes care of: they wrap others, or vanish at inference."""
    from tinygen.frontend import safety

    return sorted({*safety.IDENTITY, *safety.WRAPPERS, *safety.MODELS})


def markdown() -> str:
    """The text of docs/ops.md (`tinygen ops --markdown > docs/ops.md`)."""
    lines = [
        "# Operators",
        "",
        "Made by `tinygen ops --markdown > docs/ops.md`; a test compares. What is not here is refused by name.",
        "",
        f"Keras layers that wrap others or vanish at inference: {', '.join(structural_layers())}.",
    ]
    for item in catalog():
        lines += ["", f"## {item['name']}", "", f"{item['summary']}.", ""]
        lines += [f"- Keras: {keras_text(item) or 'none of its own'}"]
        lines += [f"- TFLite: {', '.join(item['tflite']) or 'not read'}"]
        lines += [f"- export to TFLite: {'yes' if item['exports'] else 'refused by name'}"]
        lines += [f"- kernels: {', '.join(item['kernels'])}"]
        lines += [f"- constraint: {text}" for text in item["constraints"]]
    return "\n".join(lines) + "\n"
