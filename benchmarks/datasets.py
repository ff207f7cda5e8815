"""The evaluation models and data of ../shared/data, prepared as its SOURCES.md says. Nothing of it is in the
repository.

`Task.samples("train")` calibrates and trains, `Task.samples("eval")` judges. Used by the benchmarks and by
tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from tinygen.errors import DataError
from tinygen.graph import Array
from tinygen.metrics import Kind
from tinygen.samples import Samples, find_grid_of

Split = Literal["train", "eval"]


def folder() -> Path:
    """Where the data lies: $TINYGEN_SHARED_DATA, or shared/data beside the checkout."""
    given = os.environ.get("TINYGEN_SHARED_DATA")
    return Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Task:
    """One model with its data. bound: most points (of 100) of the metric that int8 may lose."""

    name: str
    title: str
    model: str
    data: Mapping[str, str]
    prepare: Callable[[Mapping[str, Array], Split], Samples]
    metric: Kind
    bound: float

    @property
    def model_path(self) -> Path:
        return folder() / "models" / self.model

    def data_path(self, split: Split) -> Path:
        return folder() / self.data[split]

    def samples(self, split: Split, judging: bool = False) -> Samples:
        """Prepared samples; judging: those of the training set that may only judge (anomalies), too.

        Raises DataError when the data is absent.
        """
        path = self.data_path(split)
        if not path.is_file():
            raise DataError(f"'{path}' does not exist\n  set TINYGEN_SHARED_DATA to the folder that holds it")
        with np.load(path, allow_pickle=False) as archive:
            return self.prepare({key: archive[key] for key in archive.files}, "eval" if judging else split)


def scaled(scale: float, offset: float = 0.0) -> Callable[[Mapping[str, Array], Split], Samples]:
    """real = stored * scale + offset."""

    def prepare(z: Mapping[str, Array], split: Split) -> Samples:
        real = (z["x"].astype(np.float64) * scale + offset).astype(np.float32)
        return Samples((real,), z["y"].astype(np.int64), None, (find_grid_of(z["x"], scale, offset),))

    return prepare


def toycar(z: Mapping[str, Array], split: Split) -> Samples:
    """Windows of 5 frames of 128 log-mel dB, stride 1: one group per recording."""
    frames = z["x"].astype(np.float32) * z["scale"]
    view = np.lib.stride_tricks.sliding_window_view(frames, 5, axis=1).transpose(0, 1, 3, 2)
    windows = view.shape[1]
    x = np.ascontiguousarray(view.reshape(len(frames) * windows, 640))
    return Samples((x,), z["y"].astype(np.int64), np.repeat(np.arange(len(frames)), windows))


def ceiling_fan(z: Mapping[str, Array], split: Split) -> Samples:
    """16 spectral bands per axis, normalised; off (0) left out; 4 ... 6 (a coin on a blade) are the
    anomalies."""
    kept = np.isin(z["y"], (1, 2, 3) if split == "train" else range(1, 7))
    with np.load(folder() / "models" / "ceiling_fan_ae_norm.npz", allow_pickle=False) as norm:
        x = (spectrum(z["x"][kept]) - norm["mean"]) / norm["std"]
    return Samples((x.astype(np.float32),), (z["y"][kept] >= 4).astype(np.int64))


def spectrum(x: Array) -> Array:
    """(N, 128, 3) counts -> (N, 48): log10 of the mean power of 4 FFT bins each, bins 1 ... 64."""
    g = x.astype(np.float64) / 2048.0
    g = (g - g.mean(axis=1, keepdims=True)) * np.hanning(128)[:, np.newaxis]
    power = np.abs(np.fft.rfft(g, axis=1)[:, 1:65]) ** 2
    bands = power.reshape(len(x), 16, 4, 3).mean(axis=2)
    return np.asarray(np.log10(bands + 1e-3).reshape(len(x), 48))


def _files(stem: str) -> Mapping[str, str]:
    return MappingProxyType({"train": f"{stem}_train.npz", "eval": f"{stem}_eval.npz"})


KWS_SCALE = 0.5847029089927673
VWW = MappingProxyType({"train": "vww96_ccbync_train.npz", "eval": "vww96_ccby_eval.npz"})

TASKS: tuple[Task, ...] = (
    Task(
        "kws",
        "keywords",
        "kws_ds_cnn.keras",
        _files("kws_mfcc"),
        scaled(KWS_SCALE, -83 * KWS_SCALE),
        "accuracy",
        1.0,
    ),
    Task("ic", "CIFAR-10", "ic_resnet8.keras", _files("cifar10"), scaled(1.0), "accuracy", 1.0),
    Task("vww", "person", "vww_mobilenet_v1_025_96.keras", VWW, scaled(1 / 255), "accuracy", 100 * 2 / 176),
    Task("ad", "ToyCar", "ad_autoencoder.keras", _files("ad_toycar"), toycar, "auc", 1.0),
    Task("cwru", "bearings", "cwru_cnn1d.keras", _files("cwru_bearing"), scaled(1 / 4096), "accuracy", 1.5),
    Task(
        "fan", "fan imbalance", "fan_cnn1d.keras", _files("fan_vibration"), scaled(1 / 1000), "accuracy", 1.5
    ),
    Task(
        "ceiling_fan",
        "coin on fan",
        "ceiling_fan_ae.keras",
        _files("ceiling_fan_vibration"),
        ceiling_fan,
        "auc",
        1.0,
    ),
)

BY_NAME: Mapping[str, Task] = MappingProxyType({task.name: task for task in TASKS})
