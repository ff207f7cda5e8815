"""What a model's config may hold: judged and cleaned before Keras sees it. A model file never runs code.

Only classes that tinygen compiles are let through, by name; everything that only matters for training
(initializers, regularizers, constraints, dtype policies, compile options) is removed, so neither custom nor
dangerous objects can hide there. Works on plain JSON data; Keras is not imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tinygen import ops
from tinygen.errors import ModelError, UnsupportedLayerError
from tinygen.frontend.keras_files import shorten

Json = dict[str, Any]

MAX_LAYERS, MAX_DEPTH = 800, 16
MAX_INT = 1 << 20
"""No integer in a config may be larger: far beyond any microcontroller, small enough to be harmless."""

MODELS = ("Functional", "Sequential", "Model")
IDENTITY = frozenset(
    (
        *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"),
        *("GaussianDropout", "GaussianNoise", "ActivityRegularization", "Identity"),
        *("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast"),
        "RandomBrightness",
    )
)
"""Layers that do nothing at inference."""
WRAPPERS = frozenset({"InputLayer", "TimeDistributed"})
RAW_OPERATIONS = frozenset({"Add", "Subtract", "Multiply", "Maximum", "Minimum"})
"""Operations on Keras tensors (x + y) that are the layers of the same name when both operands are tensors."""

_RECURRENT = "replace it with (dilated, causal) Conv1D layers, or feed a window of samples to Dense layers"
_ATTENTION = "replace it with convolutions, or weight channels by GlobalAveragePooling, Dense and Multiply"
_NORMALIZING = "train with BatchNormalization instead: it folds into the layer before it and costs nothing"
_BEFORE = "do this before the model, in the preprocessing, and feed its result"
_THREE = "put one of the three axes into the channels and use the 2D layer"
_REPLACEMENTS: Mapping[str, str] = {
    "LSTM GRU SimpleRNN RNN Bidirectional ConvLSTM1D ConvLSTM2D ConvLSTM3D": _RECURRENT,
    "Attention AdditiveAttention MultiHeadAttention GroupedQueryAttention": _ATTENTION,
    "LayerNormalization GroupNormalization UnitNormalization RMSNormalization": _NORMALIZING,
    "Embedding StringLookup IntegerLookup TextVectorization CategoryEncoding Hashing": _BEFORE,
    "Discretization Resizing CenterCrop RandomCrop MelSpectrogram STFTSpectrogram Masking": _BEFORE,
    "Conv3D Conv3DTranspose MaxPooling3D AveragePooling3D UpSampling3D ZeroPadding3D Cropping3D": _THREE,
    "Dot": "replace it with Multiply followed by a Dense layer",
    "EinsumDense": "replace it with Dense (and Permute or Reshape around it)",
    "Lambda TFOpLambda": "write it with built-in layers (Rescaling, Activation), or do it before the model",
}
_INSTEAD = {kind: text for kinds, text in _REPLACEMENTS.items() for kind in kinds.split()}
_DROPPED = frozenset({"quantization_config", "lora_rank", "lora_alpha", "name"})
"""Options without meaning at inference. (LoRA is merged into the weights when Keras saves.)"""
_LAMBDA = "it is Python code inside the model file, which tinygen never runs"


def supported_layers() -> frozenset[str]:
    """Class names of all Keras layers that can be compiled (or vanish)."""
    return frozenset(ops.keras_handlers()) | IDENTITY | WRAPPERS | {"Functional", "Sequential"}


def unsupported(name: str, kind: str) -> UnsupportedLayerError:
    """The error for a Keras layer class that tinygen does not know, saying what could replace it."""
    why = _LAMBDA if kind in ("Lambda", "TFOpLambda") else "tinygen has no int8 operator for this class"
    default = "'tinygen ops' lists the layers that can replace it"
    return UnsupportedLayerError(shorten(name, 80), shorten(kind, 80), why, _INSTEAD.get(kind, default))


def clean_model(entry: Any, file: str, version: str = "") -> Json:
    """A copy of a model's config that is safe for Keras.deserialize_keras_object.

    entry: {"class_name", "config", ...} of Keras 3 or Keras 2; version: of the Keras that wrote it.
    Raises ModelError or UnsupportedLayerError.
    """
    kind = entry.get("class_name")
    if kind not in MODELS or not is_keras_module(entry.get("module")):
        module = shorten(entry.get("module") or "an unknown module", 60)
        raise ModelError(
            f"'{file}' is of the custom class '{shorten(kind, 50)}' ({module}): its code is not in the file\n"
            "  rebuild it as a Sequential or functional keras.Model of built-in layers, and save that"
        )
    return _Cleaner(file, version).layer(entry)


def is_keras_module(module: Any) -> bool:
    """True for Keras's own modules, and for entries of Keras 2 files, which name none."""
    return module is None or module == "keras" or (isinstance(module, str) and module.startswith("keras."))


class _Cleaner:
    """Walks one config. Counts layers, so that a file cannot keep Keras busy for ever."""

    def __init__(self, file: str, version: str) -> None:
        self.file = file
        self.is_keras_2 = version.startswith(("1.", "2."))
        self.layers = self.depth = 0
        self.supported = supported_layers()

    def layer(self, entry: Any) -> Json:
        """One layer (or nested model) entry, cleaned; written in the Keras 3 format whatever it came in."""
        config = entry.get("config") if isinstance(entry, dict) else None
        kind = entry.get("class_name") if isinstance(entry, dict) else None
        if not isinstance(kind, str):
            raise ModelError(f"'{self.file}': the config holds a layer without a class name")
        if kind in MODELS and isinstance(config, list):
            config = {"name": "sequential", "layers": config}
        if not isinstance(config, dict):
            raise ModelError(f"'{self.file}': layer of class {shorten(kind, 60)} has no config")
        name = self.name_of(entry, config)
        self.count(name)
        module = self.module_of(entry, name, kind)
        cleaned: Json = {"module": module, "class_name": "Functional" if kind == "Model" else kind}
        self.depth += 1
        cleaned["config"] = self.model_config(config) if kind in MODELS else self.config(config, name, kind)
        self.depth -= 1
        cleaned["registered_name"] = None
        if "name" in entry:
            cleaned["name"] = name
        if "inbound_nodes" in entry:
            cleaned["inbound_nodes"] = self.value(entry["inbound_nodes"], name, kind)
        return cleaned

    def count(self, name: str) -> None:
        self.layers += 1
        if self.layers > MAX_LAYERS:
            raise ModelError(f"'{self.file}' has more than {MAX_LAYERS:,} layers ('{name}' is the next)")
        if self.depth >= MAX_DEPTH:
            raise ModelError(f"'{self.file}' nests layers more than {MAX_DEPTH} deep ('{name}' is the next)")

    def name_of(self, entry: Json, config: Json) -> str:
        """The layer's name, which must be printable: it stands in messages and in the generated C."""
        name = entry.get("name") or config.get("name") or "unnamed"
        if not isinstance(name, str) or len(name) > 200 or not name.isprintable():
            raise ModelError(f"'{self.file}': '{shorten(name, 60)}' is not a printable layer name")
        return name

    def module_of(self, entry: Json, name: str, kind: str) -> str:
        """Where Keras finds the class; refuses everything that is not a supported class of Keras itself."""
        module, registered = entry.get("module"), entry.get("registered_name")
        if not is_keras_module(module) or registered not in (None, "", kind):
            custom = shorten(registered or module, 60)
            why = f"it is a custom object ({custom}), whose code is not in the file"
            raise UnsupportedLayerError(name, shorten(kind, 60), why, "replace it with built-in Keras layers")
        if kind in MODELS:
            return "keras.src.models.sequential" if kind == "Sequential" else "keras.src.models.functional"
        if isinstance(module, str) and ".ops" in module:
            return self.operation_module(module, name, kind)
        if kind not in self.supported:
            raise unsupported(name, kind)
        return "keras.layers"

    def operation_module(self, module: str, name: str, kind: str) -> str:
        """x + y on Keras tensors; every other keras.ops call has a layer that says the same."""
        if kind not in RAW_OPERATIONS or not module.startswith("keras.src.ops."):
            why = "it is a raw Keras operation and not a layer"
            raise UnsupportedLayerError(name, shorten(kind, 60), why, "use the layer that does the same")
        return "keras.src.ops.numpy"

    def model_config(self, config: Json) -> Json:
        """The config of a Sequential or functional model: its layers cleaned, the rest kept where plain."""
        layers = config.get("layers")
        if not isinstance(layers, list) or not layers:
            raise ModelError(f"'{self.file}': the config lists no layers")
        cleaned: Json = {"name": self.name_of({}, config), "layers": [self.layer(entry) for entry in layers]}
        for key in ("input_layers", "output_layers", "build_input_shape"):
            if key in config:
                cleaned[key] = self.value(config[key], "the model", "Functional")
        first = cleaned["layers"][0]
        if first["class_name"] != "InputLayer" and "batch_input_shape" in first["config"]:
            # Keras 2.2 and before gave a Sequential's input shape to its first layer.
            cleaned["build_input_shape"] = first["config"].pop("batch_input_shape")
        return cleaned

    def config(self, config: Json, name: str, kind: str) -> Json:
        """One layer's own options."""
        if config.get("quantization_config") or "int8" in str(config.get("dtype")):
            why = "its weights are quantized by Keras"
            raise UnsupportedLayerError(name, kind, why, "save the float model")
        cleaned: Json = {}
        for key, value in config.items():
            if key.endswith("_initializer"):
                cleaned[key] = "zeros"
            elif key.endswith(("_regularizer", "_constraint")):
                cleaned[key] = None
            elif key == "dtype":
                cleaned[key] = "float32"
            elif key in ("seed", "random_seed"):
                cleaned[key] = 0
            elif key not in _DROPPED:
                cleaned[key] = self.value(value, name, kind, key)
        cleaned["name"] = name
        return cleaned

    def value(self, value: Any, name: str, kind: str, key: str = "") -> Any:
        """Any JSON value inside a layer's config or its calls."""
        if isinstance(value, list):
            return [self.value(v, name, kind, key) for v in value]
        if isinstance(value, dict):
            return self.mapping(value, name, kind, key)
        if key == "activation" and value == "hard_sigmoid" and self.is_keras_2:
            why = "its hard_sigmoid is that of Keras 2 (0.2 x + 0.5), which Keras 3 computes otherwise"
            raise UnsupportedLayerError(name, kind, why, "train it again with Keras 3, or use sigmoid")
        absurd = isinstance(value, int) and abs(value) > MAX_INT
        if absurd or (isinstance(value, float) and not math.isfinite(value)):
            what = f"'{shorten(key, 40)}' of " if key else ""
            raise ModelError(
                f"'{self.file}': {what}layer '{name}' ({kind}) is {shorten(value, 30)}\n"
                f"  numbers in a layer's config must be finite, integers at most {MAX_INT:,}"
            )
        return value

    def mapping(self, value: Json, name: str, kind: str, key: str) -> Json:
        """A plain dictionary, one of Keras's marked values, a function by name, or an inner layer."""
        marked: Mapping[str, Callable[[Json, str, str, str], Json]] = {
            "__keras_tensor__": self.plain,
            "__numpy__": self.plain,
            "__tensor__": self.plain,
            "function": self.function,
        }
        class_name = value.get("class_name")
        if class_name is None:
            return self.plain(value, name, kind, key)
        if isinstance(class_name, str) and class_name in marked:
            return marked[class_name](value, name, kind, key)
        if isinstance(class_name, str) and class_name.startswith("__"):
            why = f"its config holds a {shorten(class_name, 40)} object"
            raise UnsupportedLayerError(name, kind, why, "use built-in layers")
        return self.layer(value)

    def plain(self, value: Json, name: str, kind: str, key: str) -> Json:
        return {k: self.value(v, name, kind, key) for k, v in value.items()}

    def function(self, value: Json, name: str, kind: str, key: str) -> Any:
        """A function by its name: Keras's own functions only, passed on as the plain name."""
        function, registered = value.get("config"), value.get("registered_name")
        keras_own = is_keras_module(value.get("module")) or value.get("module") == "builtins"
        if not isinstance(function, str) or not keras_own or registered not in (None, "", function):
            custom = shorten(registered or function, 60)
            why = f"its {shorten(key, 40)} is the custom function '{custom}', whose code is not in the file"
            raise UnsupportedLayerError(name, kind, why, "use one of Keras's own functions")
        return function
