"""What is behind a change: the layers that a bench's figure grew or shrank in. Pure; words for one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from tinygen.bench_baseline import Cell, LayerFigures

NAMED = 3
"""Parts that a line names at most."""
ENOUGH = 0.8
"""Share of a change that the named parts explain together, if so many can."""
Work = Literal["cycles", "instructions"]
Part = tuple[str, int]
"""What a part of a figure is called, and how much it is or changed."""


def of_work(now: Cell, before: Cell, key: Work) -> str:
    """The layers whose cycles or instructions changed most; why, where their figures tell it."""
    grown = _layers(now, before, key)
    if not grown:
        return ""
    total = (getattr(now, key) or 0) - (getattr(before, key) or 0)
    named = mostly(_with_rest(grown, total, "outside of the layers"), total)
    return named + _why(now, before, grown, total, key)


def of_arena(now: Cell, before: Cell) -> str:
    """The layer that is fullest; where none needs more than before, the packing is what changed."""
    fullest, peak = _peak(now)
    _, old_peak = _peak(before)
    if (peak > old_peak) != (now.arena > before.arena) or peak == old_peak:
        return "the layers' needs do not explain it: the plan packs them otherwise"
    return f"fullest in layer '{fullest}', {old_peak:,} -> {peak:,} bytes in use at once"


def of_flash(now: Cell, before: Cell) -> str:
    """The layers whose arrays and kernels changed their size."""
    total = now.flash - before.flash
    return mostly(_with_rest(_layers(now, before, "flash"), total, "around the model"), total)


def of_sram(now: Cell, before: Cell) -> str:
    """The arena, or the layers of which more or less is pinned."""
    total = now.sram - before.sram
    parts = [("the arena", now.arena - before.arena)]
    parts += [(f"pinned of {label}", grown) for label, grown in _layers(now, before, "pinned")]
    return mostly(_with_rest(parts, total, "stacks and variables"), total)


def of_accuracy(now: Cell, before: Cell) -> str:
    """Layers with other constants, and the one whose output's scale changed most."""
    both = [name for name in now.layers if name in before.layers]
    told = []
    if other := [n for n in both if now.layers[n].constants != before.layers[n].constants]:
        few = (
            ", ".join(f"'{n}'" for n in other)
            if len(other) <= NAMED
            else f"{len(other)} of {len(both)} layers"
        )
        told.append(f"constants of {few} changed")
    scales = {n: (now.layers[n].scale, before.layers[n].scale) for n in both}
    ratios = {n: new / old for n, (new, old) in scales.items() if new and old}
    widest = max(ratios, key=lambda n: max(ratios[n], 1 / ratios[n]), default=None)
    if widest is not None and not 0.99 < ratios[widest] < 1.01:
        told.append(f"output scale of layer '{widest}' x {ratios[widest]:.3g}")
    return ", ".join(told)


def sources_changed(now: Cell, before: Cell) -> tuple[str, ...]:
    """What went into the cell and is not as it was; sorted."""
    names = sorted({*now.sources, *before.sources})
    return tuple(n for n in names if now.sources.get(n) != before.sources.get(n))


def largest(now: Cell, key: Work) -> str:
    """The layers that take most of an inference: `layer 'conv2d_3' 160,000`."""
    costs = sorted(
        ((n, getattr(layer, key) or 0) for n, layer in now.layers.items()), key=lambda p: (-p[1], p[0])
    )
    return ", ".join(f"layer '{name}' {cost:,}" for name, cost in costs[:NAMED] if cost)


def in_sram(now: Cell, allowed: int | None) -> str:
    """What the SRAM holds, and whether pinning is what makes it more than `allowed`."""
    pinned = sum(layer.pinned for layer in now.layers.values())
    held = f"arena {now.arena:,}, pinned {pinned:,}, the rest {now.sram - now.arena - pinned:,}"
    hopeless = pinned and allowed is not None and now.sram - pinned > allowed
    return f"{held}; too much even if nothing were pinned" if hopeless else held


def in_flash(now: Cell) -> str:
    """What the flash holds: the layers that take most of it."""
    sizes = sorted(((n, layer.flash) for n, layer in now.layers.items()), key=lambda p: (-p[1], p[0]))
    return ", ".join(f"layer '{name}' {size:,}" for name, size in sizes[:NAMED])


def fullest(now: Cell) -> str:
    """The layer at which most of the arena is in use."""
    name, peak = _peak(now)
    return f"fullest in layer '{name}', {peak:,} bytes in use at once"


# ---- how


def mostly(parts: Iterable[Part], total: int) -> str:
    """`mostly layer 'a' +100, layer 'b' +50`: the parts that changed in the total's direction, greatest first."""
    sign = 1 if total > 0 else -1
    towards = sorted((p for p in parts if p[1] * sign > 0), key=lambda p: (-p[1] * sign, p[0]))
    named: list[Part] = []
    while len(named) < min(NAMED, len(towards)) and abs(sum(p[1] for p in named)) < ENOUGH * abs(total):
        named.append(towards[len(named)])
    return f"mostly {', '.join(f'{label} {grown:+,}' for label, grown in named)}" if named else ""


def _with_rest(parts: Sequence[Part], total: int, rest: str) -> list[Part]:
    return [*parts, (rest, total - sum(grown for _, grown in parts))]


def _layers(now: Cell, before: Cell, key: str) -> list[Part]:
    """How much every layer's figure changed; nothing where it is not known of all."""
    names = [*now.layers, *(n for n in before.layers if n not in now.layers)]
    pairs = [(n, _figure(now.layers, n, key), _figure(before.layers, n, key)) for n in names]
    if any(new is None or old is None for _, new, old in pairs):
        return []
    return [(_label(n, now, before), (new or 0) - (old or 0)) for n, new, old in pairs]


def _figure(layers: Mapping[str, LayerFigures], name: str, key: str) -> int | None:
    found: int | None = getattr(layers[name], key) if name in layers else 0
    return found


def _label(name: str, now: Cell, before: Cell) -> str:
    if name not in before.layers:
        return f"new layer '{name}'"
    return f"layer '{name}'" if name in now.layers else f"dropped layer '{name}'"


def _why(now: Cell, before: Cell, grown: Sequence[Part], total: int, key: Work) -> str:
    """Of the layer that changed most: fewer (or more) bytes pinned, or the same instructions with other waits."""
    sign = 1 if total > 0 else -1
    label, change = max(grown, key=lambda p: p[1] * sign)
    name = label.partition("'")[2][:-1]
    if change * sign <= 0 or name not in now.layers or name not in before.layers:
        return ""
    new, old = now.layers[name], before.layers[name]
    told = []
    if key == "cycles" and new.instructions == old.instructions:
        told.append("same instructions")
    if (old.pinned - new.pinned) * sign > 0:
        told.append(f"pinned {old.pinned:,} -> {new.pinned:,} bytes")
    return f" ({', '.join(told)})" if told else ""


def _peak(cell: Cell) -> tuple[str, int]:
    """(layer, bytes of the arena in use) where most are."""
    name = max(cell.layers, key=lambda n: cell.layers[n].live, default="")
    return name, cell.layers[name].live if name else 0
