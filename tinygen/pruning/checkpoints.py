"""Models of the steps as .keras files whose bytes depend on the model alone: no date, no optimizer."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.heavy import import_keras

METADATA = "metadata.json"
NO_DATE = "1980-01-01@00:00:00"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first date that a .zip can hold."""


def to_bytes(model: Any) -> bytes:
    """The .keras file of a keras.Model. Equal configs and weights give equal bytes; compiled or not is forgotten."""
    with tempfile.TemporaryDirectory(prefix="tinygen-") as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__", DeprecationWarning)  # Keras 3.15 with numpy 2
        path = Path(folder) / "model.keras"
        bare(model).save(path)
        return _without_dates(path)


def bare(model: Any) -> Any:
    """A copy without optimizer and loss: what a file of the model that was never compiled would give."""
    saving = import_keras().saving
    entry = saving.serialize_keras_object(model)
    _forget(entry)
    copy = saving.deserialize_keras_object(entry)
    if not copy.built:
        copy.build(model.input_shape)
    for new, old in zip(copy.weights, model.weights, strict=True):
        new.assign(np.asarray(old))
    return copy


HISTORY = ("build_config", "compile_config", "build_input_shape")


def _forget(entry: Any) -> None:
    """Drop from a serialized object, in place, what says how it was built and trained and not what it computes."""
    if isinstance(entry, dict):
        for key in HISTORY:
            entry.pop(key, None)
    for value in (
        entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list | tuple) else ()
    ):
        _forget(value)


def _without_dates(path: Path) -> bytes:
    """The same archive with every date the first one that a .zip can hold."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename == METADATA:
                data = json.dumps({**json.loads(data), "date_saved": NO_DATE}).encode()
            target.writestr(zipfile.ZipInfo(entry.filename, EPOCH), data)
    return out.getvalue()
