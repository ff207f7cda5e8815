"""The emulators, one file each behind one Protocol (base.py). Adding one: a file and a line here."""

from __future__ import annotations

from tinygen.emulators.base import Emulator
from tinygen.emulators.host import Host
from tinygen.emulators.qemu import Qemu
from tinygen.emulators.renode import Renode
from tinygen.emulators.serial_ import Serial, with_port
from tinygen.emulators.unicorn_ import Unicorn
from tinygen.errors import UsageError, did_you_mean

EMULATORS: tuple[Emulator, ...] = (Qemu(), Unicorn(), Host(), Host(sanitize=True), Renode(), Serial())

__all__ = [
    "EMULATORS",
    "Emulator",
    "Host",
    "Qemu",
    "Renode",
    "Serial",
    "Unicorn",
    "find_emulator",
    "with_port",
]


def find_emulator(name: str) -> Emulator:
    """The emulator of that name. Raises UsageError."""
    names = [e.name for e in EMULATORS]
    if name not in names:
        raise UsageError(
            f"there is no emulator '{name}'{did_you_mean(name, names)}\n  known: {', '.join(names)}"
        )
    return EMULATORS[names.index(name)]
