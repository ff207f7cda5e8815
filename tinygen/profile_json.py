"""A profile as JSON: what `tinygen profile --json` prints, and what report and bench read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tinygen.occupancy import Occupied
from tinygen.profiling import Cost, Layer, Profile, duration

SCHEMA = 1
"""Version of this JSON."""


def to_json(p: Profile) -> dict[str, Any]:
    """What `tinygen profile --json` prints. Cycles are modelled; ms at the board's clock; sizes in bytes."""
    total = p.median
    return {
        "schema": SCHEMA,
        "model": p.model,
        "board": p.board.name,
        "core": p.board.cpu,
        "clock_hz": p.board.clock_hz,
        "run_id": p.run_id,
        "counted_by": p.counted_by,
        "inferences": len(p.totals),
        "totals": {"macs": p.macs, **_cost_json(p, total, p.macs)},
        "latency": {
            "inputs": len(p.warm),
            "p50_instructions": total.instructions,
            "max_instructions": max(c.instructions for c in p.warm),
            "p50_cycles": total.cycles,
            "max_cycles": p.worst.cycles,
            "p50_ms": p.milliseconds(total.cycles),
            "max_ms": p.milliseconds(p.worst.cycles),
        },
        "cold": _cold_json(p),
        "layers": [_layer_json(p, layer, total) for layer in p.layers],
        "outside": _cost_json(p, p.outside, 0),
        "memory": {
            "arena": p.arena_bytes,
            "stack": p.stack_bytes,
            "flash": p.flash_bytes,
            "sram": p.sram_bytes,
            "regions": [_region_json(o) for o in p.regions],
        },
        "objects": [asdict(o) | {"stall_cycles": o.stalls} for o in p.objects],
    }


def _cost_json(p: Profile, cost: Cost, macs: int) -> dict[str, Any]:
    known = cost.cycles is not None and macs
    return {
        "instructions": cost.instructions,
        "cycles": cost.cycles,
        "zero_wait_cycles": cost.zero_wait_cycles,
        "fetch_stalls": cost.fetch_stalls,
        "data_stalls": cost.data_stalls,
        "unpinned_cycles": cost.unpinned_cycles,
        "cycles_per_mac": cost.cycles / macs if known and cost.cycles is not None else None,
        "ms": p.milliseconds(cost.cycles),
        "bytes_read": dict(cost.read),
        "bytes_written": dict(cost.written),
    }


def _layer_json(p: Profile, layer: Layer, total: Cost) -> dict[str, Any]:
    head = {key: getattr(layer, key) for key in ("step", "name", "op", "kernel", "macs")}
    share = duration(layer.cost) / max(1, duration(total))
    return {**head, **_cost_json(p, layer.cost, layer.macs), "share": share}


def _cold_json(p: Profile) -> dict[str, Any] | None:
    if p.cold is None:
        return None
    return {
        "startup_cycles": p.cold.startup_cycles,
        "pin_copy_cycles": p.cold.copy_cycles,
        "first_inference_cycles": p.cold.first_cycles,
        "first_ms": p.milliseconds(p.cold.startup_cycles + p.cold.first_cycles),
        "breakeven_inferences": p.cold.pays_after,
    }


def _region_json(occupied: Occupied) -> dict[str, Any]:
    region = {key: getattr(occupied.region, key) for key in ("name", "kind", "origin", "length")}
    return {**region, "used": occupied.used, "parts": [asdict(part) for part in occupied.parts]}
