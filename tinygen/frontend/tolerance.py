"""Tolerant reading of layer options: keys that this Keras does not know are left out and reported."""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from typing import Any

from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.frontend.keras_files import cause, shorten
from tinygen.heavy import import_keras

Json = dict[str, Any]


def drop_unknown(entry: Json, file: str) -> tuple[Json, tuple[str, ...]]:
    """A copy of a cleaned model config without unknown keys, and one sentence per kind of key dropped."""
    dropped: Counter[tuple[str, str, str]] = Counter()
    result = _entry(entry, file, dropped)
    notes = (
        f"{kind}: ignored the config key '{key}' (= {value}), unknown to this Keras, in {count} layer(s)"
        for (kind, key, value), count in dropped.items()
    )
    return result, tuple(notes)


def _entry(entry: Json, file: str, dropped: Counter[tuple[str, str, str]]) -> Json:
    """One layer or nested model, inner layers first."""
    config = {key: _value(value, file, dropped) for key, value in entry["config"].items()}
    if entry["module"] == "keras.layers":
        if entry["class_name"] == "BatchNormalization" and isinstance(config.get("axis"), list):
            config["axis"] = (config["axis"] or [-1])[0]  # Keras 2 writes a list of one axis
        config = _layer_config(entry["class_name"], config, file, dropped)
    return {**entry, "config": config}


def _value(value: Any, file: str, dropped: Counter[tuple[str, str, str]]) -> Any:
    if isinstance(value, list):
        return [_value(v, file, dropped) for v in value]
    if isinstance(value, dict) and isinstance(value.get("config"), dict) and "registered_name" in value:
        return _entry(value, file, dropped)
    return value


def _layer_config(kind: str, config: Json, file: str, dropped: Counter[tuple[str, str, str]]) -> Json:
    """The options that the class takes. Unknown ones are tried one by one: some classes take extra ones."""
    problem = _refusal(kind, config)
    if problem is None:
        return config
    unknown = [key for key in config if key not in _parameters(kind)]
    kept = {key: value for key, value in config.items() if key not in unknown}
    _check_constructs(kind, kept, config, file)
    for key in unknown:
        if _refusal(kind, {**kept, key: config[key]}) is None:
            kept[key] = config[key]
        else:
            dropped[kind, shorten(key, 40), shorten(config[key], 40)] += 1
    return kept


def _check_constructs(kind: str, kept: Json, config: Json, file: str) -> None:
    problem = _refusal(kind, kept)
    if problem is None:
        return
    name = config.get("name")
    if "activation function" in str(problem):
        why = f"its activation '{shorten(config.get('activation'), 40)}' is not one of Keras's own"
        raise UnsupportedLayerError(str(name), kind, why, "use one of those") from problem
    message = f"'{file}': Keras refuses the config of layer '{name}' ({kind})\n  {cause(problem)}"
    raise ModelError(message) from problem


def _refusal(kind: str, config: Json) -> Exception | None:
    """Why Keras cannot make the layer, or None."""
    keras = import_keras()
    try:
        getattr(keras.layers, kind).from_config(copy.deepcopy(config))
    except Exception as error:
        return error
    return None


def _parameters(kind: str) -> set[str]:
    """All keyword arguments of a layer's constructor and those of its bases."""
    keras = import_keras()
    names = {"name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape"}
    for base in getattr(keras.layers, kind).__mro__:
        if "__init__" in vars(base):
            names.update(inspect.signature(base.__init__).parameters)
    return names
