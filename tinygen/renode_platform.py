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
from tinygen.boards import Board, Console
from tinygen.emulators.peripherals import PAGE, TIMERS

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
        _environment()
        .get_template("board.repl.j2")
        .render(
            board=board,
            mips=MIPS,
            registers=sorted({step.address for step in board.startup.steps}),
            unsized=UNSIZED_UARTS,
            uart_settings=uart_settings(board.console),
            timer_bytes=PAGE,
            timer_counter=timer.counter,
            timer_counts_down=timer.counts_down,
        )
    )


def script(board: Board, vectors: int, input_start: int, seconds: int = SCRIPT_SECONDS) -> str:
    """The text of run.resc. vectors, input_start: addresses of the vector table and the input block."""
    template = _environment().get_template("run.resc.j2")
    return template.render(board=board, vectors=vectors, input_start=input_start, seconds=seconds)


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
def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(locate.folder("renode")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["line_comment"] = lambda text: re.sub(r"[^\x20-\x7e]|[*/]{2}", "?", text)
    return env
