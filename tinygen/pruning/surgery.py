"""Removing channel groups from a Keras model: Keras in, a smaller dense Keras out.

The config is edited and deserialized, so that everything but the channels stays as it was: names, calls, shared layers,
nested models. Then every variable gets what is left of the original's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.channels import ChannelGroup, Place
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.graph import Array, Graph, Origin
from tinygen.heavy import import_keras
from tinygen.ops.coupling import Layout
from tinygen.pruning.shrinking import removed

Json = dict[str, Any]


def remove(model: Any, graph: Graph, groups: Iterable[ChannelGroup]) -> Any:
    """A smaller keras.Model without these channel groups; not compiled. The model that is given stays as it is.

    graph: the float graph of `model` as the front end loads it; groups: some of channels.groups(graph). The result
    computes what `model` would if all weights that read the removed channels were 0. Raises ModelError where a group
    must stay, nothing would be left of a tensor, or a layer cannot be made smaller.
    """
    layers = dict(layers_of(model, ()))
    _check_places(layers)
    _check_model(model, graph, layers)
    kept = _Kept(graph, removed(graph, groups))
    changes = {path: _change(path, layer, kept) for path, layer in layers.items()}
    entry = import_keras().saving.serialize_keras_object(model)
    _edit(entry, (), changes, kept)
    smaller = import_keras().saving.deserialize_keras_object(entry)
    for path, layer in layers_of(smaller, ()):
        for variable, values in zip(layer.weights, changes[path].weights, strict=True):
            variable.assign(values)
        getattr(layer, "finalize_state", _nothing)()  # Normalization computes with copies of its variables
    return smaller


def _nothing() -> None:
    """Most layers have no such method."""


# ---- what stays


@dataclass(frozen=True)
class _Kept:
    """What stays of the tensors that the layers of the Keras model became."""

    graph: Graph
    removed: Mapping[Place, set[int]]

    def indices(self, origin: Origin, axis: int) -> Array:
        """Indices that stay along an axis of the tensor of this origin; those of a shared layer are alike."""
        tensor = self.graph.tensors[self.graph.origins[origin][0]]
        axis %= len(tensor.shape)
        gone = self.removed.get((tensor.name, axis), set())
        return np.array([i for i in range(tensor.shape[axis]) if i not in gone], np.int64)

    def touches(self, path: Origin) -> bool:
        """True when the layer has to change."""
        names = {t for origin, tensors in self.graph.origins.items() if origin[:-1] == path for t in tensors}
        return any(tensor in names for tensor, _ in self.removed)


# ---- layers


@dataclass(frozen=True)
class _Change:
    """The new values of a layer's weights, in their order, and of some entries of its config."""

    weights: tuple[Array, ...]
    config: Mapping[str, Any]


def layers_of(model: Any, path: Origin) -> Iterator[tuple[Origin, Any]]:
    """All layers with their paths, as Graph.origins has them; a model or wrapper gives those inside it."""
    if type(model).__name__ == "TimeDistributed":
        inside = [model.layer]
    elif hasattr(model, "layers"):
        inside = [*model.layers, *(t._keras_history.operation for t in getattr(model, "inputs", ()))]
    else:
        yield path, model
        return
    for layer in {id(layer): layer for layer in inside}.values():
        yield from layers_of(layer, (*path, str(layer.name)))


def _check_model(model: Any, graph: Graph, layers: Mapping[Origin, Any]) -> None:
    """Refuse models of the user's own class, and graphs of other models."""
    kind = type(model).__name__
    if kind not in ("Functional", "Sequential"):
        raise ModelError(f"'{model.name}' is of the class {kind}, not a functional or Sequential keras.Model")
    known = {origin[:-1] for origin in graph.origins}
    strange = ["/".join(path) for path, layer in layers.items() if layer.weights and path not in known]
    if strange:
        raise ModelError(
            f"'{strange[0]}' is not in the graph '{graph.name}'\n  load the graph of the model that is pruned"
        )


def _check_places(layers: Mapping[Origin, Any]) -> None:
    """Refuse layers that stand in two of the models inside this one: deserialized, they would be two layers."""
    first: dict[int, Origin] = {}
    for path, layer in layers.items():
        if first.setdefault(id(layer), path) != path and _depends_on_channels(layer):
            why = f"it stands in two models, as '{'/'.join(first[id(layer)])}' and '{'/'.join(path)}'"
            advice = "give each model a layer of its own"
            raise UnsupportedLayerError(layer.name, type(layer).__name__, why, advice)


def _depends_on_channels(layer: Any) -> bool:
    kind = type(layer).__name__
    return bool(layer.weights) or kind == "InputLayer" or kind in ops.keras_layouts()


def _change(path: Origin, layer: Any, kept: _Kept) -> _Change:
    """What becomes of one layer; refuses a class that has to change and does not say how."""
    weights = [np.asarray(w) for w in layer.weights]
    kind = type(layer).__name__
    if not kept.touches(path) or kind == "InputLayer":
        return _Change(tuple(weights), {})
    layout = ops.keras_layouts().get(kind)
    unknown = [w.name for w in layer.weights if layout is None or w.name not in layout.variables]
    if layout is None or unknown:
        why = f"its channels cannot be removed{f' from {unknown[0]!r}' if unknown else ''}"
        raise UnsupportedLayerError(layer.name, kind, why, "leave its channels as they are")
    names = [w.name for w in layer.weights]
    smaller = tuple(_sliced(w, layout, name, path, kept) for w, name in zip(weights, names, strict=True))
    return _Change(smaller, layout.config(layer, lambda role, axis: kept.indices((*path, role), axis)))


def _sliced(values: Array, layout: Layout, variable: str, path: Origin, kept: _Kept) -> Array:
    """A variable without what goes."""
    for axis, (role, constant_axis) in layout.variables[variable].items() if values.ndim else ():
        origin = (*path, role)
        indices = kept.indices(origin, constant_axis)
        size = kept.graph.tensors[kept.graph.origins[origin][0]].shape[constant_axis]
        values = np.take(values, np.unique(indices * values.shape[axis] // size), axis=axis)
    return values


# ---- config


def _edit(entry: Json, path: Origin, changes: Mapping[Origin, _Change], kept: _Kept) -> None:
    """Change a serialized layer, and all layers inside it, in place. Shapes of the original's building go."""
    entry.pop("build_config", None)
    entry.pop("compile_config", None)
    config = entry["config"]
    inside = [config["layer"]] if entry["class_name"] == "TimeDistributed" else config.get("layers", ())
    for inner in inside:
        name = inner.get("name") or inner["config"]["name"]
        _edit(inner, (*path, str(name)), changes, kept)
    if entry["class_name"] == "InputLayer":
        shape = config["batch_shape"]
        channels = len(kept.indices((*path, "output"), -1))
        config["batch_shape"] = (*shape[:-1], None if shape[-1] is None else channels)
    elif path in changes:
        config.update(changes[path].config)
