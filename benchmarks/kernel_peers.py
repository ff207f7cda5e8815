"""What other runtimes take for the same models, by the same counting: read from ../shared/peers, never kept here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.datasets import folder
from tinygen.errors import DataError
from tinygen.graph import Graph

CMSIS_NN, TINYENGINE = "tflm_cmsis_nn_O2", "tinyengine_Ofast_intreq"
OPERATORS: Mapping[str, str] = {
    "CONV_2D": "conv2d",
    "DEPTHWISE_CONV_2D": "depthwise_conv2d",
    "FULLY_CONNECTED": "dense",
    "AVERAGE_POOL_2D": "average_pool2d",
    "ADD": "add",
}
"""TFLite's operators in the peers' file -> ours. Reshape and softmax are not in it."""


@dataclass(frozen=True)
class Peer:
    """One runtime on one model. Cycles at zero wait states; bytes; flash: code, weights, the model's structure."""

    instructions: int
    cycles: int
    arena: int | None
    flash: int


@cache
def _models() -> Mapping[str, Any]:
    path = folder().parent / "peers" / "mlperf_tiny_m4.json"
    if not path.is_file():
        raise DataError(
            f"'{path}' does not exist\n  set TINYGEN_SHARED_DATA to the data's folder beside peers/"
        )
    models: Mapping[str, Any] = json.loads(path.read_text())["models"]
    return models


def macs(model: str) -> int:
    """Multiply-accumulates of the published model, those of dead channels included."""
    return int(_models()[model]["macs"])


def whole(model: str, runtime: str) -> Peer:
    """One inference of a model."""
    figures = _models()[model]["runtimes"][runtime]
    flash = figures.get("flash_total") or figures["flash_code"] + figures["flash_model"]
    arena = figures.get("arena_used", figures.get("bss"))
    return Peer(figures["instructions"], figures["cycles"], arena, flash)


def layers(model: str, graph: Graph) -> dict[str, int]:
    """Layer's name -> TFLM + CMSIS-NN's cycles. graph: as loaded, so that the k-th layer of a kind is theirs."""
    nodes: dict[str, list[str]] = {}
    for node in graph.nodes:
        nodes.setdefault(node.op, []).append(node.output)
    found = {}
    rows: Sequence[Mapping[str, Any]] = _models()[model]["layers"]
    for row in rows:
        found[nodes[OPERATORS[row["op"]]].pop(0)] = int(row["tflm_cmsis_nn"]["cycles"])
    return found
