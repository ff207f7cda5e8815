"""What a generated project misses here for `pio run` without PlatformIO's registry, and the line to type."""

from __future__ import annotations

import configparser
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tinygen.building import INSTALL_ARM, INSTALL_HOST
from tinygen.doctor import newlib_version, tool_version
from tinygen.emulators import qemu
from tinygen.pio import bootstrap
from tinygen.pio.layout import LOCAL_INI

INSTALL_GDB = "apt-get install gdb-multiarch"


@dataclass(frozen=True)
class Finding:
    """One need. found: the version or place, None when it is missing; install: the line that brings it."""

    name: str
    found: str | None
    needed_for: str
    install: str
    required: bool = True

    def to_json(self) -> dict[str, Any]:
        """The finding as plain data."""
        return asdict(self)


def examine(folder: Path) -> tuple[Finding, ...]:
    """Look at this machine and at the project."""
    again = f"tinygen pio bootstrap {folder}"
    core = core_of(folder)
    gdb = shutil.which("gdb-multiarch") or shutil.which("arm-none-eabi-gdb")
    return (
        Finding(
            "platformio.ini", _file(folder / "platformio.ini"), "pio run", "tinygen compile ... --out FOLDER"
        ),
        Finding("platformio", _package("platformio"), "pio run", "pip install platformio"),
        Finding("SCons", _scons(), "bootstrap", bootstrap.install_scons()),
        Finding("arm-none-eabi-gcc", tool_version("arm-none-eabi-gcc"), "bootstrap", INSTALL_ARM),
        Finding("newlib", newlib_version("newlib"), "bootstrap", INSTALL_ARM),
        Finding(LOCAL_INI, str(core) if core else None, "builds without the registry", again),
        Finding(
            "tool-scons", _part(core, "packages/tool-scons/scons.py"), "builds without the registry", again
        ),
        Finding("toolchain package", _toolchain(core), "builds without the registry", again),
        Finding("state of PlatformIO", _state(core), "no wait of a minute for an upgrade", again),
        Finding("gcc", tool_version("gcc"), "pio test -e native", INSTALL_HOST, False),
        Finding(qemu.PROGRAM, tool_version(qemu.PROGRAM), "pio test -e qemu", qemu.INSTALL, False),
        Finding("gdb", gdb, "pio debug", INSTALL_GDB, False),
    )


def core_of(folder: Path) -> Path | None:
    """The core folder that the project's platformio.local.ini names."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string((folder / LOCAL_INI).read_text())
        return Path(parser["platformio"]["core_dir"])
    except (OSError, KeyError, configparser.Error):
        return None


def _file(path: Path) -> str | None:
    return "present" if path.is_file() else None


def _part(core: Path | None, path: str) -> str | None:
    return _file(core / path) if core else None


def _package(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _scons() -> str | None:
    found = _package("scons")
    return found if found == bootstrap.wanted_scons() else None


def _toolchain(core: Path | None) -> str | None:
    """The version of the toolchain package, when its links still lead to programs."""
    folder = core / "local" / bootstrap.TOOLCHAIN if core else None
    if folder is None or not (folder / "bin" / "arm-none-eabi-gcc").exists():
        return None
    return _json_value(folder / "package.json", ("version",))


def _state(core: Path | None) -> str | None:
    """PlatformIO's version as its state has it, when it is the installed one."""
    seen = _json_value(core / "appstate.json", ("last_version",)) if core else None
    return seen if seen == _package("platformio") else None


def _json_value(path: Path, keys: Sequence[str]) -> str | None:
    try:
        data = json.loads(path.read_text())
        for key in keys:
            data = data[key]
        return str(data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
