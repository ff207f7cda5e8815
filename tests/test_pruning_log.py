"""pruning_log.json, checkpoints, resume and rollback: nothing is lost, whatever is killed whenever."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import pruning_runs as runs
from tinygen import project
from tinygen.boards import load_board
from tinygen.errors import OutputError, UsageError
from tinygen.pruning import checkpoints, command, folders, journal, log, registry
from tinygen.pruning import inputs as asked
from tinygen.pruning.log import End, Inputs, Log, Source
from tinygen.samples import Options as SampleOptions


@pytest.fixture(autouse=True)
def plain_checkpoints(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes stand in for models where no model is read."""
    if "tensorflow" not in request.keywords:
        monkeypatch.setattr(checkpoints, "to_bytes", lambda model: model)


def begin(folder: Path, steps: int = 0, force: bool = False) -> journal.Journal:
    made = journal.start(folder, runs.inputs(), runs.BUDGETS, {"model": "/x/net.keras"}, force)
    for number in range(steps):
        runs.put(made, number)
    return made


# ---- text


def test_log_comes_back_as_it_was() -> None:
    for made in (
        runs.run(),
        runs.run(3, end=False),
        Log(runs.inputs(), runs.BUDGETS),
        runs.run(cycles=False),
    ):
        assert log.from_json(log.to_json(made)) == made
    back = log.moved(log.moved(runs.run(), 2, "user"), 5, "user")
    assert log.from_json(log.to_json(back)) == back


def test_only_the_last_line_has_seconds() -> None:
    """A comparison of two runs is one of all lines but that."""
    made = runs.run()
    slower = replace(
        made,
        entries=tuple(replace(e, step=replace(e.step, seconds=9 * e.step.seconds)) for e in made.entries),
    )
    first, second = log.to_json(made).splitlines(), log.to_json(slower).splitlines()
    assert [n for n, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1]] == [
        len(first) - 2
    ]
    assert log.to_json(made, seconds=False) == log.to_json(slower, seconds=False)
    assert log.from_json(log.to_json(made, seconds=False)).seconds == 0.0 < made.seconds


def damage(change: Callable[[dict], object]) -> str:  # type: ignore[type-arg]
    data = json.loads(log.to_json(runs.run()))
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "JSONDecodeError"),
        ("[]", "TypeError"),
        (log.to_json(runs.run())[:-100], "JSONDecodeError"),
        (damage(lambda d: d.update(schema=7)), "schema 7"),
        (damage(lambda d: d.pop("budgets")), "budgets"),
        (damage(lambda d: d["steps"].pop(2)), "step 3 where 2 comes next|shorter|longer"),
        (damage(lambda d: d["steps"][3].update(follows=5)), "step 3 follows 5"),
        (damage(lambda d: d["steps"][3].update(action="melt")), "melt"),
        (damage(lambda d: d["steps"][3]["after"]["cost"].update(sram="much")), "'much' is not int"),
        (damage(lambda d: d["steps"][3]["removed"].append([])), "AttributeError|TypeError|ValueError"),
        (damage(lambda d: d["steps"][3].update(removed="conv")), "'conv'"),
        (damage(lambda d: d["steps"][3].update(model="../../etc/passwd")), "etc/passwd"),
        (damage(lambda d: d["steps"][3].update(sha256="")), "SHA-256"),
        (damage(lambda d: d["steps"][3].update(rolled_back=True)), "marked wrongly"),
        (damage(lambda d: d["steps"][3].pop("why")), "why"),
        (damage(lambda d: d["steps"][3]["follows_"] if d.update(current=77) else None), "77"),
        (damage(lambda d: d["seconds"].pop()), "argument 2"),
    ],
)
def test_damaged_logs_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(OutputError, match=f"'my_log.json' is not a log.*({says})"):
        log.from_json(text, "my_log.json")


# ---- the folder


def test_a_run_leaves_log_checkpoints_registry_and_result(tmp_path: Path) -> None:
    seen: list[int] = []
    told = journal.start(
        tmp_path / "a", runs.inputs(), runs.BUDGETS, {}, told=lambda s, b: seen.append(s.number)
    )
    with told as made:
        for number in range(len(runs.ACTIONS)):
            runs.put(made, number)
        assert made.finish(runs.ending) == runs.ending()
    assert seen == list(range(7))
    on_disk = journal.read(tmp_path / "a")
    assert on_disk == runs.run() and on_disk.end == runs.ending()
    assert (tmp_path / "a" / "pruned.keras").read_bytes() == runs.content(6)
    assert all((tmp_path / "a" / s.model).read_bytes() == runs.content(s.number) for s in on_disk.line)
    with begin(tmp_path / "b", 7) as again:
        again.finish(runs.ending)
    assert runs.files(tmp_path / "b") == {
        **runs.files(tmp_path / "a"),
        "command.json": b'{\n  "model": "/x/net.keras"\n}\n',
    }


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(OutputError, match=r"holds .thesis\.tex."):
            begin(tmp_path, force=force)
    with pytest.raises(OutputError, match="is a file"):
        begin(tmp_path / "thesis.tex")
    with pytest.raises(OutputError, match="cannot write"):
        begin(Path("/proc/pruned"))
    assert runs.files(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_second_run_needs_force_and_a_second_process_waits(tmp_path: Path) -> None:
    first = begin(tmp_path / "out", 3)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"--resume.*--force"):
        begin(tmp_path / "out")
    with pytest.raises(OutputError, match="is in use"):
        begin(tmp_path / "out", force=True)
    with pytest.raises(OutputError, match="is in use"):
        journal.open_run(tmp_path / "out")
    first.close()
    with begin(tmp_path / "out", force=True) as anew:
        assert anew.log.entries == ()
    assert sorted(runs.files(tmp_path / "out")) == ["command.json", "notes.txt", "pruning_log.json"]


# ---- resume


def test_resume_goes_on_and_ends_like_one_that_was_never_interrupted(tmp_path: Path) -> None:
    begin(tmp_path / "cut", 3).close()
    (tmp_path / "cut" / "steps" / "03.keras").write_bytes(b"half")  # the running step is lost
    (tmp_path / "cut" / ".pruning_log.json-99999").write_bytes(b"half")
    resumed = journal.resume(tmp_path / "cut", runs.inputs())
    assert resumed.step == runs.step(2) and resumed.notes == ()
    assert resumed.model is not None and resumed.model.read_bytes() == runs.content(2)
    with resumed.journal as made:
        for number in range(3, 7):
            runs.put(made, number)
        made.finish(runs.ending)
    with begin(tmp_path / "whole", 7) as made:
        made.finish(runs.ending)
    assert runs.files(tmp_path / "cut") == runs.files(tmp_path / "whole")


def test_resume_refuses_what_is_not_the_same(tmp_path: Path) -> None:
    begin(tmp_path, 2).close()
    same = runs.inputs()
    cases: list[tuple[Inputs, str]] = [
        (replace(same, seed=4), "--seed is 4, it was 0"),
        (
            replace(same, options={**same.options, "budget_sram": "10K"}),
            "--budget-sram is 10K, it was 20K",
        ),
        (
            replace(same, options={"budget_sram": "20K"}),
            "--max-drop is not given, it was 3.0",
        ),
        (
            replace(same, sources={**same.sources, "model": Source("net.keras", "d" * 64)}),
            "the model is 'net.keras' .SHA-256 dddddddddddd.*it was .*aaaaaaaaaaaa",
        ),
        (
            replace(same, sources={**same.sources, "eval": Source("e.npz", "d" * 64)}),
            "--eval is 'e.npz'.*it was not given",
        ),
        (replace(same, tools={"tinygen": "0.2.0"}), r"tinygen is 0\.2\.0, it was 0\.1\.0"),
        (runs.inputs(seed=1, options={}, tools={}), "and 3 more"),
    ]
    before = runs.files(tmp_path)
    for other, says in cases:
        with pytest.raises(UsageError, match=says) as caught:
            journal.resume(tmp_path, other)
        assert len(str(caught.value).splitlines()) <= 5
    assert runs.files(tmp_path) == before
    moved = {
        key: source and replace(source, name=f"moved_{source.name}") for key, source in same.sources.items()
    }
    later = replace(same, sources=moved, options={**same.options, "max_minutes": 60})
    journal.resume(tmp_path, later).journal.close()


def test_resume_gives_up_damaged_checkpoints(tmp_path: Path) -> None:
    begin(tmp_path, 4).close()
    (tmp_path / "steps" / "03.keras").unlink()
    (tmp_path / "steps" / "02.keras").write_bytes(b"damaged")
    resumed = journal.resume(tmp_path, runs.inputs())
    assert resumed.step == runs.step(1) and len(resumed.notes) == 2 and "02.keras" in resumed.notes[1]
    with resumed.journal as made:
        assert made.log.next_number == 4, "no number is used twice"
        assert [s.number for s in made.log.rolled_back] == [2, 3]
    (tmp_path / "steps" / "00.keras").unlink()
    (tmp_path / "steps" / "01.keras").unlink()
    nothing = journal.resume(tmp_path, runs.inputs())
    assert nothing.step is None and nothing.journal.log.entries == ()
    nothing.journal.close()


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no pruning run"):
        journal.resume(tmp_path, runs.inputs())
    (tmp_path / "command.json").write_text("{")
    with pytest.raises(OutputError, match=r"command\.json' cannot be read"):
        command.read(tmp_path)


# ---- kill -9


class Killed:
    """Stands in the way of every system call that changes the disk; the process dies at one of them."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.real = (Path.write_bytes, os.fsync, Path.replace)

    def strike(self) -> bool:
        self.left -= 1
        return self.left < 0

    def install(self) -> None:
        write, sync, move = self.real

        def half(path: Path, data: bytes) -> int:
            if self.strike():
                write(path, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return write(path, data)

        def late(handle: int) -> None:
            if self.strike():
                os.kill(os.getpid(), signal.SIGKILL)
            sync(handle)

        def stay(path: Path, target: Path) -> Path:
            if self.strike():
                os.kill(os.getpid(), signal.SIGKILL)
            return move(path, target)

        Path.write_bytes, os.fsync, Path.replace = half, late, stay  # type: ignore[method-assign, assignment]


def in_a_child(work: Callable[[], None]) -> int:
    """Run in a process of its own; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def one_step(folder: Path, at: int) -> None:
    """Resume and take step 3; die at the given call."""
    made = journal.resume(folder, runs.inputs()).journal
    Killed(at).install()
    runs.put(made, 3)


def test_kill_9_at_every_write_loses_at_most_the_running_step(tmp_path: Path) -> None:
    """Half a file, no fsync, no rename: for each, the log is whole and names only checkpoints that are whole."""
    seen, at = [], 0
    while True:
        folder = tmp_path / str(at)
        begin(folder, 3).close()
        status = in_a_child(lambda at=at, folder=folder: one_step(folder, at))  # type: ignore[misc]
        if status == 0:
            break
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        resumed = journal.resume(folder, runs.inputs())
        assert resumed.step is not None and resumed.notes == ()
        seen.append(resumed.step.number)
        with resumed.journal as made:
            for number in range(made.log.next_number, 7):
                runs.put(made, number)
            made.finish(runs.ending)
            assert made.log == runs.run()
        assert [p for p in runs.files(folder) if ".keras-" in p or ".json-" in p] == []
        assert registry.read(folder) == registry.of(runs.run())
        at += 1
    assert at >= 10 and seen == sorted(seen) and set(seen) == {2, 3}
    assert journal.read(tmp_path / str(at)).current == 3


def test_kill_9_from_outside(tmp_path: Path) -> None:
    """A process that writes one step after the other is killed while it does so; what it said it had, is there."""
    for delay in (0.02, 0.05, 0.11):
        folder = tmp_path / str(delay)
        begin(folder, 1).close()
        reading, writing = os.pipe()

        def forever(folder: Path = folder, writing: int = writing) -> None:
            made = journal.resume(folder, runs.inputs()).journal
            while True:
                runs.put(made, made.log.next_number)
                os.write(writing, bytes([made.log.current or 0]))

        child = os.fork()
        if child == 0:
            try:
                forever()
            finally:
                os._exit(1)
        os.close(writing)
        os.read(reading, 1)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        said = (b"\1" + os.read(reading, 10_000))[-1]
        os.close(reading)
        resumed = journal.resume(folder, runs.inputs())
        assert resumed.step is not None and resumed.step.number in (said, said + 1) and resumed.notes == ()
        assert all(journal.is_whole(folder, step) for step in resumed.journal.log.line)
        resumed.journal.close()


# ---- rollback


def test_rollback_makes_a_step_the_result_and_loses_nothing(tmp_path: Path) -> None:
    seen: list[Log] = []

    def finish(content: Log) -> End:
        assert (tmp_path / "pruned.keras").read_bytes() == runs.content(content.current or 0)
        seen.append(content)
        return replace(runs.ending(), why="rolled back")

    with begin(tmp_path, 7) as made:
        made.finish(finish)
    with journal.open_run(tmp_path) as made:
        made.rollback(2, finish)
    on_disk = journal.read(tmp_path)
    assert [s.number for s in on_disk.line] == [0, 1, 2] and on_disk.end is not None
    assert [s.number for s in on_disk.rolled_back] == [3, 4, 5, 6] and seen[-1].current == 2
    assert on_disk.rollbacks == (log.Rollback(6, 2, "the user asked for it"),)
    assert all(journal.is_whole(tmp_path, step) for step in on_disk.rolled_back)
    assert [p.name for p in registry.read(tmp_path).points] == ["original", "step 1", "final"]
    with journal.open_run(tmp_path) as made:
        made.rollback(6, finish)
        assert made.log.line == runs.run().line, "and forth again"
    assert (tmp_path / "pruned.keras").read_bytes() == runs.content(6)


def test_a_rollback_that_fails_changes_nothing(tmp_path: Path) -> None:
    with begin(tmp_path, 5) as made:
        made.finish(runs.ending)
        (tmp_path / "steps" / "01.keras").write_bytes(b"damaged")
        before = runs.files(tmp_path)

        def no_room(content: Log) -> End:
            raise OutputError("disk full")

        with pytest.raises(OutputError, match="disk full"):
            made.rollback(2, no_room)
        with pytest.raises(OutputError, match=r"01\.keras' is missing or damaged"):
            made.rollback(1, runs.ending)
        with pytest.raises(UsageError, match=r"--rollback 9.*\n.*0 \.\. 4"):
            made.rollback(9, runs.ending)
        assert runs.files(tmp_path) == before
        assert made.log == journal.read(tmp_path)


def test_steps_after_a_rollback_have_new_numbers(tmp_path: Path) -> None:
    with begin(tmp_path, 4) as made:
        made.back_to(1, "loss too high")
        name, sha256 = made.save(b"another way")
        made.append(replace(runs.step(2, name, sha256), number=4))
        assert name == "steps/04.keras" and [s.number for s in made.log.line] == [0, 1, 4]
    assert (tmp_path / "steps" / "02.keras").read_bytes() == runs.content(2)
    assert journal.read(tmp_path) == made.log


def test_kill_9_in_a_rollback_leaves_one_of_both_results(tmp_path: Path) -> None:
    """Whichever write it dies at: the log is whole, pruned.keras is a whole model, a second rollback completes it."""

    def back(folder: Path, at: int) -> None:
        made = journal.open_run(folder)
        Killed(at).install()
        made.rollback(1, runs.ending)

    at = 0
    while True:
        folder = tmp_path / str(at)
        with begin(folder, 3) as made:
            made.finish(runs.ending)
        status = in_a_child(lambda at=at, folder=folder: back(folder, at))  # type: ignore[misc]
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert journal.read(folder).current in (1, 2)
        assert (folder / "pruned.keras").read_bytes() in (runs.content(1), runs.content(2))
        with journal.open_run(folder) as made:
            made.rollback(1, runs.ending)
        at += 1
    assert at >= 10
    texts = {name: runs.files(tmp_path / name) for name in map(str, range(at + 1))}
    assert all(files == texts["0"] for files in texts.values())


# ---- what decides a run


def test_inputs_follow_the_bytes_of_files(tmp_path: Path) -> None:
    for name in ("net.keras", "prepare.py", "layers.toml"):
        (tmp_path / name).write_text("one")
    board = load_board("pico")
    options = {
        "pin": str(tmp_path / "layers.toml"),
        "samples": SampleOptions(preprocess=f"{tmp_path}/prepare.py:f"),
        "board_path": (tmp_path,),
        "shape": (1, 2),
    }

    def made() -> Inputs:
        return asked.inputs_of({"model": tmp_path / "net.keras", "eval": None}, board, 3, options)

    first = made()
    said = {"pin": "layers.toml", "preprocess": "prepare.py:f", "shape": [1, 2]}
    assert first.options == {**said, "input_scale": None, "input_offset": None}
    assert first.sources["eval"] is None and str(tmp_path) not in log.to_json(Log(first, runs.BUDGETS))
    assert asked.differences(made(), first) == ()
    for name, spoken in (
        ("net.keras", "the model"),
        ("prepare.py", "--preprocess"),
        ("layers.toml", "--pin"),
    ):
        (tmp_path / name).write_text("two")
        (found,) = asked.differences(made(), first)
        assert found.startswith(f"{spoken} is '{name}'")
        (tmp_path / name).write_text("one")
    assert log.from_json(log.to_json(Log(first, runs.BUDGETS))).inputs == first


# ---- registry


def test_registry_has_every_point_and_marks_those_that_nothing_beats(tmp_path: Path) -> None:
    made = registry.of(runs.run())
    assert [(p.name, p.model) for p in made.points][-2:] == [
        ("step 5", "steps/05.keras"),
        ("final", "pruned.keras"),
    ]
    # fold is as good as the original and smaller; training repairs what pruning broke; int8 lost a hit to step 5
    assert [p.pareto for p in made.points] == [False, True, False, True, False, True, False]
    assert [p.result for p in made.points] == [False] * 6 + [True]
    (tmp_path / folders.REGISTRY).write_text(registry.to_json(made))
    assert registry.read(tmp_path) == registry.read(tmp_path / folders.REGISTRY) == made
    with pytest.raises(OutputError, match="does not exist"):
        registry.read(tmp_path / "nowhere")
    (tmp_path / folders.REGISTRY).write_text('{"schema": 1}')
    with pytest.raises(OutputError, match="is not a registry"):
        registry.read(tmp_path)


def test_pareto_takes_loss_where_labels_are_missing_and_cores_without_cycles() -> None:
    made = [runs.step(n, cycles=False) for n in range(3)]
    bare = tuple(replace(s, after=replace(s.after, metric=None)) for s in made)
    entries = tuple(log.Entry(n - 1 if n else None, s) for n, s in enumerate(bare))
    points = registry.of(Log(runs.inputs(), runs.BUDGETS, entries, 2)).points
    assert [p.loss for p in points] == [0.0, 0.0, 0.12] and [p.pareto for p in points] == [False, True, True]
    errors = [replace(runs.accuracy(1), kind="mse", value=value) for value in (2.0, 1.0, 3.0)]
    judged = [replace(p, metric=error) for p, error in zip(points, errors, strict=True)]
    assert registry.pareto(tuple(judged)) == (False, True, True)


# ---- checkpoints


@pytest.mark.tensorflow
def test_checkpoint_bytes_depend_on_the_model_alone(tmp_path: Path) -> None:
    """Compiled or not, saved now or later, loaded and saved again: the same bytes, and plain Keras opens them."""
    from tinygen.heavy import import_keras

    keras = import_keras()
    keras.utils.set_random_seed(3)
    inside = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.DepthwiseConv2D(3), keras.layers.ReLU()])
    image = keras.Input((8, 8, 2), name="image")
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3)(keras.layers.Rescaling(0.5)(image)))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(inside(x))))
    x = np.random.default_rng(1).normal(size=(16, 8, 8, 2)).astype(np.float32)
    model.compile("adam", "mse")
    model.fit(x, np.zeros((16, 2)), verbose=0)
    with begin(tmp_path) as made:
        name, sha256 = made.save(model)
        assert name == "steps/00.keras"
        loaded = keras.saving.load_model(tmp_path / name)
        assert not loaded.compiled and np.array_equal(np.asarray(loaded(x)), np.asarray(model(x)))
        assert made.save(loaded) == (name, sha256)
        loaded.weights[0].assign(loaded.weights[0] + 1e-3)
        assert made.save(loaded)[1] != sha256


def test_a_durable_write_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, move = os.fsync, Path.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: (calls.append(str(Path(f"/proc/self/fd/{handle}").readlink())), sync(handle)),
    )
    monkeypatch.setattr(
        Path, "replace", lambda path, target: (calls.append("replace"), move(path, target))[1]
    )
    project.write_file(tmp_path / "a.json", b"1", durable=True)
    assert calls == [str(tmp_path / f".a.json-{os.getpid()}"), "replace", str(tmp_path)]


def test_command_comes_back_with_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.keras", "prepare.py", "x.npz"):
        Path(name).write_text("")
    given = {
        "model": "net.keras",
        "representative": Path("x.npz"),
        "board": "pico",
        "samples": SampleOptions(preprocess="prepare.py:f"),
        "input_shape": (("", (8, 8, 2)),),
        "budget_sram": "60%",
        "eval": None,
    }
    begun = journal.start("out", runs.inputs(), runs.BUDGETS, given)
    begun.close()
    monkeypatch.chdir("/")
    assert command.read(tmp_path / "out") == {
        **given,
        "model": str(tmp_path / "net.keras"),
        "representative": str(tmp_path / "x.npz"),
        "samples": SampleOptions(preprocess=f"{tmp_path}/prepare.py:f"),
    }
