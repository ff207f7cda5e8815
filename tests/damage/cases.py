"""Damaged inputs: each seed picks a healthy file and one way to damage it. Deterministic."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Damage = Callable[[bytes, random.Random], bytes]

HOSTILE_VALUES: tuple[Any, ...] = (
    None, -1, 0, 2**31, 2**63, 10**30, 1e308, float("nan"), "", "x" * 10_000, [], {}, [[]], [-1, 0], True,
    "../../etc/passwd", {"class_name": "Lambda", "config": {}}, "Lambda", "os.system", "float64", [10**9, 10**9],
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One damaged run: which file of the healthy set is replaced, by what, and how it was made."""

    seed: int
    target: str
    damage: str
    content: bytes


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Cut anywhere."""
    return data[: rng.randrange(len(data))]


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Flip 1 to 64 bits anywhere."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def flip_header(data: bytes, rng: random.Random) -> bytes:
    """Overwrite some of the first or last 512 bytes: where file formats keep their structure."""
    out = bytearray(data)
    start = 0 if rng.random() < 0.5 else max(len(out) - 512, 0)
    for _ in range(rng.randint(1, 16)):
        out[rng.randrange(start, min(start + 512, len(out)))] = rng.randrange(256)
    return bytes(out)


def zero_block(data: bytes, rng: random.Random) -> bytes:
    """A block of zeros, as a failing disk leaves it."""
    start, size = rng.randrange(len(data)), rng.choice((16, 512, 4096))
    return data[:start] + bytes(min(size, len(data) - start)) + data[start + size :]


def insert_garbage(data: bytes, rng: random.Random) -> bytes:
    """Random bytes pushed in."""
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randint(1, 300)) + data[at:]


def replace_all(data: bytes, rng: random.Random) -> bytes:
    """Not the format at all: empty, text, noise, or a magic number followed by noise."""
    return rng.choice((b"", b"hello\n", rng.randbytes(1000), data[:8] + rng.randbytes(5000), b"\0" * 5000))


BYTE_DAMAGES: tuple[Damage, ...] = (truncate, flip_bits, flip_header, zero_block, insert_garbage, replace_all)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, child in items for p in _paths(child, (*path, key)))]


def _mutate_json(text: str, rng: random.Random) -> str:
    """Replace, delete or duplicate one to three places of a JSON document."""
    data = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice([p for p in _paths(data) if p] or [()])
        if not path:
            continue
        parent = data
        for key in path[:-1]:
            parent = parent[key]
        if rng.random() < 0.25:
            del parent[path[-1]]
        else:
            parent[path[-1]] = rng.choice(HOSTILE_VALUES)
    return json.dumps(data)


def mutate_config(data: bytes, rng: random.Random) -> bytes:
    """A .keras archive whose config.json says something else."""
    return _rezip(data, {"config.json": lambda raw: _mutate_json(raw.decode(), rng).encode()})


def mutate_weights(data: bytes, rng: random.Random) -> bytes:
    """A .keras archive whose weight file is damaged or holds NaN bytes."""

    def poison(raw: bytes) -> bytes:
        if rng.random() < 0.5:
            return rng.choice(BYTE_DAMAGES)(raw, rng)
        out = bytearray(raw)
        at = rng.randrange(len(out) // 2, len(out) - 4) & ~3
        out[at : at + 4] = np.float32(rng.choice((np.nan, np.inf, 1e38))).tobytes()
        return bytes(out)

    return _rezip(data, {"model.weights.h5": poison})


def drop_member(data: bytes, rng: random.Random) -> bytes:
    """A .keras archive with one member missing."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return _rezip(data, {rng.choice(archive.namelist()): lambda raw: None})


def _rezip(data: bytes, change: Mapping[str, Callable[[bytes], bytes | None]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as target:
        for name in archive.namelist():
            raw: bytes | None = archive.read(name)
            if name in change:
                raw = change[name](raw or b"")
            if raw is not None:
                target.writestr(name, raw)
    return out.getvalue()


def hostile_arrays(data: bytes, rng: random.Random) -> bytes:
    """A readable .npz whose content is no representative dataset."""
    x = dict(np.load(io.BytesIO(data)))["x"]
    spoiled = x.astype(np.float32)
    spoiled.reshape(-1)[rng.randrange(spoiled.size)] = rng.choice((np.nan, np.inf, -np.inf))
    choices: tuple[dict[str, Any], ...] = (
        {"x": spoiled}, {"x": x[:0]}, {"x": x[..., :0]}, {"x": x.reshape(-1)}, {"X": x}, {"x": x.astype("U4")},
        {"x": np.array([{"a": 1}, None], object)}, {"x": x[:, 1:]}, {"x": np.float32(3)}, {},
        {"x": np.full_like(x, 3e38)}, {"x": x.astype(np.complex64)},
    )  # fmt: skip
    out = io.BytesIO()
    np.savez(out, **rng.choice(choices))
    return out.getvalue()


KINDS: Mapping[str, tuple[Damage, ...]] = {
    ".keras": (*BYTE_DAMAGES, mutate_config, mutate_config, mutate_config, mutate_weights, drop_member),
    ".h5": BYTE_DAMAGES,
    ".tflite": (*BYTE_DAMAGES, flip_bits, flip_header),
    ".npz": (*BYTE_DAMAGES, hostile_arrays, hostile_arrays, hostile_arrays),
}


def make_case(seed: int, healthy: Mapping[str, Path]) -> Case:
    """The damaged file of this seed. healthy: file name -> path."""
    rng = random.Random(seed)
    target = rng.choice(sorted(healthy))
    damage = rng.choice(KINDS[healthy[target].suffix])
    return Case(seed, target, damage.__name__, damage(healthy[target].read_bytes(), rng))
