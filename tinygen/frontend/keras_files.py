"""The containers of Keras models, .keras (zip) and .h5 (HDF5): checked and unpacked before Keras sees them.

Result: the parsed config and a private copy of the weights, both within limits, so that a damaged or hostile
file costs at most seconds and a few hundred megabytes. Keras is not imported; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tinygen.errors import ModelError, bytes_text

MAX_CONFIG_BYTES = 16 << 20
MAX_WEIGHTS_BYTES = 512 << 20
"""Of the weights file, which may also hold an optimizer's state (two or three times the weights)."""
_BOMB_RATIO, _BOMB_FLOOR = 100, 16 << 20
"""Keras stores its weights uncompressed: a large member that expands more is a decompression bomb."""


@dataclass(frozen=True)
class KerasFile:
    """What a model file holds. weights: a copy whose suffix tells Keras its layout (.weights.h5 or .h5).

    version: of the Keras that wrote the file, where it says so.
    """

    config: dict[str, Any]
    weights: Path
    version: str = ""


def shorten(text: object, limit: int = 160) -> str:
    """One printable line of at most `limit` characters: file contents must not garble a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def cause(error: object) -> str:
    """What an exception says, shortened: Keras puts whole configs before its cause."""
    text = str(error).rsplit("Exception encountered:", 1)[-1]
    return shorten(text) or type(error).__name__


@contextmanager
def damage(path: Path, doing: str) -> Iterator[None]:
    """Turn whatever zipfile, h5py, json or Keras raise into a short ModelError; our own errors pass."""
    try:
        yield
    except (ModelError, ImportError):
        raise
    except Exception as error:
        raise ModelError(f"'{path}' cannot be used: {doing} failed\n  {cause(error)}") from error


def unpack(path: Path, folder: Path) -> KerasFile:
    """Read a .keras or .h5 file; the copy of the weights is written into `folder`."""
    if path.stat().st_size > 2 * MAX_WEIGHTS_BYTES:
        raise ModelError(f"'{path}' is too large: {bytes_text(path.stat().st_size)}")
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with damage(path, "reading the archive"), zipfile.ZipFile(path) as archive:
            return _unpack_zip(path, archive, folder)
    return _unpack_h5(path, folder)


# ---- .keras


def _unpack_zip(path: Path, archive: zipfile.ZipFile, folder: Path) -> KerasFile:
    names = archive.namelist()
    if "config.json" not in names:
        raise ModelError(f"'{path}' is a zip archive but not a Keras model: it has no config.json")
    if "model.weights.h5" not in names:
        raise ModelError(
            f"'{path}' has no model.weights.h5 (other weight formats are refused)\n"
            "  save it again with Keras 3: model.save('name.keras')"
        )
    with _member(path, archive, "config.json", MAX_CONFIG_BYTES) as file:
        config = parse_config(path, file.read())
    version = ""
    if "metadata.json" in names:
        with _member(path, archive, "metadata.json", MAX_CONFIG_BYTES) as file:
            version = str(dict(json.loads(file.read())).get("keras_version", ""))
    target = folder / "model.weights.h5"
    with _member(path, archive, "model.weights.h5", MAX_WEIGHTS_BYTES) as file, target.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)
    check_h5(path, target)
    return KerasFile(config, target, version)


@contextmanager
def _member(path: Path, archive: zipfile.ZipFile, name: str, limit: int) -> Iterator[IO[bytes]]:
    """Open one member of the archive, refusing decompression bombs."""
    info = archive.getinfo(name)
    expands = info.file_size > _BOMB_FLOOR and info.file_size > _BOMB_RATIO * info.compress_size
    if info.file_size > limit or expands:
        raise ModelError(
            f"'{path}': {name} unpacks {bytes_text(info.compress_size)} to {bytes_text(info.file_size)}\n"
            f"  allowed are {bytes_text(limit)}, and at most {_BOMB_RATIO} times the packed size"
        )
    try:
        with archive.open(info) as file:
            yield file
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(f"'{path}' is damaged: {name} {shorten(error)}") from error


def parse_config(path: Path, text: str | bytes) -> dict[str, Any]:
    """The JSON that describes the layers."""
    if len(text) > MAX_CONFIG_BYTES:
        size = bytes_text(len(text))
        raise ModelError(f"'{path}': the model's config has {size}, allowed are {MAX_CONFIG_BYTES:,}")
    with damage(path, "parsing the model's config as JSON"):
        config = json.loads(text)
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict | list):
        raise ModelError(f"'{path}': the model's config is not that of a Keras model")
    return config


# ---- .h5


def _unpack_h5(path: Path, folder: Path) -> KerasFile:
    import h5py

    target = folder / "model.h5"
    with damage(path, "copying it"):
        shutil.copyfile(path, target)
    with damage(path, "reading the HDF5 file"):
        check_h5(path, target)
        with h5py.File(target, "r") as file:
            text = file.attrs.get("model_config")
            version = str(file.attrs.get("keras_version", ""))
            has_weights = "model_weights" in file
    if text is None or not has_weights:
        raise ModelError(
            f"'{path}' holds no model_config: it has weights only, or is no Keras model\n"
            "  save the whole model: model.save('name.keras')"
        )
    return KerasFile(parse_config(path, text), target, version)


def check_h5(path: Path, h5: Path) -> None:
    """Read the whole HDF5 file in a process of its own, which may fail, hang or crash in our place."""
    probe = Path(__file__).with_name("h5_probe.py")
    command = [sys.executable, str(probe), str(h5), str(MAX_WEIGHTS_BYTES)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=8, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError(f"'{path}' is damaged: reading its HDF5 data does not end") from None
    if run.returncode not in (0, 1):
        raise ModelError(f"'{path}' is damaged: the HDF5 library crashes on it (exit code {run.returncode})")
    if run.returncode:
        raise ModelError(f"'{path}' is refused: {shorten(run.stdout)}")
