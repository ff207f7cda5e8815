"""Lazy access to the FlatBuffers schema of .tflite files, as LiteRT or TensorFlow ship it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from tinygen.errors import ToolError

IDENTIFIER = b"TFL3"
"""Bytes 4..7 of every .tflite file."""

MODULES = ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated")


@cache
def schema() -> Any:
    """The generated schema module. Raises ToolError with the line that installs it."""
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ToolError(
        "the schema of .tflite files is missing: neither ai-edge-litert nor tensorflow is installed\n"
        "  pip install ai-edge-litert"
    )


@cache
def builtin_names() -> Mapping[int, str]:
    """Operator code -> name, such as 3 -> CONV_2D."""
    return _inverted(schema().BuiltinOperator)


@cache
def type_names() -> Mapping[int, str]:
    """Tensor type -> name in lower case, such as 9 -> int8."""
    return MappingProxyType({code: name.lower() for code, name in _inverted(schema().TensorType).items()})


@cache
def activation_names() -> Mapping[int, str]:
    """Fused activation code -> name, such as 1 -> RELU."""
    return _inverted(schema().ActivationFunctionType)


def _inverted(enum: type) -> Mapping[int, str]:
    return MappingProxyType({v: k for k, v in vars(enum).items() if not k.startswith("_")})
