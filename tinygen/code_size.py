"""What code weighs before a compiler has seen it."""

from __future__ import annotations

import re

BYTES_PER_TOKEN = 1.6
"""Thumb-2 bytes per identifier, number or operator of a kernel's C at -O2; see benchmarks and docs."""
BYTES_PER_CYCLE = 2.6
"""Bytes of code fetched per cycle of the kernels' cost: an instruction has 2 or 4 bytes and takes a cycle or more."""


def function_bytes(text: str) -> int:
    """Estimated bytes of a kernel's code from its C."""
    code = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    return int(BYTES_PER_TOKEN * len(re.findall(r"\w+|[^\w\s]", code)))


def executed_bytes(cycles: float) -> int:
    """Estimated bytes of code fetched in so many cycles."""
    return int(BYTES_PER_CYCLE * cycles)
