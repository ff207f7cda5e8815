"""Names and arguments of the keywords that renode-test gives to a suite. A dry run calls none of them."""

from __future__ import annotations

from typing import Any

Flag = Any


def execute_command(command: str, machine: str | None = None) -> str:
    """One command of Renode's monitor; returns what it prints."""
    return f"{machine}: {command}"


def create_log_tester(timeout: float, defaultPauseEmulation: Flag = None) -> None:  # noqa: N803
    """Watch Renode's own log."""


def should_not_be_in_log(
    pattern: str,
    timeout: Flag = None,
    treatAsRegex: Flag = False,  # noqa: N803
    pauseEmulation: Flag = None,  # noqa: N803
    level: Flag = None,
) -> None:
    """Fail when Renode logged this."""


def create_terminal_tester(
    uart: str,
    timeout: Flag = None,
    machine: Flag = None,
    endLineOption: Flag = None,  # noqa: N803
    defaultPauseEmulation: Flag = None,  # noqa: N803
) -> int:
    """Watch a UART."""
    return 0


def wait_for_line_on_uart(
    content: str,
    timeout: Flag = None,
    testerId: Flag = None,  # noqa: N803
    treatAsRegex: Flag = False,  # noqa: N803
    includeUnfinishedLine: Flag = False,  # noqa: N803
    pauseEmulation: Flag = None,  # noqa: N803
    matchNextLine: Flag = False,  # noqa: N803
) -> Any:
    """Run until a line comes."""


def allocate_temporary_file() -> str:
    """Path of a file that Renode removes at its end."""
    return ""
