"""What `tinygen inspect` shows: rows, JSON, and the drawing at several widths."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.support.programs import Toy, random_toys, toy_program
from tests.test_bands import wide
from tinygen import bands, inspection
from tinygen.banding import BAND, layer_of
from tinygen.emission import emit_library
from tinygen.graph import GraphBuilder, QParams
from tinygen.inspection import arena_line, draw, to_json
from tinygen.layer_rows import inspect_rows, layers, moves_rows
from tinygen.memory_map import MemoryMap, buffer_name
from tinygen.ops import activation, reshape
from tinygen.planning import plan
from tinygen.program import Program, select


@pytest.fixture(scope="module")
def program() -> Program:
    builder = GraphBuilder("little net")
    q = QParams.per_tensor(0.05, 3)
    x = builder.input("image", (4, 4, 2), q)
    relu = builder.add("activation", "squash", (x,), activation.Attrs("tanh"), QParams.per_tensor(1 / 128, 0))
    flat = builder.add("reshape", "flat", (relu,), reshape.Attrs((32,)), QParams.per_tensor(1 / 128, 0))
    return select(builder.build((flat,)), None)


def printed(renderable, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


def test_rows(program):
    rows = inspect_rows(program, plan(program), {"squash": "entropy"})
    assert [(r.step, r.layer, r.op, r.kernel, r.shape) for r in rows] == [
        (0, "squash", "activation", "tg_activation_s8", (4, 4, 2)),
        (1, "flat", "reshape", "alias", (32,)),
    ]
    assert rows[0].in_place and rows[0].weight_bytes == 256 and rows[0].calibrator == "entropy"
    assert rows[1].calibrator is None and rows[1].offset == rows[0].offset == 0


def test_json_is_json(program):
    data = to_json(program, plan(program))
    assert json.loads(json.dumps(data)) == data
    assert data["arena"]["bytes"] == data["arena"]["lower_bound"] == 32
    assert data["arena"]["buffers"][0]["tensors"] == ["image", "squash", "flat"]
    assert data["inputs"] == [
        {"name": "image", "shape": [4, 4, 2], "scale": pytest.approx(0.05), "zero_point": 3}
    ]


@pytest.fixture(scope="module")
def in_bands() -> Program:
    """A chain with a large tensor inside, in bands of rows that overlap."""
    return select(bands.smallest(wide(1)), None)


def test_bands_of_a_layer_are_one_row_for_people(in_bands: Program) -> None:
    rows = inspect_rows(in_bands, plan(in_bands))
    found = [layer for layer in layers(rows) if layer.bands]
    assert {layer.row.layer for layer in found} == {layer_of(r.layer) for r in rows if BAND in r.layer}
    assert sum(layer.row.macs for layer in layers(rows)) == sum(r.macs for r in rows)
    moving = [r for r in rows if moves_rows(r)]
    assert moving and {r.op for r in moving} == {"crop", "concat"}
    assert len(rows) == len(moving) + sum(layer.bands or 1 for layer in layers(rows))
    text = printed(draw(in_bands, plan(in_bands)))
    assert "/band 1/" not in text.split("arena")[0] and "steps fetch, keep and join rows" in text


def test_constants_that_bands_share_count_once(in_bands: Program) -> None:
    told = to_json(in_bands, plan(in_bands))
    assert told["weight_bytes"] == emit_library(in_bands, plan(in_bands), "m").constant_bytes
    assert told["weight_bytes"] < sum(layer["weight_bytes"] for layer in told["layers"])


def test_many_buffers_are_not_all_listed(in_bands: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = plan(in_bands)
    monkeypatch.setattr(inspection, "BUFFERS", 2)
    assert f"{len(memory.buffers) - 2} smaller buffers: --json has them" in printed(draw(in_bands, memory))


def test_drawing_shows_every_layer_and_buffer(program):
    text = printed(draw(program, plan(program), {"squash": "entropy"}))
    for word in (
        "little net",
        "squash",
        "s8*",
        "alias",
        "entropy",
        "4x4x2",
        "image > squash > flat",
        "32 bytes",
    ):
        assert word in text, text
    assert "equal to the lower bound" in text


@pytest.mark.parametrize("width", [60, 100, 160])
@pytest.mark.parametrize("steps", [1, 9, 60, 300])
def test_map_keeps_to_the_width_and_shows_buffers(width, steps):
    program = random_toys(3, steps)
    memory = plan(program)
    lines = printed(MemoryMap(memory, len(program.steps)), width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= 24
    assert lines[-1].strip().startswith("live") and "█" in lines[-1]
    assert lines[-2].strip().startswith("step")


def test_map_puts_blocks_where_they_live():
    # x fills the lower half until step 0; a (the upper half) lives to the end; b stands where x stood.
    program = toy_program([("x", 64)], [Toy("a", ("x",), 64), Toy("b", ("a",), 64)], ["a", "b"])
    memory = plan(program)
    lines = printed(MemoryMap(memory, 2), 80).splitlines()
    halves = {name: memory.offset(name) // 64 for name in ("x", "a", "b")}
    assert halves["x"] == halves["b"] != halves["a"]
    column = {"x": 0, "a": 0, "b": 1}
    start = lines[0].index("│") + 1
    for index, name in enumerate(("x", "a", "b")):
        rows = lines[0:16][::-1][halves[name] * 8 : halves[name] * 8 + 8]
        labelled = [
            row[start + 6 * column[name] :]
            for row in rows
            if row[start + 6 * column[name]] == buffer_name(index)
        ]
        assert len(labelled) == 1, (name, lines)


def test_gap_is_printed():
    memory = replace(plan(random_toys(1, 5)), arena_bytes=110, lower_bound=100, optimal=False)
    assert str(arena_line(memory)) == (
        "arena 110 bytes, 10.0% above the lower bound of 100: perhaps not the smallest possible"
    )
    assert "proved the smallest possible" in str(arena_line(replace(memory, optimal=True)))


def test_buffer_names():
    assert [buffer_name(i) for i in (0, 25, 26, 51, 52, 701, 702)] == [
        "a",
        "z",
        "aa",
        "az",
        "ba",
        "zz",
        "aaa",
    ]


def test_program_without_steps():
    program = toy_program([("x", 5)], [], ["x"])
    assert "x" in printed(draw(program, plan(program)))
