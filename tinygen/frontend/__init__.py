"""Front ends: a model file becomes a Graph. Which reader is used is decided by the file's first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinygen.errors import ModelError, did_you_mean
from tinygen.graph import Graph, Shape

InputShape = Shape | Mapping[str, Shape] | None
"""Shape (without batch) of the only dynamic input, or input name -> shape, or None: the model's own."""


@dataclass(frozen=True)
class Loaded:
    """A model file that was read. notes: sentences for the user about what was ignored (usually none)."""

    graph: Graph
    notes: tuple[str, ...] = ()


def load(path: str | Path, input_shape: InputShape = None) -> Loaded:
    """Read a .keras or Keras .h5 file (float32 graph) or an int8 .tflite file (quantized graph).

    Raises ModelError when the file is missing, damaged, hostile or of another kind, and UnsupportedLayerError
    naming the first layer that tinygen cannot compile. No code of the model file is ever run.
    """
    path = Path(path)
    head = first_bytes(path)
    if head[4:8] == b"TFL3":
        from tinygen.frontend.tflite import load_tflite

        return Loaded(load_tflite(path))
    if head[:4] == b"PK\x03\x04" or head == b"\x89HDF\r\n\x1a\n":
        from tinygen.frontend.keras import load_keras

        return load_keras(path, input_shape)
    raise ModelError(f"'{path}' is not a model: neither a .keras, nor a Keras .h5, nor a .tflite file")


def first_bytes(path: Path) -> bytes:
    """The first 8 bytes of a file that must exist and hold something."""
    if path.is_dir():
        raise ModelError(
            f"'{path}' is a folder, not a model file: save the model as model.save('name.keras')"
        )
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        raise ModelError(f"'{path}' does not exist{_similar(path)}") from None
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read: {error.strerror}") from None
    if not head:
        raise ModelError(f"'{path}' is empty (0 bytes)")
    return head


def _similar(path: Path) -> str:
    """A file of nearly the same name beside it."""
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, names)
