"""The few registers that the firmware touches, for Unicorn, which models a core and nothing around it.

Offsets: the same manuals as in templates/firmware/console_*.c.j2 and timer_*.c.j2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PAGE = 0x1000


@dataclass(frozen=True)
class Registers:
    """Registers of one device by offset. data: write sends a character; counter: read gives the count.

    constant: reads give this value, writes do nothing; plain: written without effect. Other accesses fault.
    Consoles show that there is room to send and that nothing was received.
    counts_down: the counter reads as 0xFFFFFFFF minus the count.
    """

    plain: frozenset[int]
    constant: Mapping[int, int] = field(default_factory=dict)
    data: int | None = None
    counter: int | None = None
    counts_down: bool = False


CONSOLES = {
    "cmsdk_uart": Registers(frozenset({0x08, 0x10}), {0x04: 0}, data=0x00),
    "nrf51_uart": Registers(
        frozenset({0x000, 0x008, 0x500, 0x50C, 0x514, 0x524}), {0x108: 0, 0x11C: 1}, data=0x51C
    ),
    "stm32_usart": Registers(frozenset({0x08, 0x0C}), {0x00: 0xC0}, data=0x04),
    "stm32_usart_v2": Registers(frozenset({0x00, 0x08, 0x0C}), {0x1C: 0xC0}, data=0x28),
    "stm32_lpuart": Registers(frozenset({0x00, 0x08, 0x0C}), {0x1C: 0xC0}, data=0x28),
    "pl011": Registers(frozenset({0x24, 0x28, 0x2C, 0x30}), {0x18: 0x10}, data=0x00),
    "imxrt_lpuart": Registers(frozenset({0x10, 0x18}), {0x14: 0x0080_0000}, data=0x1C),
}
TIMERS = {
    "cmsdk_timer": Registers(frozenset({0x00, 0x08}), counter=0x04, counts_down=True),
    "nrf51_timer": Registers(frozenset({0x00, 0x40, 0x504, 0x508, 0x510}), counter=0x540),
    "dwt": Registers(frozenset({0x00, 0xFB0}), counter=0x04),
    "stm32_timer": Registers(frozenset({0x00, 0x14, 0x28, 0x2C}), counter=0x24),
    "rp2040_timer": Registers(frozenset(), counter=0x28),
}
SYSTEM_CONTROL_SPACE = 0xE000E000
SYSTEM_CONTROL = Registers(
    frozenset({0xD08, 0xD14, 0xD84, 0xD88, 0xD94, 0xD98, 0xD9C, 0xDA0, 0xDFC, 0xF50, 0xF60})
)
