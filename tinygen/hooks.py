"""--preprocess hooks: plain Python functions in the user's own files, named 'module:function' or
'file.py:function'."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tinygen.errors import DataError, UsageError, did_you_mean
from tinygen.graph import Array

Hook = Callable[[Mapping[str, Array]], Any]


def load_hook(spec: str) -> Hook:
    """The function that `spec` names. Raises UsageError when it cannot be found."""
    place, colon, name = spec.rpartition(":")
    if not (colon and place and name):
        raise UsageError(f"--preprocess '{spec}' must read module:function or file.py:function")
    module = _from_file(Path(place), spec) if place.endswith(".py") else _from_module(place, spec)
    function = getattr(module, name, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(
            f"--preprocess '{spec}': '{place}' has no function '{name}'{did_you_mean(name, public)}"
        )
    return function  # type: ignore[no-any-return]


def run_hook(hook: Hook, spec: str, arrays: Mapping[str, Array]) -> Any:
    """Call the hook; whatever it raises becomes a DataError that names its line."""
    try:
        return hook(arrays)
    except Exception as error:
        raise DataError(f"--preprocess '{spec}' failed: {_place(error)}") from error


def _from_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"--preprocess '{spec}': file '{path}' does not exist")
    found = importlib.util.spec_from_file_location(f"tinygen_hook_{path.stem}", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    _guarded(spec, lambda: found.loader.exec_module(module))  # type: ignore[union-attr]
    return module


def _from_module(name: str, spec: str) -> ModuleType:
    """Import a module, also from the current folder, which a console script does not have on its path."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return _guarded(spec, lambda: importlib.import_module(name))  # type: ignore[no-any-return]
    finally:
        sys.path.remove(here)


def _guarded(spec: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise UsageError(f"--preprocess '{spec}' cannot be loaded: {_place(error)}") from error


def _place(error: BaseException) -> str:
    """'ValueError: text (file.py line 3)' of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}{where}"
