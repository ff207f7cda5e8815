"""PlatformIO as a user calls it, in a machine without any network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tinygen.cli import main

ROOT = Path(__file__).resolve().parents[2]


@cache
def without_network() -> tuple[str, ...]:
    """What starts a program in a network namespace of its own; () where that is not permitted."""
    command = ("unshare", "--map-root-user", "--net")
    allowed = (
        shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    )
    return command if allowed else ()


def environment(project: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """No settings of PlatformIO's but the project's, a home that nobody has used, proxies that lead nowhere."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("PLATFORMIO_", "TINYGEN_"))}
    home = project.parent / f"{project.name}-home"
    home.mkdir(exist_ok=True)
    nowhere = "http://127.0.0.1:9"
    proxies = {f"{scheme}_PROXY": nowhere for scheme in ("HTTP", "HTTPS", "ALL")}
    lower = {k.lower(): v for k, v in proxies.items()}
    return {**kept, **proxies, **lower, "HOME": str(home), "PYTHONPATH": str(ROOT), **(extra or {})}


def pio(
    project: Path, *arguments: str, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run PlatformIO in the project."""
    return subprocess.run(
        [*without_network(), sys.executable, "-P", "-m", "platformio", *arguments],
        cwd=project, env=environment(project, extra), capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def printed(done: subprocess.CompletedProcess[str]) -> str:
    """All that was printed: PlatformIO tells failures on stderr."""
    return done.stdout + done.stderr


def passes(project: Path, *arguments: str) -> str:
    """What PlatformIO prints; it must succeed."""
    done = pio(project, *arguments)
    assert done.returncode == 0, printed(done)[-5000:]
    return printed(done)


def outcomes(text: str) -> dict[str, str]:
    """Environment -> SUCCESS, FAILED, PASSED, ERRORED, SKIPPED, from the summary."""
    rows = re.findall(r"^(\w+) +(?:\w+ +)?(SUCCESS|FAILED|PASSED|ERRORED|SKIPPED) +\d\d:", text, re.MULTILINE)
    return dict(rows)


def prepared(folder: Path, core: Path, model: Path, boards: Sequence[str], *more: str) -> Path:
    """A project compiled from the model and bootstrapped."""
    chosen = [word for board in boards for word in ("--board", board)]
    assert main(["compile", str(model), *chosen, "--out", str(folder), *more]) == 0
    assert main(["pio", "bootstrap", str(folder), "--core", str(core)]) == 0
    return folder


def sections(elf: Path) -> dict[str, tuple[int, int, bytes]]:
    """Name -> (address, size, contents) of everything in memory that is not empty."""
    with elf.open("rb") as file:
        return {
            s.name: (s["sh_addr"], s["sh_size"], b"" if s["sh_type"] == "SHT_NOBITS" else bytes(s.data()))
            for s in ELFFile(file).iter_sections()
            if s["sh_flags"] & 2 and s["sh_size"]
        }


def image(project: Path, environment_name: str) -> Path:
    """What PlatformIO built."""
    return project / ".pio" / "build" / environment_name / "firmware.elf"
