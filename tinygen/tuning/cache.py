"""Counts that were made before, one small file each: by all that can change them, and by nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tinygen import building, project
from tinygen.boards import Board
from tinygen.ctext import environment
from tinygen.cycles.cores import timing_of
from tinygen.emission import HELPERS
from tinygen.graph import BoundNode
from tinygen.ops.base import Kernel
from tinygen.tuning.counting import Count


def default_folder() -> Path:
    """One cache for all projects of the user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "tinygen" / "kernels"


def key_of(kernel: Kernel, b: BoundNode, body: str, board: Board) -> str:
    """Hash of the kernel's C with its headers, the shapes of what it reads, core, cycle rules, compiler and its flags.

    The values of weights are not in it: what is executed does not depend on them.
    """
    headers = [*HELPERS.values(), *([kernel.header] if kernel.header else [])]
    texts = [environment().get_template(f"kernels/{name}").render() for name in headers]
    constants = {role: (v.dtype.name, v.shape) for role, v in kernel.constants(b).items()}
    shapes = [(t.dtype, t.shape) for t in (*b.activations, b.output)]
    core = (board.compiler_flags, repr(timing_of(board)))
    compiler = (building.compiler_version(), building.WARNINGS, building.OPTIMIZE)
    whole = repr((kernel.name, body, texts, constants, shapes, kernel.scratch(b), core, compiler))
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Cache:
    """A folder of counts. What cannot be read there is counted again."""

    folder: Path

    def read(self, key: str) -> Count | None:
        """The count under that key."""
        try:
            data = json.loads((self.folder / f"{key}.json").read_text())
            return Count(*(int(data[name]) for name in ("instructions", "cycles", "code")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, key: str, kernel: str, count: Count) -> None:
        """Keep a count. Raises OutputError."""
        text = json.dumps({"kernel": kernel, **asdict(count)}) + "\n"
        project.write_file(self.folder / f"{key}.json", text.encode())
