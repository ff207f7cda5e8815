"""A small project with a made-up profile: what the figures of a report are tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from tests.support import pruning_runs
from tests.support.graphs import float_graph
from tinygen import inspection, pipeline, quantization_error
from tinygen.boards import load_board
from tinygen.graph import Graph
from tinygen.pipeline import Compiled
from tinygen.pruning.log import Log, moved
from tinygen.pruning.records import Figures, Step
from tinygen.report.data import Data
from tinygen.samples import Samples

HOSTILE = {
    "image": "</script><b>in</b>",
    "stem": "<script>window.pwned=1</script>",
    "body": '"><img src=x onerror=window.pwned=1>',
    "join": 'it\'s "q" {{7*7}} {% x %} ${1+1} & ]]> \\n',
    "flat": "<!--",
    "head": "long" * 60,
    "scores": "größe\u2028µ",
}
"""Names of float_graph's tensors and layers -> names that would hurt if they were not escaped."""


def renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with other names for tensors and layers."""

    def new(name: str) -> str:
        return names.get(name, name)

    tensors = {new(n): replace(t, name=new(n)) for n, t in graph.tensors.items()}
    nodes = tuple(
        replace(n, name=new(n.name), inputs=tuple(map(new, n.inputs)), output=new(n.output))
        for n in graph.nodes
    )
    inputs, outputs = (tuple(map(new, part)) for part in (graph.inputs, graph.outputs))
    return Graph(graph.name, nodes, tensors, inputs, outputs)


@cache
def small_samples() -> Samples:
    """Samples for float_graph."""
    return Samples((np.random.default_rng(5).normal(size=(40, 6, 5, 2)).astype(np.float32),), grids=(None,))


@cache
def small_model(hostile: bool = False) -> Compiled:
    """float_graph, compiled for a board."""
    graph = renamed(float_graph(), HOSTILE) if hostile else float_graph()
    return pipeline.compile_graph(
        graph, small_samples(), load_board("nucleo_l4r5zi"), pipeline.Options("small")
    )


def profile_of(layers: Sequence[Mapping[str, Any]], cycles: bool = True, faster: int = 1) -> dict[str, Any]:
    """A profile (profile_json.py) of these layers. cycles False: as of a core that none are modelled for."""
    costs = [_cost(7 + layer["step"], cycles, faster) for layer in layers]
    rows = [
        {
            "step": one["step"],
            "name": one["layer"],
            "op": one["op"],
            "kernel": one["kernel"],
            "macs": one["macs"],
        }
        | (_cost(0, cycles, 1) if one["kernel"] == "alias" else cost)
        | {"share": 0.0 if one["kernel"] == "alias" else 0.2}
        for one, cost in zip(layers, costs, strict=True)
    ]
    outside = _cost(1, cycles, 1)
    total = _sum([*rows, outside])
    ms = total["ms"]
    return {
        "schema": 1,
        "model": "small",
        "board": "nucleo_l4r5zi",
        "core": "cortex-m4",
        "clock_hz": 120_000_000,
        "run_id": "0123456789abcdef",
        "counted_by": "unicorn",
        "inferences": 3,
        "totals": {"macs": sum(r["macs"] for r in rows), **total},
        "latency": {"p50_ms": ms, "max_ms": ms and 1.5 * ms, "p50_cycles": total["cycles"]},
        "layers": rows,
        "outside": outside,
        "memory": {"arena": 480, "stack": 300, "flash": 5000, "sram": 6000, "regions": REGIONS},
        "objects": [],
    }


REGIONS = [
    {
        "name": "flash",
        "kind": "flash",
        "origin": 0x0800_0000,
        "length": 0x20_0000,
        "parts": [
            {"kind": "code", "name": ".text", "offset": 0, "bytes": 3000},
            {"kind": "weights", "name": "weights and tables", "offset": 3000, "bytes": 2000},
            {"kind": "free", "name": "", "offset": 5000, "bytes": 0x20_0000 - 5000},
        ],
    },
    {
        "name": "sram",
        "kind": "sram",
        "origin": 0x2000_0000,
        "length": 0xA_0000,
        "parts": [
            {"kind": "stack", "name": ".stack", "offset": 0, "bytes": 4608},
            {"kind": "arena", "name": ".arena", "offset": 4608, "bytes": 1392},
            {"kind": "inputs", "name": ".input", "offset": 6000, "bytes": 0xA_0000 - 6000},
        ],
    },
]


def _cost(size: int, cycles: bool, faster: int) -> dict[str, Any]:
    """Figures that differ from layer to layer."""
    compute, fetch, data = (1000 * size // faster, 30 * size, 7 * size)
    known = {
        "cycles": compute + fetch + data,
        "zero_wait_cycles": compute,
        "fetch_stalls": fetch,
        "data_stalls": data,
        "cycles_per_mac": 3.25 if size else None,
        "ms": (compute + fetch + data) / 120_000,
    }
    traffic = {"bytes_read": {"flash": 11 * size, "sram": 500 * size}, "bytes_written": {"sram": 90 * size}}
    return {"instructions": 800 * size, **(known if cycles else dict.fromkeys(known)), **traffic}


def _sum(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    keys = ("instructions", "cycles", "zero_wait_cycles", "fetch_stalls", "data_stalls", "ms")
    added = {k: None if rows[0][k] is None else sum(r[k] for r in rows) for k in keys}
    return {
        **added,
        "cycles_per_mac": None if rows[0]["cycles"] is None else 2.5,
        "bytes_read": {},
        "bytes_written": {},
    }


def ladder_of(model: str) -> list[dict[str, Any]]:
    """As `python -m benchmarks.ladder --json` writes it."""
    figures = (("float32", 900_000), ("int8", 250_000), ("pruned", None), ("pinned", 100_000))
    steps = [
        {"name": n, "where": "weights in flash", "cycles": c, "ms": c and c / 120_000} for n, c in figures
    ]
    return [{"model": model, "board": "pico", "steps": steps, "total": 9.0, "goal": 19.0}]


HISTORY: list[dict[str, Any]] = [
    {"date": f"2026-11-0{day}", "commit": commit, "cells": {"small@pico": {"cycles": cycles}, **later}}
    for day, commit, cycles, later in (
        (1, "aaaa111", 1000, {}),
        (2, "bbbb222", 900, {"m55": {"cycles": None, "instructions": 70}}),
        (3, "cccc333", 950, {"m55": {"cycles": None, "instructions": 77}}),
    )
]
"""As `tinygen bench` keeps it: a cell that comes later, and one without cycles."""


def pruning_of(graph: Graph) -> Log:
    """A pruning run of which the last two steps were rolled back; the layers have the graph's names."""
    stem, _, head = (node.name for node in graph.nodes if node.op in ("conv2d", "dense"))
    names = {"conv": stem, "head": head}
    made = moved(pruning_runs.run(), 4, "user")

    def figures(old: Figures) -> Figures:
        layers = tuple(replace(layer, name=names[layer.name]) for layer in old.cost.layers)
        return replace(old, cost=replace(old.cost, layers=layers))

    def renamed(step: Step) -> Step:
        removed = tuple(replace(r, layer=names[r.layer]) for r in step.removed)
        return replace(step, removed=removed, before=figures(step.before), after=figures(step.after))

    return replace(made, entries=tuple(replace(e, step=renamed(e.step)) for e in made.entries))


def small_data(hostile: bool = False, cycles: bool = True, **changes: Any) -> Data:
    """Everything that a report can have."""
    made = small_model(hostile)
    layers = inspection.to_json(made.program, made.plan)
    error = quantization_error.measure(made.real, made.graph, small_samples().x)
    score = {"kind": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95, "count": 120}
    manifest = {
        "run_id": "0123456789abcdef",
        "model": {"file": "small.keras"},
        "compiler": "arm-none-eabi-gcc 12",
        "scores": {"int8": score, "float": {**score, "value": 0.91}},
    }
    data = Data(
        title="small",
        board=load_board("nucleo_l4r5zi"),
        graph=made.graph,
        layers=layers,
        manifest=manifest,
        profile=profile_of(layers["layers"], cycles),
        error=error,
        before=profile_of(layers["layers"], cycles, faster=2),
        ladder=ladder_of("small"),
        history=HISTORY,
        pruning=pruning_of(made.graph),
    )
    return replace(data, **changes)
