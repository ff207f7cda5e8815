"""Homes of the generated C: what a project holds around the library, for PlatformIO, CMake, Arduino, Zephyr or make.

Pure: path below the project -> text. docs/projects.md says what each home is for and how it was checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygen import __version__, building, firmware, flashing
from tinygen.boards import Board, Region
from tinygen.ctext import environment
from tinygen.emission import Library
from tinygen.errors import BoardError, RunError, UsageError
from tinygen.flashing import flash_command
from tinygen.graph import Array
from tinygen.pio import layout
from tinygen.placement import Placement
from tinygen.placement_check import TABLE
from tinygen.tolerances import tolerance

APPS = ("plain", "event")
"""Example applications: one inference; samples from an interrupt, with sleep in between."""
NO_SYSTICK = ("nrf51_timer",)
"""Kinds of timers of the chips whose core has no SysTick (nRF51 Series Reference Manual: it is not implemented)."""


@dataclass(frozen=True)
class Contents:
    """What every home is made of.

    placements: one per board, in their order. application: what the example must know of the model.
    inputs, outputs: stored samples (N, *shape) as C takes them, and what it must give. app: one of APPS.
    """

    library: Library
    boards: Sequence[Board]
    placements: Sequence[Placement]
    application: Mapping[str, Any]
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    run_id: str
    app: str


@dataclass(frozen=True)
class Home:
    """One kind of project. files: everything besides graph.json and the manifest. users: the user's from then on.

    runs: it holds start-up code and linker scripts, so that `tinygen run` can build an image.
    title: what messages call it. next_step: what a user does first, {name} the model.
    """

    title: str
    files: Callable[[Contents], dict[str, str]]
    users: tuple[str, ...]
    runs: bool
    next_step: str


def files_of(home: str, contents: Contents) -> tuple[dict[str, str], tuple[str, ...]]:
    """(path -> text, paths of those files that are the user's once they are written)."""
    names = _names(contents.library.name)
    return HOMES[home].files(contents), tuple(path.format(**names) for path in HOMES[home].users)


def check(home: str, app: str, arena: str, boards: Sequence[Board]) -> None:
    """Raise UsageError or BoardError when there is no such home, or no such application in it."""
    if home not in HOMES:
        raise UsageError(f"there is no project kind '{home}'\n  known: {', '.join(HOMES)}")
    if app not in APPS:
        raise UsageError(f"there is no example application '{app}'\n  known: {', '.join(APPS)}")
    if app == "plain":
        return
    if not HOMES[home].runs:
        raise UsageError(
            f"--app {app} needs start-up code of tinygen's, which {HOMES[home].title} has not\n"
            f"  use it with --project {' or '.join(n for n, h in HOMES.items() if h.runs)}"
        )
    if arena == "library":
        raise UsageError("--app event has two arenas of its own\n  leave --arena library out")
    for board in boards:
        if board.timer.kind in NO_SYSTICK:
            raise BoardError(
                f"--app event takes SysTick for a sensor, and the core of '{board.name}' has none\n"
                "  use --app plain there"
            )


def check_runs(folder: str | Path, manifest: Mapping[str, Any]) -> None:
    """Raise RunError when the project of this manifest holds no image to run."""
    home = HOMES[home_of(manifest)]
    if not home.runs:
        raise RunError(
            f"'{folder}' is {home.title}: it has no start-up code of tinygen's to run in an emulator\n"
            "  compile the model with --project platformio or bare into another folder, and run that"
        )


def home_of(manifest: Mapping[str, Any]) -> str:
    """The kind of the project of this manifest."""
    home = manifest.get("options", {}).get("home")
    return home if home in HOMES else "platformio"


# ---- the homes


def _platformio(contents: Contents) -> dict[str, str]:
    library = contents.library
    samples = layout.samples_json(contents.inputs, contents.outputs)
    apart = frozenset(own_weights(contents))
    made = layout.project_files(contents.boards, [library.name], contents.application, samples, apart)
    made["README.md"] += _weights_readme(contents, ".pio/build/{board}")
    if contents.app == "event":
        made["README.md"] += _render("event.md", contents)
    return {**library.files, **_firmware(contents), **made}


def _bare(contents: Contents) -> dict[str, str]:
    main = environment().get_template(f"project/{contents.application['template']}.j2")
    own = {
        layout.APPLICATION: main.render(contents.application),
        f"{firmware.HARNESS}/samples.json": layout.samples_json(contents.inputs, contents.outputs),
        ".gitignore": "build/\n",
        "Makefile": _render("bare/Makefile", contents),
        "README.md": _render("bare/README.md", contents) + _weights_readme(contents, "build/make/{board}"),
    }
    return {**contents.library.files, **_firmware(contents), **own}


def _cmake(contents: Contents) -> dict[str, str]:
    package = f"cmake/tinygen_{contents.library.name}Config.cmake.in"
    own = {
        "CMakeLists.txt": _render("cmake/CMakeLists.txt", contents),
        package: _render("cmake/Config.cmake.in", contents),
        "test/test_model.c": _render("cmake/test_model.c", contents),
        "test/samples.h": _render("cmake/samples.h", contents),
        "README.md": _render("cmake/README.md", contents),
        ".gitignore": "build/\n",
    }
    toolchains = {
        f"cmake/{b.name}.cmake": _render("cmake/toolchain.cmake", contents, board=b) for b in contents.boards
    }
    return {**contents.library.files, **_described(contents), **own, **toolchains}


def _arduino(contents: Contents) -> dict[str, str]:
    names = _names(contents.library.name)
    folder = f"lib/{contents.library.name}/"
    sources = {f"src/{p.removeprefix(folder)}": text for p, text in contents.library.files.items()}
    own = {
        "library.properties": _render("arduino/library.properties", contents),
        "README.md": _render("arduino/README.md", contents),
        SKETCH.format(**names): _render("arduino/example.ino", contents),
    }
    return {**sources, **_described(contents), **own}


def _zephyr(contents: Contents) -> dict[str, str]:
    sample = f"samples/{contents.library.name}"
    paths = {
        "zephyr/module.yml": "module.yml",
        "zephyr/CMakeLists.txt": "CMakeLists.txt",
        "zephyr/Kconfig": "Kconfig",
        f"{sample}/CMakeLists.txt": "sample_CMakeLists.txt",
        f"{sample}/prj.conf": "prj.conf",
        f"{sample}/sample.yaml": "sample.yaml",
        f"{sample}/src/main.c": "main.c",
        "README.md": "README.md",
    }
    own = {path: _render(f"zephyr/{name}", contents) for path, name in paths.items()}
    return {**contents.library.files, **_described(contents), **own}


SKETCH = "examples/{Name}/{Name}.ino"
HOMES: Mapping[str, Home] = {
    "platformio": Home(
        "a PlatformIO project",
        _platformio,
        layout.USERS,
        True,
        "pio run        (without PlatformIO's registry first: tinygen pio bootstrap)",
    ),
    "cmake": Home(
        "a CMake library",
        _cmake,
        (".gitignore",),
        False,
        "cmake -S . -B build/host && cmake --build build/host && ctest --test-dir build/host",
    ),
    "arduino": Home("an Arduino library", _arduino, (SKETCH,), False, "less README.md"),
    "zephyr": Home(
        "a Zephyr module",
        _zephyr,
        tuple(f"samples/{{name}}/{f}" for f in ("CMakeLists.txt", "prj.conf", "sample.yaml", "src/main.c")),
        False,
        "west build -b BOARD samples/{name}",
    ),
    "bare": Home("a Makefile project", _bare, (layout.APPLICATION, ".gitignore"), True, "make"),
}


# ---- what they share


def _firmware(contents: Contents) -> dict[str, str]:
    """Start-up code, linker scripts and the test image."""
    libraries = [contents.library]
    arena = contents.library.pair_bytes if contents.app == "event" else None
    files = dict(firmware.common_files(libraries, contents.boards, contents.run_id))
    for board, placement in zip(contents.boards, contents.placements, strict=True):
        files |= firmware.board_files(libraries, board, placement, arena)
    return files


def _described(contents: Contents) -> dict[str, str]:
    """The boards' descriptions, and where tinygen would place everything: for `inspect`, and for the reader."""
    files = {}
    for board, placement in zip(contents.boards, contents.placements, strict=True):
        folder = firmware.board_folder(board.name)
        files[f"{folder}/board.toml"] = board.text
        files[f"{folder}/{TABLE}"] = json.dumps(placement.table(), indent=2) + "\n"
    return files


def own_weights(contents: Contents) -> dict[str, Region]:
    """Board -> the region of the weights, where that is another than the code's."""
    pairs = zip(contents.boards, contents.placements, strict=True)
    return {b.name: b.region(p.homes.arrays) for b, p in pairs if p.homes.apart}


def _weights_readme(contents: Contents, build: str) -> str:
    """How weights with a memory of their own get there, "" where there are none. build: folder of images, {board}."""
    regions = own_weights(contents)
    folders = {name: build.format(board=name) for name in regions}
    return (
        ""
        if not regions
        else _render(
            "weights.md",
            contents,
            own_weights=regions,
            build=folders,
            image={name: f"{folder}/firmware.elf" for name, folder in folders.items()},
            commands={name: flashing.weights_command(region) for name, region in regions.items()},
            weights_only=flashing.WEIGHTS_ONLY,
            code_only=flashing.CODE_ONLY,
            filled=flashing.filled,
        )
    )


def _names(name: str) -> dict[str, str]:
    """The model's name as the templates write it."""
    return {"name": name, "NAME": name.upper(), "Name": "".join(p.capitalize() for p in name.split("_"))}


def _render(template: str, contents: Contents, **more: Any) -> str:
    library, boards = contents.library, contents.boards
    context = {
        **contents.application,
        **_names(library.name),
        "version": __version__,
        "library_name": f"tinygen_{library.name}",
        "arena_bytes": library.arena_bytes,
        "constant_bytes": library.constant_bytes,
        "boards": boards,
        "placements": {b.name: p for b, p in zip(boards, contents.placements, strict=True)},
        "stack": 4096,
        "inputs": contents.inputs,
        "outputs": contents.outputs,
        "tolerances": [tolerance(y) for y in contents.outputs],
        "event": contents.app == "event",
        "warnings": building.WARNINGS,
        "optimize": building.OPTIMIZE,
        "folders": [f"lib/{library.name}"],
        "flash_commands": {b.name: flash_command(b, b.name in own_weights(contents)) for b in boards},
        "qemu_commands": {b.name: layout.qemu_command(b) if b.qemu else "" for b in boards},
        **more,
    }
    return environment().get_template(f"homes/{template}.j2").render(context)
