"""Counting Thumb instructions in bytes of code (Armv7-M ARM, A5.1: the first halfword tells the length)."""

from __future__ import annotations

import struct


def count_instructions(code: bytes) -> int:
    """Instructions in a stretch of code that starts at one and ends behind one."""
    halfwords = struct.unpack(f"<{len(code) // 2}H", code)
    at = count = 0
    while at < len(halfwords):
        at += 2 if halfwords[at] >= 0xE800 else 1
        count += 1
    return count
