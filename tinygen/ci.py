"""Continuous integration of a project: a workflow, and suites that run its test image in Renode.

The suites' bounds are measured once, when the project is made, on the built image in Unicorn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinygen import __version__, building, renode_suite, running
from tinygen.boards import Board
from tinygen.ctext import environment
from tinygen.emulators.unicorn_ import Unicorn
from tinygen.errors import ToolError, UsageError
from tinygen.homes import Contents
from tinygen.renode_suite import SuiteModel

KINDS = ("github",)
HOME = "platformio"
"""The home whose commands the workflow runs."""
WORKFLOW = ".github/workflows/firmware.yml"
SILENT_SECONDS = 600.0
"""A model that computes longer for one sample is not measured."""
INSTEAD = "or leave out --ci"


def check(ci: str | None, home: str, boards: Sequence[Board]) -> None:
    """Raise UsageError when there is no such workflow, ToolError when the bounds cannot be measured here."""
    if ci is None:
        return
    if ci not in KINDS:
        raise UsageError(f"there is no workflow for --ci '{ci}'\n  known: {', '.join(KINDS)}")
    if home != HOME:
        raise UsageError(f"--ci runs PlatformIO, and the project is '{home}'\n  use it with --project {HOME}")
    for board in modelled(boards):
        try:
            building.find_compiler("arm-none-eabi-gcc")
        except ToolError as problem:
            raise ToolError(f"--ci measures the image's bounds: {problem}\n  {INSTEAD}") from None
        if reason := Unicorn().unavailable(board):
            raise ToolError(f"--ci measures the image's bounds in Unicorn: {reason}\n  {INSTEAD}")


def modelled(boards: Sequence[Board]) -> list[Board]:
    """Those that Renode models."""
    return [board for board in boards if board.renode is not None]


def files(project: Mapping[str, str], contents: Contents) -> dict[str, bytes]:
    """Path -> bytes of the workflow and of a suite for each board that Renode models.

    project: the files that an image is built of, in a temporary folder. Raises ToolError.
    """
    made = {WORKFLOW: workflow(contents.boards).encode()}
    with tempfile.TemporaryDirectory(prefix="tinygen-ci-") as folder:
        for path, text in project.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for board in modelled(contents.boards):
            suite = _suite(Path(folder), board, contents)
            made |= {f"{renode_suite.FOLDER}/{board.name}/{name}": data for name, data in suite.items()}
    return made


def workflow(boards: Sequence[Board]) -> str:
    """The text of firmware.yml."""
    context = {
        "version": __version__,
        "unicorn": any(board.unicorn for board in boards),
        "qemu": any(board.qemu for board in boards),
        "build_command": build_command(modelled(boards)) if modelled(boards) else "",
        "suites": renode_suite.FOLDER,
    }
    return environment().get_template("homes/ci/firmware.yml.j2").render(context)


def readme(contents: Contents) -> str:
    """What the project's README says of it."""
    boards = modelled(contents.boards)
    context = {"suites": bool(boards), "build_command": build_command(boards)}
    return environment().get_template("homes/ci.md.j2").render(context)


def build_command(boards: Sequence[Board]) -> str:
    """What builds the test images of these boards where the suites look for them."""
    return " ".join(["pio test --without-testing", *(f"-e {board.name}" for board in boards)])


def _suite(project: Path, board: Board, contents: Contents) -> Mapping[str, bytes]:
    """The suite of one board, with as many of the stored samples as its image takes at once."""
    firmware = building.build(project, board)
    model = firmware.description.models[0]
    room = (running.block_capacity(firmware) - running.HEADER_BYTES) // model.record_bytes
    inputs = [x[:room] for x in contents.inputs]
    outputs = [y[:room] for y in contents.outputs]
    ran = running.run(firmware, board, Unicorn(count_all=True), inputs, outputs, SILENT_SECONDS)
    if not ran.passed or ran.stack_bytes is None:
        raise ToolError(
            f"--ci cannot measure the bounds of '{board.name}': {ran.outcome.value}: {ran.detail}\n  {INSTEAD}"
        )
    instructions = max(count or 0 for count in ran.instructions)
    return renode_suite.suite_files(
        board,
        contents.library.name,
        contents.run_id,
        f"../../.pio/build/{board.name}/firmware.elf",
        [SuiteModel(model, inputs, outputs, instructions)],
        ran.stack_bytes,
        build_command([board]),
    )
