"""What `pio test` calls: the image that PlatformIO built, run on the project's stored samples and judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tinygen import building, running
from tinygen.boards import load_board
from tinygen.emulators import find_emulator
from tinygen.errors import OutputError, RunError
from tinygen.firmware import HARNESS, board_folder
from tinygen.graph import Array
from tinygen.judge import Outcome
from tinygen.tolerances import tolerance, wrong_elements


def run_cases(project: Path, elf: Path, board: str, emulator: str) -> list[tuple[str, str]]:
    """(sample, "" or what is wrong with it) for every stored sample.

    Raises RunError when the image did not come to its end: then nothing can be said of its outputs.
    """
    target = load_board(project / board_folder(board) / "board.toml")
    backend = find_emulator(emulator)
    if reason := backend.unavailable(target):
        raise RunError(f"{emulator} cannot run this image: {reason}")
    inputs, expected = read_samples(project)
    image = building.load_firmware(project, elf, "host" if emulator.startswith("host") else "board")
    result = running.run(image, target, backend, inputs, expected)
    if result.outcome not in (Outcome.PASSED, Outcome.WRONG_OUTPUT):
        raise RunError(f"{result.outcome.name}: {result.detail}")
    count = len(inputs[0])
    if result.passed:
        return [(f"sample {i}", "") for i in range(count)]
    exact = image.description.models[0].precision == "int8"
    allowed = [None if exact else tolerance(want) for want in expected]
    pairs = list(zip(result.outputs, expected, allowed, strict=True))
    good = [
        not any(wrong_elements(got[i], want[i].reshape(-1), off).size for got, want, off in pairs)
        for i in range(len(result.outputs[0]))
    ]
    return [(f"sample {i}", "" if right else result.detail) for i, right in enumerate(good)]


def read_samples(project: Path) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """(inputs, expected outputs) that the project stores, (N, size) each. Raises OutputError when damaged."""
    path = project / HARNESS / "samples.json"
    try:
        data = json.loads(path.read_text())
        dtype = building.read_description(project).models[0].precision
        return _arrays(data["inputs"], dtype), _arrays(data["outputs"], dtype)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as problem:
        raise OutputError(
            f"'{path}' cannot be read as samples ({type(problem).__name__})\n  generate the project again"
        ) from None


def _arrays(rows: list[list[str]], dtype: str) -> tuple[Array, ...]:
    stored = np.dtype(dtype).newbyteorder("<")
    return tuple(
        np.stack([np.frombuffer(bytes.fromhex(row[i]), stored).astype(dtype) for row in rows])
        for i in range(len(rows[0]))
    )
