"""`tinygen fit` says before anything is generated what a compile would find."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.graphs import float_graph, int8_graph
from tinygen import api, building, pipeline
from tinygen.boards import Board, all_boards, board_names, load_board
from tinygen.budgets import Budgets
from tinygen.cli import main
from tinygen.errors import BoardError
from tinygen.fit import Fitter, assumed_int8, smallest
from tinygen.flash import check_flash, limited
from tinygen.placement import aligned, fixed_bytes
from tinygen.tflite.export import export_tflite
from tinygen.wishes import Wishes

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "model.tflite"
    path.write_bytes(export_tflite(int8_graph(0, 64)))
    return path


@pytest.fixture(scope="module")
def fitter() -> Fitter:
    """64 channels: 46,000 weights, an arena of 4 KB."""
    return Fitter(int8_graph(0, 64))


def resized(board: Board, region: str, length: int) -> Board:
    regions = tuple(replace(r, length=length) if r.name == region else r for r in board.regions)
    return replace(board, regions=regions)


def asked(capsys: Capture, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["fit", *arguments])
    return code, capsys.readouterr().out


# ---- sizes


def test_made_up_ranges_give_the_sizes_of_real_ones() -> None:
    real, made_up = Fitter(int8_graph()), Fitter(float_graph())
    board = load_board("nucleo_f446re")
    assert real.exact and not made_up.exact
    assert replace(made_up.sized(board), exact=True) == real.sized(board)
    # a zero point of 0 or 1 is another number in the C: the estimate follows it, a little
    assert made_up.fit(board).flash.needed == pytest.approx(real.fit(board).flash.needed, rel=0.02)


def test_made_up_samples_must_only_be_finite() -> None:
    graph = assumed_int8(float_graph())
    assert all(np.isfinite(t.scale) for t in graph.input_tensors)


@pytest.mark.parametrize("name", board_names())
def test_the_answer_is_that_of_a_compile(fitter: Fitter, name: str) -> None:
    board = load_board(name)
    answer = fitter.fit(board)
    try:
        compiled = pipeline.lower(fitter.graph, board, pipeline.Options())
    except BoardError:
        assert not answer.fits
        return
    assert answer.fits and answer.placement == compiled.placement
    sizes = dict((*answer.flash.parts, *answer.sram.parts))
    assert sizes["weights and tables"] == compiled.library.constant_bytes
    assert sizes["arena"] == aligned(compiled.plan.arena_bytes)


def test_the_last_byte_of_sram_decides(fitter: Fitter) -> None:
    """Of the model in the bands that need least."""
    board = load_board("nucleo_f446re")
    shares = fitter.banded[-1].fit(board).sram
    tight = resized(board, "sram", -(-shares.needed // 32) * 32)
    assert fitter.fit(tight).fits
    small = fitter.fit(resized(board, "sram", shares.needed // 32 * 32 - 64))
    assert not small.fits and small.arena_over > 0
    assert "the arena needs" in small.reasons[0] and "fewer channels or pixels" in small.advice[0]


def test_the_last_byte_of_flash_decides_and_the_advice_is_right(fitter: Fitter) -> None:
    board = load_board("nucleo_f446re")
    shares = fitter.fit(board).flash
    assert fitter.fit(board, Budgets(flash=shares.needed)).fits
    answer = fitter.fit(board, Budgets(flash=shares.needed - 1000))
    assert not answer.fits and answer.flash.over == 1000 and "--budget-flash" in answer.reasons[0]
    left = answer.constants - 1000
    assert f"({left:,} of {answer.constants:,} bytes)" in answer.advice[0]
    hopeless = fitter.fit(board, Budgets(flash=1024))
    assert "even without any weights" in hopeless.advice[0]


def test_a_budget_of_sram_counts_arena_stacks_and_variables(fitter: Fitter) -> None:
    board = load_board("nucleo_f446re")
    for made in (fitter, fitter.banded[-1]):
        arena = dict(made.fit(board).sram.parts)["arena"]
        assert arena == aligned(made.sized(board).arena)
        needed = arena + fixed_bytes(board)
        assert made.fit(board, Budgets(sram=needed)).fits and fitter.fit(board, Budgets(sram=needed)).fits
        assert made.fit(board, Budgets(sram=needed)).pinned <= 8
    answer = fitter.banded[-1].fit(board, Budgets(sram=needed - 8))
    assert not answer.fits and answer.arena_over == 8 and "--budget-sram" in answer.reasons[0]
    assert not fitter.fit(board, Budgets(sram=needed - 8)).fits, "no bands need less than the last"


def test_the_pinned_share_is_that_of_the_placement(fitter: Fitter) -> None:
    whole, none = fitter.fit(load_board("nucleo_f767zi")), fitter.fit(load_board("mps2_an386"))
    assert 0.9 < whole.pinned_share <= 1 and none.pinned_share == 0
    assert whole.placement is not None
    pinned = sum(p.movable.traffic.footprint for p in whole.placement.pins if p.movable.role != "code")
    assert whole.pinned == pinned


def test_the_smallest_board_is_named() -> None:
    fitter = Fitter(int8_graph())
    fits = [fitter.fit(b) for b in all_boards()]
    least = smallest(fits)
    assert least is not None and least.board.name == "nucleo_f072rb"
    assert smallest([f for f in fits if not f.fits]) is None


# ---- flash of a compile


def test_compile_refuses_what_surely_exceeds_the_budget(model: Path, capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "fw"
    assert main(["compile", str(model), "--out", str(out), "--budget-flash", "20000"]) == 1
    message = capsys.readouterr().err
    assert "--budget-flash has 20,000 bytes" in message and "weights and tables" in message
    assert "prune" in message and len(message.splitlines()) <= 5 and not out.exists()


@pytest.mark.arm
def test_the_linker_holds_the_budget_to_the_byte(model: Path, tmp_path: Path) -> None:
    board = load_board("mps2_an386")
    api.compile(model, board=board.name, out=tmp_path / "free")
    size = building.build(tmp_path / "free", board).code_bytes
    api.compile(model, board=board.name, out=tmp_path / "exact", budget_flash=-(-size // 4) * 4)
    assert building.build(tmp_path / "exact", board).code_bytes <= size + 4
    api.compile(model, board=board.name, out=tmp_path / "less", budget_flash=size // 4 * 4 - 64)
    with pytest.raises(BoardError, match="do not fit region"):
        building.build(tmp_path / "less", board)


def test_weights_with_a_home_of_their_own_are_counted_there(fitter: Fitter) -> None:
    board = load_board("nrf52840_dk")
    together, apart = fitter.fit(board), fitter.fit(board, weights="qspi")
    assert together.weights is None and apart.weights is not None and apart.weights.region == "qspi"
    assert apart.weights.needed == fitter.library(board).constant_bytes
    assert apart.flash.needed + apart.weights.needed == together.flash.needed
    small = fitter.fit(board, Budgets(flash=16_384), "qspi")
    assert small.fits and not fitter.fit(board, Budgets(flash=16_384)).fits
    (advice,) = fitter.fit(board, Budgets(flash=16_384)).advice
    assert advice.endswith("or give them another home: --weights qspi")
    less = fitter.fit(resized(board, "qspi", 32_768), weights="qspi")
    assert [r.partition(" has")[0] for r in less.reasons] == ["region 'qspi'"] and less.advice


def test_fit_of_all_boards_asks_those_that_have_the_region(model: Path, capsys: Capture) -> None:
    code, out = asked(capsys, str(model), "--weights", "qspi", "--json")
    answers = json.loads(out)["boards"]
    assert code == 0 and {a["board"] for a in answers} == {"disco_f746ng", "nrf52840_dk"}
    assert all(a["weights"]["region"] == "qspi" and a["weights"]["over"] == 0 for a in answers)
    code, out = asked(capsys, str(model), "--board", "nrf52840_dk", "--weights", "qspi")
    assert code == 0 and "weights (qspi)" in out
    assert main(["fit", str(model), "--weights", "qpsi"]) == 1
    assert "no board has such a read-only region, did you mean 'qspi'?" in capsys.readouterr().err


def test_a_doubtful_estimate_is_left_to_the_linker(fitter: Fitter) -> None:
    board = load_board("mps2_an386")
    needed, library = fitter.fit(board).flash.needed, fitter.library(board)
    near = needed - library.code_bytes // 20
    check_flash(library, limited(board, near), Wishes(budget_flash=near))
    far = needed - library.code_bytes
    with pytest.raises(BoardError, match="--budget-flash has"):
        check_flash(library, limited(board, far), Wishes(budget_flash=far))


# ---- the command


def test_all_boards_in_a_table(model: Path, capsys: Capture) -> None:
    code, text = asked(capsys, str(model))
    assert code == 0
    assert all(name in text for name in board_names())
    assert "✓" in text and "✗" not in text and "the smallest is nucleo_f072rb" in text
    code, text = asked(capsys, str(model), "--budget-flash", "1000")
    assert code == 1 and "✗" in text and "✓" not in text and "fits none" in text


def test_one_board_in_detail(model: Path, capsys: Capture) -> None:
    code, text = asked(capsys, str(model), "--board", "nucleo_f446re")
    assert code == 0 and "fits nucleo_f446re" in text and "stacks and variables" in text
    code, text = asked(capsys, str(model), "--board", "nucleo_f446re", "--budget-sram", "5000")
    assert code == 1 and "does not fit" in text and "to make it fit" in text


def test_json_and_exit_codes(model: Path, capsys: Capture) -> None:
    both = ("--board", "nucleo_f446re", "--board", "nucleo_f767zi")
    code, text = asked(capsys, str(model), *both, "--json")
    data = json.loads(text)
    assert code == 0 and [b["board"] for b in data["boards"]] == ["nucleo_f446re", "nucleo_f767zi"]
    assert data["boards"][0]["flash"]["parts"]["weights_and_tables"] == data["model"]["constant_bytes"]
    code, text = asked(capsys, str(model), *both, "--budget-flash", "9000", "--json")
    data = json.loads(text)
    assert code == 1 and not any(b["fits"] for b in data["boards"])
    assert all(b["flash"]["over"] > 0 and b["reasons"] and b["advice"] for b in data["boards"])
    unlike = ("--board", "nucleo_f446re", "--board", "pico", "--json")
    needed = [b["flash"]["needed"] for b in json.loads(asked(capsys, str(model), *unlike)[1])["boards"]]
    budget = ("--budget-flash", str(min(needed)))
    code, text = asked(capsys, str(model), *unlike, *budget)
    fits = [b["fits"] for b in json.loads(text)["boards"]]
    assert fits == [n == min(needed) for n in needed] and sum(fits) == 1 and code == 1
    assert asked(capsys, str(model), *budget)[0] == 0
    assert main(["fit", str(model), "--board", "nucleo_f447re"]) == 1
    assert "did you mean 'nucleo_f446re'" in capsys.readouterr().err


def test_boards_of_the_users_own(model: Path, tmp_path: Path, capsys: Capture) -> None:
    text = 'extends = "nucleo_f446re"\nname = "tiny"\n[[region]]\nname = "sram"\nlength = 0x1800\n'
    (tmp_path / "tiny.toml").write_text(text)
    path = ("--board-path", str(tmp_path))
    code, shown = asked(capsys, str(model), "--board", "tiny", *path, "--json")
    assert code == 1 and json.loads(shown)["boards"][0]["arena_over"] > 0
    assert "tiny" in asked(capsys, str(model), *path)[1]
    capsys.readouterr()
    assert main(["boards", *path]) == 0 and "tiny" in capsys.readouterr().out
    assert main(["boards", "tiny", *path]) == 0 and "0x20000000" in capsys.readouterr().out
    assert main(["compile", str(model), "--board", "tiny", *path, "--out", str(tmp_path / "fw")]) == 1
    assert "does not fit 'tiny'" in capsys.readouterr().err


@pytest.mark.parametrize("name", board_names())
def test_every_memory_map_shows_every_region_and_source(name: str, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(["boards", name]) == 0
    text = capsys.readouterr().out
    board = load_board(name)
    origins = [f"0x{r.origin:08x}" for r in sorted(board.regions, key=lambda r: r.origin)]
    places = [text.index(origin) for origin in origins]
    assert places == sorted(places)
    assert all(word in text for word in ("stack", "code", "sources", *(c.name for c in board.caches)))


# ---- real models


@pytest.mark.shared
@pytest.mark.tensorflow
def test_a_keras_model_is_answered_within_seconds_and_as_published(shared_data: Path) -> None:
    import keras

    assert keras.__version__  # its import takes seconds of its own
    start = time.process_time()
    fits = api.fit(shared_data / "models" / "ic_resnet8.keras")
    assert time.process_time() - start < 20, "CPU seconds: what else the machine does is not ours"
    assert (fits.model.arena, fits.model.constants, fits.model.macs) == (36_044, 82_874, 12_501_632)
    assert {f.board.name for f in fits.boards if not f.fits} == {"nucleo_f072rb"}
    assert {f.board.name for f in fits.boards if f.banded} == {"nucleo_g071rb"}


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_an_untrained_keras_model_needs_no_samples(tmp_path: Path) -> None:
    import keras

    layers = [keras.layers.Input((16, 16, 3)), keras.layers.Conv2D(8, 3, activation="relu")]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4, activation="softmax")]
    keras.Sequential(layers).save(tmp_path / "new.keras")
    fits = api.fit(tmp_path / "new.keras", board="nucleo_f446re")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(16, 16, 16, 3)).astype(np.float32))
    built = api.compile(
        tmp_path / "new.keras", representative=tmp_path / "x.npy", board="nucleo_f446re"
    ).compiled
    assert (fits.model.arena, fits.model.constants) == (
        built.plan.arena_bytes,
        built.library.constant_bytes,
    )
