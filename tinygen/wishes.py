"""What the user said of memory: what is pinned where, where weights have their home, how much may be taken."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tinygen.boards import Board
from tinygen.errors import UsageError, did_you_mean

Pin = Literal["auto", "all", "none"]
PINS: tuple[Pin, ...] = ("auto", "all", "none")


@dataclass(frozen=True)
class Wishes:
    """What the user said. pin, pin_code: for all; layers: layer name -> region's name, "flash" or "auto".

    budget_sram, budget_flash: bytes of writable memory and of the code region in all, None for what the board has.
    weights: the region where constant arrays have their home, None for that of the code.
    """

    pin: Pin = "auto"
    pin_code: Pin = "auto"
    layers: Mapping[str, str] = field(default_factory=dict)
    budget_sram: int | None = None
    budget_flash: int | None = None
    weights: str | None = None


NONE = Wishes()
"""What a user who says nothing gets."""


def read_wishes(
    pin: str,
    pin_code: str = "auto",
    budget_sram: int | None = None,
    budget_flash: int | None = None,
    weights: str | None = None,
) -> Wishes:
    """Wishes from the command line's words. pin: one of PINS, or a .toml file with layers. Raises UsageError."""
    code = _pin("--pin-code", pin_code, ", or leave it out")
    if not pin.endswith(".toml"):
        return Wishes(_pin("--pin", pin, " or a .toml file"), code, {}, budget_sram, budget_flash, weights)
    try:
        data = tomllib.loads(Path(pin).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise UsageError(f"--pin '{pin}' cannot be read: {problem}") from None
    layers = data.pop("layers", {})
    general = data.pop("default", "auto")
    if data or not isinstance(layers, dict) or not all(isinstance(v, str) for v in layers.values()):
        raise UsageError(
            f"--pin '{pin}' is not understood{f': unknown key {next(iter(data))!r}' if data else ''}\n"
            '  it may hold default = "auto" (or "all", "none") and a table [layers] with lines like conv2d_3 = "sram"'
        )
    default = _pin(f"default of '{pin}'", str(general), "")
    return Wishes(default, code, layers, budget_sram, budget_flash, weights)


def _pin(what: str, value: str, more: str) -> Pin:
    for known in PINS:
        if value == known:
            return known
    raise UsageError(f"{what} is '{value}'{did_you_mean(value, PINS)}\n  allowed: {', '.join(PINS)}{more}")


def check_layers(known: Collection[str], board: Board, wishes: Wishes) -> None:
    """Raise UsageError where the file of --pin names what there is not. known: layers that have arrays."""
    regions = [r.name for r in board.writable]
    for layer, wish in wishes.layers.items():
        if layer not in known:
            raise UsageError(
                f"--pin names layer '{layer}', the model has none such with weights{did_you_mean(layer, known)}\n"
                "  'tinygen inspect' lists the layers"
            )
        if wish not in (*regions, "flash", "auto"):
            raise UsageError(
                f"--pin puts layer '{layer}' into '{wish}'{did_you_mean(wish, regions)}\n"
                f"  board '{board.name}' has {', '.join(regions)}; or say flash or auto"
            )


def able_boards(boards: Sequence[Board], weights: str | None) -> Sequence[Board]:
    """Those where the region can be the weights' home. Raises UsageError when there is none."""
    able = [b for b in boards if weights is None or weights in (r.name for r in b.regions if not r.writable)]
    if not able:
        known = sorted(
            {r.name for b in boards for r in b.regions if not r.writable and r.name != b.code.name}
        )
        raise UsageError(
            f"--weights '{weights}': no board has such a read-only region{did_you_mean(str(weights), known)}\n"
            f"  besides those of code there are: {', '.join(known) or 'none'}"
        )
    return able


def check_weights(weights: str | None, boards: Sequence[Board]) -> None:
    """Raise UsageError that names the first board where the region cannot be the weights' home; None always can."""
    for board in boards if weights is not None else ():
        known = [r.name for r in board.regions if not r.writable]
        if weights not in known:
            raise UsageError(
                f"--weights '{weights}': {_why_not(str(weights), board)}\n  {_instead(board, known)}"
            )


def _why_not(weights: str, board: Board) -> str:
    regions = [r.name for r in board.regions]
    if weights in regions:
        return f"board '{board.name}' writes that region: weights get into it by --pin, not by --weights"
    return f"board '{board.name}' has no such region{did_you_mean(weights, regions)}"


def _instead(board: Board, known: Sequence[str]) -> str:
    """What the board has for weights. known: its read-only regions."""
    if len(known) > 1:
        named = (f"{name} (that of the code)" if name == board.code.name else name for name in known)
        return f"its read-only regions are {', '.join(named)}"
    why = " (no board that QEMU knows has; Unicorn and Renode run the others)" if board.qemu else ""
    return (
        f"its only read-only region is '{board.code.name}', where the code is: leave --weights out, "
        f"or take a board with external flash{why}"
    )
