"""Random Keras models through the whole compiler: a few hundred here, any number with `make fuzz N=10000`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import checks, images, runner
from tests.fuzz.checks import Case, Failure, check
from tests.fuzz.generator import random_model
from tests.support.host import library_of
from tinygen import evaluate
from tinygen.graph import GraphBuilder, QParams
from tinygen.ops import add

FIRST, BATCHES = 8 * 4167, 7
"""Batches that `make fuzz` does not reach; the first one of them runs on the first target."""

pytestmark = [pytest.mark.tensorflow]


@pytest.mark.arm
@pytest.mark.qemu
@pytest.mark.parametrize("number", range(FIRST, FIRST + BATCHES))
def test_random_models(number: int) -> None:
    """reference = LiteRT = C on the host = C on an emulated board, in every element."""
    first = number * runner.BATCH
    batch = runner.run_batch(number, range(first, first + runner.BATCH))
    assert batch.failures == []
    assert batch.refused == []
    assert batch.models == runner.BATCH and len(batch.targets) == 2


def test_a_seed_always_gives_the_same_model() -> None:
    one, other = random_model(3), random_model(3)
    assert one.notes == other.notes
    assert [layer.name for layer in one.model.layers] == [layer.name for layer in other.model.layers]
    for a, b in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- the judges judge


def tiny_case(seed: int = 1) -> Case:
    """x + x, correct in every respect."""
    builder = GraphBuilder("tiny")
    q = QParams.per_tensor(0.1, 0)
    x = builder.input("x", (3,), q)
    graph = builder.build((builder.add("add", "sum", (x, x), add.Attrs(), QParams.per_tensor(0.2, 0)),))
    inputs = (np.arange(-6, 6, dtype=np.int8).reshape(4, 3),)
    expected = evaluate.reference(graph, inputs)
    return Case(seed, graph, library_of(graph, f"m{seed}"), inputs, expected, checks.graph_coverage(graph))


def test_an_operator_two_steps_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = tiny_case()
    checks._check_operators(case.graph, case.inputs)
    checks._check_litert(case.graph, case.inputs)
    honest = add.OP.reference
    bent = dataclasses.replace(
        add.OP, reference=lambda b, xs, r: np.clip(honest(b, xs, r), -128, 125) + np.int8(2)
    )
    monkeypatch.setattr("tinygen.ops.BY_NAME", {"add": bent})
    with pytest.raises(AssertionError, match=r"'sum' .* output steps from real"):
        checks._check_operators(case.graph, case.inputs)
    with pytest.raises(AssertionError, match="outputs differ, first 'sum'"):
        checks._check_litert(case.graph, case.inputs)


@pytest.mark.arm
@pytest.mark.qemu
def test_c_that_differs_in_one_element_is_traced_to_its_seed() -> None:
    good, bad = tiny_case(1), tiny_case(2)
    lying = bad.expected[0].copy()
    lying[2, 1] += 1
    verdicts = images.run_image([good, dataclasses.replace(bad, expected=(lying,))], 0)
    assert [v.emulator for v in verdicts] == ["host-sanitized", "unicorn"]
    for verdict in verdicts:
        assert [f.seed for f in verdict.failures] == [2]
    assert all(v.failures == () for v in images.run_image([good, bad], 0))


def test_whatever_goes_wrong_names_seed_and_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "fuse", lambda graph: graph.evolve(outputs=()))
    with pytest.raises(Failure, match=r"seed 5, float: AssertionError: outputs \(\)"):
        check(5, None)


# ---- the runner


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def fake(number: int, seeds: range) -> runner.Batch:
        ran.append(number)
        if number == 2 and len(ran) == 3:
            raise KeyboardInterrupt
        failures = [{"seed": 31, "stage": "float", "what": "planted"}] if number == 1 else []
        return runner.Batch(number, len(seeds), failures, [], {"Dense": len(seeds)}, ["qemu mps2_an386"])

    monkeypatch.setattr(runner, "run_batch", fake)
    with pytest.raises(KeyboardInterrupt):
        runner.run(100, tmp_path)
    assert [b["number"] for b in json.loads((tmp_path / "state.json").read_text())] == [0, 1]
    state = runner.run(100, tmp_path)
    assert ran == [0, 1, 2, 2, 3]
    assert (state.models, state.coverage["Dense"], len(state.failures)) == (100, 100, 1)
    assert ran == [0, 1, 2, 2, 3] and runner.run(100, tmp_path).models == 100 and len(ran) == 5


def test_what_is_never_met_is_reported() -> None:
    state = runner.State({0: runner.Batch(0, 2000, [], [], {"Dense": 49, "Conv2D": 50}, [])})
    assert {"Dense", "int8 softmax", "kernel tg_conv2d_s8_mve"} <= set(runner.rare(state))
    assert "Conv2D" not in runner.rare(state)
    assert "! Dense" in runner.table(state)
