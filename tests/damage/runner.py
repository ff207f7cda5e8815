"""Run `tinygen compile` on damaged files: each in a forked child, with a clock and a memory gauge."""

from __future__ import annotations

import hashlib
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.damage.cases import Case, make_case

SECONDS, BYTES = 10.0, 2 << 30


@dataclass(frozen=True)
class Verdict:
    """What became of a case. fault: None when everything is as promised."""

    case: Case
    exit_code: int
    seconds: float
    peak_bytes: int
    output: str
    fault: str | None


def folder_hash(folder: Path) -> str:
    """Hash over all names and contents below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def healthy_files(folder: Path) -> dict[str, Path]:
    """A small model in every format, its representative dataset, and a project made of them."""
    import numpy as np

    from tests.damage import models
    from tinygen.cli import main

    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    np.savez(folder / "samples.npz", x=rng.normal(size=(40, 8, 8, 2)).astype(np.float32))
    models.write(folder)
    arguments = ["compile", str(folder / "model.keras"), "--representative", str(folder / "samples.npz")]
    assert main([*arguments, "--out", str(folder / "project")]) == 0
    assert main(["export", str(folder / "project"), "--tflite", str(folder / "model.tflite")]) == 0
    return {p.name: p for p in sorted(folder.iterdir()) if p.is_file()}


def run_case(seed: int, healthy: Mapping[str, Path], scratch: Path) -> Verdict:
    """Damage one file and compile over an existing project."""
    case = make_case(seed, healthy)
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(next(iter(healthy.values())).parent, scratch)
    (scratch / case.target).write_bytes(case.content)
    before = folder_hash(scratch)
    model = scratch / (case.target if case.target.startswith("model") else "model.keras")
    arguments = ["compile", str(model), "--out", str(scratch / "project")]
    if model.suffix != ".tflite":
        arguments += ["--representative", str(scratch / "samples.npz")]
    code, seconds, peak, output = _in_child(arguments)
    fault = _fault(code, seconds, peak, output, before == folder_hash(scratch), scratch)
    return Verdict(case, code, seconds, peak, output, fault)


def _fault(code: int, seconds: float, peak: int, output: str, untouched: bool, scratch: Path) -> str | None:
    """The first promise that was broken, or None."""
    leftovers = [p.name for p in scratch.iterdir() if p.name.startswith(".")]
    lines = [line for line in output.splitlines() if line.strip()]
    checks = (
        (code not in (0, 1), f"exit code {code}"),
        ("Traceback" in output, "a traceback"),
        (seconds > SECONDS, f"{seconds:.1f} s"),
        (peak > BYTES, f"{peak >> 20} MB"),
        (bool(leftovers), f"left behind {leftovers}"),
        (code == 1 and not untouched, "the earlier project or a file was changed"),
        (code == 1 and not 1 <= len(lines) <= 5, f"{len(lines)} lines of message"),
        (
            code == 1 and not any(line.startswith("error: ") for line in lines),
            "no line starts with 'error: '",
        ),
        (code == 0 and not _whole(scratch / "project"), "the project is not whole"),
    )
    return next((text for broken, text in checks if broken), None)


def _whole(folder: Path) -> bool:
    """Every file that the manifest names stands there with its hash."""
    from tinygen.project import read_manifest

    named = read_manifest(folder)["files"]
    return all(hashlib.sha256((folder / p).read_bytes()).hexdigest() == h for p, h in named.items())


def _in_child(arguments: list[str]) -> tuple[int, float, int, str]:
    """(exit code, seconds, peak bytes, stdout and stderr) of the command line in a forked child."""
    read_end, write_end = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        os.dup2(write_end, 1)
        os.dup2(write_end, 2)
        _child(arguments)
    os.close(write_end)
    output = _drain(read_end, pid, start + SECONDS + 5)
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, time.monotonic() - start, usage.ru_maxrss * 1024, output


def _child(arguments: list[str]) -> None:
    """Never returns."""
    code = 99
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from tinygen.cli import main

        code = main(arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _drain(descriptor: int, pid: int, deadline: float) -> str:
    """Read until the child closes its output; kill it at the deadline."""
    chunks = []
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0.0))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            break
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        chunks.append(chunk)
    os.close(descriptor)
    return b"".join(chunks).decode(errors="replace")
