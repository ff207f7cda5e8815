"""A generated project on disk: written whole or not at all, an earlier one kept until the new one stands.

The manifest names every generated file with its hash, so that a later run tells the user's own files from ours:
his files are carried over, and a generated file that he changed is never overwritten without --force.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinygen.errors import OutputError

MANIFEST = "manifest.json"
KEPT_OUT = ("build", ".pio")
"""Folders of a project that hold derived files: neither compared nor carried over; nor is __pycache__ anywhere."""


@dataclass(frozen=True)
class Project:
    """Generated files (path -> text, manifest included) and the run_id compiled into the firmware.

    users: those of them that are the user's from then on: one that he changed is kept. binary: files that are no text.
    """

    files: Mapping[str, str]
    run_id: str
    users: tuple[str, ...] = ()
    binary: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def contents(self) -> dict[str, bytes]:
        """Path -> bytes of every file."""
        return _contents(self.files, self.binary)


def run_id_of(manifest: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """16 hex digits over the manifest's inputs and the generated library: a stale image cannot have it."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    for path in sorted(files):
        digest.update(f"{path}\0{files[path]}\0".encode())
    return digest.hexdigest()[:16]


def with_manifest(
    manifest: Mapping[str, Any],
    files: Mapping[str, str],
    run_id: str,
    users: tuple[str, ...] = (),
    binary: Mapping[str, bytes] | None = None,
) -> Project:
    """The project of these files, manifest.json added."""
    hashes = {path: _hash(data) for path, data in sorted(_contents(files, binary or {}).items())}
    text = json.dumps({**manifest, "run_id": run_id, "files": hashes}, indent=2, sort_keys=True) + "\n"
    return Project({**files, MANIFEST: text}, run_id, users, binary or {})


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a generated project; OutputError when it is not one."""
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text())
        assert isinstance(data, dict) and data["generator"] == "tinygen" and isinstance(data["files"], dict)
    except FileNotFoundError:
        raise OutputError(
            f"'{folder}' is not a tinygen project: it has no {MANIFEST}\n"
            "  generate one: tinygen compile MODEL --board BOARD --representative FILE --out FOLDER"
        ) from None
    except (OSError, ValueError, KeyError, AssertionError) as problem:
        raise OutputError(
            f"'{path}' cannot be read as a tinygen manifest ({type(problem).__name__})\n"
            "  generate the project again with 'tinygen compile'"
        ) from None
    return data


def write_project(project: Project, folder: Path, force: bool = False) -> tuple[str, ...]:
    """Write the project to `folder`: built beside it, then moved into place; nothing half-written is left.

    Returns what the user should know: which of his files were kept and how far they are from the text of now.
    """
    folder = Path(os.path.abspath(folder))
    kept = _users_files(folder, project.users, force)
    notes = tuple(_note(folder / p, p, project.files[p]) for p in kept if p in project.files)
    staging: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        staging.chmod(0o755)
        for path, data in project.contents.items():
            target = staging / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for path in kept:
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / path, staging / path)
        _swap(staging, folder)
    except OSError as problem:
        raise OutputError(
            f"cannot write the project '{folder}': {problem.strerror or problem}\n"
            "  nothing was changed; give a folder that you can write with --out"
        ) from problem
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return notes


def _note(path: Path, name: str, text: str) -> str:
    """What the user should know of a file of his that was kept."""
    mine = path.read_text(errors="replace").splitlines()
    changes = [d for d in difflib.ndiff(text.splitlines(), mine) if d[0] in "+-"]
    added = sum(d[0] == "+" for d in changes)
    return (
        f"{name} is yours and was kept: {added} lines of it are not in what would be generated, "
        f"{len(changes) - added} lines of that are not in yours; delete it to get it new"
    )


def write_file(path: Path, data: bytes, durable: bool = False) -> None:
    """Write one file, whole or not at all; durable: on the disk when this returns, even if the power fails then."""
    path = Path(os.path.abspath(path))
    part = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        if durable:
            _sync(part)
        part.replace(path)
        if durable:
            _sync(path.parent)
    except OSError as problem:
        raise OutputError(
            f"cannot write '{path}': {problem.strerror or problem}\n  nothing was changed"
        ) from problem
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the disk hold what a file or folder holds now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(staging: Path, folder: Path) -> None:
    """Put what is in `staging` in the place of what is in `folder`; if that fails, `folder` is as before.

    The folder itself stays: a shell or an editor may be in it.
    """
    if not folder.exists():
        staging.rename(folder)
        return
    old = folder.with_name(f".{folder.name}-old-{os.getpid()}")
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target in ((folder, old), (staging, folder)):
            for entry in sorted(source.iterdir()):
                entry.rename(target / entry.name)
                moved.append((target / entry.name, entry))
    except BaseException:
        for now, before in reversed(moved):
            now.rename(before)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _users_files(folder: Path, users: Sequence[str], force: bool) -> list[str]:
    """Files in an earlier project that are the user's own, those of `users` among them that he changed.

    Raises when another one of ours was changed, or it is no project.
    """
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise OutputError(f"'{folder}' is a file, not a folder\n  give another name with --out")
    present = _files_below(folder)
    if not present:
        return []
    if MANIFEST not in present:
        raise OutputError(
            f"'{folder}' holds {len(present)} files and is not a tinygen project: it is left alone\n"
            "  give an empty or a new folder with --out"
        )
    generated: Mapping[str, str] = read_manifest(folder)["files"]
    changed = [p for p in present if p in generated and _hash((folder / p).read_bytes()) != generated[p]]
    refused = [p for p in changed if p not in users]
    if refused and not force:
        others = (
            f"\n  so were {', '.join(refused[1:6])}{' ...' if len(refused) > 6 else ''}"
            if refused[1:]
            else ""
        )
        raise OutputError(
            f"'{refused[0]}' in '{folder}' was changed since tinygen wrote it: nothing was written{others}\n"
            "  keep your change in a file of your own, or overwrite with --force"
        )
    return [p for p in present if p != MANIFEST and (p not in generated or (p in changed and p in users))]


def _files_below(folder: Path) -> list[str]:
    """Relative paths of all files, derived folders left out, sorted."""
    found = []
    for root, folders, names in os.walk(folder):
        derived = ("__pycache__", *(KEPT_OUT if Path(root) == folder else ()))
        folders[:] = [f for f in folders if f not in derived]
        found += [str((Path(root) / name).relative_to(folder)) for name in names]
    return sorted(found)


def differences(project: Project, folder: Path) -> list[str]:
    """Paths whose text on disk is not what would be generated now: for `compile --check`.

    What is the user's is his: such a file only has to be there.
    """
    read_manifest(folder)
    stale = []
    for path, data in sorted(project.contents.items()):
        on_disk = folder / path
        if not on_disk.is_file() or (path not in project.users and on_disk.read_bytes() != data):
            stale.append(path)
    return stale


def _contents(files: Mapping[str, str], binary: Mapping[str, bytes]) -> dict[str, bytes]:
    return {**{path: text.encode() for path, text in files.items()}, **binary}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
