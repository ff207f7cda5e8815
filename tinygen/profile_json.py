"""A profile as JSON: what `tinygen profile --json` prints, and what report and bench read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinygen.errors import DataError
from tinygen.occupancy import Occupied
from tinygen.profiling import Cost, Layer, Profile, duration

SCHEMA = 1
"""Version of this JSON."""
Data = Mapping[str, Any]


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
            "warm": p.is_warm,
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
        "objects": [asdict(o) for o in p.objects],
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


def read(path: Path, option: str) -> dict[str, Any]:
    """A profile that `tinygen profile --json` printed into a file. Raises DataError naming the option that gave it."""
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        _check(data)
    except FileNotFoundError:
        raise DataError(
            f"{option} '{path}' does not exist\n"
            "  give a project's folder, or a file written by 'tinygen profile ... --json'"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise DataError(
            f"{option} '{path}' is neither a project nor a profile of this version ({_why(problem)})\n"
            "  give a project's folder, or a file written by 'tinygen profile ... --json'"
        ) from None
    return data


def _why(problem: Exception) -> str:
    return f"no key {problem}" if isinstance(problem, KeyError) else str(problem) or type(problem).__name__


def _check(data: Data) -> None:
    """Raise ValueError or KeyError naming the first value that is none of a profile's; only what is read of it."""
    if data["schema"] != SCHEMA:
        raise ValueError(f"its schema is {data['schema']!r}, not {SCHEMA}")
    for key in ("model", "board", "run_id"):
        _expect(key, data[key], isinstance(data[key], str))
    for key in ("cycles", "instructions"):
        _figure(f"totals.{key}", data["totals"][key])
    ms = data["totals"]["ms"]
    _expect("totals.ms", ms, ms is None or isinstance(ms, int | float))
    for key in ("arena", "sram", "flash"):
        _figure(f"memory.{key}", data["memory"][key], known=True)
    for i, layer in enumerate(data["layers"]):
        _expect(f"layers[{i}].name", layer["name"], isinstance(layer["name"], str))
        for key in ("cycles", "instructions"):
            _figure(f"layers[{i}].{key}", layer[key])


def _figure(key: str, value: Any, known: bool = False) -> None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    _expect(key, value, fits or (value is None and not known))


def _expect(key: str, value: Any, right: bool) -> None:
    if not right:
        raise ValueError(f"{key} is {value!r:.40}")


def comparison(before: Data, after: Data) -> dict[str, Any]:
    """Old against new, JSON-ready: per layer by name, and in all. ratio: old / new, greater than 1 is faster."""
    key = "cycles" if None not in (before["totals"]["cycles"], after["totals"]["cycles"]) else "instructions"
    old, new = ({layer["name"]: layer[key] for layer in data["layers"]} for data in (before, after))
    names = [*old, *(n for n in new if n not in old)]
    rows = [_compared(n, old.get(n), new.get(n)) for n in names if old.get(n) or new.get(n)]
    sizes = {size: (before["memory"][size], after["memory"][size]) for size in ("arena", "sram", "flash")}
    return {
        "unit": key,
        "before": {k: before[k] for k in ("model", "board", "run_id")},
        "after": {k: after[k] for k in ("model", "board", "run_id")},
        "layers": rows,
        "total": _compared("sum", before["totals"][key], after["totals"][key]),
        "ms": (before["totals"]["ms"], after["totals"]["ms"]),
        "memory": sizes,
    }


def _compared(name: str, old: int | None, new: int | None) -> dict[str, Any]:
    return {"name": name, "before": old, "after": new, "ratio": old / new if old and new else None}
