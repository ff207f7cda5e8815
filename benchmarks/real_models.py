"""The real models of ../shared/data with the command-line options that prepare their samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinygen.samples import Options

KWS_SCALE = 0.5847029089927673
AS_STORED = Options()
HOOKS = Path(__file__).with_name("hooks.py")


@dataclass(frozen=True)
class RealModel:
    """A model file, its data files, how numbers become inputs, and how many samples a test runs."""

    file: str
    train: str
    eval: str
    options: Options = AS_STORED
    count: int = 20

    @property
    def name(self) -> str:
        return self.file.replace(".", "_")


KWS = Options(KWS_SCALE, -83 * KWS_SCALE)
VWW = Options(scale=1 / 255)
TOYCAR, FAN_AE = Options(preprocess=f"{HOOKS}:toycar"), Options(preprocess=f"{HOOKS}:ceiling_fan")
VWW_DATA = ("vww96_ccbync_train.npz", "vww96_ccby_eval.npz")


def _data(stem: str) -> tuple[str, str]:
    return f"{stem}_train.npz", f"{stem}_eval.npz"


REAL_MODELS: tuple[RealModel, ...] = (
    RealModel("kws_ds_cnn.keras", *_data("kws_mfcc"), KWS),
    RealModel("kws_ds_cnn_int8.tflite", *_data("kws_mfcc"), KWS),
    RealModel("ic_resnet8.keras", *_data("cifar10")),
    RealModel("ic_resnet8.h5", *_data("cifar10")),
    RealModel("ic_resnet8_int8.tflite", *_data("cifar10")),
    RealModel("vww_mobilenet_v1_025_96.keras", *VWW_DATA, VWW, 5),
    RealModel("vww_mobilenet_v1_025_96.h5", *VWW_DATA, VWW, 5),
    RealModel("vww_mobilenet_v1_025_96_int8.tflite", *VWW_DATA, VWW, 5),
    RealModel("ad_autoencoder.keras", *_data("ad_toycar"), TOYCAR),
    RealModel("ad_autoencoder_int8.tflite", *_data("ad_toycar"), TOYCAR),
    RealModel("cwru_cnn1d.keras", *_data("cwru_bearing"), Options(scale=1 / 4096)),
    RealModel("fan_cnn1d.keras", *_data("fan_vibration"), Options(scale=1 / 1000)),
    RealModel("ceiling_fan_ae.keras", *_data("ceiling_fan_vibration"), FAN_AE),
)
