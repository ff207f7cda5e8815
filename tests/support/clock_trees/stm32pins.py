"""GPIO ports of all STM32 but the F1: who drives a pin. The same in RM0091, RM0444, RM0090, RM0390 and RM0432."""

from __future__ import annotations

from tests.support.clock_trees.stm32_steps import Registers

ALTERNATE = 2


def is_function(registers: Registers, port: int, pin: int, function: int) -> bool:
    """Whether MODER gives the pin to its alternate function and AFRL names that function. port: base; pin: 0 to 7."""
    mode = registers.get(port, 0) >> 2 * pin & 3
    return mode == ALTERNATE and registers.get(port + 0x20, 0) >> 4 * pin & 15 == function
