"""What int8 costs, tensor by tensor: known errors give known decibels; a project keeps the figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.graphs import float_graph
from tests.support.reports import small_model, small_samples
from tinygen import bundle, evaluate, pipeline, quantization_error
from tinygen.boards import load_board
from tinygen.graph import Graph, GraphBuilder, QParams
from tinygen.ops import reshape
from tinygen.project import Project
from tinygen.quantization_error import BINS, from_json, measure, snr_db, to_json

Q = QParams.per_tensor(0.5, -28)


def flat(q: QParams | None, shape: tuple[int, ...] = (4, 2)) -> Graph:
    """A graph that does nothing to its input."""
    builder = GraphBuilder("nothing")
    x = builder.input("x", shape, q)
    return builder.build((builder.add("reshape", "y", (x,), reshape.Attrs((8,)), q),))


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(100.0, 1.0, 20.0), (1.0, 1.0, 0.0), (1.0, 10.0, -10.0), (0.0, 1.0, None), (1.0, 0.0, None), (1e15, 1.0, None),
     (float("inf"), 1.0, None)],
)  # fmt: skip
def test_decibels(signal: float, noise: float, expected: float | None) -> None:
    assert snr_db(signal, noise) == expected


def test_a_known_error_has_its_ratio_and_its_channel() -> None:
    """Channel 0 is exact, every value of channel 1 is 0.25 off: half a step, rounded away from zero."""
    x = np.zeros((3, 4, 2), np.float32)
    x[..., 0], x[..., 1] = 8.0, 4.25
    error = measure(flat(None), flat(Q), (x,))
    tensor = error.tensors[0]
    assert (error.samples, error.compared, tensor.name) == (3, True, "x")
    power = (64 + 4.25**2) / 0.25**2
    assert tensor.snr_db == round(10 * np.log10(power), 1)
    assert [(c.index, c.snr_db) for c in tensor.worst] == [(1, round(10 * np.log10(4.25**2 / 0.25**2), 1))]
    counts = {i: n for i, n in enumerate(tensor.histogram) if n}
    assert counts == {(128 - 28 + 16) // 4: 12, (128 - 28 + 9) // 4: 12} and len(tensor.histogram) == BINS


def test_what_int8_cannot_hold_is_clipped() -> None:
    """The range is [-50, 77.5]; the nearest integers still hold values up to half a step beyond."""
    x = np.zeros((1, 4, 2), np.float32)
    x[0, 0] = (77.7, 80.0)
    x[0, 1] = (-50.2, -51.0)
    assert measure(flat(None), flat(Q), (x,)).tensors[0].clipped == 0.25


def test_every_activation_of_a_model_is_compared() -> None:
    made = small_model()
    error = measure(made.real, made.graph, small_samples().x)
    names = {n for n, t in made.graph.tensors.items() if not t.is_constant}
    assert {t.name for t in error.tensors} == names and error.samples == quantization_error.MOST_SAMPLES
    assert all(t.snr_db is not None and 15 < t.snr_db < 60 for t in error.tensors)
    sizes = {t.name: sum(t.histogram) for t in error.tensors}
    assert sizes == {n: error.samples * made.graph.tensors[n].elements for n in names}


def test_equalized_channels_are_compared_with_equalized_floats() -> None:
    """Uneven channels: the int8 graph has them evened out, and so has the float graph that it is compared with."""
    graph = float_graph()
    uneven = np.array([1.0, 0.02, 0.3, 5.0], np.float32)
    tensors = dict(graph.tensors)
    for name in ("stem/weights", "stem/bias"):
        data = tensors[name].data
        assert data is not None
        tensors[name] = replace(tensors[name], data=data * uneven.reshape(-1, *[1] * (data.ndim - 1)))
    graph = graph.evolve(tensors=tensors)
    made = pipeline.compile_graph(graph, small_samples(), None, pipeline.Options())
    x = small_samples().x
    assert made.fused is not None and made.real is not None
    np.testing.assert_allclose(
        evaluate.real(made.real, x)[0], evaluate.real(made.fused, x)[0], rtol=1e-4, atol=1e-6
    )
    assert any(d.startswith("cross-layer equalization: applied") for d in map(str, made.decisions))
    stem = next(t for t in measure(made.real, made.graph, x).tensors if t.name == "stem")
    unfair = next(t for t in measure(made.fused, made.graph, x).tensors if t.name == "stem")
    assert stem.snr_db is not None and unfair.snr_db is not None and stem.snr_db > unfair.snr_db + 15


def test_without_floats_there_are_histograms_only() -> None:
    made = small_model()
    error = measure(None, made.graph, small_samples().x)
    assert not error.compared
    assert all(
        t.snr_db is None and t.clipped is None and not t.worst and sum(t.histogram) for t in error.tensors
    )


def test_json_reads_back_and_refuses_other_versions() -> None:
    made = small_model()
    error = measure(made.real, made.graph, small_samples().x)
    text = to_json(error)
    assert from_json(text) == error and text == to_json(from_json(text))
    json.loads(text)
    for damaged in (
        text.replace('"schema": 1', '"schema": 2'),
        text.replace('"bins": 64', '"bins": 32'),
        "{}",
        "[]",
        text[:-9],
    ):
        with pytest.raises((ValueError, KeyError, TypeError)):
            from_json(damaged)


def project_of(compiled: pipeline.Compiled, with_samples: bool) -> Project:
    board = load_board("nucleo_l4r5zi")
    manifest = bundle.manifest_of(
        Path(__file__), None, [board], pipeline.Options("small"), bundle.SampleOptions()
    )
    samples = small_samples() if with_samples else None
    return bundle.make_project([compiled], [board], manifest, samples, pipeline.Options("small"))


def test_a_project_keeps_the_figures() -> None:
    """In the manifest like every file; small; the same bytes for the same input; no part of the run_id."""
    made, again, without = (project_of(small_model(), s) for s in (True, True, False))
    text = made.files["quantization.json"]
    assert from_json(text).compared and len(text) < 100_000
    assert "quantization.json" in json.loads(made.files["manifest.json"])["files"]
    assert again.files == made.files
    assert "quantization.json" not in without.files and without.run_id == made.run_id


def test_a_float32_project_has_none() -> None:
    options = pipeline.Options("small", precision="float32")
    compiled = pipeline.compile_graph(float_graph(), None, load_board("nucleo_l4r5zi"), options)
    assert "quantization.json" not in project_of(compiled, True).files


def test_scores_stand_in_the_manifest() -> None:
    from tinygen.metrics import Metric

    score = Metric("accuracy", 0.9, 0.8, 0.95, 120)
    assert bundle.scores_of(None, score) == {
        "scores": {"int8": {"kind": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95, "count": 120}}
    }
    assert bundle.scores_of(None, None) == {}
