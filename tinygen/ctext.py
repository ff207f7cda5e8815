"""Model data as C text: literals, comments, identifiers, and the one template environment that all templates share.

Nothing from a model (names, labels, values) gets into C but through these functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache

import jinja2
import numpy as np

from tinygen import locate
from tinygen.errors import UsageError
from tinygen.graph import Array

C_TYPES: Mapping[str, str] = {
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "float32": "float",
}
C_KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long "
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "main int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t tg".split()
)
"""What a prefix may not be: keywords of C99, and names that generated code uses."""

C_HEADERS = frozenset(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg stdbool stddef "
    "stdint stdio stdlib string tgmath time wchar wctype".split()
)
"""Headers of the C library: a model's own <name>.h must not stand in front of them on an include path."""


def check_prefix(name: str) -> str:
    """Return `name` if it can prefix C identifiers, else raise UsageError."""
    if not _is_prefix(name):
        raise UsageError(
            f"--name '{name}' cannot prefix C identifiers: 1 to 32 of a-z, 0-9 and _, starting with a letter, "
            f"no C keyword or header, not starting with tg_\n  try --name {suggest_prefix(name)}"
        )
    return name


def _is_prefix(name: str) -> bool:
    reserved = name in C_KEYWORDS or name in C_HEADERS or name.startswith("tg_")
    return bool(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name)) and not reserved


def suggest_prefix(text: str) -> str:
    """A valid C prefix made from any text, e.g. a file's stem."""
    base = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]+", "_", text.lower())).strip("_")[:32].rstrip("_")
    return base if _is_prefix(base) else f"model_{base}"[:32].rstrip("_")


@cache
def environment() -> jinja2.Environment:
    """The one template environment: strict, so that a missing value is an error and not an empty string."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(locate.folder("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["c_int"] = c_int
    env.filters["c_array"] = c_array
    env.filters["c_float"] = c_float
    env.filters["c_comment"] = c_comment
    env.filters["c_string"] = c_string
    return env


def c_int(value: int) -> str:
    """An int32 literal: INT32_MIN has none of its own in C."""
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)


def c_float(value: float) -> str:
    """A float literal that reads back as exactly this float32; infinities by their names in <math.h>."""
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = repr(float(np.format_float_positional(np.float32(value), unique=True)))
    return f"{text}f"


def c_comment(text: str) -> str:
    """Text from the model that cannot end a C comment or break a line."""
    return re.sub(r"[^\x20-\x7e]", "?", text).replace("\\", "/").replace("*/", "* /").replace("/*", "/ *")


def c_string(text: str) -> str:
    """A C string literal of any text (UTF-8, everything unusual as octal escapes)."""
    plain = set(range(0x20, 0x7F)) - {ord('"'), ord("\\"), ord("?")}
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def c_array(values: Array, per_line: int = 16) -> str:
    """Comma-separated literals of integers or finite float32, `per_line` on each line (half as many of float32)."""
    if values.dtype == np.float32:
        assert np.isfinite(values).all(), "a constant that is not finite"
        flat, per_line = [f"{v!s}f" for v in values.reshape(-1)], per_line // 2
    else:
        flat = [c_int(v) for v in values.reshape(-1).tolist()]
    lines = (", ".join(flat[i : i + per_line]) for i in range(0, len(flat), per_line))
    return ",\n".join(f"    {line}" for line in lines)


class Symbols:
    """C identifiers below the model's prefix, unique and derived from the layer's name."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._taken: set[str] = set()

    def make(self, *parts: str) -> str:
        """prefix_part_part, with characters that C does not know replaced, numbered if taken."""
        base = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9]+", "_", "_".join(parts))).strip("_").lower()[:80]
        name, count = f"{self._prefix}_{base}", 1
        while name in self._taken:
            name, count = f"{self._prefix}_{base}_{count}", count + 1
        self._taken.add(name)
        return name
