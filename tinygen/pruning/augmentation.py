"""More training data out of few samples, without labels: the original answers for any input.

All in numpy with the caller's generator: the same seed gives the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tinygen.errors import UsageError, did_you_mean
from tinygen.graph import Array

Way = Literal["mixup", "difference", "noise", "flip", "shift", "scale", "zoom", "colour", "paste"]
WAYS: tuple[Way, ...] = get_args(Way)
MIXUP: Way = "mixup"
SHIFT = 1 / 8
"""Largest shift, as a share of the axis."""
NOISE = 0.5
"""Largest standard deviation of noise, as a share of the data's own per feature."""
DIFFERENCE = 1.0
"""Largest share of two samples' difference that another one is moved by."""
SCALE = 0.2
"""Largest relative change of a signal's amplitude."""
ZOOM = (0.6, 1.2)
"""Visible share of an image's sides, before STRETCH; what would lie outside is doubled from the edge."""
STRETCH = 0.15
"""Largest change of a side against the other, natural logarithm."""
CONTRAST, TINT, LIGHT = 0.35, 0.1, 0.1
"""Largest change of an image's contrast and of its gain, of one channel's gain (natural logarithms), and of its
brightness as a share of the range that the data has."""
PASTED = (0.1, 0.6)
"""Area of another image that is pasted, as a share of the image; half of the images get some."""
HELD_SEED = 3141592653
"""Of changed held-out samples: every model is judged on the same ones."""
OFF_DATA: frozenset[Way] = frozenset({"difference", "noise", "zoom", "colour", "paste"})
"""Ways whose samples need not look like the data: a model that learns them is judged on some of them, too."""


@dataclass(frozen=True)
class Augmentation:
    """Ways to change a batch, in the order of WAYS. Of one input: spread, its standard deviation per element (*shape);
    low, high: its least and greatest number.

    Mixing is left to `mixed`: it concerns all inputs and the labels.
    """

    ways: tuple[Way, ...]
    spread: Array
    low: float
    high: float

    def __call__(self, batch: Array, generator: np.random.Generator) -> Array:
        """A changed copy of a batch (N, *shape)."""
        for way in WAYS:
            if way in self.ways and way != MIXUP:
                batch = _CHANGES[way](self, batch, generator)
        return np.ascontiguousarray(batch, np.float32)


def augmentation_of(names: Sequence[str] | Literal["auto"], x: Array) -> Augmentation:
    """The named ways for samples x (N, *shape) of one input. Raises UsageError for a way that does not fit them."""
    return Augmentation(chosen(names, x.shape[1:]), x.std(axis=0), float(x.min()), float(x.max()))


def judged_on(changes: Sequence[Augmentation], held_out: Sequence[Array]) -> list[Array]:
    """Held-out samples of each input; where an OFF_DATA way is used, followed by as many changed ones."""
    if not any(OFF_DATA & {*change.ways} for change in changes):
        return list(held_out)
    generator = np.random.default_rng(HELD_SEED)
    return [np.concatenate([x, change(x, generator)]) for change, x in zip(changes, held_out, strict=True)]


def mixed(arrays: Sequence[Array], generator: np.random.Generator) -> list[Array]:
    """Weighted means of the samples and others of the same batch; alike for all arrays (N, ...). Weights 0 .. 1."""
    count = len(arrays[0])
    partner, share = generator.permutation(count), generator.random(count, np.float32)
    shares = [share.reshape(count, *(1,) * (a.ndim - 1)) for a in arrays]
    return [a * s + a[partner] * (1 - s) for a, s in zip(arrays, shares, strict=True)]


def chosen(names: Sequence[str] | Literal["auto"], shape: tuple[int, ...]) -> tuple[Way, ...]:
    """The ways for inputs of this shape. Raises UsageError for a way that is unknown or does not fit it."""
    if names == "auto":
        return automatic(shape)
    for name in names:
        if name not in WAYS:
            hint = did_you_mean(name, WAYS)
            raise UsageError(f"augmentation '{name}' is unknown{hint}: there are {', '.join(WAYS)}")
        if name in ("flip", "shift") and len(shape) not in (2, 3):
            raise UsageError(f"augmentation '{name}' needs images or series, the input has shape {shape}")
        if name in ("zoom", "colour", "paste") and len(shape) != 3:
            raise UsageError(f"augmentation '{name}' needs images, the input has shape {shape}")
    return tuple(way for way in WAYS if way in names)


def automatic(shape: tuple[int, ...]) -> tuple[Way, ...]:
    """What helps by measurement: images are mirrored and shifted, anything else stays as it is."""
    return ("flip", "shift") if is_image(shape) else ()


def is_image(shape: tuple[int, ...]) -> bool:
    """True for (H, W, 3): one channel may be a spectrogram, whose mirror image is none."""
    return len(shape) == 3 and shape[-1] == 3


def _moved(a: Augmentation, batch: Array, generator: np.random.Generator) -> Array:
    """By up to DIFFERENCE of how two others differ: away from the data, in directions in which data varies."""
    one, other = (batch[generator.permutation(len(batch))] for _ in range(2))
    return np.asarray(batch + _strengths(batch, generator) * DIFFERENCE * (one - other))


def _noisy(a: Augmentation, batch: Array, generator: np.random.Generator) -> Array:
    noise = generator.standard_normal(batch.shape, np.float32)
    return np.asarray(batch + _strengths(batch, generator) * NOISE * a.spread * noise)


def _strengths(batch: Array, generator: np.random.Generator) -> Array:
    """0 .. 1 per sample (N, 1, ...): some stay near what they were."""
    return np.asarray(generator.random((len(batch), *(1,) * (batch.ndim - 1)), np.float32))


def _flipped(a: Augmentation, batch: Array, generator: np.random.Generator) -> Array:
    """Half of the images mirrored left to right, of the series reversed."""
    mirrored = generator.random(len(batch)) < 0.5
    result = batch.copy()
    axis = 2 if batch.ndim == 4 else 1
    result[mirrored] = np.flip(batch[mirrored], axis)
    return result


def _shifted(a: Augmentation, batch: Array, generator: np.random.Generator) -> Array:
    """Along time, or along both axes of images; what leaves one side is doubled at the edge of the other."""
    for axis in (1, 2) if is_image(batch.shape[1:]) else (1,):
        size = batch.shape[axis]
        most = int(size * SHIFT)
        steps = generator.integers(-most, most + 1, len(batch))
        places = np.clip(np.arange(size) + steps[:, np.newaxis], 0, size - 1)
        rows = np.arange(len(batch))[:, np.newaxis]
        moved = batch if axis == 1 else batch.swapaxes(1, 2)
        batch = moved[rows, places] if axis == 1 else moved[rows, places].swapaxes(1, 2)
    return batch


def _scaled(a: Augmentation, batch: Array, generator: np.random.Generator) -> Array:
    shape = (len(batch), *(1,) * (batch.ndim - 1))
    return batch * generator.uniform(1 - SCALE, 1 + SCALE, shape).astype(np.float32)


def _zoomed(a: Augmentation, batch: Array, generator: np.random.Generator) -> Array:
    """A part of each image, or a little more than all of it, stretched to the same size (bilinear)."""
    count = len(batch)
    size = np.exp(generator.uniform(math.log(ZOOM[0]), math.log(ZOOM[1]), count))
    stretch = np.exp(generator.uniform(-STRETCH, STRETCH, count))
    rows = _resampled(batch, size * stretch, generator)
    return _resampled(rows.swapaxes(1, 2), size / stretch, generator).swapaxes(1, 2)


def _resampled(batch: Array, shares: Array, generator: np.random.Generator) -> Array:
    """Axis 1 shows this share (N,) of what it was, at a random place."""
    size = batch.shape[1]
    first = generator.random(len(batch)) * size * (1 - shares)
    places = first[:, np.newaxis] + (np.arange(size) + 0.5) * shares[:, np.newaxis] - 0.5
    places = np.clip(places, 0, size - 1)
    left = places.astype(np.int64)
    right = np.minimum(left + 1, size - 1)
    weights = (places - left).astype(np.float32)[:, :, np.newaxis, np.newaxis]
    each = np.arange(len(batch))[:, np.newaxis]
    return np.asarray(batch[each, left] * (1 - weights) + batch[each, right] * weights)


def _coloured(a: Augmentation, batch: Array, generator: np.random.Generator) -> Array:
    """Other contrast, brightness, and tint, within the range that the data has."""
    count, whole = len(batch), (len(batch), 1, 1, 1)
    means = batch.mean(axis=(1, 2, 3), keepdims=True)
    contrast, gain = (np.exp(generator.uniform(-CONTRAST, CONTRAST, whole)) for _ in range(2))
    tint = gain * np.exp(generator.uniform(-TINT, TINT, (count, 1, 1, batch.shape[-1])))
    light = generator.uniform(-LIGHT, LIGHT, whole) * (a.high - a.low)
    gains, offsets = (
        contrast * tint,
        (means * (1 - contrast) - a.low) * tint + a.low + light,
    )  # small: then one pass
    changed = batch * gains.astype(np.float32) + offsets.astype(np.float32)
    return np.asarray(np.clip(changed, a.low, a.high), np.float32)


def _pasted(a: Augmentation, batch: Array, generator: np.random.Generator) -> Array:
    """A rectangle of another image of the batch, at its own place, in half of them."""
    result, others = batch.copy(), generator.permutation(len(batch))
    height, width = batch.shape[1:3]
    for i in np.flatnonzero(generator.random(len(batch)) < 0.5):
        side = np.sqrt(generator.uniform(*PASTED))
        tall, wide = max(1, int(height * side)), max(1, int(width * side))
        top, left = generator.integers(height - tall + 1), generator.integers(width - wide + 1)
        place = (slice(top, top + tall), slice(left, left + wide))
        result[i][place] = batch[others[i]][place]
    return result


_CHANGES: dict[Way, Callable[[Augmentation, Array, np.random.Generator], Array]] = {
    "difference": _moved,
    "noise": _noisy,
    "flip": _flipped,
    "shift": _shifted,
    "scale": _scaled,
    "zoom": _zoomed,
    "colour": _coloured,
    "paste": _pasted,
}
