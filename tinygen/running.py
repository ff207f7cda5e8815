"""Run firmware in an emulator on any number of samples, in chunks that fit its input block, and judge."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tinygen.boards import Board
from tinygen.building import Firmware
from tinygen.emulators.base import Emulator, Slow
from tinygen.errors import RunError
from tinygen.firmware import MAGIC, FirmwareModel
from tinygen.graph import Array, little_endian
from tinygen.judge import RunResult, Wanted, judge, merged
from tinygen.tolerances import tolerance

HOST_BLOCK_BYTES = 64 * 1024 * 1024
HEADER_BYTES = 8

Progress = Callable[[int, int], None]
"""(samples done, samples in all)."""


def run(
    firmware: Firmware,
    board: Board,
    emulator: Emulator,
    inputs: Sequence[Array],
    expected: Sequence[Array] | None,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> RunResult:
    """Run an image of one model. inputs, expected: (N, ...) arrays in its precision; expected None takes any outputs.

    timeout: seconds without a new line from the firmware. Stops at the first chunk that does not pass.
    Raises RunError when the arrays do not fit the image.
    """
    return run_models(firmware, board, emulator, [inputs], [expected], timeout, progress)


def run_models(
    firmware: Firmware,
    board: Board,
    emulator: Emulator,
    inputs: Sequence[Sequence[Array]],
    expected: Sequence[Sequence[Array] | None],
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> RunResult:
    """Run an image of several models: inputs and expected as in `run`, per model in the image's order."""
    models = firmware.description.models
    _check_count(models, inputs, expected)
    wanted: list[Wanted] = []
    records: list[bytes] = []
    for index, (model, xs, ys) in enumerate(zip(models, inputs, expected, strict=True)):
        arrays = _flat(xs, model, "input")
        answers = None if ys is None else _flat(ys, model, "output")
        allowed = tuple(map(tolerance, answers or ())) if model.precision == "float32" else ()
        for sample in range(len(arrays[0])):
            right = None if answers is None else tuple(a[sample] for a in answers)
            wanted.append(Wanted(index, sample, right, allowed))
            records.append(record(index, sample, [a[sample] for a in arrays]))
    return _run_chunks(firmware, board, emulator, wanted, records, timeout, progress)


def _run_chunks(
    firmware: Firmware,
    board: Board,
    emulator: Emulator,
    wanted: Sequence[Wanted],
    records: Sequence[bytes],
    timeout: float,
    progress: Progress | None,
) -> RunResult:
    """One execution per chunk until one does not pass."""
    results: list[RunResult] = []
    capacity = min(
        block_capacity(firmware), emulator.most_bytes if isinstance(emulator, Slow) else HOST_BLOCK_BYTES
    )
    for first, last in chunks(records, capacity):
        log = emulator.execute(firmware, board, block(records[first:last]), timeout)
        description = firmware.description
        part = wanted[first:last]
        results.append(judge(log, description.run_id, description.models, part, firmware.symbols))
        if not results[-1].passed:
            break
        if progress:
            progress(last, len(records))
    return merged(results)


def block_capacity(firmware: Firmware) -> int:
    """Bytes of the image's input block; generous on the host, where it is a file."""
    if firmware.target == "host":
        return HOST_BLOCK_BYTES
    symbols = firmware.symbols
    return symbols["__tg_input_end"].address - symbols["__tg_input_start"].address


def chunks(records: Sequence[bytes], capacity: int) -> Iterator[tuple[int, int]]:
    """(first, last) of consecutive records that fit `capacity` bytes together; every record does alone."""
    first, used = 0, HEADER_BYTES
    for i, record in enumerate(records):
        if used + len(record) > capacity and i > first:
            yield first, i
            first, used = i, HEADER_BYTES
        used += len(record)
    yield first, len(records)


def block(records: Sequence[bytes]) -> bytes:
    """What the firmware finds in its input block."""
    return struct.pack("<II", MAGIC, len(records)) + b"".join(records)


def record(model: int, sample: int, inputs: Sequence[Array]) -> bytes:
    """One sample as the harness reads it: every input padded to 4 bytes."""
    parts = [little_endian(x).ljust(-(-x.nbytes // 4) * 4, b"\0") for x in inputs]
    return struct.pack("<II", model, sample) + b"".join(parts)


def _check_count(
    models: Sequence[FirmwareModel],
    inputs: Sequence[Sequence[Array]],
    expected: Sequence[Sequence[Array] | None],
) -> None:
    if not len(models) == len(inputs) == len(expected):
        names = ", ".join(m.name for m in models)
        raise RunError(
            f"the image holds {len(models)} models ({names}); given are inputs for {len(inputs)} and "
            f"expected outputs for {len(expected)}\n  give one entry per model"
        )


def _flat(arrays: Sequence[Array], model: FirmwareModel, role: str) -> list[Array]:
    """The arrays as (N, elements). Raises RunError when their number, type or size is not the image's."""
    dtype = np.dtype(model.precision)
    in_bytes = model.input_sizes if role == "input" else model.output_sizes
    sizes = [size // dtype.itemsize for size in in_bytes]
    if len(arrays) != len(sizes):
        raise RunError(
            f"'{model.name}' has {len(sizes)} {role}s, {len(arrays)} arrays were given\n  give one per {role}"
        )
    flat = []
    for i, (array, size) in enumerate(zip(arrays, sizes, strict=True)):
        if (
            array.dtype != dtype
            or not len(array)
            or array.size != len(array) * size
            or len(array) != len(arrays[0])
        ):
            raise RunError(
                f"{role} {i} of '{model.name}' is {array.dtype} of shape {array.shape}\n"
                f"  it must be {dtype}, {size:,} elements a sample, as many samples as the others, at least 1"
            )
        flat.append(np.ascontiguousarray(array).reshape(len(array), size))
    return flat
