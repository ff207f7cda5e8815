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


@cache
def options_name(kind: str) -> str | None:
    """Name of the class that holds the options of an operator, such as CONV_2D -> Conv2DOptionsT; None: has none."""
    wanted = {"AVERAGE_POOL_2D": "POOL_2D", "MAX_POOL_2D": "POOL_2D"}.get(kind, kind)
    lower = f"{wanted.replace('_', '')}OptionsT".lower()
    return next((name for name in vars(schema()) if name.lower() == lower), None)


def _inverted(enum: type) -> Mapping[int, str]:
    return MappingProxyType({v: k for k, v in vars(enum).items() if not k.startswith("_")})
