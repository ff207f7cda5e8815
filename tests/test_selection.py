"""Which kernel is chosen for what aim, what boards of one project share, and what `inspect` says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tinygen
from tests.support.graphs import int8_graph
from tinygen import bundle, pipeline
from tinygen.boards import common, load_board
from tinygen.cli import main
from tinygen.errors import UsageError
from tinygen.graph import GraphBuilder, QParams
from tinygen.ops import activation, add
from tinygen.ops.base import Kernel
from tinygen.program import select
from tinygen.selection import RATES, Candidate, Choice, Optimize, Selector, alike, others_live
from tinygen.tflite.export import export_tflite

BOARD = "mps2_an386"
GRAPH = int8_graph()
STEM, BODY = (b for b in GRAPH.bound() if b.node.op == "conv2d")


def kernel(name: str, cycles: float, constants: int = 0, scratch: int = 0) -> Kernel:
    """A kernel with the portable template and figures of its own."""
    return Kernel(
        name,
        lambda b: cycles,
        constants=lambda b: {"table": np.zeros(constants, np.int8)},
        scratch=lambda b: scratch,
        template="tg_conv2d",
    )


def names(ranked: tuple[Candidate, ...]) -> list[str]:
    return [c.kernel.name for c in ranked]


@pytest.mark.parametrize(("optimize", "first"), [("size", "small"), ("balanced", "fair"), ("speed", "quick")])
def test_aims_weigh_cycles_against_bytes(optimize: Optimize, first: str) -> None:
    # quick saves 5 percent of the model's cycles for 8 KB; fair is twice as fast as small for 512 bytes
    kernels = [kernel("small", 200.0), kernel("fair", 105.0, 512), kernel("quick", 100.0, 8704)]
    assert names(Selector([(STEM, kernels)], Choice(optimize)).ranked(STEM, kernels))[0] == first


def test_nodes_are_alike_that_differ_in_names_alone() -> None:
    renamed = replace(STEM, node=replace(STEM.node, name="other", output="other"))
    image, weights, bias = STEM.inputs
    others = [
        replace(STEM, inputs=(image, replace(weights, data=np.array(weights.data)), bias)),
        replace(STEM, inputs=(replace(image, shape=(7, 5, 2)), weights, bias)),
        replace(STEM, node=replace(STEM.node, attrs=replace(STEM.attrs, stride=(2, 2)))),
        BODY,
    ]
    assert alike(renamed) == alike(STEM) and not any(alike(b) == alike(STEM) for b in others)


def test_the_rate_of_balanced_is_one_percent_for_a_kilobyte() -> None:
    for extra, first in ((1000, "quick"), (1050, "small")):
        kernels = [kernel("small", 101.0), kernel("quick", 100.0, extra)]
        assert names(Selector([(STEM, kernels)], Choice("balanced")).ranked(STEM, kernels))[0] == first


def test_sram_counts_above_what_some_layer_needs_in_any_case() -> None:
    both = sum(t.size_bytes for t in (*BODY.activations, BODY.output))
    spare = both - sum(t.size_bytes for t in (*STEM.activations, STEM.output))
    assert spare > 0
    plain = [kernel("plain", 100.0)]
    for scratch, sram in ((spare, 0), (spare + 8, 8)):
        tried = [kernel("scratch", 100.0, scratch=scratch)]
        ranked = Selector([(BODY, plain), (STEM, [*plain, *tried])], Choice("balanced")).ranked(STEM, tried)
        assert ranked[0].sram == sram


def test_shortcuts_count_as_memory_that_is_taken() -> None:
    others = others_live(GRAPH)
    # join reads the stem's output beside the body's: it lives while the body runs, which reads it, too
    assert others["stem"] == others["body"] == others["join"] == 0
    builder = GraphBuilder("shortcut")
    q = QParams.per_tensor(0.1, 0)
    x = builder.input("x", (4, 4, 8), q)
    first = builder.add("activation", "first", (x,), activation.Attrs("tanh"), QParams.per_tensor(1 / 128, 0))
    second = builder.add(
        "activation", "second", (first,), activation.Attrs("tanh"), QParams.per_tensor(1 / 128, 0)
    )
    sum_ = builder.add("add", "sum", (x, second), add.Attrs(), q)
    assert others_live(builder.build((sum_,))) == {"first": 0, "second": 128, "sum": 0}


def test_code_that_an_earlier_layer_has_costs_nothing() -> None:
    kernels = [kernel("one", 100.0)]
    twin = replace(STEM, node=replace(STEM.node, name="twin"))
    selector = Selector([(STEM, kernels), (twin, kernels)], Choice("balanced"))
    assert selector.ranked(STEM, kernels)[0].flash > 0 == selector.ranked(twin, kernels)[0].flash


def test_named_kernels_are_taken_and_stale_names_refused() -> None:
    board = load_board(BOARD)
    slow = select(GRAPH, board, Choice("balanced", named=(("stem", "tg_conv2d_s8"),)))
    chosen = {s.bound.name: s for s in slow.steps}
    assert chosen["stem"].kernel.name == "tg_conv2d_s8" != chosen["body"].kernel.name
    with pytest.raises(UsageError, match=r"layer 'stem' was tuned to kernel 'tg_gone'.*tg_conv2d_s8.*can"):
        select(GRAPH, board, Choice("balanced", named=(("stem", "tg_gone"),)))
    with pytest.raises(UsageError, match="layer 'steam', which this model does not have"):
        select(GRAPH, board, Choice("balanced", named=(("steam", "tg_conv2d_s8"),)))


def test_aims_differ_on_a_real_model() -> None:
    board = load_board(BOARD)
    programs = {o: select(GRAPH, board, Choice(o)) for o in RATES}
    cycles = {o: sum(s.kernel.cost(s.bound) for s in p.steps) for o, p in programs.items()}
    flash = {o: sum(s.ranked[0].flash for s in p.steps) for o, p in programs.items()}
    assert cycles["speed"] <= cycles["balanced"] <= cycles["size"] > cycles["speed"]
    assert flash["size"] < flash["speed"]


def test_options_of_selection_are_in_the_manifest_only_where_they_are_used() -> None:
    plain = pipeline.Options("m")
    assert not {"optimize", "kernels"} & set(bundle.options_data(plain))
    for options in (plain, replace(plain, optimize="size", kernels=(("stem", "tg_conv2d_s8"),))):
        data = json.loads(json.dumps(bundle.options_data(options)))
        assert bundle.read_options({"options": data}) == options


# ---- boards that share a project


def test_boards_of_one_project_have_what_all_have() -> None:
    m3, m4, m55 = (load_board(n) for n in ("mps2_an385", BOARD, "mps3_an547"))
    assert [b.isa for b in common([m55, m4])] == [("dsp",), ("dsp",)]
    assert [b.isa for b in common([m55, m4, m3])] == [(), (), ()]
    assert common([m55]) == (m55,)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("selection") / "net.tflite"
    path.write_bytes(export_tflite(GRAPH))
    return path


def test_unlike_cores_share_a_project(model: Path, tmp_path: Path) -> None:
    both, alone = tmp_path / "both", tmp_path / "alone"
    build = tinygen.compile(model, board=[BOARD, "mps2_an385"], out=both)
    (note,) = build.notes
    assert note.startswith(f"'{BOARD}' shares its kernels with 'mps2_an385' (cortex-m3)") and "dsp" in note
    single = tinygen.compile(model, board=BOARD, out=alone)
    assert single.notes == ()
    of_both = build.compiled.program.steps
    assert all(
        s.kernel.name != t.kernel.name
        for s, t in zip(of_both, single.compiled.program.steps, strict=True)
        if "dsp" in t.kernel.name
    )
    inputs = tmp_path / "x.npy"
    np.save(inputs, np.random.default_rng(3).normal(size=(2, 6, 5, 2)).astype(np.float32))
    for board in (BOARD, "mps2_an385"):
        assert tinygen.run(both, inputs=inputs, emulator="unicorn", board=board).result.passed
    profiled = tinygen.profile(both, board=BOARD, count=2)
    assert [p.kernel for p in profiled.layers if p.kernel != "alias"] == [
        s.kernel.name for s in of_both if not s.kernel.alias
    ]


def test_inspect_shows_the_runner_up(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["compile", str(model), "--board", BOARD, "--optimize", "speed", "--out", str(tmp_path / "fw")])
        == 0
    )
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "fw"), "--json"]) == 0
    layers = {row["layer"]: row for row in json.loads(capsys.readouterr().out)["layers"]}
    stem = layers["stem"]
    assert stem["chosen"]["kernel"] == stem["kernel"] != stem["runner_up"]["kernel"]
    assert stem["chosen"]["cycles"] < stem["runner_up"]["cycles"]
    assert layers["flat"]["chosen"] is None
    assert main(["inspect", str(tmp_path / "fw")]) == 0
    assert "next" in capsys.readouterr().out


def test_an_unknown_aim_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(model), "--optimize", "sped", "--out", str(tmp_path / "fw")]) == 1
    assert "there is no --optimize 'sped', did you mean 'speed'?" in capsys.readouterr().err
