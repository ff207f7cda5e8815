"""What `tinygen inspect` says of a program: a row for each step and, for people, one for all bands of a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinygen import ops
from tinygen.banding import BAND, layer_of
from tinygen.emission import identity
from tinygen.graph import Tensor
from tinygen.planning import MemoryPlan
from tinygen.program import Program, Step
from tinygen.selection import Candidate


@dataclass(frozen=True)
class Considered:
    """A kernel that could execute a step. cycles: of its formula; flash, sram: bytes, as in selection.Candidate."""

    kernel: str
    cycles: int
    flash: int
    sram: int

    @classmethod
    def of(cls, candidate: Candidate) -> Considered:
        """What selection weighed."""
        return cls(candidate.kernel.name, round(candidate.cycles), candidate.flash, candidate.sram)


@dataclass(frozen=True)
class Row:
    """One step of the program. weight_bytes: the kernel's constants. calibrator: None where not known.

    scale, zero_point: of the output, None in a float32 program. chosen, runner_up: what was weighed, None where nothing
    was, or nothing else could.
    """

    step: int
    layer: str
    op: str
    kernel: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None
    calibrator: str | None
    macs: int
    weight_bytes: int
    scratch_bytes: int
    offset: int
    in_place: bool
    chosen: Considered | None
    runner_up: Considered | None


def inspect_rows(
    program: Program, plan: MemoryPlan, calibrators: Mapping[str, str] | None = None
) -> tuple[Row, ...]:
    """One row per step. calibrators: activation -> which calibrator chose its range, where known."""
    chosen = calibrators or {}
    return tuple(_row(i, step, plan, chosen) for i, step in enumerate(program.steps))


def _row(index: int, step: Step, plan: MemoryPlan, chosen: Mapping[str, str]) -> Row:
    b, output = step.bound, step.bound.output
    weighed = [] if step.kernel.alias else [Considered.of(c) for c in step.ranked]
    return Row(
        step=index,
        layer=b.name,
        op=b.node.op,
        kernel="alias" if step.kernel.alias else step.kernel.name,
        shape=output.shape,
        **quantization_of(output),
        calibrator=chosen.get(output.name),
        macs=ops.get(b.node.op).macs(b),
        weight_bytes=sum(array.nbytes for array in step.kernel.constants(b).values()),
        scratch_bytes=step.scratch_bytes,
        offset=plan.offset(output.name),
        in_place=any(_share_bytes(t, output, plan) for t in b.activations),
        chosen=weighed[0] if weighed else None,
        runner_up=weighed[1] if len(weighed) > 1 else None,
    )


def _share_bytes(one: Tensor, other: Tensor, plan: MemoryPlan) -> bool:
    """True where a byte of the arena belongs to both, of a step that reads one and writes the other."""
    a, b = plan.offset(one.name), plan.offset(other.name)
    return max(a, b) < min(a + one.size_bytes, b + other.size_bytes)


def quantization_of(tensor: Tensor) -> dict[str, Any]:
    """Its scale and zero_point; None for both in a float32 program."""
    if tensor.qparams is None:
        return {"scale": None, "zero_point": None}
    return {"scale": tensor.scale, "zero_point": tensor.zero_point}


def constant_bytes(program: Program) -> int:
    """Bytes of all constants of the kernels; arrays that are equal, as those of the bands of a layer, stand once."""
    arrays = (a for step in program.steps for a in step.kernel.constants(step.bound).values())
    return sum({identity(a): a.nbytes for a in arrays}.values())


# ---- bands


@dataclass(frozen=True)
class Layer:
    """Rows of a layer's bands with the same kernels, as one. row: MACs and cycles summed, bytes of constants, scratch,
    flash and SRAM those of the band that has most, all else of the band with most rows. bands: how many, 0 for a whole.
    """

    row: Row
    bands: int


def layers(rows: Sequence[Row]) -> tuple[Layer, ...]:
    """One per layer and the kernels of its bands (chosen and next), without the steps that move rows for bands. The
    last layer of a chain has one more: what joins its bands."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if BAND not in row.layer:
            found[row.layer,] = [row]
        elif not moves_rows(row):
            runner_up = row.runner_up.kernel if row.runner_up else ""
            found.setdefault((layer_of(row.layer), row.kernel, runner_up), []).append(row)
    return tuple(
        Layer(_as_one(bands), len(bands) if BAND in bands[0].layer else 0) for bands in found.values()
    )


def moves_rows(row: Row) -> bool:
    """True for a step that fetches, keeps or joins rows for a band: banding.py names it after that band."""
    return "/" in row.layer.rpartition(BAND)[2] and BAND in row.layer


def _as_one(bands: Sequence[Row]) -> Row:
    largest = max(bands, key=lambda row: row.shape)
    return replace(
        largest,
        step=bands[0].step,
        layer=layer_of(bands[0].layer),
        macs=sum(row.macs for row in bands),
        weight_bytes=max(row.weight_bytes for row in bands),
        scratch_bytes=max(row.scratch_bytes for row in bands),
        chosen=_summed([row.chosen for row in bands]),
        runner_up=_summed([row.runner_up for row in bands]),
    )


def _summed(weighed: Sequence[Considered | None]) -> Considered | None:
    known = [one for one in weighed if one]
    if not known:
        return None
    flash, sram = (max(sizes) for sizes in zip(*((one.flash, one.sram) for one in known), strict=True))
    return Considered(known[0].kernel, sum(one.cycles for one in known), flash, sram)
