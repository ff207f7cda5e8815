"""The worked example of CONTRIBUTING.md, 'add a kernel variant', does what the recipe says."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import ChoiceLoader, DictLoader

from tests.support.kernels import assert_kernels, random_case
from tests.support.nodes import quantized_node
from tinygen import ops
from tinygen.boards import Board, load_board
from tinygen.ctext import environment
from tinygen.graph import BoundNode, Graph, QParams
from tinygen.ops import max_pool2d
from tinygen.ops.base import Kernel, dsp
from tinygen.ops.windows import Padding
from tinygen.program import select
from tinygen.selection import Choice
from tinygen.tuning.counting import count

BOARD = "mps2_an386"
TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()


def block(language: str) -> str:
    """The example's text in that language, without the list's indentation."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)
    return textwrap.dedent(found)


@pytest.fixture
def variant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """The example's kernel, a part of its operator as long as the test runs."""
    names = {"Board": Board, "BoundNode": BoundNode, "Kernel": Kernel, "dsp": dsp}
    exec(compile(block("python"), "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    kernel = names["VARIANT"]
    assert isinstance(kernel, Kernel)
    loader = environment().loader
    assert loader is not None
    text = block("c")
    monkeypatch.setattr(
        environment(), "loader", ChoiceLoader([DictLoader({f"kernels/{kernel.name}.c.j2": text}), loader])
    )
    widened = replace(max_pool2d.OP, kernels=(*max_pool2d.OP.kernels, kernel))
    monkeypatch.setattr(ops, "BY_NAME", {**ops.BY_NAME, "max_pool2d": widened})
    yield kernel


def pooled(height: int, width: int, channels: int, activation: str = "none", **attrs: object) -> Graph:
    chosen = max_pool2d.Attrs(**{"window": (2, 2), "stride": (2, 2), "activation": activation, **attrs})  # type: ignore[arg-type]
    return quantized_node("max_pool2d", chosen, [((height, width, channels), QParams.per_tensor(0.02, -7))])


def test_the_example_is_right_faster_and_costs_what_it_says(variant: Kernel) -> None:
    graphs = [pooled(*shape) for shape in ((2, 2, 4), (5, 7, 8), (8, 8, 16), (24, 24, 8), (6, 9, 12))]
    assert_kernels([random_case(variant.name, graph, seed=i) for i, graph in enumerate(graphs)])
    portable = next(k for k in max_pool2d.OP.kernels if k.name == "tg_max_pool2d_s8")
    for graph in graphs[1:]:
        (b,) = graph.bound()
        counts = count(b, [portable, variant], load_board(BOARD))
        assert counts[variant.name].cycles < 0.4 * counts[portable.name].cycles
        assert variant.cost(b) == pytest.approx(counts[variant.name].cycles, rel=0.15)


def test_it_takes_only_what_it_can(variant: Kernel) -> None:
    board = load_board(BOARD)
    (b,) = pooled(8, 8, 16).bound()
    assert variant.supports(b, board) and not variant.supports(b, None)
    assert not variant.supports(b, load_board("mps2_an385"))
    shifted = pooled(7, 7, 4, padding=Padding(0, 1, 0, 1))
    for graph in (pooled(8, 8, 4, stride=(1, 1)), shifted, pooled(8, 8, 6), pooled(8, 8, 4, "relu6")):
        (b,) = graph.bound()
        assert not variant.supports(b, board)
        assert select(graph, board, Choice("speed")).steps[0].kernel is not variant
