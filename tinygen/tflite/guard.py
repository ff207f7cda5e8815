"""What a damaged file makes Python raise becomes one ModelError."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from tinygen.errors import ModelError, TinygenError


@contextmanager
def guard(where: str) -> Iterator[None]:
    """Turn whatever a damaged file makes Python raise into a ModelError that says where it happened."""
    try:
        yield
    except TinygenError:
        raise
    except Exception as error:
        raise ModelError(
            f"{where} is damaged: {_cause(error)}\n"
            "  export the model again, or check that the file was copied completely"
        ) from error


def _cause(error: BaseException) -> str:
    """What a user can make of an exception while parsing: mostly an offset that leads out of the file."""
    why = " ".join(str(error).split())[:120]
    if isinstance(error, (struct.error, IndexError, TypeError)) or "buffer" in why:
        return "a part of it points outside the file"
    if isinstance(error, AttributeError):
        return "its attributes are those of another operator"
    return f"{type(error).__name__}: {why}" if why else type(error).__name__
