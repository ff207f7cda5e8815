"""`tinygen.prune` from end to end on a small convolutional classifier: model, data, board, emulator, log."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygen
from tinygen.bundle import load_project
from tinygen.cli import main
from tinygen.errors import BudgetError, DataError, ModelError, UsageError
from tinygen.frontend.keras import open_keras
from tinygen.graph import Graph, Tensor
from tinygen.heavy import import_keras
from tinygen.judge import Outcome
from tinygen.prune_api import rollback, taught
from tinygen.pruning import distillation, journal, recipe, steps
from tinygen.pruning.outcome import Pruned
from tinygen.pruning.records import Step
from tinygen.samples import Samples

SAVING = "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings(SAVING)]

CLASSES, LENGTH = 3, 32
BOARD = "mps2_an386"


def signals(count: int, seed: int) -> tuple[Any, Any]:
    """Sine waves of three frequencies with noise, two channels: (count, LENGTH, 2), labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    t = np.arange(LENGTH) * (1 + y[:, np.newaxis]) * 0.4 + phase
    x = np.stack([np.sin(t), np.cos(t)], axis=-1) + rng.normal(0, 0.2, (count, LENGTH, 2))
    return x.astype(np.float32), y


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model and its data. One filter of the first layer is dead: 0 whatever comes."""
    keras, folder = import_keras(), tmp_path_factory.mktemp("prune")
    keras.utils.set_random_seed(3)
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((LENGTH, 2)),
            layers.Conv1D(8, 3, padding="same", name="first"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling1D(2),
            layers.Conv1D(16, 3, padding="same", activation="relu", name="second"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(CLASSES, activation="softmax", name="head"),
        ],
        name="waves",
    )
    net.compile("adam", "sparse_categorical_crossentropy")
    x, y = signals(300, 1)
    net.fit(x, y, epochs=8, batch_size=16, verbose=0)
    gamma, beta, *moments = net.layers[1].get_weights()
    gamma[5], beta[5] = 0.0, -1.0
    net.layers[1].set_weights([gamma, beta, *moments])
    net.save(folder / "waves.keras")
    np.savez(folder / "train.npz", x=x, y=y)
    np.savez(folder / "eval.npz", **dict(zip(("x", "y"), signals(120, 2), strict=True)))
    return folder


def run(place: Path, out: Path, **options: Any) -> Pruned:
    given = {"budget_macs": "50%", "epochs": 4, "board": BOARD, "eval": place / "eval.npz", "max_drop": 25.0}
    return tinygen.prune(
        place / "waves.keras", representative=place / "train.npz", out=out, **{**given, **options}
    )


@pytest.fixture(scope="module")
def pruned(place: Path) -> Pruned:
    return run(place, place / "out")


def test_every_budget_is_met_and_each_step_says_what_it_did(pruned: Pruned) -> None:
    line = pruned.log.line
    actions = [step.action for step in line]
    assert actions[:3] == ["original", "fold", "prune"] and actions[-2:] == ["fine-tune", "int8"]
    assert pruned.log.end is not None and pruned.log.end.reached
    assert line[-1].after.cost.measured and line[-1].after.cost.macs <= 0.5 * line[0].after.cost.macs
    assert line[-1].after.int8 is not None
    for before, after in itertools.pairwise(line):
        assert after.before == before.after
    gone = [removal for step in line for removal in step.removed]
    assert {removal.layer for removal in gone} <= {"first", "second"} and all(r.channels for r in gone)


def test_the_dead_channel_went_first_and_nothing_was_lost(pruned: Pruned) -> None:
    fold = pruned.log.line[1]
    assert [(r.layer, r.channels, r.left, r.folded) for r in fold.removed] == [("first", (5,), 7, "exact")]
    assert fold.after.loss < 1e-9 and fold.after.cost.macs < fold.before.cost.macs


def test_the_result_opens_in_plain_keras_and_is_as_small_as_the_log_says(pruned: Pruned) -> None:
    model = import_keras().saving.load_model(pruned.model)
    left = {r.layer: r.left for step in pruned.log.line for r in step.removed}
    assert {name: model.get_layer(name).filters for name in left} == left
    assert model.predict(np.zeros((1, LENGTH, 2), np.float32), verbose=0).shape == (1, CLASSES)


def test_the_project_equals_its_reference_in_an_emulator(pruned: Pruned, place: Path) -> None:
    ran = tinygen.run(pruned.project, inputs=place / "eval.npz", emulator="unicorn", count=4)
    assert ran.result.outcome is Outcome.PASSED


def test_the_same_seed_gives_the_same_bytes(pruned: Pruned, place: Path, tmp_path: Path) -> None:
    again = run(place, tmp_path / "again")
    assert again.model.read_bytes() == pruned.model.read_bytes()
    logs = [(p.folder / "pruning_log.json").read_text().rpartition('"seconds"')[0] for p in (again, pruned)]
    assert logs[0] == logs[1]


def test_an_interrupted_run_goes_on(pruned: Pruned, place: Path, tmp_path: Path) -> None:
    class Cut(Exception):
        pass

    def cut(step: Step, budgets: object) -> None:
        if step.action == "prune":
            raise Cut

    with pytest.raises(Cut):
        run(place, tmp_path / "cut", on_step=cut)
    assert journal.read(tmp_path / "cut").end is None
    resumed = run(place, tmp_path / "cut", resume=True)
    assert resumed.model.read_bytes() == pruned.model.read_bytes()
    back = rollback(tmp_path / "cut", 1)
    assert back.log.line[-1].action == "fold" and back.log.end is not None and not back.log.end.reached


def test_held_out_samples_teach_at_the_end_where_an_evaluation_set_judges(
    pruned: Pruned, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, held_out, everything = (Samples((np.zeros((count, 1), np.float32),)) for count in (4, 2, 6))
    assert taught(recipe.SEEING, everything, fit, judged=True) is everything
    assert taught(recipe.SEEING, everything, fit, judged=False) is fit
    assert taught(recipe.DEFAULT, everything, fit, judged=True) is fit
    seen: list[Any] = []

    def train(student: Any, teacher: Any, x: Any, held_out: Any, *others: Any) -> distillation.Trained:
        seen.append((len(x[0]), len(held_out[0])))
        epochs = tuple(distillation.Epoch(number, 0.2, 0.1, 1.0) for number in range(2))
        return distillation.Trained(student, epochs, 1, 1.0, given=0.2)

    monkeypatch.setattr(distillation, "train", train)
    judge = SimpleNamespace(samples=held_out)
    setting: Any = SimpleNamespace(training=recipe.SEEING, fit=fit)
    for samples, told in ((everything, True), (fit, False)):
        vars(setting).update(taught=samples, judge=judge, teacher=None, minutes_left=lambda: None)
        made = steps.take("fine-tune", setting, pruned.log.line, None)
        assert ("taught, too" in made.why) == told
    assert seen == [(6, 2), (4, 2)]


def test_compile_prunes_and_compiles_under_the_originals_name(place: Path, tmp_path: Path) -> None:
    """The command line, from the trained model to firmware; the share of flash becomes bytes for both."""
    data = ["--representative", str(place / "train.npz"), "--board", BOARD, "--budget-flash", "98%"]
    assert main(["compile", str(place / "waves.keras"), *data, "--prune", "--out", str(tmp_path / "fw")]) == 0
    log = journal.read(tmp_path / "fw-pruned")
    first, last = log.line[0].after.cost, log.line[-1].after.cost
    assert log.budgets.flash == int(0.98 * first.flash) and last.flash <= log.budgets.flash
    assert (tmp_path / "fw" / "lib" / "waves").is_dir() and (tmp_path / "fw" / "pruning_log.json").is_file()
    ran = tinygen.run(tmp_path / "fw", inputs=place / "eval.npz", emulator="unicorn", count=2)
    assert ran.result.outcome is Outcome.PASSED


def test_quantization_aware_training_as_the_last_stage(place: Path, tmp_path: Path) -> None:
    """Of a run that ended without it: the steps before stay as they are."""
    plain = run(place, tmp_path / "qat", budget_macs="80%")
    made = run(place, tmp_path / "qat", qat=True, resume=True, budget_macs="80%")
    *before, last = made.log.line
    assert tuple(before) == plain.log.line and before[-1].action == "int8"
    assert last.action == "qat" and last.after.int8 is not None
    trained = tinygen.load((made.folder / last.model).with_suffix(".tflite")).graph
    compiled = load_project(made.project)[0]
    scales = [[(t.scale, t.zero_point) for t in _activations(graph)] for graph in (trained, compiled)]
    assert len(scales[0]) > 5 and set(scales[1]) <= set(scales[0]), "a scale was not trained"


def _activations(graph: Graph) -> list[Tensor]:
    return [t for t in graph.tensors.values() if not t.is_constant]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"budget_macs": None}, UsageError, "prune needs a budget"),
        ({"budget_macs": "lots"}, UsageError, "--budget-macs is 'lots'"),
        ({"budget_macs": 10}, BudgetError, "not reachable by pruning"),
        ({"importance": "luck"}, UsageError, "--importance is 'luck'"),
        ({"eval": None}, UsageError, "--max-drop needs --eval"),
        ({"max_drop": 0.1}, DataError, "too few to judge a drop of 0.1 points"),
    ],
)
def test_refusals_write_nothing(place: Path, tmp_path: Path, options: Any, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        run(place, tmp_path / "refused", **options)
    assert not (tmp_path / "refused").exists()


def test_int8_models_are_refused(pruned: Pruned, place: Path, tmp_path: Path) -> None:
    tinygen.export(pruned.project, tflite=tmp_path / "int8.tflite")
    with pytest.raises(ModelError, match="is int8 already"):
        tinygen.prune(
            tmp_path / "int8.tflite",
            representative=place / "train.npz",
            out=tmp_path / "o",
            budget_macs="50%",
        )


def test_opening_a_model_gives_its_graph(place: Path) -> None:
    model, loaded = open_keras(place / "waves.keras")
    assert model.name == "waves" and loaded.graph.outputs
