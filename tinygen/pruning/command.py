"""command.json: the options that a run was begun with, so that --resume and --rollback need not be given them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinygen.errors import OutputError
from tinygen.pruning.folders import COMMAND
from tinygen.samples import Options as SampleOptions

FILES = ("model", "representative", "eval", "board", "pin")
"""Options that may name a file; they are kept as whole paths where there is one."""

NOT_KEPT = ("out", "resume", "force", "report", "on_step")
"""Arguments that are not about what is made."""


def to_json(options: Mapping[str, Any]) -> str:
    """Text of the arguments of tinygen.prune, by name; those of NOT_KEPT are left out."""
    kept = {key: _plain(key, value) for key, value in options.items() if key not in NOT_KEPT}
    return json.dumps(kept, indent=2) + "\n"


def read(folder: str | Path) -> dict[str, Any]:
    """The arguments in an output folder of prune. Raises OutputError."""
    path = Path(folder) / COMMAND
    try:
        data = json.loads(path.read_text())
        return {key: _argument(key, value) for key, value in data.items()}
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise OutputError(
            f"'{path}' cannot be read ({type(problem).__name__})\n"
            "  give all options again: tinygen prune MODEL ... --resume"
        ) from None


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, SampleOptions):
        return {**asdict(value), "preprocess": _hook(value.preprocess)}
    if isinstance(value, Path) or (key in FILES and isinstance(value, str) and Path(value).exists()):
        return str(Path(value).absolute())
    return [_plain(key, v) for v in value] if isinstance(value, list | tuple) else value


def _hook(text: str | None) -> str | None:
    """'file.py:function' with the whole path of the file."""
    place, colon, name = (text or "").rpartition(":")
    return f"{Path(place).absolute()}:{name}" if colon and Path(place).is_file() else text


def _argument(key: str, value: Any) -> Any:
    if key == "samples" and isinstance(value, dict):
        return SampleOptions(**value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    """Lists as tuples, which is what options are."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
