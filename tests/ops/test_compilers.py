"""Every int8 kernel compiled in every way: no optimization to all of it, link-time optimization, clang. All bit-exact.

What a wrong clobber, a register that is not restored, or a function that reads its arguments where another compiler
does not put them would change. The images' harness is compiled alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from tests.support.clang import use_clang
from tests.support.drawn import NODES
from tests.support.kernels import Case, assert_kernels, optimized, random_case
from tinygen import ops
from tinygen.boards import Board, load_board
from tinygen.ops.base import Kernel

CORES = {"m0": ("microbit", "unicorn"), "m4": ("mps2_an386", "unicorn"), "m55": ("mps3_an547", "qemu")}
"""Each core can execute all kernels of the one before, but for Winograd, which Helium does better without."""
GCC = {"-O0": ("-O0",), "-Os": ("-Os",), "-O3": ("-O3",), "LTO": ("-O2", "-flto")}
SCALAR = "-fno-tree-vectorize"  # clang 14 dies of vectorizing portable C for Helium
CLANG = {"-O0": ("-O0",), "-Os": ("-Os",), "-O2": ("-O2", SCALAR), "-O3": ("-O3", SCALAR)}
LARGE, SEEDS, MANY = 1 << 22, 60, 6
"""Bytes of an emulated memory; numbers that are tried for a node that a kernel takes; nodes of each kernel."""

pytestmark = [pytest.mark.arm, pytest.mark.qemu]


def board_of(core: str) -> Board:
    """Unicorn gives a board as much memory as all cases need."""
    name, emulator = CORES[core]
    board = load_board(name)
    larger = tuple(replace(r, length=LARGE) for r in board.regions)
    return replace(board, regions=larger) if emulator == "unicorn" else board


def kernels() -> Iterator[tuple[str, Kernel]]:
    """(operator, kernel) of all int8 kernels that are C: views of their inputs are not."""
    for op in ops.OPS:
        yield from ((op.name, k) for k in op.kernels if k.dtype == "int8" and not k.alias)


@cache
def cases(core: str, most: int) -> tuple[Case, ...]:
    """The first `most` drawn nodes that each kernel takes on this core."""
    board, made = board_of(core), []
    for op, kernel in kernels():
        drawn = (NODES[op](seed) for seed in range(SEEDS))
        taken = (g for g in drawn if kernel.supports(next(iter(g.bound())), board))
        made += [random_case(kernel.name, g, 1, i) for i, g in enumerate(islice(taken, most))]
    return tuple(made)


def names(made: tuple[Case, ...]) -> set[str]:
    return {c.kernel for c in made}


def own(core: str) -> list[Case]:
    """One node of each kernel that is not portable and that the core before cannot execute."""
    smaller = dict(zip(CORES, [None, *CORES], strict=False))[core]
    known = names(cases(smaller, 1)) if smaller else {k.name for _, k in kernels() if k.portable}
    return [c for c in cases(core, 1) if c.kernel not in known]


def test_every_kernel_is_there() -> None:
    assert names(cases("m4", 1) + cases("m55", 1)) == {k.name for _, k in kernels()}
    variants = {k.name for _, k in kernels() if not k.portable}
    assert variants == {c.kernel for core in CORES for c in own(core)}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("flags", GCC)
def test_every_optimization_gives_the_same(flags: str, core: str) -> None:
    with optimized(*GCC[flags]):
        assert_kernels(own(core), board_of(core), CORES[core][1:])


@pytest.mark.parametrize("core", CORES)
def test_clang_gives_the_same(core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_clang(tmp_path, monkeypatch)
    assert_kernels(own(core), board_of(core), CORES[core][1:])


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("flags", GCC)
def test_all_kernels_with_every_optimization(flags: str, core: str) -> None:
    with optimized(*GCC[flags]):
        assert_kernels(cases(core, MANY), board_of(core), CORES[core][1:])


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("flags", CLANG)
def test_all_kernels_with_clang(
    flags: str, core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_clang(tmp_path, monkeypatch)
    with optimized(*CLANG[flags]):
        assert_kernels(cases(core, MANY), board_of(core), CORES[core][1:])
