"""The package as others see it: instant import, public names, and a wheel that works outside the checkout."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tinygen

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "tensorflow",
    "keras",
    "ai_edge_litert",
    "unicorn",
    "h5py",
    "sklearn",
    "platformio",
    "altair",
    "vl_convert",
    "fast_sugiyama",
)

IMPORTS = f"""
import pkgutil, importlib, sys, tinygen
for module in pkgutil.walk_packages(tinygen.__path__, "tinygen."):
    if not module.name.endswith(("__main__", "unicorn_machine")) and not module.name.startswith("tinygen.report."):
        importlib.import_module(module.name)
print([m for m in {HEAVY!r} if m in sys.modules])
"""


def test_no_module_imports_anything_heavy() -> None:
    """Every module of tinygen, imported: TensorFlow and its like come only when they are used.

    unicorn_machine is left out: it is what unicorn_.py imports once firmware really runs there. So are the modules in
    report/: report_api.py imports them when a report is made.
    """
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_import_loads_next_to_nothing() -> None:
    code = "import sys, tinygen; print('numpy' in sys.modules, 'click' in sys.modules, tinygen.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "False", tinygen.__version__]


def test_public_names_exist_and_unknown_ones_do_not() -> None:
    for name in tinygen.__all__:
        assert getattr(tinygen, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'compil'"):
        _ = tinygen.compil  # type: ignore[attr-defined]


def test_nothing_is_converted_by_autograph() -> None:
    """It prints what it cannot convert: the process's whole environment, where a traced function imports Keras."""
    calls = [
        (path.name, node.lineno, {keyword.arg for keyword in node.keywords})
        for path in sorted((ROOT / "tinygen").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("tf.function", "tensorflow().function")
    ]
    assert len(calls) >= 6
    assert [call[:2] for call in calls if "autograph" not in call[2]] == []


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout, unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(folder / "site"), str(wheel)], check=True, capture_output=True)
    return folder / "site"


def run_installed(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-P", *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def files_below(folder: Path) -> list[str]:
    """Relative paths; what Python compiled meanwhile does not count."""
    paths = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    return sorted(str(p) for p in paths if "__pycache__" not in p.parts)


def test_wheel_carries_templates_and_boards(installed: Path, tmp_path: Path) -> None:
    done = run_installed(installed, tmp_path, "-c", "import tinygen; print(tinygen.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(installed), (
        "the checkout was imported instead of the wheel"
    )
    done = run_installed(installed, tmp_path, "-m", "tinygen", "boards", "--json")
    assert done.returncode == 0 and "mps2_an386" in done.stdout
    for folder in ("templates", "boards"):
        original = sorted(
            str(p.relative_to(ROOT / folder))
            for p in (ROOT / folder).rglob("*")
            if p.is_file() and "__pycache__" not in p.parts
        )
        data = installed / "tinygen" / "_data" / folder
        packed = sorted(  # pip compiles the .py among the templates
            str(p.relative_to(data)) for p in data.rglob("*") if p.is_file() and "__pycache__" not in p.parts
        )
        assert packed == original


@pytest.mark.tensorflow
@pytest.mark.arm
@pytest.mark.qemu
def test_wheel_compiles_and_runs_the_demo(installed: Path, tmp_path: Path) -> None:
    done = run_installed(installed, tmp_path, "-m", "tinygen", "demo", "--out", "demo", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "demo" / "firmware" / "manifest.json").is_file()
