"""The trained numbers in an ordinary Keras model: batch normalization folded, every convolution with a bias.

The config of the original is edited and deserialized, so that names and calls stay. Layers whose work others do now
become linear activations. What comes out is held to the trained graph on samples before anybody gets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen import evaluate, ops
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.graph import Array, Graph, Origin
from tinygen.heavy import import_keras
from tinygen.ops.coupling import Writing
from tinygen.pruning import heads
from tinygen.pruning.surgery import Json, layers_of
from tinygen.samples import Samples

CHECKED = 32
"""Samples on which the model is held to the graph."""
TOLERANCE = 1e-4
"""Largest difference, relative to the largest output: both are float32, in different order."""


@dataclass(frozen=True)
class _Plan:
    """What becomes of a layer. constants: role -> numbers; None: another layer does its work."""

    constants: Mapping[str, Array] | None
    writing: Writing


def rebuilt(model: Any, loaded: Graph, trained: Graph, samples: Samples) -> Any:
    """A keras.Model that computes in floating point what `trained` does; `model` stays as it is.

    loaded: the graph of `model` as the front end made it; trained: the fused one with other numbers. Raises ModelError
    where that is impossible, naming the layer.
    """
    paths = {path: _plan(path, layer, loaded, trained) for path, layer in layers_of(model, ())}
    plans = {path: plan for path, plan in paths.items() if plan is not None}
    keras = import_keras()
    try:
        entry = keras.saving.serialize_keras_object(model)
        _edit(entry, (), plans)
        plain = keras.saving.deserialize_keras_object(entry)
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"'{model.name}' cannot be copied: {str(error).splitlines()[0]}") from error
    originals = dict(layers_of(model, ()))
    for path, layer in layers_of(plain, ()):
        _fill(layer, originals[path], plans.get(path))
    _check_equal(plain, trained, samples)
    return plain


def _plan(path: Origin, layer: Any, loaded: Graph, trained: Graph) -> _Plan | None:
    """None for layers without constants of their own in the graph."""
    roles = {
        origin[-1]: tensors
        for origin, tensors in loaded.origins.items()
        if origin[:-1] == path and loaded.tensors[tensors[0]].is_constant
    }
    if not roles:
        return None
    kind = type(layer).__name__
    shared = [tensors for tensors in roles.values() if len(tensors) > 1]
    if shared:
        why = "the model calls it more than once, and each call has learned numbers of its own"
        raise UnsupportedLayerError(layer.name, kind, why, "use the int8 project or .tflite file")
    found = {role: _constant(tensors[0], loaded, trained) for role, tensors in roles.items()}
    layout = ops.keras_layouts().get(kind)
    kept = {role: values for role, values in found.items() if values is not None}
    if not kept:
        return _Plan(None, Writing(lambda layer, constants: {}))
    if layout is None or layout.writing is None or len(kept) < len(found):
        why = "what it has learned cannot be written back into it"
        raise UnsupportedLayerError(layer.name, kind, why, "use the int8 project or .tflite file")
    return _Plan(kept, layout.writing)


def _constant(tensor: str, loaded: Graph, trained: Graph) -> Array | None:
    """The trained numbers in the place of this constant; None when its node was folded into others."""
    (reader,) = loaded.consumers[tensor]
    place = reader.inputs.index(tensor)
    node = next((n for n in trained.nodes if n.name == reader.name and n.op == reader.op), None)
    if node is None:
        if reader.op != "affine":
            raise ModelError(f"layer '{reader.name}' is not in the trained graph any more")
        return None
    return trained.tensors[node.inputs[place]].data


def _edit(entry: Json, path: Origin, plans: Mapping[Origin, _Plan]) -> None:
    """Change a serialized layer, and all layers inside it, in place."""
    entry.pop("build_config", None)
    entry.pop("compile_config", None)
    config = entry["config"]
    inside = [config["layer"]] if entry["class_name"] == "TimeDistributed" else config.get("layers", ())
    for inner in inside:
        name = inner.get("name") or inner["config"]["name"]
        _edit(inner, (*path, str(name)), plans)
    plan = plans.get(path)
    if plan is None:
        return
    if plan.constants is not None:
        config.update(plan.writing.config)
        return
    kept = {key: config[key] for key in ("name", "trainable", "dtype") if key in config}
    new = {"module": "keras.layers", "class_name": "Activation", "registered_name": None}
    for call in entry.get("inbound_nodes", ()):
        call["kwargs"] = {}  # batch normalization is called with a mask
    entry.update({**new, "config": {**kept, "activation": "linear"}})


def _fill(layer: Any, original: Any, plan: _Plan | None) -> None:
    """Give a layer its numbers: those of the original where nothing was trained."""
    if plan is None:
        for variable, values in zip(layer.weights, original.weights, strict=True):
            variable.assign(values)
        getattr(
            layer, "finalize_state", lambda: None
        )()  # Normalization computes with copies of its variables
    elif plan.constants is not None:
        values = plan.writing.variables(layer, plan.constants)
        for variable in layer.weights:
            variable.assign(np.asarray(values[variable.name], np.float32).reshape(variable.shape))


def _check_equal(plain: Any, trained: Graph, samples: Samples) -> None:
    """Raise ModelError unless the model computes what the graph does."""
    x = [a[:CHECKED] for a in samples.x]
    want = evaluate.real(trained, x)
    for name, ours, theirs in zip(trained.outputs, heads.outputs_of(plain, x), want, strict=True):
        size = max(float(np.max(np.abs(theirs))), 1e-6)
        worst = float(np.max(np.abs(np.asarray(ours).reshape(theirs.shape) - theirs)))
        if not worst <= TOLERANCE * size:
            raise ModelError(
                f"output '{name}' of the rebuilt Keras model is {worst:.3g} away from the trained graph "
                f"(outputs reach {size:.3g})\n  use the int8 project or .tflite file"
            )
