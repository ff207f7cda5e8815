"""What a damaged file makes the parser of FlatBuffers raise becomes one ModelError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tinygen.errors import ModelError


@contextmanager
def guard(where: str) -> Iterator[None]:
    """Around code that reads the file: a ModelError says where it is damaged.

    Offsets that lead out of the file make the parser raise all sorts of exceptions, so who raised it decides: what
    tinygen's own code raises, it raises on purpose or by a bug, and passes as it is.
    """
    try:
        yield
    except Exception as error:
        if _is_ours(error):
            raise
        raise ModelError(
            f"{where} is damaged: a part of it points outside the file\n"
            "  export the model again, or check that the file was copied completely"
        ) from error


def _is_ours(error: Exception) -> bool:
    """True when the innermost Python code that raised belongs to tinygen."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("tinygen.")
