"""Pinned weights, proved on every board: where they lie, that flash is not read for them, that flash does not matter
after start-up, that the linker refuses what does not fit. Every proof has its control.

Boards whose memory has no wait states get nothing pinned by `auto`: there everything is pinned (`all`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import pinned, tinyfw
from tests.support.graphs import int8_graph
from tests.support.host import library_of
from tests.support.nodes import random_inputs
from tests.support.pinned import Built, arrays_of, table_of, with_region
from tinygen import building, evaluate, placement_check, running
from tinygen.access import waiting
from tinygen.boards import Region, board_names, load_board
from tinygen.emulators import Qemu, Unicorn
from tinygen.errors import BoardError
from tinygen.firmware import firmware_files, needs_of
from tinygen.frontend.tflite import load_tflite
from tinygen.graph import Array, Graph
from tinygen.placement import VENEER_BYTES, rooms
from tinygen.wishes import Wishes

pytestmark = pytest.mark.arm

BOARDS = tuple(n for n in board_names() if Unicorn().unavailable(pinned.on_unicorn(n)) is None)
TOO_SMALL = ("nucleo_f072rb",)
"""Boards whose SRAM does not hold the keyword model's arena: a small net is pinned there."""


def test_all_boards_take_part() -> None:
    assert set(BOARDS) == set(board_names())


def graph_for(board: str, shared_data: Path) -> Graph:
    """A real model where it fits."""
    if board in TOO_SMALL:
        return int8_graph(0, 12)
    return load_tflite(shared_data / "models" / "kws_ds_cnn_int8.tflite")


@pytest.fixture(scope="module", params=BOARDS)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_data: Path
) -> Built:
    board = pinned.on_unicorn(request.param)
    graph = graph_for(board.name, shared_data)
    wishes = Wishes()
    if not pinned.compiled_for(graph, board, wishes).placement.pins:  # type: ignore[union-attr]
        wishes = Wishes("all", "all")
    return pinned.build(graph, board, wishes, tmp_path_factory.mktemp(board.name))


@pytest.fixture(scope="module")
def inputs(built: Built) -> list[Array]:
    return random_inputs(built.compiled.graph, 1, seed=3)


@pytest.fixture(scope="module")
def expected(built: Built, inputs: list[Array]) -> tuple[Array, ...]:
    return evaluate.reference(built.compiled.graph, inputs)


def within(addresses: range, region: Region) -> bool:
    return region.origin <= addresses.start < addresses.stop <= region.end


@pytest.mark.shared
def test_run_addresses_are_in_the_region_and_load_addresses_in_flash(built: Built) -> None:
    assert sum(p.movable.role == "weights" for p in built.arrays) >= 2
    for pin in built.placement.pins:
        region = built.board.region(pin.region)
        assert region.writable and within(built.run_range(pin.movable.symbol), region)
        assert within(built.load_range(pin.movable.symbol), built.board.code)
        if not pin.movable.is_code:
            assert len(built.run_range(pin.movable.symbol)) == pin.movable.traffic.footprint
    placement_check.check(built.firmware.elf, built.board, table_of(built.placement), arrays_of(built))


@pytest.mark.shared
def test_flash_is_neither_read_nor_needed_for_what_is_pinned(
    built: Built, inputs: list[Array], expected: tuple[Array, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All start-up steps are made (devices.Bus holds the firmware to them), outputs are bit-exact."""
    copies = {p.movable.symbol: built.load_range(p.movable.symbol) for p in built.placement.pins}
    reads: Counter[str] = Counter()
    watch, spoil = pinned.counting_reads(copies, reads), pinned.corrupting(list(copies.values()))
    result = pinned.run(built, inputs, expected, lambda core: (spoil(core), watch(core))[0], monkeypatch)
    assert result.passed, result.detail
    assert not reads


@pytest.mark.shared
def test_control_the_copies_in_sram_are_what_counts(
    built: Built, inputs: list[Array], expected: tuple[Array, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [
        built.run_range(p.movable.symbol) for p in built.arrays if p.movable.role in ("weights", "bias")
    ]
    result = pinned.run(built, inputs, expected, pinned.corrupting(copies), monkeypatch)
    assert not result.passed and "differ" in result.detail


@pytest.mark.shared
def test_control_without_pinning_flash_is_read(
    built: Built,
    inputs: list[Array],
    expected: tuple[Array, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first byte of every array is watched: a hook that fires is slow."""
    loose = pinned.build(built.compiled.graph, built.board, Wishes("none", "none"), tmp_path)
    assert not loose.placement.pins
    ranges = {p.movable.symbol: loose.run_range(p.movable.symbol) for p in built.arrays}
    assert all(within(r, built.board.code) for r in ranges.values())
    reads: Counter[str] = Counter()
    watch = pinned.counting_reads({s: r[:1] for s, r in ranges.items()}, reads)
    pinned.run(loose, inputs, expected, watch, monkeypatch)
    assert set(reads) == set(ranges)


@pytest.mark.shared
def test_what_does_not_fit_fails_to_link_and_the_layer_is_named(built: Built, tmp_path: Path) -> None:
    """The same placement on a board whose region ends 4 bytes before the end of one tensor."""
    pin = built.arrays[len(built.arrays) // 2]
    region = built.board.region(pin.region)
    kept = built.board.reserved.application if region.name == built.board.layout.data else 0
    length = built.run_range(pin.movable.symbol).stop - 4 - region.origin + kept
    smaller = with_region(built.board, replace(region, length=length))
    project = pinned.write_project(built.compiled, smaller, tmp_path, built.placement)
    with pytest.raises(BoardError) as caught:
        building.build(project, smaller)
    first = str(caught.value).splitlines()[0]
    assert f"{pin.movable.role} of layer '{pin.movable.layer}'" in first
    assert f"region '{pin.region}' of board '{built.board.name}'" in first


@pytest.mark.shared
def test_control_one_misplaced_tensor_fails_the_check(built: Built, tmp_path: Path) -> None:
    """The linker script forgets one array: it lands in flash with the other constants."""
    project = pinned.write_project(built.compiled, built.board, tmp_path, built.placement)
    pin = next(p for p in built.arrays if p.movable.role == "weights")
    script = pinned.linker_script(project)
    lines = script.read_text().splitlines(keepends=True)
    left = [line for line in lines if f"*(.rodata.{pin.movable.symbol})" not in line]
    assert len(left) == len(lines) - 1
    script.write_text("".join(left))
    with pytest.raises(BoardError, match=rf"layer '{pin.movable.layer}'.*not in region '{pin.region}'"):
        building.build(project, built.board)


# ---- where not everything fits ------------------------------------------------------------------------------------

PARTLY = {
    # board -> model, bytes that the application keeps
    "disco_f407vg": ("vww_mobilenet_v1_025_96", 0),
    "disco_f746ng": ("vww_mobilenet_v1_025_96", 40_000),
    "nucleo_h743zi": ("vww_mobilenet_v1_025_96", 0),
    "pico": ("ad_autoencoder", 0),
    "teensy41": ("ad_autoencoder", 250_000),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", PARTLY)
def test_the_fast_memory_takes_what_it_can(name: str, shared_data: Path, tmp_path: Path) -> None:
    """Something is pinned, something is not, and no array that is left out would fit into what is left free."""
    model, application = PARTLY[name]
    board = pinned.on_unicorn(name)
    board = replace(board, reserved=replace(board.reserved, application=application))
    graph = load_tflite(shared_data / "models" / f"{model}_int8.tflite")
    built = pinned.build(graph, board, Wishes(), tmp_path)
    fast = {r.name for r in board.writable if r.wait_states == 0}
    inside = [p.movable for p in built.placement.pins if p.region in fast]
    outside = [m for m in built.compiled.library.movables if m not in inside]
    left = [m for m in outside if not m.is_code and waiting(board, board.code, m.traffic) > 0]
    assert sum(m.bytes for m in inside if not m.is_code) > 10_000 and left
    free = free_bytes(built)
    assert min(m.bytes for m in left) > max(free[region] for region in fast)
    x = random_inputs(graph, 1, seed=3)
    result = running.run(built.firmware, board, Unicorn(), x, evaluate.reference(graph, x))
    assert result.passed, result.detail


def free_bytes(built: Built) -> dict[str, int]:
    """What the plan leaves of every writable region."""
    needs = needs_of([built.compiled.library])
    free = rooms(built.board)
    free[built.placement.arena] -= -(-needs.arena // 8) * 8
    free[built.placement.inputs] -= -(-needs.record // 8) * 8
    for pin in built.placement.pins:
        free[pin.region] -= pin.movable.bytes
    return free


@pytest.mark.shared
@pytest.mark.parametrize("name", ["pico", "disco_f746ng"])
@pytest.mark.parametrize("model", ["kws_ds_cnn", "ic_resnet8", "vww_mobilenet_v1_025_96", "ad_autoencoder"])
def test_functions_get_the_room_that_they_need(
    name: str, model: str, shared_data: Path, tmp_path: Path
) -> None:
    """Placement happens before a compiler has seen the kernels: were they larger than planned, a model that fits would
    not link."""
    graph = load_tflite(shared_data / "models" / f"{model}_int8.tflite")
    built = pinned.build(graph, pinned.on_unicorn(name), Wishes("none", "none"), tmp_path)
    for movable in built.compiled.library.movables:
        if movable.is_code:
            assert built.firmware.symbols[movable.symbol].size + VENEER_BYTES <= movable.bytes, movable


# ---- several models, another emulator -----------------------------------------------------------------------------


def test_two_models_in_one_image_are_pinned_side_by_side(tmp_path: Path) -> None:
    """Their layers have the same names; each model's arrays are its own."""
    board = pinned.on_unicorn("disco_f407vg")
    graphs = {"one": int8_graph(0, 12), "other": int8_graph(7, 8)}
    libraries = [library_of(graph, name) for name, graph in graphs.items()]
    files = dict(firmware_files(libraries, board, tinyfw.RUN_ID))
    for library in libraries:
        files |= library.files
    image = building.build(tinyfw.write(tmp_path, files), board)
    table = placement_check.read_table(next(tmp_path.rglob(placement_check.TABLE)).parent)
    assert {p.symbol.partition("_")[0] for p in table.pins} == {"one", "other"}
    inputs = [random_inputs(graph, 2, seed=3) for graph in graphs.values()]
    expected = [evaluate.reference(g, x) for g, x in zip(graphs.values(), inputs, strict=True)]
    result = running.run_models(image, board, Unicorn(), inputs, expected)
    assert result.passed, result.detail


@pytest.mark.parametrize("words", [1, 2, 3])
def test_variables_of_any_size_may_stand_in_front_of_what_is_pinned(words: int, tmp_path: Path) -> None:
    """Pinned objects are aligned to 8 bytes, an application's initialised data ends at any 4: the copy must know."""
    board, graph = pinned.on_unicorn("disco_f407vg"), int8_graph(0, 12)
    compiled = pinned.compiled_for(graph, board, Wishes())
    project = pinned.write_project(compiled, board, tmp_path)
    main, call = project / "test/test_model/test_main.c", "    tg_port_init();\n"
    used = f"    for (int i = 0; i < {words}; ++i) {{ own[i] += 1U; }}\n"
    text = (
        main.read_text()
        .replace(call, call + used)
        .replace("int main(void)", f"static volatile uint32_t own[{words}] = {{5U}};\nint main(void)")
    )
    assert used in text and "own" in text
    main.write_text(text)
    image = building.build(project, board)
    assert image.sections[".data"] == 4 * words and image.sections[".pin_sram"]
    x = random_inputs(graph, 2, seed=3)
    result = running.run(image, board, Unicorn(), x, evaluate.reference(graph, x))
    assert result.passed, result.detail


@pytest.mark.qemu
@pytest.mark.parametrize(
    "name", ["microbit", "mps2_an385", "mps2_an386", "mps2_an500", "mps2_an505", "mps3_an547"]
)
def test_qemu_runs_what_is_pinned_and_counts_as_unicorn_does(name: str, tmp_path: Path) -> None:
    """Code in SRAM and its long jumps included; the Cortex-M55 with its own instructions."""
    board, graph = load_board(name), int8_graph(0, 12)
    built = pinned.build(graph, board, Wishes("all", "all"), tmp_path)
    x = random_inputs(graph, 2, seed=3)
    y = evaluate.reference(graph, x)
    by_qemu = running.run(Qemu().build(built.project, board), board, Qemu(), x, y)
    assert by_qemu.passed, by_qemu.detail
    if Unicorn().unavailable(board) is None:
        by_unicorn = running.run(built.firmware, board, Unicorn(), x, y)
        assert by_unicorn.passed and by_unicorn.instructions == by_qemu.instructions
