"""What all figures are made from: plain data of the project, its profile and the files that the user gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygen.boards import Board
from tinygen.budgets import NO_BUDGETS, Budgets
from tinygen.graph import Graph
from tinygen.pruning.log import Log
from tinygen.quantization_error import QuantizationError

Json = Mapping[str, Any]

ALIAS = "alias"
"""Kernel of a step that costs nothing."""

OUTSIDE = "outside of layers"
"""What the inference spends between its kernels."""


@dataclass(frozen=True)
class Data:
    """layers: inspection.to_json of the project; manifest: of the project; graph: the int8 one.

    profile, before: profile_json.to_json, None where there is none. error: None for projects without
    quantization.json. ladder, history: as docs/report.md describes these files. pruning: where the model
    came from, None for one that was not pruned.
    """

    title: str
    board: Board
    graph: Graph
    layers: Json
    manifest: Json
    profile: Json | None = None
    error: QuantizationError | None = None
    budgets: Budgets = NO_BUDGETS
    before: Json | None = None
    ladder: Sequence[Json] | None = None
    history: Sequence[Json] | None = None
    pruning: Log | None = None

    @property
    def unit(self) -> str:
        """What time is measured in: "cycles" (modelled), or "instructions" where no cycles are modelled."""
        known = self.profile is not None and self.profile["totals"]["cycles"] is not None
        return "cycles" if known else "instructions"

    @property
    def spoken_unit(self) -> str:
        """The unit in words."""
        return "modelled cycles" if self.unit == "cycles" else "instructions"

    def costs(self) -> list[Json]:
        """The profile's layers that have a kernel, and what lies outside of them; [] without a profile."""
        if self.profile is None:
            return []
        layers = [layer for layer in self.profile["layers"] if layer["kernel"] != ALIAS]
        outside = self.profile.get("outside")
        return [*layers, {"name": OUTSIDE, "kernel": "", "macs": 0, **outside}] if outside else layers


NO_PROFILE = "There is no profile: make the report without --no-profile, or give one with --profile FILE."
"""What figures say that need one."""
