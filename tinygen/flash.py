"""What an image takes of the region that holds code and constants, before a compiler has seen it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinygen.boards import Board
from tinygen.code_size import firmware_bytes
from tinygen.emission import Library
from tinygen.errors import BoardError
from tinygen.firmware import HEADER_BYTES

SURE = 0.9
"""Share of the estimated code that is there for sure: up to this a doubt is left to the linker, which knows."""


@dataclass(frozen=True)
class Shares:
    """Bytes of one memory. parts: what takes how many; room: how many there are."""

    parts: tuple[tuple[str, int], ...]
    room: int

    @property
    def needed(self) -> int:
        """All parts together."""
        return sum(size for _, size in self.parts)

    @property
    def over(self) -> int:
        """Bytes too many; 0 where everything fits."""
        return max(self.needed - self.room, 0)


def limited(board: Board, budget: int | None) -> Board:
    """The board with no more than so many bytes in its code region: linker script and messages follow."""
    if budget is None or budget >= board.code.length:
        return board
    if budget < 256:
        raise BoardError(
            f"--budget-flash {budget:,} is too little for any firmware\n  give bytes, 256 at least"
        )
    regions = tuple(replace(r, length=budget) if r.name == board.code.name else r for r in board.regions)
    return replace(board, regions=regions)


def flash_shares(library: Library, board: Board) -> Shares:
    """What the code region would hold: exact constants, estimated code, the firmware around them."""
    firmware = firmware_bytes(board, HEADER_BYTES.get(board.layout.header, 0))
    parts = (
        ("weights and tables", library.constant_bytes),
        ("code of the model", library.code_bytes),
        ("firmware around it", firmware.bytes),
    )
    return Shares(parts, board.code.length)


def verdict(shares: Shares, constants: int, board: Board, budget: int | None) -> tuple[str, str] | None:
    """(why, what to do) when the parts are too many; None when they fit."""
    if not shares.over:
        return None
    what = "--budget-flash" if budget is not None and shares.room == budget else f"region '{board.code.name}'"
    why = f"{what} has {shares.room:,} bytes, {shares.needed:,} are needed: {shares.over:,} too many"
    left = constants - shares.over
    if left <= 0:
        return why, "even without any weights the code would not fit: take a board with more flash"
    return why, f"prune the weights to {100 * left // constants} % ({left:,} of {constants:,} bytes)"


def check_flash(library: Library, board: Board, budget: int | None = None) -> None:
    """Raise BoardError when the image surely does not fit the code region. budget: of the user, for the words."""
    shares = flash_shares(library, board)
    sure = shares.needed - (1 - SURE) * library.code_bytes
    told = verdict(shares, library.constant_bytes, board, budget)
    if told is None or sure <= shares.room:
        return
    sizes = " + ".join(f"{what} {size:,}" for what, size in shares.parts)
    raise BoardError(f"the model does not fit '{board.name}': {told[0]}\n  {sizes}\n  {told[1]}")
