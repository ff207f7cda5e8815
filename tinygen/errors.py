"""Every error that tinygen raises at its user.

One hierarchy. Each message names the thing as the user knows it, the actual value, what is allowed and what to
do next, in one to five lines. The library raises; only the command line prints them and picks exit codes.
Assertions elsewhere are for tinygen's own bugs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TinygenError(Exception):
    """Base of all errors meant for the user: str(error) is the whole message, without the word 'error'."""


class ModelError(TinygenError):
    """The model cannot be read, or holds something that tinygen refuses."""


class UnsupportedLayerError(ModelError):
    """A layer (or TFLite operator) of the model is not supported."""

    def __init__(
        self, layer: str, kind: str, why: str, instead: str = "see 'tinygen ops' for what is supported"
    ):
        super().__init__(f"layer '{layer}' ({kind}) is not supported: {why}\n  {instead}")
        self.layer, self.kind = layer, kind


class DataError(TinygenError):
    """Samples (representative, evaluation or inputs) cannot be read or do not fit the model."""


class BoardError(TinygenError):
    """A board is unknown, its description is wrong, or the model does not fit it."""


class BudgetError(TinygenError):
    """The model fits the board but not a budget that the user set."""


class ToolError(TinygenError):
    """A program that tinygen calls is missing or failed."""


class RunError(TinygenError):
    """Running firmware went wrong in a way that is not an Outcome."""


class BenchError(TinygenError):
    """A bench's TOML or its baseline is wrong."""


class OutputError(TinygenError):
    """The output folder cannot be written."""


class UsageError(TinygenError):
    """Options that contradict each other or are out of range."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ", did you mean 'x'?" for the nearest known name, or ''."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean '{near[0]}'?" if near else ""


def bytes_text(count: int) -> str:
    """Bytes with thousands separators, as all messages show them."""
    return f"{count:,} bytes"
