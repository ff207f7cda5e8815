"""Keras models become float32 graphs. Only this front end imports Keras, and only when it is called."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.errors import ModelError
from tinygen.frontend import InputShape, Loaded, keras_files, safety, tolerance
from tinygen.frontend.keras_files import KerasFile, damage
from tinygen.frontend.walk import Walker
from tinygen.graph import Graph, GraphBuilder, Shape
from tinygen.heavy import import_keras

MAX_WEIGHTS = 32 << 20
"""Weights of one model (128 MB as float32): no microcontroller holds more."""
MAX_ELEMENTS = 1 << 24
"""Elements of an input."""


def load_keras(path: str | Path, input_shape: InputShape = None) -> Loaded:
    """The graph of a .keras or Keras .h5 file: open_keras without the model."""
    return open_keras(path, input_shape)[1]


def open_keras(path: str | Path, input_shape: InputShape = None) -> tuple[Any, Loaded]:
    """(keras.Model, its graph) of a .keras or Keras .h5 file, also one of Keras 2 that Keras 3 itself refuses.

    input_shape: shape without batch of the dynamic input, or input name -> shape. notes say what was ignored.
    Raises ModelError (missing weights, damage, hostile or absurd contents) or UnsupportedLayerError.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="tinygen-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = keras_files.unpack(path, Path(folder))
        with damage(path, "reading the model's config"):
            safe = safety.clean_model(file.config, str(path), file.version)
        model, notes = _restore(path, file, safe, input_shape)
        with damage(path, "compiling its layers"):
            return model, Loaded(_graph(model, input_shape, path.stem, shown=str(path)), notes)


def load_keras_model(model: Any, input_shape: InputShape = None, name: str | None = None) -> Graph:
    """The float32 graph of a Sequential or functional Keras model in memory, named `name` or as the model."""
    label = name or str(model.name)
    return _graph(model, input_shape, label, shown=label)


def _graph(model: Any, input_shape: InputShape, name: str, shown: str) -> Graph:
    """The graph called `name` of a model that messages call `shown`."""
    _check_finite(model, shown)
    builder = GraphBuilder(name)
    inputs = []
    for tensor, shape in zip(_inputs(model, shown), input_shapes(model, shown, input_shape), strict=True):
        inputs.append(builder.input(_tensor_name(tensor), shape))
    graph = builder.build(tuple(Walker(builder).model(model, inputs)))
    _check_constants(graph, shown)
    return graph


# ---- files


def _restore(
    path: Path, file: KerasFile, safe: dict[str, Any], shape: InputShape
) -> tuple[Any, tuple[str, ...]]:
    """The Keras model of a cleaned config, with the file's weights."""
    keras = import_keras()
    known, notes = tolerance.drop_unknown(safe, str(path))
    # In a stateless scope Keras only notes down the weights' shapes: they are counted before memory is spent.
    with damage(path, "building the model's layers"):
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(known, safe_mode=True)
            _build_sequential(model, file, shape, str(path))
        _check_size(model, path, keras)
        with keras.StatelessScope():
            pass
    with damage(path, "loading the weights"):
        model.load_weights(str(file.weights))
    return model, notes


def _build_sequential(model: Any, file: KerasFile, shape: InputShape, path: str) -> None:
    """A Sequential model without an input layer gets its shape from the file or from the user."""
    if model.built:
        return
    saved = (file.config.get("build_config") or {}).get("input_shape")
    if shape is not None and not isinstance(shape, Mapping):
        model.build((None, *shape))
    elif isinstance(saved, list | tuple):
        model.build(tuple(saved))
    else:
        _inputs(model, path)


def _check_size(model: Any, path: Path, keras: Any) -> None:
    """Refuse models that no microcontroller can hold, before their weights are allocated."""
    count = sum(int(np.prod([int(d) for d in w.shape], dtype=object)) for w in model.weights)
    if count > MAX_WEIGHTS:
        keras.utils.clear_session(free_memory=False)
        raise ModelError(f"'{path}' declares {count:,} weights, allowed are {MAX_WEIGHTS:,}")


def _check_finite(model: Any, label: str) -> None:
    """NaN or infinite weights have no int8 equivalent."""
    for weight in model.weights:
        values = np.asarray(weight)
        bad = int(values.size - np.count_nonzero(np.isfinite(values.astype(np.float32))))
        if bad:
            path = keras_files.shorten("/".join(weight.path.split("/")[-2:]), 80)
            raise ModelError(
                f"'{label}': {bad:,} of the {values.size:,} values of '{path}' are NaN or infinite\n"
                "  the training has diverged or the file is damaged"
            )


def _check_constants(graph: Graph, label: str) -> None:
    """Finite weights can still make numbers that are not, as a negative variance does."""
    for tensor in graph.tensors.values():
        if tensor.data is not None and not np.isfinite(tensor.data).all():
            raise ModelError(
                f"'{label}': '{keras_files.shorten(tensor.name, 80)}' comes out as NaN or infinite"
            )


# ---- inputs


def input_shapes(model: Any, label: str, given: InputShape) -> list[Shape]:
    """The shapes of the model's inputs, completed from what the user gave.

    Raises ModelError when a dimension is unknown, or a given shape contradicts the model.
    """
    tensors = _inputs(model, label)
    by_name = _given(given, [_tensor_name(t) for t in tensors], label)
    return [_input_shape(t, by_name.get(_tensor_name(t)), label, len(tensors)) for t in tensors]


def _given(given: InputShape, names: list[str], label: str) -> Mapping[str, Shape]:
    """The user's shapes by input name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if len(names) > 1:
            example = " ".join(f"--input-shape {n}=..." for n in names)
            raise ModelError(f"'{label}' has {len(names)} inputs: say which one has the shape: {example}")
        return {names[0]: tuple(given)}
    unknown = [n for n in given if n not in names]
    if unknown:
        raise ModelError(f"'{label}' has no input '{unknown[0]}', its inputs are {', '.join(names)}")
    return given


def _input_shape(tensor: Any, given: Shape | None, label: str, count: int) -> Shape:
    known = tuple(tensor.shape[1:])
    name = _tensor_name(tensor)
    text = ",".join("?" if d is None else str(d) for d in known)
    if given is None and None in known:
        example = ",".join("32" if d is None else str(d) for d in known)
        prefix = f"{name}=" if count > 1 else ""
        raise ModelError(
            f"input '{name}' of '{label}' has the dynamic shape ({text})\n"
            f"  give it a size: --input-shape {prefix}{example} (without the batch)"
        )
    shape = known if given is None else tuple(int(d) for d in given)
    fits = len(shape) == len(known) and all(k in (None, s) for k, s in zip(known, shape, strict=True))
    if not fits or any(d < 1 for d in shape):
        asked = ",".join(map(str, shape))
        raise ModelError(f"--input-shape {asked} does not fit input '{name}' of '{label}', which is ({text})")
    if not shape or int(np.prod(shape, dtype=object)) > MAX_ELEMENTS:
        raise ModelError(
            f"input '{name}' of '{label}' is ({text}): allowed are 1 to {MAX_ELEMENTS:,} elements"
        )
    return shape


def _inputs(model: Any, label: str) -> list[Any]:
    """The symbolic inputs of the model."""
    try:
        return list(model.inputs)
    except (AttributeError, TypeError, ValueError):
        built = hasattr(model, "layers") and type(model).__name__ == "Sequential"
        advice = (
            "  give its input shape: --input-shape 32,32,3 (without the batch)"
            if built
            else "  rebuild it as a Sequential or functional keras.Model"
        )
        raise ModelError(f"'{label}' has no defined inputs\n{advice}") from None


def _tensor_name(tensor: Any) -> str:
    """The name of the input layer that made the tensor."""
    return str(tensor._keras_history.operation.name)
