"""Read .npy and .npz files of unknown origin: nothing is unpickled, and a header is believed only within
limits."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from tinygen.errors import DataError, bytes_text
from tinygen.graph import Array

Result = TypeVar("Result")

MAX_BYTES = 512 * 2**20
"""Largest total of the arrays read from one file or folder: a small file may claim to unpack to terabytes."""

NPY_MAGIC, ZIP_MAGIC = b"\x93NUMPY", b"PK"


def read_arrays(path: Path, wanted: Callable[[str], bool] = lambda key: True) -> dict[str, Array]:
    """All arrays of a file whose key is wanted; a .npy file, and a folder of them, count as the key 'x'.

    Raises DataError for what is missing, damaged, pickled, or larger than MAX_BYTES.
    """
    if path.is_dir():
        return {"x": _read_folder(path)}
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise DataError(f"'{path}' {what}\n  give a .npy file, an .npz file or a folder of .npy files")
    return _guarded(path, lambda: _read_file(path, wanted))


def keys_of(path: Path) -> tuple[str, ...]:
    """The keys of an .npz file in its order; ('x',) for a .npy file or a folder."""
    if path.is_file() and _magic(path).startswith(ZIP_MAGIC):
        return _guarded(path, lambda: tuple(_members(path)))
    return ("x",)


def _guarded(path: Path, read: Callable[[], Result]) -> Result:
    """The result of read(), with every sign of a damaged file turned into one DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's about headers of Python 2
            return read()
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"'{path}' does not fit into memory\n  give fewer samples") from None
    except Exception as error:  # numpy's header parser, zipfile and zlib raise nearly anything
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise DataError(
            f"'{path}' is damaged or truncated: {reason}\n  save it again with numpy.savez"
        ) from None


def _magic(path: Path) -> bytes:
    """The first six bytes."""
    try:
        with path.open("rb") as stream:
            return stream.read(6)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from None


def _read_file(path: Path, wanted: Callable[[str], bool]) -> dict[str, Array]:
    magic = _magic(path)
    if magic.startswith(ZIP_MAGIC):
        return _read_npz(path, wanted)
    if magic != NPY_MAGIC:
        pickled = " (pickled data is never loaded)" if magic[:1] == b"\x80" else ""
        empty = " (it is empty)" if not magic else ""
        raise DataError(
            f"'{path}' is neither a .npy nor an .npz file{empty}{pickled}\n  save it with numpy.save or savez"
        )
    with path.open("rb") as stream:
        size = _claimed_bytes(stream, f"'{path}'")
        _limit(size, path)
        stream.seek(0)
        return {"x": np.lib.format.read_array(stream, allow_pickle=False)}


def _read_npz(path: Path, wanted: Callable[[str], bool]) -> dict[str, Array]:
    members = {key: name for key, name in _members(path).items() if wanted(key)}
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(path) as archive:
        total = 0
        for key, name in members.items():
            with archive.open(name) as stream:
                total += _claimed_bytes(stream, f"'{key}' of '{path}'")
        _limit(total, path)
        for key, name in members.items():
            with archive.open(name) as stream:
                arrays[key] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def _members(path: Path) -> Mapping[str, str]:
    """Key -> name inside the archive."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
    if not names:
        raise DataError(f"'{path}' holds no arrays\n  save it with numpy.savez(file, x=samples)")
    return {name[: -len(".npy")]: name for name in names}


def _claimed_bytes(stream: IO[bytes], what: str) -> int:
    """Bytes of the array that the header announces."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise DataError(
            f"{what} has .npy version {version}, which is not supported\n  save a plain number array"
        )
    if dtype.hasobject:
        raise DataError(
            f"{what} holds pickled Python objects, which are never loaded\n  save a plain number array"
        )
    if any(size < 0 for size in shape):
        raise DataError(f"{what} announces the impossible shape {shape}")
    return math.prod(shape) * dtype.itemsize


def _limit(size: int, path: Path) -> None:
    if size > MAX_BYTES:
        raise DataError(
            f"'{path}' unpacks to {bytes_text(size)}, at most {bytes_text(MAX_BYTES)} are read\n"
            "  give fewer samples"
        )


def _read_folder(path: Path) -> Array:
    """The samples of all .npy files of a folder, by name, joined along a new first axis."""
    try:
        files = sorted(file for file in path.iterdir() if file.suffix == ".npy")
    except OSError as error:
        raise DataError(f"folder '{path}' cannot be read: {error.strerror}") from None
    if not files:
        raise DataError(f"folder '{path}' holds no .npy files\n  put one .npy file per sample there")
    arrays: list[Array] = []
    total = 0
    for file in files:
        arrays.append(read_arrays(file)["x"])
        total += arrays[-1].nbytes
        _limit(total, path)
        if arrays[-1].shape != arrays[0].shape:
            raise DataError(
                f"'{file}' has shape {arrays[-1].shape}, '{files[0].name}' has {arrays[0].shape}\n"
                "  every .npy file of the folder must hold one sample of the same shape"
            )
    return np.stack(arrays)
