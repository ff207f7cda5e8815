"""What decides the steps of a pruning run: files by their hashes, options, seed, tools. And how two of these differ."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tinygen import __version__, building
from tinygen.boards import Board
from tinygen.bundle import path_hash, text_hash
from tinygen.pruning.log import Inputs, Source
from tinygen.samples import Options as SampleOptions

PACKAGES = ("keras", "tensorflow", "numpy")
FREE = ("max_minutes", "qat")
"""Options that may change when a run is resumed: they decide how far it goes and which step is the last,
not what a step does."""

PLACES = ("board_path",)
"""Options that only say where something is; its bytes count."""

CODE, WISHES = ".py", ".toml"


def inputs_of(
    files: Mapping[str, str | Path | None], board: Board, seed: int, options: Mapping[str, Any]
) -> Inputs:
    """Everything that decides a run. files: "model", "representative", "eval" -> path.

    options: all others by the names of prune's parameters, as the user gave them. An option that names a file of
    code (--preprocess) or wishes (--pin) counts with that file's hash.
    """
    sources: dict[str, Source | None] = {
        key: Source(Path(path).name, path_hash(Path(path))) if path is not None else None
        for key, path in files.items()
    }
    sources["board"] = Source(board.name, text_hash(board.text))
    plain: dict[str, Any] = {}
    for key, value in sorted(_flat(options).items()):
        path, rest = _file(value)
        plain[key] = f"{path.name}{rest}" if path else value
        if path:
            sources[key] = Source(path.name, path_hash(path))
    ready = json.loads(json.dumps(plain, default=str))  # as it will be read back: lists, texts
    return Inputs(sources, seed, ready, tools())


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the command line has them: those of samples one by one, none that only names a place."""
    flat = {key: value for key, value in options.items() if key not in PLACES}
    samples = flat.pop("samples", None)
    if isinstance(samples, SampleOptions):
        flat |= {
            "input_scale": samples.scale,
            "input_offset": samples.offset,
            "preprocess": samples.preprocess,
        }
    return flat


def tools() -> dict[str, str]:
    """Versions of what computes."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {
        "tinygen": __version__,
        "python": platform.python_version(),
        **packages,
        "compiler": building.compiler_version(),
    }


def _file(value: Any) -> tuple[Path | None, str]:
    """(file, rest) of an option that names one: 'prepare.py:function' or 'layers.toml'."""
    if not isinstance(value, str | Path):
        return None, ""
    text = str(value)
    place, colon, name = text.rpartition(":")
    if colon and place.endswith(CODE) and Path(place).is_file():
        return Path(place), f":{name}"
    return (Path(text), "") if text.endswith(WISHES) and Path(text).is_file() else (None, "")


def differences(asked: Inputs, logged: Inputs) -> tuple[str, ...]:
    """One sentence for each thing that is not as the log has it."""
    found = []
    for key in sorted({*asked.sources, *logged.sources}):
        new, old = asked.sources.get(key), logged.sources.get(key)
        if (new and new.sha256) != (old and old.sha256):
            found.append(f"{_spoken(key)} is {_described(new)}, it was {_described(old)}")
    if asked.seed != logged.seed:
        found.append(f"--seed is {asked.seed}, it was {logged.seed}")
    for key in sorted({*asked.options, *logged.options} - set(FREE)):
        now, then = asked.options.get(key), logged.options.get(key)
        if now != then:
            found.append(f"{_spoken(key)} is {_value(now)}, it was {_value(then)}")
    for tool in sorted({*asked.tools, *logged.tools}):
        version, former = asked.tools.get(tool), logged.tools.get(tool)
        if version != former:
            found.append(f"{tool} is {version}, it was {former}")
    return tuple(found)


def _spoken(key: str) -> str:
    return "the model" if key == "model" else f"--{key.replace('_', '-')}"


def _described(source: Source | None) -> str:
    return f"'{source.name}' (SHA-256 {source.sha256[:12]})" if source else "not given"


def _value(value: Any) -> str:
    return "not given" if value is None else str(value)
