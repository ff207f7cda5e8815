"""What Renode needs to know of a board: a platform (.repl) and a script (.resc), from its description.

The platform holds exactly the board's memory, core, console and timer, and stubs of the registers that the start-up
steps touch: every write must be the next step of that register with its value, what is waited for is ready at once.
Whether the steps give the clock that the board claims is another matter: the tests decode them with clock trees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import jinja2

from tinygen import locate
from tinygen.boards import Board, Console, StartStep
from tinygen.emulators.peripherals import PAGE, SYSTEM_CONTROL_SPACE, TIMERS

MIPS = 100
"""Instructions a virtual microsecond. A timer of as many MHz then counts instructions exactly."""
UNSIZED_UARTS = ("UART.STM32_UART",)
"""Models that do not say how many bytes of addresses they take."""
SCRIPT_SECONDS = 600
"""Wall time after which the script ends by itself, unless it is given another."""


def platform(board: Board) -> str:
    """The text of board.repl. The board must have a [renode] table."""
    assert board.renode is not None
    timer = TIMERS[board.timer.kind]
    return (
        environment()
        .get_template("board.repl.j2")
        .render(
            board=board,
            mips=MIPS,
            steps=(steps := stubbed_steps(board)),
            registers=sorted({step.address for step in steps}),
            unsized=UNSIZED_UARTS,
            uart_settings=uart_settings(board.console),
            timer_bytes=PAGE,
            timer_counter=timer.counter,
            timer_counts_down=timer.counts_down,
        )
    )


def script(board: Board, seconds: int = SCRIPT_SECONDS) -> str:
    """The text of run.resc, which stands beside board.repl, firmware.elf and inputs.bin."""
    return environment().get_template("run.resc.j2").render(board=board, seconds=seconds)


def stubbed_steps(board: Board) -> tuple[StartStep, ...]:
    """The start-up steps on registers that Renode does not have: all but those of the core itself (its MPU)."""
    core = range(SYSTEM_CONTROL_SPACE, SYSTEM_CONTROL_SPACE + PAGE)
    return tuple(step for step in board.startup.steps if step.address not in core)


def uart_settings(console: Console) -> Mapping[str, str]:
    """Properties that Renode's UART model wants for this kind of console."""
    clock = str(console.clock_hz)
    return {
        "stm32_usart": {"frequency": clock},
        "stm32_usart_v2": {"frequency": clock},
        "stm32_lpuart": {"frequency": clock, "lowPowerMode": "true"},
        "pl011": {"frequency": clock},
        "imxrt_lpuart": {"frequency": clock},
    }.get(console.kind, {})


@cache
def environment() -> jinja2.Environment:
    """Templates of the folder renode/: strict, so that a missing value is an error."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(locate.folder("renode")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["line_comment"] = lambda text: re.sub(r"[^\x20-\x7e]|[*/]{2}|'{3}", "?", text)
    return env
