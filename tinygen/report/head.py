"""The head of the page: the numbers that one wants first."""

from __future__ import annotations

from dataclasses import dataclass

from tinygen.metrics import Metric
from tinygen.report.data import Data, Json
from tinygen.report.figure import number, percent

NAMES = {"accuracy": "Accuracy", "auc": "AUC", "mse": "Mean squared error"}


@dataclass(frozen=True)
class Card:
    """One number. note: what it is of, or how it came about."""

    key: str
    label: str
    value: str
    note: str = ""


def cards(data: Data) -> tuple[Card, ...]:
    """Time first where it is known, then sizes, then how good the model is."""
    arena = data.layers["arena"]["bytes"]
    found = list(_profiled(data.profile, data)) if data.profile is not None else []
    found.append(Card("arena", "Arena", number(arena, "bytes"), "all activations"))
    found.append(Card("macs", "MACs", number(data.layers["macs"]), "multiply-accumulates"))
    if data.profile is None:
        found.append(
            Card("constants", "Constants", number(data.layers["weight_bytes"], "bytes"), "weights, biases")
        )
    return (*found, *_scores(data.manifest.get("scores")))


def _profiled(profile: Json, data: Data) -> tuple[Card, ...]:
    totals, latency, memory = profile["totals"], profile["latency"], profile["memory"]
    writable = sum(r.length for r in data.board.writable)
    clock = f"{data.board.clock_hz / 1e6:g} MHz"
    time = [
        Card(
            "ms",
            "Inference",
            number(latency["p50_ms"], "ms"),
            f"median; at most {number(latency['max_ms'], 'ms')}",
        ),
        Card("cycles", "Modelled cycles", number(totals["cycles"]), f"at {clock}"),
    ]
    return (
        *(time if totals["cycles"] is not None else ()),
        Card(
            "instructions",
            "Instructions",
            number(totals["instructions"]),
            f"counted by {profile['counted_by']}",
        ),
        Card(
            "flash", "Flash", number(memory["flash"], "bytes"), _of(memory["flash"], data.board.code.length)
        ),
        Card("sram", "SRAM", number(memory["sram"], "bytes"), _of(memory["sram"], writable)),
    )


def _of(used: int, room: int) -> str:
    return f"{percent(used / room)} of {number(room)}"


def _scores(scores: Json | None) -> tuple[Card, ...]:
    """How good int8 is, and float beside it; () where nobody asked."""
    if not scores or "int8" not in scores:
        return ()
    after = Metric(**scores["int8"])
    before = f"float {Metric(**scores['float']).short}, " if "float" in scores else ""
    return (Card("score", NAMES[after.kind], after.short, f"{before}n = {number(after.count)}"),)
