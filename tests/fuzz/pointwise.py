"""Random layers without windows: dense, normalization, activations, shape changes, merges, wrappers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.sketch import ACTIVATIONS, Sketch, elements, shape

VANISHING = (
    *(("Dropout", {"rate": 0.3}), ("GaussianNoise", {"stddev": 0.1}), ("GaussianDropout", {"rate": 0.2})),
    *(("AlphaDropout", {"rate": 0.2}), ("ActivityRegularization", {"l1": 0.01}), ("Identity", {})),
    *(("SpatialDropout1D", {"rate": 0.3}), *[("SpatialDropout2D", {"rate": 0.3})] * 2),
)
AUGMENTING = (
    *(("RandomFlip", {}), ("RandomRotation", {"factor": 0.1}), ("RandomContrast", {"factor": 0.1})),
    *(
        ("RandomTranslation", {"height_factor": 0.1, "width_factor": 0.1}),
        ("RandomZoom", {"height_factor": 0.1}),
    ),
    ("RandomBrightness", {"factor": 0.1}),
)


def dense(s: Sketch, x: Any) -> Any:
    """On the last axis of any rank."""
    s.needs(shape(x)[-1] <= 600)
    return s.layer("Dense", units=s.number(1, 12), use_bias=s.chance(0.7), activation=s.activation())(x)


def batch_normalization(s: Sketch, x: Any) -> Any:
    epsilon = s.one((1e-3, 1e-5))
    return s.layer("BatchNormalization", center=s.chance(0.8), scale=s.chance(0.8), epsilon=epsilon)(x)


def rescaling(s: Sketch, x: Any) -> Any:
    scale, offset = s.one((1 / 255, 0.5, 2.0, -1.5)), s.one((0, -1, 0.3))
    return s.layer("Rescaling", scale=float(scale), offset=float(offset))(x)


def normalization(s: Sketch, x: Any) -> Any:
    """Per channel, or one mean and variance for all."""
    channels = shape(x)[-1]
    mean, variance = s.rng.normal(size=channels), s.rng.uniform(0.1, 4, channels)
    if s.chance(0.3):
        return s.layer("Normalization", axis=None, mean=float(mean[0]), variance=float(variance[0]))(x)
    return s.layer("Normalization", axis=-1, mean=mean.tolist(), variance=variance.tolist())(x)


def activation(s: Sketch, x: Any) -> Any:
    """Activation with any function."""
    return s.layer("Activation", activation=s.one(ACTIVATIONS))(x)


def relu(s: Sketch, x: Any) -> Any:
    """ReLU with every parameter."""
    more = {"max_value": s.one((None, 6.0, 1.0, 2.5)), "negative_slope": s.one((0.0, 0.0, 0.1))}
    return s.layer("ReLU", **more, threshold=s.one((0.0, 0.0, 0.5)))(x)


def clamp(s: Sketch, x: Any) -> Any:
    """An activation that the layer before it can absorb."""
    kind = s.one(("relu", "relu6", "1", "hard_tanh"))
    if kind == "1":
        return s.layer("ReLU", max_value=1.0)(x)
    return s.layer("Activation", activation=kind)(x)


def leaky_relu(s: Sketch, x: Any) -> Any:
    return s.layer("LeakyReLU", negative_slope=s.one((0.3, 0.01, 1.5)))(x)


def elu(s: Sketch, x: Any) -> Any:
    return s.layer("ELU", alpha=s.one((1.0, 0.3)))(x)


def prelu(s: Sketch, x: Any) -> Any:
    """One alpha per element, per channel, or per channel and row."""
    axes = list(range(1, len(shape(x))))
    shared = s.one((None, axes, axes, axes[:1])) or None
    return s.layer("PReLU", f"shared={len(shared or [])}", shared_axes=shared)(x)


def softmax(s: Sketch, x: Any) -> Any:
    return s.layer("Softmax", axis=s.one((-1, -1, 1)))(x)


def exponential(s: Sketch, x: Any) -> Any:
    """exp, behind tanh so that numbers stay small."""
    return s.layer("Activation", activation="exponential")(s.layer("Activation", activation="tanh")(x))


def vanishing(s: Sketch, x: Any) -> Any:
    """A layer that does nothing at inference."""
    other_rank = {2: "2D", 3: "1D"}.get(len(shape(x)), "D")
    kind, attributes = s.one(v for v in VANISHING if not v[0].endswith(other_rank))
    return s.layer(kind, **attributes)(x)


def augmenting(s: Sketch, x: Any) -> Any:
    """A layer that changes images in training only."""
    s.needs(len(shape(x)) == 3)
    kind, attributes = s.one(AUGMENTING)
    return s.layer(kind, **attributes)(x)


# ---- shapes


def flatten(s: Sketch, x: Any) -> Any:
    return s.layer("Flatten", f"rank={len(shape(x))}")(x)


def permute(s: Sketch, x: Any) -> Any:
    axes = list(range(1, len(shape(x)) + 1))
    s.random.shuffle(axes)
    return s.layer("Permute", f"rank={len(axes)}", dims=axes)(x)


def reshape(s: Sketch, x: Any) -> Any:
    """To a random factorization, sometimes with -1."""
    target, left = [], elements(shape(x))
    for _ in range(s.number(0, 2)):
        factor = s.one([f for f in range(1, 13) if left % f == 0])
        target.append(factor)
        left //= factor
    target.insert(s.number(0, len(target)), -1 if s.chance(0.5) else left)
    notes = (f"rank={len(target)}", f"open={-1 in target}")
    return s.layer("Reshape", *notes, target_shape=tuple(target))(x)


def repeat(s: Sketch, x: Any) -> Any:
    s.needs(len(shape(x)) == 1)
    return s.layer("RepeatVector", n=s.one((1, 1, 2, 3)))(x)


def padding(s: Sketch, x: Any) -> Any:
    one_d = s.is_1d(x)
    spans = [(s.number(0, 2), s.number(0, 2)) for _ in shape(x)[:-1]]
    return s.layer("ZeroPadding" + ("1D" if one_d else "2D"), padding=spans[0] if one_d else tuple(spans))(x)


def cropping(s: Sketch, x: Any) -> Any:
    one_d = s.is_1d(x)
    spans = []
    for n in shape(x)[:-1]:
        before = s.number(0, min(2, n - 1))
        spans.append((before, s.number(0, min(2, n - 1 - before))))
    return s.layer("Cropping" + ("1D" if one_d else "2D"), cropping=spans[0] if one_d else tuple(spans))(x)


def upsampling(s: Sketch, x: Any) -> Any:
    if s.is_1d(x):
        return s.layer("UpSampling1D", size=s.number(1, 3))(x)
    return s.layer(
        "UpSampling2D",
        size=s.one(((1, 2), (3, 1), (2, 2), (3, 3), (2, 3))),
        interpolation=s.one(("nearest", "bilinear")),
    )(x)


# ---- several inputs


def partner(s: Sketch, x: Any, broadcast: bool = False) -> Any:
    """Another tensor of the same shape (or one that broadcasts): one that exists, or one made from x."""
    sizes = shape(x)
    fitting = [t for t in s.tensors if t is not x and shape(t) == sizes]
    if broadcast:
        fitting = [t for t in s.tensors if t is not x and shape(t) != sizes and _broadcasts(shape(t), sizes)]
        if not fitting or s.chance(0.5):
            return _reduced(s, x)
    if fitting:
        return s.one(fitting)
    return s.layer("Dense", units=sizes[-1], use_bias=True, activation=s.activation())(x)


def _reduced(s: Sketch, x: Any) -> Any:
    """One number per channel, or one per position."""
    rank = len(shape(x))
    if rank in (2, 3) and s.chance(0.6):
        return s.layer(f"GlobalAveragePooling{rank - 1}D", keepdims=True)(x)
    return s.layer("Dense", units=1, use_bias=True, activation=s.activation())(x)


def _broadcasts(small: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(small, sizes) == sizes
    except ValueError:
        return False


MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")


def merge(s: Sketch, x: Any, kind: str) -> Any:
    """A layer of MERGES; sometimes with three inputs, broadcasting, or the same tensor twice."""
    broadcast = s.chance(0.4)
    others = [partner(s, x, broadcast)]
    if kind != "Subtract" and s.chance(0.2):
        others.append(x if s.chance(0.3) else partner(s, x))
    inputs = [x, *others]
    if s.chance(0.5):
        inputs.reverse()
    return s.layer(kind, f"inputs={len(inputs)}", f"broadcast={broadcast}")(inputs)


def raw(s: Sketch, x: Any) -> Any:
    """x + y on Keras tensors."""
    y = partner(s, x)
    kind = s.one(("add", "subtract", "multiply"))
    return {"add": lambda: x + y, "subtract": lambda: x - y, "multiply": lambda: x * y}[kind]()


def concatenate(s: Sketch, x: Any) -> Any:
    """Along any axis, two to four inputs."""
    sizes = shape(x)
    axis = s.number(1, len(sizes))
    fitting = [
        t
        for t in s.tensors
        if len(shape(t)) == len(sizes)
        and all(a == b for i, (a, b) in enumerate(zip(shape(t), sizes, strict=True), 1) if i != axis)
    ]
    others = [s.one(fitting) for _ in range(s.number(1, 3))] if fitting else [partner(s, x)]
    notes = (f"rank={len(sizes)} axis={axis}", f"inputs={len(others) + 1}")
    given = -1 if axis == len(sizes) and s.chance(0.5) else axis
    return s.layer("Concatenate", *notes, axis=given)([x, *others])


def time_distributed(s: Sketch, x: Any) -> Any:
    """A layer applied to each step: (steps, features) or (steps, length, channels)."""
    steps, *rest = shape(x)
    s.needs(bool(rest) and steps <= 8)
    kinds = ["Dense", "BatchNormalization"]
    if len(rest) == 2:
        kinds = [*kinds, *("Conv1D", "MaxPooling1D", "Flatten", "GlobalAveragePooling1D") * 2]
    kind = s.one(kinds)
    attributes: dict[str, Any] = {
        "Dense": {"units": s.number(1, 6), "activation": s.activation()},
        "Conv1D": {"filters": s.number(1, 4), "kernel_size": 2, "padding": "same"},
        "MaxPooling1D": {"pool_size": 2, "padding": "same"},
    }.get(kind, {})
    inner = getattr(s.keras.layers, kind)(**attributes)
    return s.layer("TimeDistributed", f"layer={kind}", layer=inner)(x)
