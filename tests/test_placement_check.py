"""placement_check finds every way in which an image can be laid out otherwise than planned: wrong plans, wrong boards,
damaged linker scripts. The misplaced tensor itself: tests/test_pinning.py, on every board."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import pinned
from tests.support.graphs import int8_graph
from tests.support.pinned import Built, arrays_of, table_of, with_region
from tinygen import building, placement_check
from tinygen.boards import Board
from tinygen.errors import BoardError
from tinygen.wishes import Wishes

pytestmark = pytest.mark.arm


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Arrays in the CCM, code in SRAM, on the board whose CCM cannot execute."""
    board, graph = pinned.on_unicorn("disco_f407vg"), int8_graph(0, 12)
    layers = dict.fromkeys(("stem", "body", "head"), "ccm")
    return pinned.build(graph, board, Wishes("auto", "all", layers), tmp_path_factory.mktemp("small"))


def check(built: Built, board: Board | None = None, table: placement_check.Table | None = None) -> None:
    """The check of the built image against another board or another plan."""
    plan = table or table_of(built.placement)
    placement_check.check(built.firmware.elf, board or built.board, plan, arrays_of(built))


def test_arena_or_inputs_elsewhere_are_found(small: Built) -> None:
    check(small)
    table = table_of(small.placement)
    assert (table.arena, table.inputs) == ("sram", "sram")
    with pytest.raises(BoardError, match=r"the arena is at .*, not in region 'ccm'"):
        check(small, table=replace(table, arena="ccm"))
    with pytest.raises(BoardError, match=r"the input block is at .*, not in region 'ccm'"):
        check(small, table=replace(table, inputs="ccm"))


def test_code_where_it_cannot_run_is_found(small: Built) -> None:
    region = small.board.region("sram")
    with pytest.raises(BoardError, match=r"in region 'sram', which is not executable"):
        check(small, with_region(small.board, replace(region, executable=False)))


def test_what_the_application_keeps_is_kept(small: Built) -> None:
    """The input block fills SRAM up to its end: a reserve that the linker script does not know is broken into."""
    kept = replace(small.board.reserved, application=2048)
    with pytest.raises(BoardError, match=r"the input block is at .*, not in region 'sram'"):
        check(small, replace(small.board, reserved=kept))


def test_a_function_beside_its_kernel_is_found(small: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of DSP cores have their inner function in the same section: it moves to flash alone."""
    image = placement_check.Image(small.firmware.elf)
    (beside, *_) = (
        n for m in small.compiled.library.movables for n in image.symbols if m.owns(n) and n != m.symbol
    )
    _, size, is_code = image.symbols[beside]
    image.symbols[beside] = (small.board.code.origin, size, is_code)
    monkeypatch.setattr(placement_check, "Image", lambda elf: image)
    with pytest.raises(BoardError, match=r"code of layer .*, not in region 'sram'"):
        check(small)


def test_other_values_are_found(small: Built) -> None:
    pin = small.arrays[0]
    values = arrays_of(small)
    one = bytearray(values[pin.movable.symbol])
    one[-1] ^= 1
    with pytest.raises(
        BoardError, match=rf"layer '{pin.movable.layer}'.*region 'ccm' are not those of its C array"
    ):
        placement_check.check(
            small.firmware.elf,
            small.board,
            table_of(small.placement),
            {**values, pin.movable.symbol: bytes(one)},
        )


def test_the_values_are_those_of_the_kernels(small: Built) -> None:
    """placement_check reads them from C, which is how they got into the image."""
    steps = small.compiled.program.steps
    made = {v.tobytes() for s in steps for v in s.kernel.constants(s.bound).values()}
    arrays = arrays_of(small)
    assert {p.movable.layer for p in small.arrays if arrays[p.movable.symbol] in made} == {
        "stem",
        "body",
        "head",
    }
    assert all(arrays[p.movable.symbol] in made for p in small.arrays)


DAMAGES = {
    # what is written into the linker script -> what the check says
    "stacks overlap": (
        "__stack_end = .;",
        "__stack_end = . + 4;",
        "the stack .* overlaps the handlers' stack",
    ),
    "wrong source": (
        "__pin_ccm_load = LOADADDR(.pin_ccm) +",
        "__pin_ccm_load = LOADADDR(.data) +",
        "does not copy",
    ),
    "short copy": ("__pin_ccm_end = .;", "__pin_ccm_end = . - 8;", "does not copy"),
    "late copy": ("__pin_ccm_start = .;", "__pin_ccm_start = . + 8;", "does not copy"),
    "loaded to SRAM": ("> ccm AT > flash", "> ccm AT > sram", "is loaded to .*, not into region 'flash'"),
    "not loaded": (".pin_ccm : {", ".pin_ccm (NOLOAD) : {", "has no bytes in the image"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_linker_script_is_found(small: Built, damage: str, tmp_path: Path) -> None:
    good, bad, message = DAMAGES[damage]
    project = pinned.write_project(small.compiled, small.board, tmp_path)
    script = pinned.linker_script(project)
    text = script.read_text()
    assert text.count(good) == 1
    script.write_text(text.replace(good, bad))
    with pytest.raises(BoardError, match=message):
        building.build(project, small.board)
