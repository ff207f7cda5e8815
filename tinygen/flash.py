"""What an image takes of the regions that hold code and constants, before a compiler has seen it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinygen.boards import Board
from tinygen.code_size import firmware_bytes
from tinygen.emission import Library
from tinygen.errors import BoardError
from tinygen.firmware import HEADER_BYTES
from tinygen.wishes import NONE, Wishes

SURE = 0.9
"""Share of the estimated code that is there for sure: up to this a doubt is left to the linker, which knows."""
WEIGHTS, CODE, AROUND = "weights and tables", "code of the model", "firmware around it"


@dataclass(frozen=True)
class Shares:
    """Bytes of one memory. parts: what takes how many; room: how many there are; region: "" where it is several."""

    parts: tuple[tuple[str, int], ...]
    room: int
    region: str = ""

    @property
    def needed(self) -> int:
        """All parts together."""
        return sum(size for _, size in self.parts)

    @property
    def over(self) -> int:
        """Bytes too many; 0 where everything fits."""
        return max(self.needed - self.room, 0)

    def part(self, name: str) -> int:
        """Bytes of that part, 0 where it lies elsewhere."""
        return dict(self.parts).get(name, 0)


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


def flash_shares(library: Library, board: Board, weights: str | None = None) -> tuple[Shares, ...]:
    """What the read-only regions would hold, that of the code first: exact constants, estimated code, the firmware
    around them. weights: the region of the constants, None for that of the code."""
    firmware = firmware_bytes(board, HEADER_BYTES.get(board.layout.header, 0))
    code = ((CODE, library.code_bytes), (AROUND, firmware.bytes))
    constants = ((WEIGHTS, library.constant_bytes),)
    if weights in (None, board.code.name):
        return (Shares((*constants, *code), board.code.length, board.code.name),)
    home = board.region(str(weights))
    return (
        Shares(code, board.code.length, board.code.name),
        Shares(constants, home.length, home.name),
    )


def verdict(shares: Shares, board: Board, budget: int | None) -> tuple[str, str] | None:
    """(why, what to do) when the parts are too many; None when they fit. budget: of the code region."""
    if not shares.over:
        return None
    limited_by = budget is not None and shares.region == board.code.name and shares.room == budget
    what = "--budget-flash" if limited_by else f"region '{shares.region}'"
    why = f"{what} has {shares.room:,} bytes, {shares.needed:,} are needed: {shares.over:,} too many"
    constants = shares.part(WEIGHTS)
    left = constants - shares.over
    if left <= 0:
        return why, "even without any weights the code would not fit: take a board with more flash"
    advice = f"prune the weights to {100 * left // constants} % ({left:,} of {constants:,} bytes)"
    others = [r.name for r in board.regions if not r.writable and r.length >= constants]
    elsewhere = [f"--weights {name}" for name in others if name not in (shares.region, board.code.name)]
    return why, " or ".join([advice, *(f"give them another home: {wish}" for wish in elsewhere)])


def check_flash(library: Library, board: Board, wishes: Wishes = NONE) -> None:
    """Raise BoardError when the image surely does not fit one of its regions."""
    for shares in flash_shares(library, board, wishes.weights):
        sure = shares.needed - (1 - SURE) * shares.part(CODE)
        told = verdict(shares, board, wishes.budget_flash)
        if told is not None and sure > shares.room:
            sizes = " + ".join(f"{what} {size:,}" for what, size in shares.parts)
            raise BoardError(f"the model does not fit '{board.name}': {told[0]}\n  {sizes}\n  {told[1]}")
