"""What a user's firmware may take at most: the same budgets for fit, prune, compile and profile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from tinygen.errors import UsageError

AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kKmM%]?)\s*")
BYTES = ("sram", "flash", "weights")
"""Resources whose K is 1,024; for the others it is 1,000."""


@dataclass(frozen=True)
class Budgets:
    """None: whatever the board has. sram, flash, weights: bytes. macs: multiply-accumulates of an inference.

    cycles: of a warm inference, modelled; ms: the same at the board's clock.
    """

    sram: int | None = None
    flash: int | None = None
    ms: float | None = None
    cycles: int | None = None
    macs: int | None = None
    weights: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.given():
            if not value > 0:
                raise UsageError(f"--budget-{name} is {value}\n  it must be greater than 0")

    def given(self) -> Iterator[tuple[str, float]]:
        """(resource, amount) of every budget that is set."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                yield field.name, value


NO_BUDGETS = Budgets()
"""Whatever the board has."""


def amount(name: str, text: str | float, whole: float | None) -> float:
    """What '80K', '1.6M', '60%' or a number means for a resource of which the original takes `whole`.

    Raises UsageError.
    """
    found = AMOUNT.fullmatch(str(text))
    if not found or not float(found[1]) > 0:
        raise UsageError(
            f"--budget-{name} is '{text}'\n"
            "  give a number greater than 0: 81920, 80K, 1.5M, or 60% of what the original takes"
        )
    number, unit = float(found[1]), found[2].upper()
    if unit == "%":
        if whole is None:
            raise UsageError(
                f"--budget-{name} {text} is a share of what the original takes, which is not known on this board\n"
                "  give a budget in other units, such as --budget-macs"
            )
        return number / 100 * whole
    kilo = 1024 if name in BYTES else 1000
    return number * {"": 1, "K": kilo, "M": kilo**2}[unit]


def resolve(texts: Mapping[str, str | float | None], original: Any) -> Budgets:
    """Budgets of texts by resource; percents are of what `original` takes (pruning.records.Cost; None: not known)."""
    given = {
        name: amount(name, text, original.of(name) if original else None)
        for name, text in texts.items()
        if text is not None
    }
    return Budgets(**{name: value if name == "ms" else int(value) for name, value in given.items()})  # type: ignore[arg-type]
