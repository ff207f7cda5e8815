"""Random Keras models: branches, several inputs and outputs, odd sizes, shared layers, nested models."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.fuzz import pointwise, windows
from tests.fuzz.sketch import Sketch, Unsuitable, shape
from tests.fuzz.weights import randomize

Maker = Callable[[Sketch, Any], Any]

WEIGHTED: tuple[tuple[int, tuple[Maker, ...]], ...] = (
    (3, (windows.convolution, windows.depthwise, windows.separable, windows.transposed)),
    (2, tuple(partial(windows.pooling, kind=k) for k in ("MaxPooling", "AveragePooling"))),
    (2, tuple(partial(windows.global_pooling, kind=k) for k in ("GlobalMaxPooling", "GlobalAveragePooling"))),
    (1, tuple(partial(pointwise.merge, kind=k) for k in pointwise.MERGES)),
    (3, (pointwise.upsampling, pointwise.repeat, pointwise.concatenate)),
    (4, (pointwise.time_distributed,)),
    (3, (pointwise.vanishing, pointwise.augmenting)),
    (2, (pointwise.dense, pointwise.batch_normalization, pointwise.activation)),
    (2, (pointwise.prelu, pointwise.permute)),
    (1, (pointwise.padding, pointwise.cropping, pointwise.flatten, pointwise.reshape)),
    (1, (pointwise.rescaling, pointwise.normalization, pointwise.relu, pointwise.leaky_relu, pointwise.elu)),
    (1, (pointwise.softmax, pointwise.raw, pointwise.exponential)),
)
"""How often each maker stands in MAKERS."""
MAKERS = tuple(maker for weight, makers in WEIGHTED for maker in makers * weight)
CLAMPED = {maker: 0.75 for maker in MAKERS if isinstance(maker, partial)} | {
    windows.transposed: 0.5,
    windows.depthwise: 0.4,
}
"""How often an activation follows that can be fused: merges and poolings have none of their own."""
TIMES = 12
"""How often a layer is drawn again when the one drawn does not fit."""


@dataclass(frozen=True)
class Generated:
    """A model of that seed, and what it covers."""

    seed: int
    model: Any
    notes: Counter[str]


def random_model(seed: int) -> Generated:
    """The model of that seed: the same on every machine with the same Keras."""
    s = Sketch(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = [_input(s, i) for i in range(s.one((1, 1, 1, 2, 3)))]
        s.tensors += inputs
        focus = MAKERS[seed % len(MAKERS)]
        for _ in range(s.number(9, 20)):
            grow(s, focus)
        outputs = _outputs(s, inputs)
        model = s.keras.Model(_reached(inputs, outputs), outputs, name=f"m{seed}")
        randomize(s, model)
    return Generated(seed, model, _coverage(s, model))


def _coverage(s: Sketch, model: Any) -> Counter[str]:
    """What the model covers: only layers that its outputs depend on count."""
    notes = Counter(
        [f"Keras model inputs={len(model.inputs)}", f"Keras model outputs={min(len(model.outputs), 4)}"]
    )
    for layer in model._flatten_layers(include_self=False):
        notes.update(s.notes.get(layer.name, ()))
    for operation in model.operations:
        if not hasattr(operation, "weights"):
            notes[f"x {type(operation).__name__} y"] += 1
    return notes


def _input(s: Sketch, index: int) -> Any:
    rank = s.one((1, 2, 2, 2, 3, 3, 3))
    sizes = {
        1: (s.number(1, 24),),
        2: (s.number(1, 14), s.number(1, 6)),
        3: (s.number(1, 10), s.number(1, 10), s.number(1, 6)),
    }[rank]
    s.notes[f"in{index}"] = [f"Input rank={rank}"]
    return s.keras.Input(sizes, name=f"in{index}")


def grow(s: Sketch, focus: Maker | None = None) -> Any:
    """One more layer, shared layer or nested model on some tensor. focus: a maker to use more often."""
    for _ in range(TIMES):
        try:
            x = s.pick()
            kind = s.random.random()
            if kind < 0.06:
                return s.add(_nested(s, x))
            if kind < 0.12:
                return s.add(_shared(s, x))
            maker = focus if focus and s.chance(0.3) else s.one(MAKERS)
            made = maker(s, x)
            return s.add(pointwise.clamp(s, made) if s.chance(CLAMPED.get(maker, 0.25)) else made)
        except Unsuitable:
            continue
    return None


def _nested(s: Sketch, x: Any) -> Any:
    """A model inside the model, called once or twice."""
    return _sequential(s, x) if s.chance(0.4) else _functional(s, x)


def _sequential(s: Sketch, x: Any) -> Any:
    """Dense layers, normalizations and activations in a row."""
    kinds = [s.one(("Dense", "BatchNormalization", "Dropout", "LeakyReLU")) for _ in range(s.number(1, 3))]
    attributes: dict[str, dict[str, Any]] = {
        "Dense": {"units": s.number(1, 8), "activation": s.activation()},
        "Dropout": {"rate": 0.5},
    }
    layers = [s.layer(kind, **attributes.get(kind, {})) for kind in kinds]
    model = s.keras.Sequential([s.keras.Input(shape(x)), *layers], name=s.name("sequential"))
    s.notes[model.name] = ["nested Sequential"]
    return _twice(s, model, x)


def _functional(s: Sketch, x: Any) -> Any:
    """Random layers on one input."""
    inner = Sketch(s.number(0, 10**9))
    inner.names = s.names = s.names + 100  # names stay unique in the whole model
    source = inner.keras.Input(shape(x))
    inner.tensors.append(source)
    for _ in range(s.number(1, 3)):
        grow(inner)
    result = inner.tensors[-1]
    if result is source:
        raise Unsuitable
    s.notes |= inner.notes
    model = s.keras.Model(source, result, name=s.name("nested"))
    s.notes[model.name] = ["nested model"]
    return _twice(s, model, x)


def _shared(s: Sketch, x: Any) -> Any:
    """One layer called on two tensors."""
    kind = s.one(("Dense", "Conv", "Conv", "PReLU"))
    if kind == "Dense" or len(shape(x)) == 1:
        layer = s.layer("Dense", units=s.number(1, 6), activation=s.activation())
    elif kind == "PReLU":
        layer = s.layer("PReLU", shared_axes=None)
    else:
        name = f"Conv{len(shape(x)) - 1}D"
        layer = s.layer(
            name, filters=s.number(1, 4), kernel_size=2, padding="same", activation=s.activation()
        )
    return _twice(s, layer, x)


def _twice(s: Sketch, layer: Any, x: Any) -> Any:
    """layer(x), sometimes added to layer(y)."""
    first = layer(x)
    others = [t for t in s.tensors if t is not x and shape(t) == shape(x)]
    if not others or s.chance(0.3):
        return first
    s.notes[layer.name].append(f"{s.notes[layer.name][0]} shared")
    return s.layer("Add")([first, layer(s.one(others))])


def _outputs(s: Sketch, inputs: list[Any]) -> list[Any]:
    """Up to four tensors that nothing reads, sometimes one that is read as well."""
    made = [t for t in s.tensors if not any(t is i for i in inputs)]
    if not made:
        made = [s.layer("ReLU")(inputs[0])]
    last = made[-1]
    leaves = [t for t in made[:-1] if not _is_read(t, made)]
    s.random.shuffle(leaves)
    outputs = [last, *leaves[: s.one((0, 1, 2, 3, 4))]]
    if s.chance(0.15):
        outputs.append(s.one(made))
    return list({id(t): t for t in outputs}.values())


def _is_read(tensor: Any, made: list[Any]) -> bool:
    readers = (n for t in made for n in (t._keras_history.operation._inbound_nodes))
    return any(tensor is i for node in readers for i in node.input_tensors)


def _reached(inputs: list[Any], outputs: list[Any]) -> list[Any]:
    """The inputs on which the outputs depend: Keras refuses others."""
    seen: set[int] = set()
    stack = list(outputs)
    while stack:
        tensor = stack.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        history = tensor._keras_history
        stack += history.operation._inbound_nodes[history.node_index].input_tensors
    return [t for t in inputs if id(t) in seen]
