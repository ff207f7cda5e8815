"""Writing projects: whole or not at all, the user's files kept, nothing of ours overwritten once he changed it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinygen import project
from tinygen.errors import OutputError
from tinygen.project import (
    Project,
    differences,
    read_manifest,
    run_id_of,
    with_manifest,
    write_file,
    write_project,
)


def made(text: str = "int x;\n") -> Project:
    return with_manifest({"generator": "tinygen"}, {"src/main.c": text, "lib/m/m.h": "/* */\n"}, "0" * 16)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_writes_all_files(tmp_path: Path) -> None:
    write_project(made(), tmp_path / "a" / "fw")
    assert names(tmp_path / "a" / "fw") == ["lib/m/m.h", "manifest.json", "src/main.c"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["fw"], "nothing else is left beside it"


def test_replaces_an_earlier_project_and_keeps_the_users_files(tmp_path: Path) -> None:
    write_project(made(), tmp_path / "fw")
    (tmp_path / "fw" / "src" / "my.c").write_text("mine")
    (tmp_path / "fw" / "build").mkdir()
    (tmp_path / "fw" / "build" / "x.o").write_text("derived")
    write_project(made("int y;\n"), tmp_path / "fw")
    assert names(tmp_path / "fw") == ["lib/m/m.h", "manifest.json", "src/main.c", "src/my.c"]
    assert (tmp_path / "fw" / "src" / "my.c").read_text() == "mine"
    assert (tmp_path / "fw" / "src" / "main.c").read_text() == "int y;\n"


def test_the_folder_itself_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--out .` in a shell that goes on working there."""
    write_project(made(), tmp_path / "fw")
    monkeypatch.chdir(tmp_path / "fw")
    before = Path().stat().st_ino
    write_project(made("int y;\n"), Path())
    assert Path().stat().st_ino == before and Path("src/main.c").read_text() == "int y;\n"
    assert [p.name for p in tmp_path.iterdir()] == ["fw"]


def test_refuses_to_overwrite_a_changed_file(tmp_path: Path) -> None:
    write_project(made(), tmp_path / "fw")
    (tmp_path / "fw" / "src" / "main.c").write_text("changed by hand")
    with pytest.raises(OutputError, match=r"'src/main.c'.*was changed since tinygen wrote it"):
        write_project(made("int y;\n"), tmp_path / "fw")
    assert (tmp_path / "fw" / "src" / "main.c").read_text() == "changed by hand"
    write_project(made("int y;\n"), tmp_path / "fw", force=True)
    assert (tmp_path / "fw" / "src" / "main.c").read_text() == "int y;\n"


def test_leaves_a_foreign_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is not a tinygen project: it is left alone"):
        write_project(made(), tmp_path / "home", force=True)
    assert names(tmp_path) == ["home/thesis.txt"]


def test_out_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "fw").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        write_project(made(), tmp_path / "fw")


@pytest.mark.parametrize(("failing", "call"), [("write_bytes", 2), *(("rename", n) for n in range(1, 7))])
def test_a_failure_half_way_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, call: int
) -> None:
    """Disk full: while writing, or when any part was moved already: 3 go away, 3 come."""
    write_project(made(), tmp_path / "fw")
    before = {p: (tmp_path / "fw" / p).read_bytes() for p in names(tmp_path / "fw")}
    healthy = getattr(Path, failing)
    calls = 0

    def fail_once(self: Path, *args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(28, "No space left on device")
        return healthy(self, *args)

    monkeypatch.setattr(Path, failing, fail_once)
    with pytest.raises(OutputError, match="No space left on device"):
        write_project(made("int y;\n"), tmp_path / "fw")
    monkeypatch.undo()
    assert {p: (tmp_path / "fw" / p).read_bytes() for p in names(tmp_path / "fw")} == before
    assert [p.name for p in tmp_path.iterdir()] == ["fw"]


def test_interrupted_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(made(), tmp_path / "fw")

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(project, "_swap", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_project(made("int y;\n"), tmp_path / "fw")
    assert (tmp_path / "fw" / "src" / "main.c").read_text() == "int x;\n"
    assert [p.name for p in tmp_path.iterdir()] == ["fw"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot write the project"):
        write_project(made(), tmp_path / "fw")


def test_unwritable_place_even_for_root() -> None:
    with pytest.raises(OutputError, match="cannot write the project"):
        write_project(made(), Path("/proc/fw"))


def test_damaged_manifest(tmp_path: Path) -> None:
    write_project(made(), tmp_path / "fw")
    (tmp_path / "fw" / "manifest.json").write_text("{")
    with pytest.raises(OutputError, match="cannot be read as a tinygen manifest"):
        read_manifest(tmp_path / "fw")
    with pytest.raises(OutputError, match="is not a tinygen project"):
        read_manifest(tmp_path)


def test_differences_name_changed_and_missing_files(tmp_path: Path) -> None:
    write_project(made(), tmp_path / "fw")
    assert differences(made(), tmp_path / "fw") == []
    (tmp_path / "fw" / "src" / "main.c").write_text("x")
    (tmp_path / "fw" / "lib" / "m" / "m.h").unlink()
    assert differences(made(), tmp_path / "fw") == ["lib/m/m.h", "src/main.c"]


def test_run_id_depends_on_everything_that_is_generated() -> None:
    base = run_id_of({"model": "a"}, {"x.c": "1", "y.c": "2"})
    assert base == run_id_of({"model": "a"}, {"y.c": "2", "x.c": "1"}) and len(base) == 16
    others = [
        run_id_of({"model": "b"}, {"x.c": "1", "y.c": "2"}),
        run_id_of({"model": "a"}, {"x.c": "1", "y.c": "3"}),
        run_id_of({"model": "a"}, {"x.c": "1", "z.c": "2"}),
        run_id_of({"model": "a"}, {"x.c": "2", "y.c": "1"}),
    ]
    assert len({base, *others}) == 5


def test_write_file_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "m.tflite"
    write_file(target, b"old")

    def fail(self: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_file(target, b"new")
    assert target.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
