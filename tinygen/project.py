"""A generated project on disk: written whole or not at all, an earlier one kept until the new one stands.

The manifest names every generated file with its hash, so that a later run tells the user's own files from ours:
his files are carried over, and a generated file that he changed is never overwritten without --force.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygen.errors import OutputError

MANIFEST = "manifest.json"
KEPT_OUT = ("build",)
"""Folders of a project that hold derived files: neither compared nor carried over."""


@dataclass(frozen=True)
class Project:
    """Generated files (path -> text, manifest included) and the run_id compiled into the firmware."""

    files: Mapping[str, str]
    run_id: str


def run_id_of(manifest: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """16 hex digits over the manifest's inputs and the generated library: a stale image cannot have it."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    for path in sorted(files):
        digest.update(f"{path}\0{files[path]}\0".encode())
    return digest.hexdigest()[:16]


def with_manifest(manifest: Mapping[str, Any], files: Mapping[str, str], run_id: str) -> Project:
    """The project of these files, manifest.json added."""
    hashes = {path: _hash(text.encode()) for path, text in sorted(files.items())}
    text = json.dumps({**manifest, "run_id": run_id, "files": hashes}, indent=2, sort_keys=True) + "\n"
    return Project({**files, MANIFEST: text}, run_id)


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


def write_project(project: Project, folder: Path, force: bool = False) -> None:
    """Write the project to `folder`: built beside it, then moved into place; nothing half-written is left."""
    folder = Path(os.path.abspath(folder))
    kept = _users_files(folder, force)
    staging: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        staging.chmod(0o755)
        for path, text in project.files.items():
            target = staging / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
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


def write_file(path: Path, data: bytes) -> None:
    """Write one file, whole or not at all."""
    path = Path(os.path.abspath(path))
    part = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as problem:
        raise OutputError(
            f"cannot write '{path}': {problem.strerror or problem}\n  nothing was changed"
        ) from problem
    finally:
        part.unlink(missing_ok=True)


def _swap(staging: Path, folder: Path) -> None:
    """Put `staging` in the place of `folder`; if that fails, `folder` is as before."""
    if not folder.exists():
        staging.rename(folder)
        return
    old = folder.with_name(f".{folder.name}-old-{os.getpid()}")
    folder.rename(old)
    try:
        staging.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _users_files(folder: Path, force: bool) -> list[str]:
    """Files in an earlier project that are the user's own. Raises when one of ours was changed, or it is no project."""
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
    if changed and not force:
        raise OutputError(
            f"'{changed[0]}' in '{folder}' was changed since tinygen wrote it"
            f"{f' ({len(changed)} such files)' if len(changed) > 1 else ''}: nothing was written\n"
            "  keep your change in a file of your own, or overwrite with --force"
        )
    return [p for p in present if p not in generated and p != MANIFEST]


def _files_below(folder: Path) -> list[str]:
    """Relative paths of all files, derived folders left out, sorted."""
    found = []
    for root, folders, names in os.walk(folder):
        if Path(root) == folder:
            folders[:] = [f for f in folders if f not in KEPT_OUT]
        found += [str((Path(root) / name).relative_to(folder)) for name in names]
    return sorted(found)


def differences(project: Project, folder: Path) -> list[str]:
    """Paths whose text on disk is not what would be generated now: for `compile --check`."""
    read_manifest(folder)
    stale = []
    for path, text in sorted(project.files.items()):
        on_disk = folder / path
        if not on_disk.is_file() or on_disk.read_bytes() != text.encode():
            stale.append(path)
    return stale


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
