"""Files of a Robot Framework suite that runs an image in Renode: what a project's firmware_tests/ holds.

Pure: values in, path -> bytes out. The suite needs Renode and its renode-test, not tinygen.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinygen import locate, renode_platform
from tinygen.boards import Board
from tinygen.firmware import MAGIC, FirmwareModel
from tinygen.graph import Array

FOLDER = "firmware_tests"
SHARED_FILES = ("tinygen.resource", "TinygenLog.py")
STACK_MARGIN = 64
INSTRUCTIONS_MARGIN = 1.02
"""Bounds are what was measured plus this: another compiler differs a little, a slower kernel differs more."""


@dataclass(frozen=True)
class SuiteModel:
    """One model of the image with its samples. inputs, outputs: int8 (N, ...) arrays, one per input and output.

    instructions: the most that a sample took; the bound is a little above.
    """

    model: FirmwareModel
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    instructions: int


def suite_files(
    board: Board,
    title: str,
    run_id: str,
    elf: str,
    models: Sequence[SuiteModel],
    stack: int,
    build: str = "",
) -> Mapping[str, bytes]:
    """Name below firmware_tests/<board>/ -> bytes, for one board with a [renode] table.

    elf: path of the image as seen from the suite's folder; stack: bytes that a run used; build: what makes the image.
    The samples must fit the image's input block together.
    """
    context = {"board": board, "title": title, "elf": elf, "folder": FOLDER, "build": build}
    suite = renode_platform.environment().get_template("suite.robot.j2").render(context)
    shared = {name: (locate.folder("renode") / name).read_bytes() for name in SHARED_FILES}
    return {
        **shared,
        f"{board.name}.robot": suite.encode(),
        f"{board.name}.repl": renode_platform.platform(board).encode(),
        "inputs.bin": input_block(models),
        "expected.json": expected_json(run_id, models, stack).encode(),
    }


def input_block(models: Sequence[SuiteModel]) -> bytes:
    """The samples of all models as the harness reads them."""
    records = [
        struct.pack("<II", index, sample) + b"".join(_padded(x[sample].tobytes()) for x in m.inputs)
        for index, m in enumerate(models)
        for sample in range(len(m.inputs[0]))
    ]
    return struct.pack("<II", MAGIC, len(records)) + b"".join(records)


def expected_json(run_id: str, models: Sequence[SuiteModel], stack: int) -> str:
    """What TinygenLog.py compares a log with."""
    samples = [
        {"model": index, "sample": sample, "outputs": [y[sample].tobytes().hex() for y in m.outputs]}
        for index, m in enumerate(models)
        for sample in range(len(m.inputs[0]))
    ]
    bounds = [int(m.instructions * INSTRUCTIONS_MARGIN) + 1 for m in models]
    expected = {
        "run_id": run_id,
        "instructions_at_most": bounds,
        "stack_at_most": stack + STACK_MARGIN,
        "samples": samples,
    }
    return json.dumps(expected, indent=1) + "\n"


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // 4) * 4, b"\0")
