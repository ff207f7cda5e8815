"""How an image gets into a board: one command, or two where the weights lie in a memory that needs a loader of its own.

Pure text. In commands {elf} and {build} stand for the image and its folder.
"""

from __future__ import annotations

from tinygen.boards import Board, Region

WEIGHTS = "'.weights*'"
"""The sections of the weights' own region, as objcopy takes them (firmware/pins.ld.j2)."""
CODE_HEX, WEIGHTS_HEX = "{build}/code.hex", "{build}/weights.hex"
CODE_ONLY = f"arm-none-eabi-objcopy -O ihex --remove-section={WEIGHTS} {{elf}} {CODE_HEX}"
WEIGHTS_ONLY = f"arm-none-eabi-objcopy -O ihex --only-section={WEIGHTS} {{elf}} {WEIGHTS_HEX}"


def flash_command(board: Board, weights_apart: bool) -> str:
    """What writes the image into the board's code region; "" where the board's description names no command.

    weights_apart: the image has weights in another region, which the command's program would not find.
    """
    command = board.flash_command
    return f"{CODE_ONLY} && {command.replace('{elf}', CODE_HEX)}" if command and weights_apart else command


def weights_command(region: Region) -> str:
    """What writes WEIGHTS_HEX into the weights' own region; "" where the board's description does not say."""
    return region.programming.replace("{hex}", WEIGHTS_HEX)


def filled(command: str, elf: str, build: str) -> str:
    """The command for one image."""
    return command.replace("{elf}", elf).replace("{build}", build)
