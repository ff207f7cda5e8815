"""The output folder of a pruning run as a place: whose it is, who holds it, what an interrupted write left."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from pathlib import Path

from tinygen.errors import OutputError

LOG, REGISTRY, RESULT, COMMAND, STEPS = (
    "pruning_log.json",
    "registry.json",
    "pruned.keras",
    "command.json",
    "steps",
)
OURS = (LOG, REGISTRY, RESULT, COMMAND, STEPS)
"""What a run writes, the log first: without it the others are no run."""

PROJECT = "fw"
"""The folder of the result's project; project.py writes it."""

PARTS = re.compile(r"\.(.+)-\d+")
"""What an interrupted write leaves (project.write_file)."""


def check_free(folder: Path, force: bool) -> None:
    """Raise OutputError unless a run may begin here: in a new or empty folder, or with force in that of a run."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"'{folder}' is a file, not a folder\n  give another name with --out")
    present = [path.name for path in folder.iterdir()] if folder.exists() else []
    if LOG in present and not force:
        raise OutputError(
            f"'{folder}' holds a pruning run already\n"
            "  go on with it by --resume, begin anew with --force, or give another folder with --out"
        )
    strangers = [name for name in present if name not in (*OURS, PROJECT) and not PARTS.fullmatch(name)]
    if strangers and LOG not in present:
        raise OutputError(
            f"'{folder}' holds '{strangers[0]}' and no pruning run: it is left alone\n"
            "  give an empty or a new folder with --out"
        )


def hold(folder: Path) -> int:
    """Lock the folder for this process; the system lets go when the process ends, however it does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    except OSError as problem:
        raise OutputError(f"cannot write '{folder}': {problem.strerror}\n  nothing was changed") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise OutputError(
            f"'{folder}' is in use: another tinygen prunes into it\n  wait for it, or give another --out"
        ) from None
    except OSError:
        pass  # a file system without locks
    return held


def sweep(folder: Path) -> None:
    """Remove what interrupted writes left."""
    for place in (folder, folder / STEPS):
        for path in place.iterdir() if place.is_dir() else ():
            if PARTS.fullmatch(path.name) and path.is_file():
                path.unlink()


def remove(path: Path) -> None:
    """A file or a whole folder, where there is one."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
