"""Profiles of small built images, each made once per session."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.support import pinned
from tests.support.nodes import random_inputs
from tests.support.pinned import Built
from tests.support.tflite_files import HIDDEN, small_graph, weighted
from tinygen import evaluate, profiling
from tinygen.boards import load_board
from tinygen.graph import Array, Graph, GraphBuilder
from tinygen.ops import conv2d
from tinygen.ops.windows import Padding
from tinygen.placement import Wishes
from tinygen.profiling import Profile, Run
from tinygen.selection import Optimize

SAMPLES = 3


def chain_of(*seeds: int) -> Graph:
    """int8 convolutions of one shape, so that they share one C function; the weights follow the seeds."""
    builder = GraphBuilder("chain")
    tensor = builder.input("image", (6, 5, 4), HIDDEN)
    same = conv2d.Attrs(padding=Padding(1, 1, 1, 1), activation="relu")
    for seed in seeds:
        name = f"conv{seed}"
        inputs = (tensor, *weighted(builder, name, (4, 3, 3, 4), 0, seed))
        tensor = builder.add("conv2d", name, inputs, same, HIDDEN)
    return builder.build((tensor,))


@cache
def built(board: str, pin: str = "none") -> Built:
    """tflite_files.small_graph on a board. pin: "none" or "all", for arrays and code."""
    return build(small_graph(), board, pin)


def build(graph: Graph, board: str, pin: str = "none", optimize: Optimize = "balanced") -> Built:
    """The graph's image in a folder that stays until the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="tinygen-profiled-", dir=_root()))
    return pinned.build(graph, load_board(board), Wishes(pin, pin), folder, optimize)  # type: ignore[arg-type]


@cache
def _keep() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tinygen-profiled-")


def _root() -> str:
    return _keep().name


def inputs_of(image: Built) -> list[Array]:
    """SAMPLES random samples."""
    return random_inputs(image.compiled.graph, SAMPLES, seed=3)


def profile(image: Built, inputs: Sequence[Array] | None = None) -> Profile:
    """Its profile; outputs are compared with the reference."""
    inputs = inputs_of(image) if inputs is None else inputs
    expected = evaluate.reference(image.compiled.graph, inputs)
    return profile_of(image, inputs, expected)


def profile_of(image: Built, inputs: Sequence[Array], expected: Sequence[Array]) -> Profile:
    """As `profile`, with these outputs to compare with."""
    compiled = image.compiled
    run = Run(inputs, expected)
    return profiling.profile(compiled.program, image.firmware, image.board, compiled.library.movables, run)


@cache
def profiled(board: str, pin: str = "none") -> Profile:
    """The profile of `built`."""
    return profile(built(board, pin))
