"""What a user's firmware may take at most: the same budgets for fit, prune, compile and profile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from tinygen.errors import UsageError


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
