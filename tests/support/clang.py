"""A compiler that stands in for arm-none-eabi-gcc: clang compiles the models' libraries, gcc all else and links."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

CLANGS = ("clang", "clang-19", "clang-16", "clang-14")
SCRIPT = """#!/bin/sh
case "$*" in
*" -c "*/lib/*)
    for argument; do
        shift
        [ "$argument" = -mfpu=auto ] || set -- "$@" "$argument" # only gcc knows it; clang needs no -mfpu then
    done
    exec {clang} --target=arm-none-eabi -isystem {include} "$@" -Wno-error ;;
*) exec {gcc} "$@" ;;
esac
"""
INCLUDE = next(
    (p for p in map(Path, ("/usr/include/newlib", "/usr/lib/arm-none-eabi/include")) if p.is_dir()), None
)


def use_clang(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put it in front of the PATH; the test is skipped where there is no clang."""
    clang, gcc = next(filter(None, map(shutil.which, CLANGS)), None), shutil.which("arm-none-eabi-gcc")
    if not (clang and gcc and INCLUDE):
        pytest.skip("clang is not installed")
    script = folder / "arm-none-eabi-gcc"
    script.write_text(SCRIPT.format(clang=clang, gcc=gcc, include=INCLUDE))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
