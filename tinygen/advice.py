"""Budgets of a profile: whether they are met, and, where not, what costs most and what would help most."""

from __future__ import annotations

from tinygen.boards import Board, all_boards
from tinygen.budgets import Budgets
from tinygen.errors import BudgetError
from tinygen.profiling import Layer, Object, Profile, duration

PRUNABLE = 0.8
"""Share of the work beyond which pruning is no advice."""
WORTH = 0.01
"""Share of what is too much that pinning an object must save to be named."""
SHOWN = 3
"""Layers, objects and boards that a message names."""


def exceeded(p: Profile, budgets: Budgets) -> list[str]:
    """A message for every budget that is not met, advice included."""
    found = []
    if budgets.ms is not None:
        found += _time(p, budgets.ms)
    for name, used, allowed in (
        ("sram", p.sram_bytes, budgets.sram),
        ("flash", p.flash_bytes, budgets.flash),
    ):
        if allowed is not None and used > allowed:
            found.append(
                f"'{p.model}' takes {used:,} bytes of {name} on '{p.board.name}', --budget-{name} allows {allowed:,}\n"
                f"  {_room_advice(p, name)}"
            )
    return found


def check(p: Profile, budgets: Budgets) -> None:
    """Raise BudgetError when a budget is not met."""
    if over := exceeded(p, budgets):
        raise BudgetError("\n".join(over))


def _time(p: Profile, allowed: float) -> list[str]:
    taken = p.milliseconds(p.worst.cycles)
    if taken is None:
        return [
            f"--budget-ms {allowed:g} cannot be checked on '{p.board.name}': no cycles are modelled for {p.board.cpu}\n"
            "  leave it out there; 'tinygen bench' can gate on instructions"
        ]
    if taken <= allowed:
        return []
    head = (
        f"'{p.model}' takes {taken:,.4g} ms on '{p.board.name}', --budget-ms allows {allowed:,.4g}: "
        f"{taken / allowed:.2f} times too slow"
    )
    return ["\n".join([head, *(f"  {line}" for line in _help(p, allowed))])]


def _help(p: Profile, allowed: float) -> list[str]:
    """What costs most, what pinning, pruning and other boards would give."""
    lines = [f"most time: {', '.join(_layer(p, layer) for layer in slowest(p)[:SHOWN])}"]
    over = 1.0 - allowed / (p.milliseconds(p.worst.cycles) or allowed)
    gains = [o for o in worth_pinning(p) if o.stalls >= WORTH * over * duration(p.worst)]
    lines += [_pin(p, o) for o in gains[:SHOWN]] or [_nothing_to_pin(p)]
    cycles = f"{over * duration(p.worst):,.0f} modelled cycles ({over:.0%}) too many"
    lines.append(f"{cycles}: {'prune it' if over < PRUNABLE else 'more than pruning alone can take away'}")
    lines += [_board(p, board, allowed) for board in faster_boards(p)[:SHOWN]]
    return lines


def slowest(p: Profile) -> list[Layer]:
    """Layers, the one that takes longest first."""
    return sorted(p.layers, key=lambda layer: -duration(layer.cost))


def _layer(p: Profile, layer: Layer) -> str:
    return f"{layer.name} {p.milliseconds(layer.cost.cycles):,.3g} ms"


def worth_pinning(p: Profile) -> list[Object]:
    """Objects that the core waits for and that would fit into memory that is free now, best first, all together."""
    free = _free(p)
    chosen = []
    for candidate in sorted(p.objects, key=lambda o: -o.stalls):
        region = next((name for name, room in free.items() if room >= candidate.bytes), None)
        if not candidate.pinned and candidate.stalls and region:
            free[region] -= candidate.bytes
            chosen.append(candidate)
    return chosen


def _free(p: Profile) -> dict[str, int]:
    """Bytes of every writable region that pinned objects could take; the test's input block needs one record."""
    free = {
        o.region.name: sum(part.bytes for part in o.parts if part.kind in ("free", "inputs"))
        for o in p.regions
        if o.region.writable
    }
    free[p.board.layout.data] -= p.board.reserved.application
    return free


def _pin(p: Profile, o: Object) -> str:
    gain = p.milliseconds(o.stalls)
    return f"pin {o.role} of '{o.layer}' ({o.bytes:,} bytes, now in {o.region}): up to {gain:,.3g} ms less"


def faster_boards(p: Profile) -> list[Board]:
    """Boards with the same core and a faster clock that have as much memory, the fastest first."""
    return sorted(
        (
            b
            for b in all_boards()
            if b.cpu == p.board.cpu
            and b.clock_hz > p.board.clock_hz
            and b.code.length >= p.flash_bytes
            and sum(r.length for r in b.writable) >= p.sram_bytes
        ),
        key=lambda b: -b.clock_hz,
    )


def _nothing_to_pin(p: Profile) -> str:
    waits = (p.worst.fetch_stalls or 0) + (p.worst.data_stalls or 0)
    return f"nothing that is left to pin would help much: the core waits {waits:,} cycles for memory in all"


def _board(p: Profile, board: Board, allowed: float) -> str:
    best = 1000.0 * (p.worst.zero_wait_cycles or 0) / board.clock_hz
    verdict = "" if best <= allowed else ", not enough on its own"
    return f"'{board.name}' ({board.clock_hz / 1e6:.0f} MHz, same core): {best:,.3g} ms at best{verdict}"


def _room_advice(p: Profile, name: str) -> str:
    """What takes most of a memory."""
    kinds: dict[str, int] = {}
    for occupied in p.regions:
        if occupied.region.writable == (name == "sram"):
            for part in occupied.parts:
                kinds[part.kind] = kinds.get(part.kind, 0) + part.bytes
    largest = sorted((k for k in kinds if k not in ("free", "inputs")), key=lambda k: -kinds[k])
    shares = ", ".join(f"{kind} {kinds[kind]:,}" for kind in largest[:SHOWN])
    return f"most of it: {shares}; {'pin less, or prune it' if name == 'sram' else 'prune it'}"
