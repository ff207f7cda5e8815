"""Images for the suites of this folder: python firmware_tests/prepare.py OUT BOARD...

OUT/<board>/ gets a generated suite (two models in one image) with its image, and images that must fail.
Then, with Renode: renode-test OUT/<board>/<board>.robot, and
renode-test --variable FOLDER:OUT/<board> firmware_tests/failures.robot.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import tinyfw  # noqa: E402
from tinygen import building  # noqa: E402
from tinygen.boards import Board, load_board  # noqa: E402
from tinygen.emulators import Unicorn  # noqa: E402
from tinygen.firmware import firmware_files  # noqa: E402
from tinygen.judge import judge  # noqa: E402
from tinygen.renode_suite import SuiteModel, input_block, suite_files  # noqa: E402

SAMPLES = 3
FAILURES = {
    "read": "    volatile int8_t *const nowhere = (volatile int8_t *)0x90000000;\n    base[104] = *nowhere;",
    "write": "    volatile int8_t *const nowhere = (volatile int8_t *)0x90000000;\n    *nowhere = 1;",
    "undefined": '    __asm volatile("udf #0");',
    "silent": "    for (volatile int i = 0;; ++i) {\n    }",
    "overflow": "    base[0] = (int8_t)toy_deep(base[0]);",
}
"""What the toy model does before it computes. 0x90000000 is memory on no board that has a [renode] table."""
DEEP = """static int toy_deep(volatile int depth)
{
    volatile int kept[64];
    kept[depth & 63] = depth;
    return depth > 100000 ? kept[0] : toy_deep(depth + 1) + kept[depth & 63];
}
"""


def prepare(out: Path, board: Board) -> None:
    """The suite of two models and the failing images for one board."""
    names = ("toy", "second")
    project = out / "project"
    files = dict(firmware_files([tinyfw.model(name) for name in names], board, tinyfw.RUN_ID))
    for name in names:
        files |= tinyfw.library_files(name)
    firmware = building.build(tinyfw.write(project, files), board)
    models = [_suite_model(name, seed) for seed, name in enumerate(names)]
    log = Unicorn(count_all=True).execute(firmware, board, input_block(models), 60.0)
    seen = judge(log, tinyfw.RUN_ID, [m.model for m in models], ())
    counted = [_counted(log, index) for index in range(len(models))]
    models = [_suite_model(name, seed, counted[seed]) for seed, name in enumerate(names)]
    for name, data in suite_files(
        board, "Two models in one image", tinyfw.RUN_ID, "firmware.elf", models, seen.stack_bytes or 0
    ).items():
        (out / name).write_bytes(data)
    shutil.copyfile(firmware.elf, out / "firmware.elf")
    for name, body in FAILURES.items():
        failing = tinyfw.project(out / f"project_{name}", board, body, DEEP if name == "overflow" else "")
        shutil.copyfile(building.build(failing, board).elf, out / f"{name}.elf")
    if board.startup.steps:
        other = tinyfw.project(out / "project_startup", _with_another_step(board))
        shutil.copyfile(building.build(other, board).elf, out / "startup.elf")


def _with_another_step(board: Board) -> Board:
    """The first write of the start-up sets one bit more or less than the board's description has."""
    steps = list(board.startup.steps)
    at = next(i for i, step in enumerate(steps) if step.kind == "write")
    steps[at] = dataclasses.replace(steps[at], value=steps[at].value ^ (steps[at].mask & -steps[at].mask))
    return dataclasses.replace(board, startup=dataclasses.replace(board.startup, steps=tuple(steps)))


def _suite_model(name: str, seed: int, instructions: int = 0) -> SuiteModel:
    samples = tinyfw.inputs(SAMPLES, seed)
    return SuiteModel(tinyfw.model(name), samples, tinyfw.expected(samples), instructions)


def _counted(log: str, model: int) -> int:
    """Most instructions of a sample of that model."""
    lines = [line.split() for line in log.splitlines() if line.startswith(f"SAMPLE {model} ")]
    return max(int(words[4]) for words in lines)


if __name__ == "__main__":
    for board_name in sys.argv[2:]:
        folder = Path(sys.argv[1]) / board_name
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder, load_board(board_name))
        print(folder)
