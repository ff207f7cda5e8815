"""What a FAULT line means, as a sentence.

Registers: Armv7-M (DDI 0403) and Armv8-M (DDI 0553) Architecture Reference Manuals, System Control Space.
"""

from __future__ import annotations

from collections.abc import Mapping

EXCEPTIONS = {
    2: "a non-maskable interrupt",
    3: "a hard fault",
    4: "a memory management fault",
    5: "a bus fault",
    6: "a usage fault",
    7: "a secure fault",
}

CFSR_BITS = {
    0: "instruction fetch denied",
    1: "data access denied",
    3: "access denied when leaving an exception",
    4: "access denied when entering an exception",
    8: "bus error on an instruction fetch",
    9: "bus error on a data access",
    10: "bus error, imprecise",
    11: "bus error when leaving an exception",
    12: "bus error when entering an exception",
    16: "undefined instruction",
    17: "invalid state (a jump to an even address?)",
    18: "invalid return from an exception",
    19: "coprocessor or FPU is off",
    20: "stack limit reached",
    24: "unaligned access",
    25: "division by zero",
}
STACKING_BITS = (1 << 4) | (1 << 12) | (1 << 20)
MMFAR_VALID, BFAR_VALID = 1 << 7, 1 << 15
GUARD_BYTES = 64 * 1024

KINDS = {
    "no-inputs": "the input block was not filled: it does not start with its magic number",
    "bad-record": "the input block holds a record that is cut off or names no model",
    "lockup": "the core locked up: a fault inside the fault handler",
    "sanitizer": "the host's sanitizer stopped it",
    "signal": "the host stopped it by a signal",
}

Functions = Mapping[str, tuple[int, int]]
"""Name -> (address, size in bytes)."""


def describe(fields: Mapping[str, str], functions: Functions) -> str:
    """One clause: what happened, to which address, in which function. fields: of the FAULT line."""
    numbers = {key: _hex(value) for key, value in fields.items()}
    kind = fields.get("kind", "")
    what = KINDS.get(kind) or _exception(fields, numbers)
    if "text" in fields:
        what += f" ({fields['text'].replace('_', ' ')})"
    address = fault_address(numbers)
    if address is not None:
        what += f", address {address:#010x}"
    if overflowed(numbers):
        what = f"stack overflow: {what}"
    if (pc := numbers.get("pc")) is not None:
        what += f", at {pc & ~1:#010x}{_in_function(pc & ~1, functions)}"
    return what


def overflowed(numbers: Mapping[str, int | None]) -> bool:
    """True when the stack pointer or the faulting address is just below the stack."""
    low = numbers.get("stack")
    if low is None:
        return False
    sp, address = numbers.get("sp"), fault_address(numbers)
    return (
        bool((numbers.get("cfsr") or 0) & STACKING_BITS)
        or (sp is not None and sp < low)
        or (address is not None and low - GUARD_BYTES <= address < low)
    )


def fault_address(numbers: Mapping[str, int | None]) -> int | None:
    """The address whose access failed, where it is known."""
    if (address := numbers.get("address")) is not None:
        return address
    cfsr = numbers.get("cfsr") or 0
    if cfsr & MMFAR_VALID:
        return numbers.get("mmfar")
    return numbers.get("bfar") if cfsr & BFAR_VALID else None


def _exception(fields: Mapping[str, str], numbers: Mapping[str, int | None]) -> str:
    """Name of the exception and the reasons that CFSR gives; or the access that an emulator refused."""
    if "access" in fields:
        return f"{fields['access'].replace('_', ' ')} outside the board's memory"
    number = int(fields["number"]) if fields.get("number", "").isdigit() else -1
    cfsr = numbers.get("cfsr") or 0
    reasons = [text for bit, text in CFSR_BITS.items() if cfsr >> bit & 1]
    name = EXCEPTIONS.get(number, f"exception {number}" if number >= 0 else "a fault")
    return f"{name}: {', '.join(reasons)}" if reasons else name


def _in_function(pc: int, functions: Functions) -> str:
    for name, (address, size) in functions.items():
        if size and address & ~1 <= pc < (address & ~1) + size:
            return f" in {name}()"
    return ""


def _hex(value: str) -> int | None:
    try:
        return int(value, 16)
    except ValueError:
        return None
