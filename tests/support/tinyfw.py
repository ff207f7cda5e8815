"""A small project: a hand-written library with the API of a generated one, and firmware around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tinygen.access import Traffic
from tinygen.boards import Board
from tinygen.firmware import FirmwareModel, firmware_files
from tinygen.graph import Array
from tinygen.placement import Movable

RUN_ID = "0123456789abcdef"

HEADER = """#ifndef {N}_H
#define {N}_H
#include <stddef.h>
#include <stdint.h>
typedef enum {{ {N}_OK = 0, {N}_ERROR = 1 }} {n}_status;
int8_t *{n}_input(void *arena, size_t index);
const int8_t *{n}_output(const void *arena, size_t index);
{n}_status {n}_invoke(void *arena, size_t arena_bytes);
#endif
"""

SOURCE = """#include "{n}.h"
{globals}
int8_t *{n}_input(void *arena, size_t index)
{{
    return (int8_t *)arena + (index == 0U ? 0U : 100U);
}}

const int8_t *{n}_output(const void *arena, size_t index)
{{
    return (const int8_t *)arena + (index == 0U ? 104U : 240U);
}}

{n}_status {n}_invoke(void *arena, size_t arena_bytes)
{{
    int8_t *const base = (int8_t *)arena;
    if (arena_bytes < 244U) {{
        return {N}_ERROR;
    }}
{body}
    for (int32_t i = 0; i < 100; ++i) {{
        base[104 + i] = (int8_t)(base[i] / 2 + base[100 + i % 3]);
    }}
    base[240] = (int8_t)(base[100] / 3);
    return {N}_OK;
}}
"""

INPUT_SIZES = (100, 3)
OUTPUT_SIZES = (100, 1)


class Toy(FirmwareModel):
    """A library by hand: nothing in it can be moved."""

    movables: tuple[Movable, ...] = ()
    arena_traffic = Traffic(244, 0, 1)
    variable_bytes = 0


def model(name: str = "toy", arena_bytes: int = 244) -> Toy:
    """Two inputs of 100 and 3 bytes, two outputs of 100 and 1."""
    return Toy(name, arena_bytes, INPUT_SIZES, OUTPUT_SIZES)


def library_files(name: str = "toy", body: str = "", declarations: str = "") -> dict[str, str]:
    """The toy model's C; body runs before it computes, with `base` and `arena_bytes` in scope."""
    names = {"n": name, "N": name.upper()}
    source = SOURCE.format(**names, body=body, globals=declarations)
    return {f"lib/{name}/{name}.h": HEADER.format(**names), f"lib/{name}/{name}.c": source}


def inputs(count: int, seed: int = 0) -> tuple[Array, ...]:
    """Samples for the toy model: (count, 100) and (count, 3)."""
    rng = np.random.default_rng(seed)
    a = rng.integers(-128, 128, (count, 100)).astype(np.int8)
    b = rng.integers(-60, 60, (count, 3)).astype(np.int8)
    return a, b


def expected(samples: tuple[Array, ...]) -> tuple[Array, ...]:
    """What the toy model computes: C's division truncates."""
    a, b = (x.astype(np.int32) for x in samples)
    spread = b[:, np.arange(100) % 3]
    half = np.trunc(a / 2).astype(np.int32)
    return (half + spread).astype(np.int8), np.trunc(b[:, :1] / 3).astype(np.int8)


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a project."""
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return folder


def project(
    folder: Path,
    board: Board,
    body: str = "",
    declarations: str = "",
    run_id: str = RUN_ID,
    arena_bytes: int = 244,
) -> Path:
    """A whole project with one toy model whose invoke starts with `body`."""
    files = firmware_files([model(arena_bytes=arena_bytes)], board, run_id)
    return write(folder, {**files, **library_files("toy", body, declarations)})
