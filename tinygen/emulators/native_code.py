"""C that is compiled on the spot, and its functions as Unicorn hooks: one in Python costs 2 us, these a few ns."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tinygen.errors import ToolError

HOOK_BLOCK, HOOK_ACCESS = 8, 1024 | 2048
"""Unicorn's types of hooks: a basic block is entered; data is read or written."""


def shared_library(source: Path) -> ctypes.CDLL:
    """A C file, compiled and loaded. Raises ToolError: there is no compiler, or it refuses the file."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise ToolError(
            "profiling needs a C compiler on this machine\n  as root: apt-get install gcc libc6-dev"
        )
    with tempfile.TemporaryDirectory(prefix="tinygen-native-") as folder:
        target = Path(folder) / f"{source.stem}.so"
        command = [compiler, "-O2", "-fPIC", "-shared", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolError(f"{compiler} refuses '{source}'\n  {done.stderr.strip()[:300]}")
        return ctypes.CDLL(str(target))  # the file may go once it is loaded: the mapping stays


def add_hook(core: Any, kinds: int, function: Any, data: ctypes.Structure) -> ctypes.c_ulong:
    """Hook a C function to all addresses. kinds: Unicorn's types of hooks. The caller keeps `data` alive."""
    from unicorn.unicorn_py3 import unicorn as binding

    handle = ctypes.c_ulong()
    callback = ctypes.cast(function, ctypes.c_void_p)
    # over all addresses: begin 1 > end 0
    arguments = (core._uch, ctypes.byref(handle), kinds, callback, ctypes.byref(data), 1, 0)
    status = binding.uclib.uc_hook_add(*arguments)
    assert status == 0, f"uc_hook_add gave {status}"
    return handle
