"""Samples given by the user (--representative, --eval, --inputs): read, scaled, checked against the model's
inputs.

Integers are used as they stand unless --input-scale and --input-offset say real = x * scale + offset, or a
--preprocess hook (the user's own Python) computes the model's inputs. int8 samples for a model that is int8
already are its quantized inputs when no scaling is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.arrayfiles import MAX_BYTES, keys_of, read_arrays
from tinygen.errors import DataError, UsageError, bytes_text, did_you_mean
from tinygen.graph import Array, Graph, QParams, Tensor
from tinygen.hooks import load_hook, run_hook


@dataclass(frozen=True)
class Options:
    """How stored numbers become real ones. scale and offset: real = x * scale + offset.

    preprocess: 'module:function' or 'file.py:function'. It gets the file's arrays as a dict (key 'x' for .npy
    files and folders) and returns x, (x, y) or (x, y, groups); several inputs as a dict by name or a list in
    order.
    """

    scale: float | None = None
    offset: float | None = None
    preprocess: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("--input-scale", self.scale), ("--input-offset", self.offset)):
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{name} is {value}, it must be a finite number")
        if self.scale is not None and self.scale <= 0:
            raise UsageError(f"--input-scale is {self.scale}, it must be greater than 0")
        if self.preprocess and (self.scale is not None or self.offset is not None):
            raise UsageError(
                "--preprocess and --input-scale/--input-offset exclude each other: scale in the hook"
            )

    @property
    def scaled(self) -> bool:
        return self.scale is not None or self.offset is not None


@dataclass(frozen=True)
class Grid:
    """All samples of an input are real = scale * q - scale * zero_point for integers q in int8: no loss in
    int8."""

    scale: float
    zero_point: int

    @property
    def qparams(self) -> QParams:
        return QParams.per_tensor(self.scale, self.zero_point)


@dataclass(frozen=True)
class Samples:
    """x: float32 (N, *shape) per graph input. y: labels or targets, one per sample or one per group, or None.

    groups: (N,) index of the recording that each sample is a window of, or None. grids: per input, the
    integer grid that its samples lie on, or None.
    """

    x: tuple[Array, ...]
    y: Array | None = None
    groups: Array | None = None
    grids: tuple[Grid | None, ...] = ()

    @property
    def count(self) -> int:
        return len(self.x[0])

    def head(self, count: int | None) -> Samples:
        """The first `count` samples (all for None)."""
        if count is None or count >= self.count:
            return self
        if self.groups is not None or self.y is None or len(self.y) != self.count:
            return Samples(tuple(x[:count] for x in self.x), None, None, self.grids)
        return Samples(tuple(x[:count] for x in self.x), self.y[:count], None, self.grids)


DEFAULT = Options()


def load_samples(path: str | Path, graph: Graph, options: Options = DEFAULT) -> Samples:
    """Samples of a .npy file, an .npz file or a folder of .npy files, as the float32 inputs of the model.

    .npz: key 'x' (or the input's own name); one key per input name for several inputs; 'y' holds labels.
    Raises DataError naming the file, what is wrong, and what is expected.
    """
    path = Path(path)
    if options.preprocess:
        hook = load_hook(options.preprocess)
        arrays, y, groups = _hooked(
            run_hook(hook, options.preprocess, read_arrays(path)), graph, options.preprocess
        )
        source = f"'{options.preprocess}' on '{path}'"
    else:
        arrays, y, groups = *_stored(path, graph), None
        source = f"'{path}'"
    reals = []
    grids = []
    for tensor, array in zip(graph.input_tensors, arrays, strict=True):
        _check_array(array, tensor, source)
        reals.append(_real(array, tensor, options, source))
        grids.append(find_grid(array, reals[-1], tensor, options))
    _check_counts(graph, reals, source)
    return Samples(tuple(reals), *_check_labels(y, groups, len(reals[0]), source), tuple(grids))


def quantize_inputs(graph: Graph, x: Sequence[Array]) -> tuple[Array, ...]:
    """Inputs as the graph takes them from real ones, each (N, *shape): int8, or as they are in a float graph."""
    return tuple(
        a if t.dtype == "float32" else t.q.quantize(a) for t, a in zip(graph.input_tensors, x, strict=True)
    )


def _stored(path: Path, graph: Graph) -> tuple[list[Array], Array | None]:
    """The arrays of a file in the order of the graph's inputs, and its labels."""
    if len(graph.inputs) > 1 and keys_of(path) == ("x",):
        raise DataError(
            f"'{path}' holds one array, the model has {len(graph.inputs)} inputs\n"
            f"  give an .npz file with the keys {', '.join(graph.inputs)}"
        )
    keys = _input_keys(path, graph)
    arrays = read_arrays(path, lambda key: key == "y" or key in keys)
    return [arrays[key] for key in keys], arrays.get("y")


def _input_keys(path: Path, graph: Graph) -> list[str]:
    """The key of each graph input in the file."""
    known = keys_of(path) if path.exists() else ("x",)
    if len(graph.inputs) == 1:
        names = [next((k for k in ("x", graph.inputs[0]) if k in known), "x")]
    else:
        names = list(graph.inputs)
    for name in names:
        if name not in known:
            near = did_you_mean(name, known).replace("did you mean", "is it meant to be")
            raise DataError(f"'{path}' has no key '{name}'{near}\n  its keys: {', '.join(known[:12])}")
    return names


def _hooked(result: Any, graph: Graph, hook: str) -> tuple[list[Array], Array | None, Array | None]:
    """The hook's x, (x, y) or (x, y, groups) as arrays in the order of the graph's inputs."""
    parts = result if isinstance(result, tuple) else (result,)
    if not 1 <= len(parts) <= 3:
        raise DataError(
            f"hook '{hook}' returned {len(parts)} values\n  it must return x, (x, y) or (x, y, groups)"
        )
    x, y, groups = (*parts, None, None)[:3]
    if isinstance(x, Mapping):
        missing = [name for name in graph.inputs if name not in x]
        if missing:
            raise DataError(f"hook '{hook}' returned no input '{missing[0]}'{did_you_mean(missing[0], x)}")
        x = [x[name] for name in graph.inputs]
    elif not isinstance(x, list):
        x = [x]
    if len(x) != len(graph.inputs):
        raise DataError(f"hook '{hook}' returned {len(x)} inputs, the model has {len(graph.inputs)}")
    as_array = [np.asarray(a) for a in x]
    return as_array, None if y is None else np.asarray(y), None if groups is None else np.asarray(groups)


def _check_array(array: Array, tensor: Tensor, source: str) -> None:
    """Raise DataError unless the array holds numbers of shape (N, *tensor.shape), N >= 1."""
    if array.dtype.kind not in "iufb":
        raise DataError(
            f"{source}: input '{tensor.name}' has dtype {array.dtype}\n  integers or floats are needed"
        )
    expected = ", ".join(("N", *map(str, tensor.shape)))
    if array.shape[1:] != tensor.shape or array.ndim == 0:
        raise DataError(
            f"{source}: input '{tensor.name}' has shape {array.shape}, the model needs ({expected})\n"
            "  N is the number of samples; reshape the data or use --preprocess"
        )
    if len(array) == 0:
        raise DataError(f"{source}: there are no samples for input '{tensor.name}'\n  at least 1 is needed")
    if array.size * 4 > MAX_BYTES:
        raise DataError(
            f"{source}: {len(array):,} samples take {bytes_text(array.size * 4)} as float32, at most "
            f"{bytes_text(MAX_BYTES)} are read\n  give fewer samples"
        )


def _real(array: Array, tensor: Tensor, options: Options, source: str) -> Array:
    """Real float32 values; raises DataError for NaN and infinities."""
    if array.dtype == np.int8 and tensor.dtype == "int8" and not options.scaled and not options.preprocess:
        return tensor.q.dequantize(array).astype(np.float32)
    if options.scaled:
        array = array.astype(np.float64) * (options.scale or 1.0) + (options.offset or 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        real = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(real)
    if not finite.all():
        first = int(np.argmin(finite.reshape(len(real), -1).all(axis=1)))
        bad = int(real.size - finite.sum())
        raise DataError(
            f"{source}: input '{tensor.name}' holds {bad:,} NaN or infinite values, first in sample {first}\n"
            "  remove these samples"
        )
    return real


def _check_counts(graph: Graph, arrays: Sequence[Array], source: str) -> None:
    counts = [len(a) for a in arrays]
    if len(set(counts)) > 1:
        listed = ", ".join(f"'{n}' {c:,}" for n, c in zip(graph.inputs, counts, strict=True))
        raise DataError(f"{source}: the inputs have different numbers of samples: {listed}")


def _check_labels(
    y: Array | None, groups: Array | None, count: int, source: str
) -> tuple[Array | None, Array | None]:
    """y with one entry per sample, or per group; groups numbered from 0 without gaps."""
    if groups is not None:
        if groups.shape != (count,) or groups.dtype.kind not in "iu":
            raise DataError(f"{source}: groups must be {count:,} integers, one per sample")
        _, groups = np.unique(groups, return_inverse=True)
    if y is None:
        return None, groups
    if y.dtype.kind not in "iufb" or y.ndim == 0:
        raise DataError(f"{source}: labels 'y' have dtype {y.dtype}, shape {y.shape}\n  numbers are needed")
    if not np.isfinite(y).all():
        raise DataError(f"{source}: labels 'y' hold NaN or infinite values")
    allowed = {count} | ({int(groups.max()) + 1} if groups is not None else set())
    if len(y) not in allowed:
        raise DataError(
            f"{source}: 'y' has {len(y):,} labels for {count:,} samples\n  one label per sample is needed"
        )
    return y, groups


# ---- integer grids


def find_grid(array: Array, real: Array, tensor: Tensor, options: Options = DEFAULT) -> Grid | None:
    """The grid that the samples of a float input lie on, or None when int8 cannot hold all of them exactly.

    array: as stored, real: as the model takes them. Floats are looked at, too: images divided by 255 lie on a
    grid.
    """
    if tensor.dtype != "float32":
        return None
    if array.dtype.kind in "iub" and not options.preprocess:
        return find_grid_of(array, options.scale or 1.0, options.offset or 0.0)
    return _value_grid(real)


def find_grid_of(array: Array, scale: float = 1.0, offset: float = 0.0) -> Grid | None:
    """The grid of integers that stand for array * scale + offset: always for uint8 and int8.

    Wider integers count as 8 bits when they fit and use at least 64 of the 256 values.
    """
    if array.dtype.kind not in "iu":
        return None
    wide = array.dtype not in (np.uint8, np.int8)
    if wide and len(np.unique(array[:256])) < 64:
        return None
    low, high = int(array.min()), int(array.max())
    if array.dtype == np.uint8 or (array.dtype != np.int8 and low >= 0 and high <= 255):
        return _grid(scale, -128 - offset / scale)
    return _grid(scale, -offset / scale) if low >= -128 and high <= 127 else None


def _value_grid(real: Array) -> Grid | None:
    """A grid under at most 256 evenly spaced real values, at least 64 of them used, on which 0 lies."""
    stride = max(1, real.size // 4_000_000)  # samples skipped, to keep sorting fast
    if not 64 <= len(np.unique(real[:64])) <= 256:
        return None
    levels = np.unique(real[::stride]).astype(np.float64)
    if len(levels) > 256:
        return None
    step = (levels[-1] - levels[0]) / round((levels[-1] - levels[0]) / float(np.median(np.diff(levels))))
    index = levels / step
    if np.max(np.abs(index - np.round(index))) > 0.01 or index[-1] - index[0] > 255.5:
        return None
    first, last = round(index[0]), round(index[-1])
    if first >= 0 and last <= 255:
        return _grid(step, -128)
    return _grid(step, 0 if first >= -128 and last <= 127 else -128 - first)


def _grid(scale: float, zero_point: float) -> Grid | None:
    """The grid if its zero point is an int8 integer (to 1/100 of a step)."""
    nearest = round(zero_point)
    return Grid(scale, nearest) if abs(nearest - zero_point) < 0.01 and -128 <= nearest <= 127 else None
