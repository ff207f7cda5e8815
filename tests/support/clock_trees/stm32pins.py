"""GPIO ports of all STM32 but the F1: who drives a pin. The same in RM0091, RM0444, RM0090, RM0390 and RM0432."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.clock_trees.stm32_steps import Registers

ALTERNATE = 2


def is_function(registers: Registers, port: int, pin: int, function: int) -> bool:
    """Whether MODER gives the pin to its alternate function and AFRL or AFRH names that function. port: base."""
    mode = registers.get(port, 0) >> 2 * pin & 3
    named = registers.get(port + 0x20 + 4 * (pin // 8), 0) >> 4 * (pin % 8) & 15
    return mode == ALTERNATE and named == function


def are_functions(registers: Registers, port: int, pins: Sequence[int], function: int) -> bool:
    """The same of several pins."""
    return all(is_function(registers, port, pin, function) for pin in pins)
