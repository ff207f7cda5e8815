"""What kernels of DSP cores that go over elements share: words of four, the last rounding, and whether to clamp."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Words(ABC):
    """`count` elements, of any dataclass that says how many: words of four, and a rest."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many."""

    @property
    def words(self) -> int:
        return self.count // 4

    @property
    def rest(self) -> int:
        return self.count % 4


def clamps(activation_min: int, activation_max: int) -> bool:
    """Saturation to int8 is not enough for these bounds."""
    return (activation_min, activation_max) != (-128, 127)


class Clamped:
    """activation_min, activation_max: bounds of int8 outputs, fields of the dataclass that is one."""

    activation_min: int
    activation_max: int

    @property
    def clamps(self) -> bool:
        return clamps(self.activation_min, self.activation_max)


def rounding(zero_point: int, right: int) -> int:
    """Added before the last shift to the right (0 or less: there is none): half a step and the output's zero_point."""
    return (1 + 2 * zero_point) << (right - 1) if right >= 1 else zero_point
