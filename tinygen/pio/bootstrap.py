"""`tinygen pio bootstrap`: what PlatformIO would download, made from what pip and the system have.

A core folder gets SCons as PlatformIO's package tool-scons, links to the system's Arm toolchain as a toolchain package,
and a state that asks for no upgrade. The project's git-ignored platformio.local.ini names them: from then on plain
`pio run` works there without any network connection.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from tinygen.building import INSTALL_ARM, find_compiler
from tinygen.errors import OutputError, ToolError
from tinygen.pio.layout import LOCAL_INI
from tinygen.project import write_file

PREFIX = "arm-none-eabi-"
TOOLCHAIN = "toolchain-gccarmnoneeabi"
LOCAL_PLATFORM = "${tinygen.local}"
FAR_FUTURE = 4_000_000_000
"""Seconds since 1970 at which the upgrade check is said to have been made."""

SCONS_START = '''"""Starts the SCons beside this file, as PlatformIO calls it. Written by tinygen pio bootstrap."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import SCons.Script

SCons.Script.main()
'''


@dataclass(frozen=True)
class Prepared:
    """What bootstrap made: the core folder, versions, the file in the project (None without a project)."""

    core: Path
    scons: str
    gcc: str
    local_ini: Path | None


def default_core() -> Path:
    """One core folder for all projects of the user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).resolve() / "tinygen" / "platformio"


def bootstrap(project: Path, core: Path | None = None) -> Prepared:
    """Prepare a core folder (default_core() for None) and point the project at it.

    Raises ToolError: SCons or the toolchain is missing; OutputError: no PlatformIO project, or not writable.
    """
    if not (project / "platformio.ini").is_file():
        raise OutputError(
            f"'{project}' has no platformio.ini\n  generate a project: tinygen compile MODEL --board BOARD --out FOLDER"
        )
    core = (core or default_core()).resolve()
    gcc = Path(find_compiler(f"{PREFIX}gcc"))
    version, scons = gcc_version(gcc), scons_version()
    try:
        _put_scons(core / "packages" / "tool-scons", scons)
        _put_toolchain(core / "local" / TOOLCHAIN, gcc.parent, version)
        _put_state(core / "appstate.json")
    except OSError as problem:
        raise OutputError(
            f"cannot write '{core}': {problem.strerror or problem}\n  say --core FOLDER"
        ) from problem
    ini = project / LOCAL_INI
    write_file(ini, local_ini(project, core).encode())
    return Prepared(core, scons, version, ini)


# ---- SCons


def wanted_scons() -> str:
    """The version of SCons that the installed PlatformIO wants: ~4.41101.0 stands for 4.11.1."""
    from platformio.dependencies import get_core_dependencies

    text = str(get_core_dependencies()["tool-scons"])
    found = re.search(r"(\d)\.\d(\d\d)(\d\d)\.", text)
    assert found, f"PlatformIO names tool-scons {text}"
    return ".".join(str(int(part)) for part in found.groups())


def scons_version() -> str:
    """The installed SCons, when it is the wanted one. Raises ToolError with the line that installs it."""
    wanted = wanted_scons()
    try:
        found = metadata.version("scons")
    except metadata.PackageNotFoundError:
        found = ""
    if found != wanted:
        what = f"SCons {found} is installed" if found else "SCons is not installed"
        raise ToolError(f"{what}, PlatformIO wants {wanted}\n  type: {install_scons()}")
    return found


def install_scons() -> str:
    """The line that installs the wanted SCons."""
    return f"{sys.executable} -m pip install SCons=={wanted_scons()}"


def _put_scons(folder: Path, version: str) -> None:
    """PlatformIO's package tool-scons, from the SCons that pip installed."""
    major, minor, patch = version.split(".")
    package = f"{major}.{major}{int(minor):02d}{int(patch):02d}.0"
    if _package_version(folder) == package and (folder / "scons.py").is_file():
        return
    found = util.find_spec("SCons")
    assert found is not None and found.submodule_search_locations
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "docbook", "*.1")
    shutil.copytree(next(iter(found.submodule_search_locations)), folder / "SCons", ignore=ignored)
    (folder / "scons.py").write_text(SCONS_START)
    spec = {"owner": "platformio", "id": None, "name": "tool-scons", "requirements": None, "uri": None}
    state = {"type": "tool", "name": "tool-scons", "version": package, "spec": spec}
    _write_json(folder / ".piopm", state)
    _write_json(folder / "package.json", {"name": "tool-scons", "version": package, "description": "SCons"})


# ---- toolchain


def gcc_version(gcc: Path) -> str:
    """Version of the compiler, e.g. 12.2.1."""
    done = subprocess.run([gcc, "-dumpfullversion"], capture_output=True, text=True, check=False)
    version = done.stdout.strip()
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ToolError(f"'{gcc}' does not tell its version\n  as root: {INSTALL_ARM}")
    return version


def _put_toolchain(folder: Path, programs: Path, version: str) -> None:
    """A toolchain package of links to the system's programs."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    for program in sorted(programs.glob(f"{PREFIX}*")):
        (folder / "bin" / program.name).symlink_to(program)
    gdb = shutil.which("gdb-multiarch")
    if gdb and not (folder / "bin" / f"{PREFIX}gdb").is_symlink():
        (folder / "bin" / f"{PREFIX}gdb").symlink_to(gdb)
    package = "1.{:02d}{:02d}{:02d}.0".format(*map(int, version.split(".")))
    data = {"name": TOOLCHAIN, "version": package, "description": f"GCC {version} of this machine"}
    _write_json(folder / "package.json", data)


# ---- state and settings


def _put_state(path: Path) -> None:
    """PlatformIO's own memory: this version is no news, nothing is reported, no upgrade is looked for."""
    from platformio import __version__

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        state: dict[str, Any] = json.loads(path.read_text())
        assert isinstance(state, dict)
    except (OSError, ValueError, AssertionError):
        state = {}
    settings = {
        "enable_telemetry": False,
        "check_platformio_interval": 36500,
        "check_prune_system_threshold": 0,
    }
    state |= {
        "last_version": __version__,
        "last_check": {"platformio_upgrade": FAR_FUTURE, "prune_system": FAR_FUTURE},
        "settings": {**state.get("settings", {}), **settings},
    }
    _write_json(path, state)


def local_ini(project: Path, core: Path) -> str:
    """platformio.local.ini: the core folder, and this machine's instead of the registry's packages."""
    places = {
        key: f"{TOOLCHAIN}@symlink://{core / 'local' / TOOLCHAIN}"
        if key.startswith("toolchain")
        else LOCAL_PLATFORM
        for key in tinygen_section(project)
        if key != "local"
    }
    lines = [
        "; Written by `tinygen pio bootstrap` for this machine: keep it out of version control.",
        "[platformio]",
        f"core_dir = {core}",
        "",
        "[tinygen]",
        *(f"{key} = {value}" for key, value in places.items()),
    ]
    return "\n".join(lines) + "\n"


def tinygen_section(project: Path) -> Mapping[str, str]:
    """Section [tinygen] of platformio.ini. Raises OutputError when the file has none."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string((project / "platformio.ini").read_text())
        return dict(parser["tinygen"])
    except (OSError, KeyError, configparser.Error) as problem:
        raise OutputError(
            f"'{project / 'platformio.ini'}' has no section [tinygen] that can be read ({type(problem).__name__})\n"
            "  generate the project with 'tinygen compile'"
        ) from None


def _package_version(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "package.json").read_text())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")
