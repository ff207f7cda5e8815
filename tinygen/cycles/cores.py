"""What instructions cost, per core, with memory that never waits. docs/cycles.md says where each figure comes from.

The M4's figures are those of ../shared/notes/kernels.md, frozen: tests/cycles holds them to sequences computed by hand,
so that work on kernels cannot bend its own measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from tinygen.boards import Board
from tinygen.cycles.instructions import Kind


@dataclass(frozen=True)
class Timing:
    """One core. All figures in cycles.

    cycles: of an instruction of the kind, where not 1; each word of those that move several (WORD_BY_WORD) adds one.
    taken: added when a branch of that kind is taken. return_from_pop: added for loading PC.
    load_behind_load: of a single load right behind another whose result is not its address; None: no such overlap.
    store_behind_load: of a store with register offset right behind a single load.
    address_delay: added when the instruction just before computed the address.
    result_delay: added when the instruction just before is floating point and its result is read.
    issue: instructions that start in one cycle; latency: when they issue in pairs, cycles until a result can be used.
    estimate: the manufacturer publishes no such table: figures are ours, to rank and not to promise.
    """

    cycles: Mapping[Kind, int]
    taken: Mapping[Kind, int]
    source: str
    return_from_pop: int = 2
    load_behind_load: int | None = None
    store_behind_load: int | None = None
    address_delay: int = 0
    result_delay: int = 0
    issue: int = 1
    latency: Mapping[Kind, int] = field(default_factory=dict)
    estimate: bool = False

    def of(self, kind: Kind) -> int:
        """Cycles of the kind on its own."""
        return self.cycles.get(kind, 1)


def _table(**cycles: int) -> Mapping[Kind, int]:
    return MappingProxyType({Kind[name]: value for name, value in cycles.items()})


REFILL = 2
"""Cycles that a taken branch takes to refill the pipeline of M3, M4 and M33: 1 to 3 in the manuals, 2 used."""

_ARMV7M = {
    "DIV": 7,
    "LOAD": 2,
    "LOAD_PAIR": 1,
    "STORE_INDEXED": 2,
    "STORE_PAIR": 1,
    "LOAD_MULTIPLE": 1,
    "STORE_MULTIPLE": 1,
    "FP_LOAD": 1,
    "FP_STORE": 1,
    "FP_MLA": 3,
    "FP_DIV": 14,
    "SYSTEM": 2,
    "BRANCH_TABLE": 2,
}
_TAKEN = _table(BRANCH=REFILL, CALL=REFILL, BRANCH_REGISTER=REFILL, BRANCH_TABLE=REFILL)

CORTEX_M4 = Timing(
    cycles=_table(**_ARMV7M),
    taken=_TAKEN,
    load_behind_load=1,
    store_behind_load=1,
    address_delay=1,
    result_delay=1,
    source="Cortex-M4 TRM (DDI 0439), 3.3 instruction set summary and load/store timings",
)
CORTEX_M3 = Timing(
    cycles=_table(**{**_ARMV7M, "MLA": 2, "LONG_MUL": 4, "LONG_MLA": 5}),
    taken=_TAKEN,
    load_behind_load=1,
    store_behind_load=1,
    address_delay=1,
    source="Cortex-M3 TRM (DDI 0337), instruction set summary: MLA 2, SMULL 3 to 5 (4 used), SMLAL 4 to 7 (5 used)",
)
CORTEX_M33 = Timing(
    cycles=_table(**{**_ARMV7M, "FP_LOAD": 1, "DIV": 6}),
    taken=_TAKEN,
    load_behind_load=1,
    store_behind_load=1,
    result_delay=1,
    estimate=True,
    source="estimate: as Cortex-M4 without the delay of computed addresses; Arm publishes no table",
)
CORTEX_M0PLUS = Timing(
    cycles=_table(LOAD=2, STORE=2, STORE_INDEXED=2, LOAD_MULTIPLE=1, STORE_MULTIPLE=1, CALL=2, SYSTEM=3),
    taken=_table(BRANCH=1, CALL=1, BRANCH_REGISTER=1),
    return_from_pop=2,
    source="Cortex-M0+ TRM (DDI 0484), 3.3 instruction set summary",
)
CORTEX_M0 = Timing(
    cycles=_table(LOAD=2, STORE=2, STORE_INDEXED=2, LOAD_MULTIPLE=1, STORE_MULTIPLE=1, CALL=2, SYSTEM=4),
    taken=_table(BRANCH=2, CALL=2, BRANCH_REGISTER=2),
    return_from_pop=3,
    source="Cortex-M0 TRM (DDI 0432), 3.3 instruction set summary",
)
CORTEX_M7 = Timing(
    cycles=_table(
        DIV=6,
        LOAD_MULTIPLE=0,
        STORE_MULTIPLE=0,
        LOAD_PAIR=0,
        STORE_PAIR=0,
        FP_LOAD=0,
        FP_STORE=0,
        FP_DIV=14,
        SYSTEM=2,
        BRANCH_TABLE=3,
    ),
    taken=_table(BRANCH=1, CALL=1, BRANCH_REGISTER=2, BRANCH_TABLE=2),
    return_from_pop=2,
    issue=2,
    latency=_table(
        LOAD=2, LOAD_PAIR=2, LOAD_MULTIPLE=2, FP_LOAD=2, MUL=2, MLA=2, LONG_MUL=2, LONG_MLA=2, FP=3, FP_MLA=3
    ),
    estimate=True,
    source="estimate: two instructions a cycle, of each unit one; Arm publishes no table",
)

TIMINGS: Mapping[str, Timing] = {
    "cortex-m0": CORTEX_M0,
    "cortex-m0plus": CORTEX_M0PLUS,
    "cortex-m3": CORTEX_M3,
    "cortex-m4": CORTEX_M4,
    "cortex-m7": CORTEX_M7,
    "cortex-m33": CORTEX_M33,
}


def timing_of(board: Board) -> Timing:
    """The board's core; an M0 or M0+ with a slow multiplier has that in its description. KeyError for the M55."""
    timing = TIMINGS[board.cpu]
    if board.multiplier_cycles == 1:
        return timing
    return replace(timing, cycles={**timing.cycles, Kind.MUL: board.multiplier_cycles})
