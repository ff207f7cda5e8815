"""Layer names that a user recognises, from the long tensor names of .tflite files.

Converters name a tensor after all the graph operations that were merged into it: the layer of
'model/activation/Relu;model/batch_normalization/FusedBatchNormV3;model/conv2d/Conv2D' is 'conv2d'.
"""

from __future__ import annotations

import re

OWN_OPERATION = {
    "CONV_2D": ("Conv2D", "Conv1D", "convolution"),
    "DEPTHWISE_CONV_2D": ("depthwise", "Conv2D"),
    "TRANSPOSE_CONV": ("conv2d_transpose", "conv_transpose"),
    "FULLY_CONNECTED": ("MatMul", "Tensordot", "BatchMatMul"),
    "ADD": ("add", "AddV2", "Add"),
    "SUB": ("sub", "Sub"),
    "MUL": ("mul", "Mul"),
}
"""Kind -> path components that tell which of the merged operations the kernel belongs to."""

OPERATION = re.compile(r"^([A-Z][A-Za-z0-9]*(_\d+)?|resource)$")
"""Path components that are operations inside a layer."""

LEAVES = {
    "depthwise",
    "separable_conv2d",
    "conv2d_transpose",
    "convolution",
    "mul",
    "add",
    "sub",
    "concat",
    "truediv",
}
"""Operations that look like layers: they are one only when nothing stands before them."""

NOTHING = re.compile(
    r"^(Identity|StatefulPartitionedCall|PartitionedCall|serving_default|tensor)(_\d+)?(_int8)?$"
)
LONGEST = 48


def layer_name(kind: str, output: str, weights: str | None) -> str:
    """A short name for an operator of that kind, from the names of its output tensor and of its weights."""
    parts = [p for text in (weights, output) if text for p in text.split(";")]
    own = [p for p in parts if set(p.split("/")) & set(OWN_OPERATION.get(kind, ()))]
    found = (_layer(p) for p in [*own, *output.split(";")])
    return next((name for name in found if name), kind.lower().replace(" ", "_"))


def input_name(tensor: str) -> str:
    """A short name for a model input."""
    text = re.sub(r"^serving_default_", "", re.sub(r":\d+$", "", tensor))
    return clean(re.sub(r"_int8$", "", text)) or "input"


def clean(name: str) -> str:
    """Only letters, digits and _ . / -, at most LONGEST of them."""
    return re.sub(r"[^A-Za-z0-9_./-]+", "_", name)[:LONGEST].strip("/_")


class Taken:
    """Names given so far. Numbers equal ones without trying every number again."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """The name, or name_1, name_2, ... when it is taken."""
        candidate = name
        while candidate in self._next:
            self._next[name] += 1
            candidate = f"{name}_{self._next[name]}"
        self._next[candidate] = 0
        return candidate


def _layer(path: str) -> str:
    """The layer in 'model/dense_1/MatMul' or 'model/add/add': without operations; '' for nothing."""
    components = [c for c in re.sub(r":\d+$", "", path).split("/") if c and not NOTHING.match(c)]
    kept = list(components)
    while kept and OPERATION.match(kept[-1]):
        kept.pop()
    if len(kept) > 1 and kept == components and kept[-1] in LEAVES:
        kept.pop()
    return clean(kept[-1]) if kept else ""
