"""The report's figures: their numbers are those of the project, the profile and the files that were given."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support import pruning_runs
from tests.support.reports import (
    ladder_of,
    small_data,
    small_model,
)
from tinygen.boards import load_board
from tinygen.budgets import Budgets
from tinygen.graph import Graph, GraphBuilder, QParams
from tinygen.ops import add, concat, reshape
from tinygen.report import (
    arena,
    comparison,
    head,
    history,
    ladder,
    layer_time,
    memory,
    model_graph,
    pruned,
    room,
    rounding,
    traffic,
)
from tinygen.report.figure import number, percent

Q = QParams.per_tensor(0.1, 0)
ROOT = Path(__file__).resolve().parents[1]


def layers_of_figure(rows: list[dict[str, Any]], key: str = "layer") -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


# ---- numbers as text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (0.01234, "0.0123"),
        (23.658, "23.7"),
        (1010.08, "1,010"),
        (0.0, "0"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_percent() -> None:
    assert [percent(s) for s in (0, 0.0001, 0.0005, 0.5, 1.25)] == [
        "0.0 %",
        "< 0.1 %",
        "0.1 %",
        "50.0 %",
        "125.0 %",
    ]


# ---- the graph


def diamond() -> Graph:
    """Two inputs; a long way and a short way meet again; one input is read twice by one step."""
    builder = GraphBuilder("diamond")
    a, b = builder.input("a", (4,), Q), builder.input("b", (4,), Q)
    first = builder.add("add", "first", (a, b), add.Attrs(), Q)
    way = first
    for name in ("one", "two", "three"):
        way = builder.add("reshape", name, (way,), reshape.Attrs((4,)), Q)
    meet = builder.add("add", "meet", (first, way), add.Attrs(), Q)
    return builder.build((builder.add("concat", "twice", (meet, meet), concat.Attrs(0), Q),))


def test_layout_flows_down_and_long_edges_go_around_boxes() -> None:
    graph = diamond()
    places, edges = model_graph.layout(graph), model_graph.edges_of(graph)
    assert len(places.nodes) == len(graph.inputs) + len(graph.nodes) and len(places.edges) == len(edges) == 8
    for start, end in edges:
        assert places.nodes[start][1] < places.nodes[end][1]
    centres = list(places.nodes.values())
    for i, (x, y) in enumerate(centres):
        assert all(abs(x - u) >= 2 * model_graph.HALF_WIDTH or y != v for u, v in centres[i + 1 :])
    ways = {(edge[0], edge[-1]) for edge in places.edges}
    assert ways == {(places.nodes[a], places.nodes[b]) for a, b in edges}
    (skip,) = [edge for edge in places.edges if len(edge) > 2]
    for x, y in skip[1:-1]:
        assert all(abs(x - u) > model_graph.HALF_WIDTH or abs(y - v) > 0.5 for u, v in centres)


def test_layout_takes_separate_parts_and_unread_inputs() -> None:
    builder = GraphBuilder("apart")
    a, b = builder.input("a", (4,), Q), builder.input("b", (4,), Q)
    builder.input("unread", (4,), Q)
    outputs = tuple(builder.add("reshape", f"of_{x}", (x,), reshape.Attrs((4,)), Q) for x in (a, b))
    places = model_graph.layout(builder.build(outputs))
    assert len(set(places.nodes.values())) == 5 and places.rows == 2


def test_layout_is_the_same_in_every_process() -> None:
    """The order of sets of strings differs between processes; the page must not."""
    code = (
        "from tests.test_report import diamond; from tinygen.report import model_graph;"
        "print(model_graph.layout(diamond()))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_graph_names_kernels_shares_and_aliases() -> None:
    rows = {row["name"]: row for row in model_graph.rows(small_data())}
    assert rows["image"]["kind"] == "input" and rows["image"]["shape"] == "6 × 5 × 2"
    assert rows["flat"]["kind"] == "alias" and rows["flat"]["below"] == "no code"
    kernel = small_model().program.steps[0].kernel.name.removeprefix("tg_")
    assert rows["stem"]["below"] == f"{kernel} · 20.0 %"
    assert all("%" not in row["below"] for row in model_graph.rows(small_data(profile=None)))


# ---- time, traffic, memory, budgets


def test_time_adds_up() -> None:
    data = small_data()
    rows = layer_time.rows(data)
    assert data.profile is not None
    assert sum(row["amount"] for row in rows) == data.profile["totals"]["cycles"]
    stem = {r["part"]: r["amount"] for r in rows if r["layer"] == "stem"}
    (profiled,) = (layer for layer in data.profile["layers"] if layer["name"] == "stem")
    assert stem == {
        "compute": profiled["zero_wait_cycles"],
        "fetch stalls": profiled["fetch_stalls"],
        "data stalls": profiled["data_stalls"],
    }
    assert "flat" not in layers_of_figure(rows), "an alias takes no time"
    assert layers_of_figure(rows)[-1] == "outside of layers"
    spec = layer_time.figure(data).charts[0].spec
    domains = [layer["encoding"]["x"]["scale"]["domain"][1] for layer in spec["layer"]]
    assert domains[1] == pytest.approx(domains[0] / 120_000), "the axis of ms is that of cycles"


def test_time_without_cycles_shows_instructions() -> None:
    data = small_data(cycles=False)
    assert data.profile is not None
    rows = layer_time.rows(data)
    assert sum(row["amount"] for row in rows) == data.profile["totals"]["instructions"]
    figure = layer_time.figure(data)
    assert "No cycles are modelled" in figure.says and {r["part"] for r in rows} == {"instructions"}
    assert "–" in figure.tables[0].rows[0]
    assert len(room.figure(replace(data, budgets=Budgets(ms=1.0))).tables[0].rows) == 2
    assert "Modelled cycles" not in {card.label for card in head.cards(data)}


def test_traffic_is_that_of_the_profile() -> None:
    data = small_data()
    rows = traffic.rows(data)
    for region, sign, direction in (
        ("flash", 1, "bytes_read"),
        ("sram", 1, "bytes_read"),
        ("sram", -1, "bytes_written"),
    ):
        shown = sum(r["amount"] for r in rows if r["region"] == region and r["amount"] * sign > 0)
        assert shown == sign * sum(cost[direction].get(region, 0) for cost in data.costs())


def test_memory_is_to_scale() -> None:
    rows = memory.rows(small_data())
    for region in ("flash, 2 MB", "sram, 640 KB"):
        parts = [row for row in rows if row["region"] == region]
        assert parts[0]["low"] == 0 and parts[-1]["high"] == pytest.approx(100)
        assert all(a["high"] == pytest.approx(b["low"]) for a, b in pairwise(parts))
    (arena_part,) = (row for row in rows if row["kind"] == "arena")
    assert arena_part["address"] == "0x20001200" and arena_part["bytes"] == 1392


def test_budgets() -> None:
    taken = {row["name"]: row for row in room.rows(small_data())}
    assert taken["SRAM"]["of"] == "of the board" and set(taken) == {"SRAM", "flash"}
    assert taken["SRAM"]["label"] == "6,000 of 655,360 bytes (0.9 %)"
    limited = small_data(budgets=Budgets(ms=0.1, sram=6000, flash=4000))
    rows = {row["name"]: row for row in room.rows(limited)}
    assert {n: r["state"] for n, r in rows.items()} == {
        "SRAM": "taken",
        "flash": "too much",
        "time": "too much",
    }
    assert rows["flash"]["high"] == 100 and rows["flash"]["share"] == "125.0 %"
    assert room.figure(limited).says == "Too much: flash, time."


def test_arena() -> None:
    data = small_data()
    rows = arena.rows(data)
    plan = small_model().plan
    assert [(r["low"], r["high"], r["first"], r["last"]) for r in rows] == [
        (b.offset, b.end, b.first, b.last + 1) for b in plan.buffers
    ]
    (last,) = (row for row in rows if "to the end" in row["steps"])
    assert last["holds"].endswith("scores") and rows[0]["holds"].startswith("image")


# ---- quantization error


def test_rounding_shows_every_tensor_with_bytes_of_its_own() -> None:
    data = small_data()
    tensors = rounding.shown_tensors(data)
    assert [t.name for t in tensors] == ["image", "stem", "body", "join", "head", "scores"]
    bars = rounding.snr_rows(tensors)
    assert [row["snr"] for row in bars] == [t.snr_db for t in tensors]
    channels = rounding.channel_rows(tensors)
    assert len(channels) == sum(len(t.worst) for t in tensors) > 10
    histograms = rounding.histogram_rows(tensors)
    assert [h["counts"][:-1] for h in histograms] == [list(t.histogram) for t in tensors]


def test_rounding_without_floats_and_without_anything() -> None:
    data = small_data()
    assert data.error is not None
    bare = replace(
        data.error,
        compared=False,
        tensors=tuple(replace(t, snr_db=None, worst=()) for t in data.error.tensors),
    )
    assert [c.key for c in rounding.figure(replace(data, error=bare)).charts] == ["histograms"]
    assert "quantization.json" in rounding.figure(replace(data, error=None)).says


# ---- ladder, comparison, history


def test_ladder_leaves_out_what_was_not_made() -> None:
    (one,) = ladder.ladders(small_data())
    assert [(r["step"], r["times"]) for r in ladder.rows(one)] == [
        ("float32", "1.00 ×"),
        ("int8", "3.60 ×"),
        ("pinned", "9.00 ×"),
    ]
    other = ladder.figure(small_data(ladder=ladder_of("kws")))
    assert not other.charts and other.says.endswith("only of: kws.")
    assert "python -m benchmarks.ladder" in ladder.figure(small_data(ladder=None)).says


def test_pruned_step_of_the_ladder_comes_from_the_log() -> None:
    """Of the same board only, and never in the place of what was measured."""
    data = small_data(ladder=[{**ladder_of("net")[0], "board": "nucleo_l4r5zi"}])
    (one,) = ladder.ladders(data)
    rungs = {row["step"]: row for row in ladder.rows(one)}
    assert list(rungs) == ["float32", "int8", "pruned", "pinned"]
    assert rungs["pruned"]["amount"] == 600_000 and rungs["pruned"]["times"] == "1.50 ×"
    assert [r["step"] for r in ladder.rows(ladder.filled(ladder_of("net")[0], data.pruning))] == [
        "float32",
        "int8",
        "pinned",
    ]
    measured = {**one, "steps": [{**step, "cycles": 5} for step in one["steps"]]}
    assert ladder.filled(measured, data.pruning) == measured


# ---- pruning


def test_pruning_shows_every_step_and_the_layers_that_shrank() -> None:
    data = small_data()
    log = data.pruning
    assert log is not None
    rows = pruned.rows(log, "sram")
    assert [(r["step"], r["state"]) for r in rows] == [
        (0, "original"), (1, "step"), (2, "step"), (3, "step"), (4, "result"), (5, "rolled back"), (6, "rolled back"),
    ]  # fmt: skip
    assert [r["quality"] for r in rows][:5] == [90.0, 90.0, 84.0, 88.5, 75.0]
    assert rows[2]["says"] == "step 2, prune: 84.00 %, 26,600 bytes of SRAM"
    assert pruned.channels(log) == [
        {
            "layer": "stem",
            "had": 32,
            "left": 16,
            "label": "16 of 32",
            "says": "stem: 16 of 32 channels are left",
        }
    ]
    figure = pruned.figure(data)
    assert "2.00 × fewer modelled cycles, 1.74 × fewer bytes of SRAM, 2.00 × fewer MACs" in figure.says
    assert "Every budget is met. Steps that were rolled back: 2." in figure.says
    assert [len(table.rows) for table in figure.tables] == [7, 1]
    tight = pruned.figure(replace(data, pruning=replace(log, budgets=replace(log.budgets, macs=70_000))))
    assert "Over its budget: macs" in tight.says


def test_pruning_without_labels_and_cycles_shows_loss_and_two_curves() -> None:
    made = pruning_runs.run(3, cycles=False)
    steps = (replace(e, step=replace(e.step, after=replace(e.step.after, metric=None))) for e in made.entries)
    figure = pruned.figure(small_data(pruning=replace(made, entries=tuple(steps))))
    assert [chart.key for chart in figure.charts] == ["tradeoff-sram", "tradeoff-macs", "channels"]
    assert figure.tables[0].columns[3] == "loss" and figure.tables[0].rows[2][3] == "0.12"
    assert "held-out" not in figure.says and "cycles" not in figure.says
    alike = replace(pruning_runs.run(4), entries=tuple(
        replace(e, step=replace(e.step, after=replace(e.step.after, metric=pruning_runs.accuracy(200))))
        for e in pruning_runs.run(4).entries
    ))  # fmt: skip
    assert [row["quality"] for row in pruned.rows(alike, "macs")] == [0.0, 0.0, 0.12, 0.03], "that tells more"
    same = replace(
        alike, entries=tuple(replace(e, step=replace(e.step, after=e.step.before)) for e in alike.entries)
    )
    assert [row["label"] for row in pruned.rows(same, "macs")] == ["0, 1", "", "2", "3"]
    other = pruned.figure(small_data(board=load_board("pico")))
    assert other.says.endswith("It was pruned for another board: nucleo_l4r5zi.")


def test_comparison() -> None:
    data = small_data()
    assert data.before is not None and data.profile is not None
    figure = comparison.figure(data)
    totals = figure.tables[0].rows[0]
    old, new = data.before["totals"]["cycles"], data.profile["totals"]["cycles"]
    assert totals == ("modelled cycles", f"{old:,}", f"{new:,}", f"{100 * (new / old - 1):+.1f} %")
    assert [row[0] for row in figure.tables[1].rows] == ["stem", "body", "join", "head", "scores"]
    assert comparison.change(200, 100) == "-50.0 %" and comparison.change(None, 5) == "–"
    assert (
        "The boards differ" in comparison.figure(replace(data, before={**data.before, "board": "pico"})).says
    )


def test_history_takes_cells_that_come_later_and_cores_without_cycles() -> None:
    rows = history.rows(small_data())
    assert [(r["cell"], r["commit"], r["ratio"]) for r in rows] == [
        ("small@pico", "aaaa111", "100.0 %"),
        ("small@pico", "bbbb222", "90.0 %"),
        ("small@pico", "cccc333", "95.0 %"),
        ("m55", "bbbb222", "100.0 %"),
        ("m55", "cccc333", "110.0 %"),
    ]
    assert not history.figure(small_data(history=[])).charts
