"""Programs that write an image into a real board, without PlatformIO's uploader packages."""

from __future__ import annotations

from collections.abc import Mapping

from tinygen.boards import Board

OPENOCD = (
    'openocd -f interface/{probe}.cfg {more}-f target/{target}.cfg -c "program {{elf}} verify reset exit"'
)

OPENOCD_TARGETS: Mapping[str, tuple[str, str, str]] = {
    "nucleo_f0": ("stlink", "", "stm32f0x"),
    "nucleo_f4": ("stlink", "", "stm32f4x"),
    "nucleo_f7": ("stlink", "", "stm32f7x"),
    "nucleo_g0": ("stlink", "", "stm32g0x"),
    "nucleo_h7": ("stlink", "", "stm32h7x"),
    "nucleo_l4": ("stlink", "", "stm32l4x"),
    "nucleo_l5": ("stlink", "", "stm32l5x"),
    "disco_f4": ("stlink", "", "stm32f4x"),
    "disco_f7": ("stlink", "", "stm32f7x"),
    "nrf52840_dk": ("jlink", '-c "transport select swd" ', "nrf52"),
    "pico": ("cmsis-dap", '-c "adapter speed 5000" ', "rp2040"),
}
"""Beginning of PlatformIO's board name -> OpenOCD's debug probe, commands between, and target."""

OTHERS: Mapping[str, str] = {
    "teensy41": "arm-none-eabi-objcopy -O ihex {elf} {build}/firmware.hex && "
    "teensy_loader_cli --mcu=TEENSY41 -w -v {build}/firmware.hex"
}


def flash_command(board: Board) -> str:
    """The command that flashes the board; {elf} and {build} stand for the image and its folder. "" where none."""
    if board.platformio is None:
        return ""
    name = board.platformio.board
    if name in OTHERS:
        return OTHERS[name]
    for beginning, (probe, more, target) in OPENOCD_TARGETS.items():
        if name.startswith(beginning):
            return OPENOCD.format(probe=probe, more=more, target=target)
    return ""
