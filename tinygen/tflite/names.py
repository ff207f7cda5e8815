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

OPERATION = re.compile(r"^[A-Z][A-Za-z0-9]*(_\d+)?$")
"""Path components that are operations: those in CamelCase."""

INNER = re.compile(
    r"^(resource|depthwise|convolution|conv_transpose|batchnorm|strided_slice|resize)(_?\d+)?$"
)
"""Operations in lower case that only occur inside a layer."""

AMBIGUOUS = re.compile(r"^(add|sub|mul|concat|truediv|transpose|conv2d_transpose|separable_conv2d)(_?\d+)?$")
"""Operations that are called like layers: they are operations below 'model/layer/'."""

NOTHING = re.compile(
    r"^((Identity|StatefulPartitionedCall|PartitionedCall|serving_default|tensor)(_\d+)?(_int8)?"
    r"|(arith|tfl|tf)\.\w+)$"
)
"""Names that converters make up."""

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

    def unique(self, name: str, kind: str = "") -> str:
        """The name; when it is taken name_kind (unless it says so already); else name_1, name_2, ..."""
        candidate = name
        if name in self._next and kind and kind.lower() not in name:
            name = candidate = f"{name}_{kind.lower()}"
        while candidate in self._next:
            self._next[name] += 1
            candidate = f"{name}_{self._next[name]}"
        self._next[candidate] = 0
        return candidate


def _layer(path: str) -> str:
    """The layer in 'model/dense_1/MatMul' or 'model/add/add': what stands before the operation, or ''."""
    components = [c for c in re.sub(r":\d+$", "", path).split("/") if c and not NOTHING.match(c)]
    if not components:
        return ""
    end = next((i for i, c in enumerate(components) if i and _is_operation(c, i)), len(components))
    layer = components[end - 1]
    if OPERATION.match(layer):  # CamelCase scopes, such as MobilenetV1/Conv2d_0/Relu6
        layer = components[-2] if len(components) > 1 else ""
    return clean(layer)


def _is_operation(component: str, depth: int) -> bool:
    return bool(
        OPERATION.match(component) or INNER.match(component) or (depth > 1 and AMBIGUOUS.match(component))
    )
