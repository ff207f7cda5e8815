"""Front end for int8 .tflite files: the file's own quantization is kept exactly."""

from __future__ import annotations

from pathlib import Path

from tinygen.errors import ModelError, bytes_text
from tinygen.graph import Graph
from tinygen.tflite.parsing import MAX_FILE_BYTES, TfliteFile
from tinygen.tflite.walk import Reading


def load_tflite(path: str | Path) -> Graph:
    """The quantized graph of an int8 .tflite file. Its inputs and outputs are int8, without batch.

    A float32 input of the file becomes the int8 tensor that its QUANTIZE makes of it, a float32 output the
    one in front of its DEQUANTIZE, uint8 inputs and outputs u become int8 u - 128. Raises ModelError for a
    damaged file, float32, uint8 or int16 models, dynamic shapes, several subgraphs; UnsupportedLayerError
    names the operator.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(
                f"'{path}' has {bytes_text(size)}: at most {bytes_text(MAX_FILE_BYTES)} are read"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read: {error.strerror}") from error
    return read_tflite(data, path.name)


def read_tflite(data: bytes, name: str = "model.tflite") -> Graph:
    """As load_tflite, from the bytes of the file; name stands in messages and names the graph."""
    return Reading(TfliteFile(data, name)).graph()
