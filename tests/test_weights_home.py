"""Weights with a home of their own, in external flash: where everything lies in the linked image, what is read there
when it runs in Unicorn, what is refused. Every proof has its control."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import pinned
from tests.support.graphs import int8_graph
from tests.support.nodes import random_inputs
from tests.support.pinned import Built, arrays_of, table_of, with_region
from tinygen import building, evaluate, flashing, placement_check, running
from tinygen.boards import Board, Region, all_boards, load_board
from tinygen.cli import main
from tinygen.emulators import Unicorn, ports
from tinygen.errors import BoardError
from tinygen.frontend.tflite import load_tflite
from tinygen.graph import Array, Graph
from tinygen.tflite.export import export_tflite
from tinygen.wishes import Wishes

HOME = "qspi"
BOARDS = ("nrf52840_dk", "disco_f746ng")
CASES = [
    # board, pin: the autoencoder's arrays do not all fit the nRF52840's SRAM
    ("nrf52840_dk", "none"),
    ("nrf52840_dk", "auto"),
    ("disco_f746ng", "none"),
    ("disco_f746ng", "all"),
]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.tflite"
    path.write_bytes(export_tflite(int8_graph()))
    return path


@pytest.fixture(scope="module")
def autoencoder(shared_data: Path) -> Graph:
    return load_tflite(shared_data / "models" / "ad_autoencoder_int8.tflite")


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, autoencoder: Graph
) -> Built:
    board, pin = request.param
    folder = tmp_path_factory.mktemp(board)
    return pinned.build(autoencoder, load_board(board), Wishes(pin, pin, weights=HOME), folder)


@pytest.fixture(scope="module")
def inputs(autoencoder: Graph) -> list[Array]:
    return random_inputs(autoencoder, 1, seed=3)


@pytest.fixture(scope="module")
def expected(autoencoder: Graph, inputs: list[Array]) -> tuple[Array, ...]:
    return evaluate.reference(autoencoder, inputs)


def within(addresses: range, region: Region) -> bool:
    return region.origin <= addresses.start < addresses.stop <= region.end


# ---- the linked image


@pytest.mark.arm
@pytest.mark.shared
def test_everything_is_loaded_to_its_home(built: Built) -> None:
    home, code = built.board.region(HOME), built.board.code
    for pin in built.placement.pins:
        assert within(built.run_range(pin.movable.symbol), built.board.region(pin.region))
        assert within(built.load_range(pin.movable.symbol), code if pin.movable.is_code else home)
    for array in built.placement.loose:
        assert built.run_range(array.symbol) == built.load_range(array.symbol)
        assert within(built.run_range(array.symbol), home)
    arrays = {m.symbol for m in built.compiled.library.movables if not m.is_code}
    assert arrays == {p.movable.symbol for p in built.arrays} | {m.symbol for m in built.placement.loose}


@pytest.mark.arm
@pytest.mark.shared
def test_bytes_per_region_are_those_of_the_segments(built: Built) -> None:
    """By section names, and by where a loader writes."""
    image, constants = built.firmware, built.compiled.library.constant_bytes
    assert image.weights_bytes == image.bytes_in(built.board.region(HOME)) >= constants
    assert image.code_bytes == image.bytes_in(built.board.code) < constants
    pinned_bytes = sum(p.movable.traffic.footprint for p in built.arrays)
    assert image.ram_bytes >= pinned_bytes + built.compiled.plan.arena_bytes
    assert built.placement.array_bytes == constants


@pytest.mark.arm
@pytest.mark.shared
def test_outputs_are_exact_and_the_home_of_what_is_pinned_is_not_needed(
    built: Built, inputs: list[Array], expected: tuple[Array, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After start-up, with all start-up steps made, the copies in external flash are inverted."""
    copies = [built.load_range(p.movable.symbol) for p in built.placement.pins]
    result = pinned.run(built, inputs, expected, pinned.corrupting(copies), monkeypatch)
    assert result.passed, result.detail


@pytest.mark.arm
@pytest.mark.shared
def test_control_what_is_used_counts_and_what_is_not_pinned_is_read_at_home(
    built: Built, inputs: list[Array], expected: tuple[Array, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One array's bytes inverted where they are planned to be read: outputs differ. All that stay at home are read."""
    loose = [m for m in built.placement.loose if m.role in ("weights", "bias")]
    used = loose or [p.movable for p in built.arrays if p.movable.role in ("weights", "bias")]
    reads: Counter[str] = Counter()
    firsts = {m.symbol: built.run_range(m.symbol)[:1] for m in loose}
    watch, spoil = pinned.counting_reads(firsts, reads), pinned.corrupting([built.run_range(used[-1].symbol)])
    result = pinned.run(built, inputs, expected, lambda core: (spoil(core), watch(core))[0], monkeypatch)
    assert not result.passed and "differ" in result.detail
    assert set(reads) == set(firsts)


@pytest.mark.arm
@pytest.mark.shared
def test_what_does_not_fit_is_refused_before_and_by_the_linker(built: Built, tmp_path: Path) -> None:
    """The home 8 bytes too short for the arrays; and flash too short for the code."""
    board, wishes = built.board, Wishes("none", "none", weights=HOME)
    short = replace(board.region(HOME), length=built.compiled.library.constant_bytes - 8)
    with pytest.raises(BoardError, match=rf"region '{HOME}' has .* too many\n  weights and tables [\d,]+\n"):
        pinned.compiled_for(built.compiled.graph, with_region(board, short), wishes)
    for region, what in ((short, "weights"), (replace(board.code, length=2048), "code")):
        smaller = with_region(board, region)
        project = pinned.write_project(built.compiled, smaller, tmp_path / what, built.placement)
        with pytest.raises(
            BoardError, match=rf"{what} .*not fit region '{region.name}' of board '{board.name}'"
        ):
            building.build(project, smaller)


@pytest.mark.arm
@pytest.mark.shared
def test_the_two_files_of_a_board_hold_the_image(built: Built, tmp_path: Path) -> None:
    """What README.md types, and what the flash command hands to the board's programmer."""
    elf = shutil.copy(built.firmware.elf, tmp_path)
    fake = tmp_path / "bin" / "openocd"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
    for command in (flashing.flash_command(built.board, True), flashing.WEIGHTS_ONLY):
        line = flashing.filled(command, str(elf), str(tmp_path))
        subprocess.run(line, shell=True, check=True, env=environment)
    assert "program " + str(tmp_path / "code.hex") in (tmp_path / "called").read_text()
    segments = sorted(building.load_segments(built.firmware.elf))
    for name, region in (("code", built.board.code), ("weights", built.board.region(HOME))):
        raw = tmp_path / f"{name}.bin"
        subprocess.run(
            ["arm-none-eabi-objcopy", "-I", "ihex", "-O", "binary", tmp_path / f"{name}.hex", raw], check=True
        )
        inside = [(at - region.origin, data) for at, data in segments if region.origin <= at < region.end]
        wanted = bytearray(inside[-1][0] + len(inside[-1][1]))
        for at, data in inside:
            wanted[at : at + len(data)] = data
        assert raw.read_bytes() == wanted, name
    assert "have a memory of their own" in ports.flash_advice(built.firmware, built.board)


# ---- the check of the image: damaged plans, values and linker scripts


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Some arrays pinned, some not, code pinned too."""
    layers = {"stem": "sram", "body": "flash", "head": "sram"}
    wishes = Wishes("none", "all", layers, weights=HOME)
    return pinned.build(int8_graph(0, 12), load_board(BOARDS[0]), wishes, tmp_path_factory.mktemp("small"))


DAMAGES = {
    # what is written into the linker script -> what the check says
    "in flash": ("    } > qspi\n", "    } > flash\n", r"of layer 'body'.* not in region 'qspi'"),
    "loaded elsewhere": ("    } > qspi\n", "    } > qspi AT > flash\n", r"is read at .*, but its bytes are loaded to"),
    "not loaded": (".weights : {", ".weights (NOLOAD) : {", r"but its bytes are not in the image"),
    "copy in flash": ("> sram AT > qspi", "> sram AT > flash", r"is loaded to .*, not into region 'qspi'"),
    "code with the weights": (
        "    } > sram AT > flash\n    __pin_sram_load",
        "    } > sram AT > qspi\n    __pin_sram_load",
        r"code of layer .* is loaded to .*, not into region 'flash'",
    ),
    "wrong source": ("= LOADADDR(.weights_sram)", "= LOADADDR(.pin_sram)", "does not copy weights of layer"),
    "short copy": ("__weights_sram_end = .;", "__weights_sram_end = . - 8;", "does not copy"),
}  # fmt: skip


@pytest.mark.arm
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


@pytest.mark.arm
def test_one_array_that_the_linker_script_forgets_is_found(small: Built, tmp_path: Path) -> None:
    project = pinned.write_project(small.compiled, small.board, tmp_path)
    array = next(m for m in small.placement.loose if m.role == "weights")
    script = pinned.linker_script(project)
    lines = script.read_text().splitlines(keepends=True)
    left = [line for line in lines if f"*(.rodata.{array.symbol})" not in line]
    assert len(left) == len(lines) - 1
    script.write_text("".join(left))
    with pytest.raises(BoardError, match=rf"weights of layer '{array.layer}'.*not in region 'qspi'"):
        building.build(project, small.board)


@pytest.mark.arm
def test_another_plan_and_other_values_are_found(small: Built) -> None:
    table, values = table_of(small.placement), arrays_of(small)
    elf, board = small.firmware.elf, small.board
    placement_check.check(elf, board, table, values)
    with pytest.raises(BoardError, match=r"is loaded to .*, not into region 'flash'"):
        placement_check.check(elf, board, replace(table, weights="flash"), values)
    moved = tuple(replace(planned, region="flash") for planned in table.loose)
    with pytest.raises(BoardError, match="not in region 'flash'"):
        placement_check.check(elf, board, replace(table, loose=moved), values)
    symbol = table.loose[0].symbol
    with pytest.raises(BoardError, match="for region 'qspi' are not those of its C array"):
        placement_check.check(elf, board, table, {**values, symbol: values[symbol][::-1] + b"\0"})


# ---- the command line


def compiled(model: Path, out: Path, *arguments: str) -> int:
    return main(["compile", str(model), "--out", str(out), *arguments])


REFUSED = [
    (["nrf52840_dk"], "qspy", "board 'nrf52840_dk' has no such region, did you mean 'qspi'?"),
    (["nrf52840_dk"], "qspy", "its read-only regions are flash (that of the code), qspi"),
    (["disco_f746ng"], "dtcm", "board 'disco_f746ng' writes that region: weights get into it by --pin"),
    (["nrf52840_dk", "pico"], "qspi", "board 'pico' has no such region"),
    (["mps2_an386"], "qspi", "its only read-only region is 'ssram1'"),
    (["mps2_an386"], "qspi", "no board that QEMU knows has; Unicorn and Renode run the others"),
]


@pytest.mark.parametrize(("boards", "weights", "message"), REFUSED)
def test_what_is_no_home_is_refused_and_nothing_is_written(
    boards: list[str], weights: str, message: str, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = [word for board in boards for word in ("--board", board)]
    assert compiled(model, tmp_path / "fw", *words, "--weights", weights) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "fw").exists()


def test_qemu_emulates_no_board_with_external_flash_beside_its_code() -> None:
    """What the message says of QEMU's boards."""
    several = [b for b in all_boards() if sum(not r.writable for r in b.regions) > 1]
    assert {b.name for b in several} == set(BOARDS) and not any(b.qemu for b in several)
    assert all("{hex}" in b.region(HOME).programming for b in several)


@pytest.mark.parametrize("board", BOARDS)
def test_the_memory_map_shows_where_weights_can_go(board: str, capsys: Capture) -> None:
    assert main(["boards", board]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.rstrip().endswith("--weights"))
    assert HOME in row.split()


def files_of(folder: Path) -> dict[str, bytes]:
    """What does not tell the options: run_ids and the manifest do."""
    telling = ("manifest.json", "firmware.json", "test_main.c")
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name not in telling
    }


@pytest.mark.parametrize("home", ["platformio", "bare", "cmake"])
def test_the_default_is_the_region_of_the_code(model: Path, tmp_path: Path, home: str) -> None:
    """Nothing of the option is in what is generated without it."""
    board = ("--board", "nrf52840_dk", "--project", home)
    assert compiled(model, tmp_path / "default", *board) == 0
    assert compiled(model, tmp_path / "named", *board, "--weights", "flash") == 0
    assert compiled(model, tmp_path / "other", *board, "--weights", HOME) == 0
    default = files_of(tmp_path / "default")
    assert default == files_of(tmp_path / "named") != files_of(tmp_path / "other")
    table = json.loads(default["boards/nrf52840_dk/placement.json"])
    assert set(table) == {"arena", "inputs", "pins"}
    wishes = json.loads((tmp_path / "default" / "manifest.json").read_text())["options"]["wishes"]
    assert "weights" not in wishes


def test_output_names_the_region_and_the_readme_how_it_is_filled(
    model: Path, tmp_path: Path, capsys: Capture
) -> None:
    both = [word for board in BOARDS for word in ("--board", board)]
    for home, build in (("platformio", ".pio/build"), ("bare", "build/make")):
        capsys.readouterr()
        out = tmp_path / home
        assert compiled(model, out, *both, "--weights", HOME, "--project", home, "--json") == 0
        data = json.loads(capsys.readouterr().out)
        assert data["placement"]["weights"] == {"region": HOME, "bytes": data["constant_bytes"]}
        readme = (out / "README.md").read_text()
        for board in map(load_board, BOARDS):
            assert f"{board.region(HOME).origin:#010x}" in readme.lower()
            hex_file = f"{build}/{board.name}/weights.hex"
            assert board.region(HOME).programming.format(hex=hex_file) in readme
    assert main(["inspect", str(tmp_path / "bare"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights_in"] == dict.fromkeys(BOARDS, HOME)
    assert main(["inspect", str(tmp_path / "bare")]) == 0
    assert "weights on disco_f746ng: in qspi" in capsys.readouterr().out


@pytest.mark.arm
@pytest.mark.shared
def test_a_flash_that_is_too_small_for_the_weights_is_enough(
    shared_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    """--budget-flash is about the code region: 16 KB hold the code of a model with 279 KB of weights."""
    path = shared_data / "models" / "ad_autoencoder_int8.tflite"
    words = ("--board", "nrf52840_dk", "--budget-flash", "16384")
    assert compiled(path, tmp_path / "fw", *words) == 1
    assert "or give them another home: --weights qspi" in capsys.readouterr().err
    assert compiled(path, tmp_path / "fw", *words, "--weights", HOME) == 0
    board: Board = load_board("nrf52840_dk")
    image = building.build(tmp_path / "fw", board)
    assert image.bytes_in(board.code) <= 16_384 < image.bytes_in(board.region(HOME))


@pytest.mark.arm
@pytest.mark.slow
def test_a_model_larger_than_the_internal_flash_runs(tmp_path: Path) -> None:
    """1.1 MB of weights on the nRF52840, which has 1 MB of flash."""
    graph, board = int8_graph(0, 352), load_board("nrf52840_dk")
    with pytest.raises(BoardError, match="or give them another home: --weights qspi"):
        pinned.compiled_for(graph, board, Wishes())
    built = pinned.build(graph, board, Wishes(weights=HOME), tmp_path)
    assert built.firmware.weights_bytes > board.code.length > built.firmware.code_bytes
    x = random_inputs(graph, 1, seed=3)
    result = running.run(built.firmware, board, Unicorn(), x, evaluate.reference(graph, x))
    assert result.passed, result.detail
